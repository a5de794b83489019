"""The runs' pictures as data URIs, small enough that a page of many arms stays light."""

import base64
import io
from dataclasses import dataclass

from PIL import Image

from pathssl.report.study import Study

WIDTH_PX = 1600
KINDS = {"patches.png": "Sampled patches", "views.png": "Their augmented views", "tokens.png": "Their patch tokens"}
BUDGET = 2_500_000  # characters of all pictures of a page
_NAMED = 10  # arms that a sentence names


@dataclass(frozen=True)
class Picture:
    """An embedded picture; `arms` are those whose runs have exactly this one."""

    uri: str
    width: int
    height: int
    arms: list[str]
    seed: int


def strips(study: Study) -> tuple[dict[str, list[Picture]], str]:
    """({file: its pictures}, a sentence about arms that are left out): of each arm's first run that has the file.

    Arms with the same picture share one. Arms come in the study's order, each with all its pictures, until BUDGET is spent.
    """
    found: dict[str, dict[tuple[bytes, int], list[str]]] = {name: {} for name in KINDS}
    for name, of in found.items():
        for arm in study.arms:
            for run in study.of(arm):
                path = run.folder / "pictures" / name
                if path.is_file():
                    of.setdefault((path.read_bytes(), run.seed), []).append(arm)
                    break
    shown: dict[str, list[Picture]] = {name: [] for name in KINDS}
    spent, unseen = 0, []
    for arm in study.arms:
        # Each new picture of this arm: its file's name, (content, seed), arms.
        mine = [(name, *one) for name, of in found.items() for one in of.items() if one[1][0] == arm]
        made = [] if unseen else [(name, embedded(content), arms, seed) for name, (content, seed), arms in mine]
        made = [one for one in made if one[1]]
        spent += sum(len(picture[0]) for _, picture, _, _ in made)
        if mine and (unseen or spent > BUDGET):
            unseen += [one for _, _, arms in mine for one in arms]
            continue
        for name, picture, arms, seed in made:
            shown[name].append(Picture(*picture, arms, seed))
    return shown, _left_out(list(dict.fromkeys(unseen)))


def _left_out(arms: list[str]) -> str:
    if not arms:
        return ""
    more = f" and {len(arms) - _NAMED} more" if len(arms) > _NAMED else ""
    named = f"{', '.join(arms[:_NAMED])}{more}"
    return f"Some pictures of {named} are left out, to keep this page small; they are in each run's folder, under pictures/."


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
