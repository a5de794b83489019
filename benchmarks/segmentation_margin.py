"""Does a trained checkpoint draw masks better than random weights of its architecture? The margin, and its interval over cases, as JSON.

    python train.py study=segmentation_margin magnification=20x 'task=[synthetic_nuclei]' 'probe=[seg_linear]' seed=0
    python benchmarks/segmentation_margin.py outputs/segmentation_margin > benchmarks/segmentation_margin.json

For each run of the study: the first probe (step 0, random weights) against the last one, on the same test images. Cases are drawn with
replacement, 10,000 times, the same ones for both: an interval of the margin over cases, for this training run and these heads.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pathssl.bench.rounds import machine
from pathssl.metrics import dice, miou
from pathssl.records import arm_of, find_runs, read_config, read_predictions, read_probes, seed_of

DRAWS = 10_000


def of_heads(metric: Callable, confusion_NSKK: np.ndarray, background: int | None) -> float:
    """The mean over heads, as results are."""
    return float(np.mean([metric(confusion_NSKK[:, k], background) for k in range(confusion_NSKK.shape[1])]))


def margin(
    metric: Callable, first: np.ndarray, last: np.ndarray, groups_N: np.ndarray, background: int | None, draws: int
) -> dict[str, float]:
    """Both values, last minus first, and the 2.5th and 97.5th percentile of this over draws of cases."""
    rng = np.random.default_rng(0)
    cases = [np.flatnonzero(groups_N == case) for case in np.unique(groups_N)]

    def difference(images: np.ndarray) -> float:
        return of_heads(metric, last[images], background) - of_heads(metric, first[images], background)

    drawn = []
    for _ in range(draws):
        chosen = rng.integers(0, len(cases), len(cases))
        drawn.append(difference(np.concatenate([cases[case] for case in chosen])))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {
        "random": of_heads(metric, first, background),
        "trained": of_heads(metric, last, background),
        "margin": difference(np.arange(len(groups_N))),
        "low": float(low),
        "high": float(high),
    }


def rows_of(run: Path) -> list[dict]:
    """A row for each segmentation task, protocol and measure of a run."""
    probes, rows = read_probes(run), []
    for task in sorted({probe["task"] for probe in probes}):
        steps = [probe["step"] for probe in probes if probe["task"] == task]
        first, last = (read_predictions(run, step, task) for step in (min(steps), max(steps)))
        if "background" not in first:  # not a segmentation task
            continue
        background = None if first["background"] < 0 else int(first["background"])
        for key in (key for key in last if key.endswith("_confusion")):
            for name, metric in (("dice", dice), ("miou", miou)):
                found = margin(metric, first[key], last[key], first["groups"], background, DRAWS)
                place = {"arm": arm_of(run), "seed": seed_of(run), "steps": [min(steps), max(steps)]}
                counted = {"cases": len(np.unique(first["groups"])), "images": len(first["groups"])}
                measure = f"probe/{task}/{key.removesuffix('_confusion')}/{first['split']}/{name}"
                rows.append({**place, "measure": measure, **counted, **found})
    return rows


def main(study: Path) -> None:
    runs = find_runs(study)
    rows = [row for run in runs for row in rows_of(run)]
    derived = read_config(runs[0])["derived"] if runs else {}
    answer = {
        "what": "segmentation_margin",
        "machine": machine(),
        "patches": derived.get("patches"),
        "draws": DRAWS,
        "rows": rows,
    }
    print(json.dumps(answer, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
