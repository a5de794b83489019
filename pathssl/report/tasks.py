"""The tasks that a study is probed on, as its runs recorded them in tasks.json: splits, and how large an encoder sees the images."""

from typing import Any

from pathssl.report import words
from pathssl.report.exports import plain
from pathssl.report.study import Study

_UNKNOWN = "—"
_CHOSEN = "no test split: figures are on the images by which settings are chosen, which flatters"
_TAKEN = "validation taken from train"


def task_rows(study: Study) -> list[dict[str, str]]:
    """A row for each task, as text; one that is not the same in all arms has a row for each way that it is."""
    found: dict[str, tuple[dict[str, str], list[str]]] = {}
    for run in study.runs:
        for name, task in (run.tasks or {}).items():
            row = _row(name, task)
            arms = found.setdefault(repr(row), (row, []))[1]
            if run.arm not in arms:
                arms.append(run.arm)
    rows = [row | {"arms": ", ".join(arms) if len(arms) < len(study.arms) else "all"} for row, arms in found.values()]
    return sorted(rows, key=lambda row: row["task"])


def _row(name: str, task: dict[str, Any]) -> dict[str, str]:
    images, splits = task.get("images") or {}, task["splits"]
    counts = [
        f"{split} {words.count(of['samples'])}" + (f" of {words.count(of['groups'])} groups" if of["groups"] else "")
        for split, of in splits.items()
    ]
    cut, px = images.get("crop_px"), images.get("image_px")
    sides = [cut, cut] if cut else images.get("shorter_side_px") or []
    notes = [_CHOSEN] * ("test" not in splits) + [_TAKEN] * task["val_taken_from_train"]
    return {
        "task": name,
        "samples": ", ".join(counts),
        "shorter_side_px": f"{_ends(sides)}{' (crops)' if cut else ''}" if sides else _UNKNOWN,
        "image_px": str(px or _UNKNOWN),
        "mpp": _UNKNOWN if images.get("mpp") is None else f"{images['mpp']:g}",
        "seen_mpp": _ends(images.get("seen_mpp") or []) or _UNKNOWN,
        "note": "; ".join(notes),
    }


def _ends(pair: list[float]) -> str:
    return "–".join(dict.fromkeys(f"{value:g}" for value in pair))


def tasks_markdown(rows: list[dict[str, str]]) -> str:
    """A section for the report's Markdown; empty without tasks."""
    if not rows:
        return ""
    lines = [
        "| task | samples | shorter side, px | seen at, px | µm/px | seen at, µm/px | arms | note |",
        "|---|---|---:|---:|---:|---:|---|---|",
    ]
    keys = ("task", "samples", "shorter_side_px", "image_px", "mpp", "seen_mpp", "arms", "note")
    lines += [f"| {' | '.join(plain(row[key]) for key in keys)} |" for row in rows]
    return "\n".join(["## The tasks", "", *lines, "", ""])
