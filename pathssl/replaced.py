"""replaced.jsonl of a run folder: the draws that could not be decoded, one line each, written by the trainer, read by `replay`.

A line is {"step": N, "patch": i, "slide": path, "reason": text}: for patch i of step N (steps count from 1, as in metrics.jsonl) a draw
on this slide failed, and the next draw of the same patch was tried. Lines stand in the order of steps. Totals are in coverage.json.
"""

import json
import os
from pathlib import Path

_NAME = "replaced.jsonl"


def append_replaced(run: Path, step: int, replaced: list[tuple[int, str, str]]) -> None:
    """Adds the failed draws of `step`, each as (patch, slide, reason)."""
    with open(Path(run) / _NAME, "a", encoding="utf-8") as file:
        for patch, slide, reason in replaced:
            file.write(json.dumps({"step": step, "patch": patch, "slide": slide, "reason": reason}) + "\n")


def read_replaced(run: Path, step: int) -> list[dict]:
    """The lines of `step`, in the order of writing; a half last line is none. Quick in files of many million lines."""
    path = Path(run) / _NAME
    if not path.is_file():
        return []
    start = f'{{"step": {step}, '.encode()
    with open(path, "rb") as file:
        return [json.loads(line) for line in file if line.startswith(start) and line.endswith(b"\n")]


def cut_replaced(run: Path, step: int) -> None:
    """Keeps the lines of the steps up to and including `step`, for a run that is resumed there."""
    path = Path(run) / _NAME
    if not path.is_file():
        return
    kept_bytes = 0
    with open(path, "rb") as file:
        for line in file:
            if not line.endswith(b"\n") or json.loads(line)["step"] > step:
                break
            kept_bytes += len(line)
    os.truncate(path, kept_bytes)
