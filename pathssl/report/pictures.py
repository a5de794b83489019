"""The runs' pictures as data URIs, small enough that a page of many arms stays light."""

import base64
import io
from dataclasses import dataclass

from PIL import Image

from pathssl.report.study import Study

WIDTH_PX = 1600


@dataclass(frozen=True)
class Picture:
    """An embedded picture; `arms` are those whose runs have exactly this one."""

    uri: str
    width: int
    height: int
    arms: list[str]
    seed: int


def strips(study: Study, name: str) -> list[Picture]:
    """`pictures/<name>` of each arm's first run that has it; arms with the same picture share one."""
    found: dict[tuple[bytes, int], list[str]] = {}
    for arm in study.arms:
        for run in study.of(arm):
            path = run.folder / "pictures" / name
            if path.is_file():
                found.setdefault((path.read_bytes(), run.seed), []).append(arm)
                break
    pictures = [(embedded(content), arms, seed) for (content, seed), arms in found.items()]
    return [Picture(*picture, arms, seed) for picture, arms, seed in pictures if picture]


def embedded(content: bytes) -> tuple[str, int, int] | None:
    """(data URI, width, height) of a picture, at most 1600 px wide, as WebP where that is smaller than the file.

    None if it cannot be decoded: a run may be writing it just now.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            kind = image.format.lower()
            image = image.convert("RGB")
    except OSError:
        return None
    if image.width > WIDTH_PX:
        image = image.resize((WIDTH_PX, round(image.height * WIDTH_PX / image.width)), Image.Resampling.LANCZOS)
        kind = None
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=82)
    if kind is None or len(buffer.getvalue()) < len(content):
        kind, content = "webp", buffer.getvalue()
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}", image.width, image.height
