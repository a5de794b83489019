"""The pages of the documentation, and what they say can be typed."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "experiments/README.md", "slurm/README.md")),
    *(ROOT / "docs").glob("*.md"),
]
HEADS = [*(ROOT / "experiments").glob("*.yaml"), *(ROOT / "slurm").glob("*.sbatch")]

_COMMAND = r"(?:python (?:train\.py|-m pathssl)|sbatch|torchrun|make) "


def parts_of(page: Path) -> list[tuple[str | None, str]]:
    """(language, text) of what is fenced, "" for what is typed, and (None, text) of what stands between."""
    fence = re.split(r"^ *```(\w*)\n", page.read_text(), flags=re.M)  # text, language, text, "", text, ...
    kinds = [None if place % 2 == 0 else kind for place, kind in enumerate(["", *fence[1::2]])]
    return list(zip(kinds, fence[::2], strict=True))


def blocks(page: Path, kind: str | None) -> list[str]:
    return [text for of, text in parts_of(page) if of == kind]


def lines_of(path: Path) -> list[str]:
    """What can be typed, as it stands there."""
    if path.suffix != ".md":
        head = "\n".join(line for line in path.read_text().splitlines() if line.startswith("#"))
        # a sentence may stand behind a command, two spaces away
        return [re.split(r"\s{2,}", line)[0] for line in re.findall(rf"^#\s{{2,}}({_COMMAND}.*)$", head, re.M)]
    typed = [line for block in blocks(path, "") for line in block.splitlines() if line.strip()]
    return typed + re.findall(rf"`({_COMMAND}[^`]+)`", "\n".join(blocks(path, None)).replace("\\|", "|"))


def commands_of(line: str) -> list[list[str]]:
    """The words of each command of a line, without comments and what is set before it."""
    parts: list[list[str]] = [[]]
    for word in shlex.split(line, comments=True):
        if word == "&&":
            parts.append([])
        elif parts[-1] or not re.fullmatch(r"[A-Z_]+=.*", word):
            parts[-1].append(word)
    return [part for part in parts if part]
