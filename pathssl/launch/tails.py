"""The end of a run's metrics.jsonl, which may be long."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from pathssl.metric_keys import metric_key
from pathssl.probe_records import read_probes
from pathssl.records import read_metrics

_BYTES, _ROWS = 2**18, 10


@dataclass(frozen=True)
class Tail:
    """patches_per_s: over the last lines. probes: {key: value} of the last checkpoint that was probed."""

    patches_per_s: float | None = None
    probe_time_s: float | None = None
    probes: dict[str, float] = field(default_factory=dict)


def read_tail(run: Path) -> Tail:
    rows = _last_rows(run / "metrics.jsonl")
    if not any("probe_time_s" in row for row in rows):
        rows = read_metrics(run)
    speeds = [row["train/patches_per_s"] for row in rows if row.get("train/patches_per_s")][-_ROWS:]
    times = [row["probe_time_s"] for row in rows if row.get("probe_time_s")]
    return Tail(median(speeds) if speeds else None, times[-1] if times else None, _probes(run, rows))


def _probes(run: Path, rows: list[dict]) -> dict[str, float]:
    """Of the last step that has any: what the trainer wrote, and what others wrote under probes/."""
    by_step: dict[int, dict[str, float]] = {}
    for row in rows:
        found = {
            key: value
            for key, value in row.items()
            if key.startswith(("probe/", "unsupervised/")) and value is not None
        }
        by_step.setdefault(row["step"], {}).update(found)
    for probe in read_probes(run, last=True):
        found = {
            metric_key(probe["task"], name): value for name, value in probe["results"].items() if value is not None
        }
        by_step.setdefault(probe["step"], {}).update(found)
    steps = [step for step, found in by_step.items() if found]
    return by_step[max(steps)] if steps else {}


def _last_rows(path: Path) -> list[dict]:
    """Of at most _BYTES; neither the first line, which may have lost its beginning, nor a half last one."""
    if not path.is_file():
        return []
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        start = max(0, size - _BYTES)
        file.seek(start)
        lines = file.read().split(b"\n")
    return [json.loads(line) for line in lines[1 if start else 0 : -1] if line]
