"""Files that stand for those of another machine: what it says of itself, and packages that fail to load."""

from pathlib import Path


def write_files(root: Path, files: dict[str, str]) -> Path:
    """`root`, in which each file of {path below root: text} is written."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root
