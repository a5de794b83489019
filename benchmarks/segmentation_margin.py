r"""Does a trained checkpoint draw masks better than random weights of its architecture? The margin, and its interval over cases, as JSON.

    python train.py study=margin magnification=20x 'task=[synthetic_nuclei]' 'probe=[seg_linear]' train.checkpoint_every=0.5 seed=0,1 -m
    python -m pathssl probe outputs/margin 'task=[synthetic_nuclei]' 'probe=[seg_linear]' task.synthetic_nuclei.cohort.labelled_cases=40 \
        task.synthetic_nuclei.cohort.nuclei_fields=4 task.synthetic_nuclei.cohort.slide_px=512 \
        task.synthetic_nuclei.cohort.patches_per_class=1 --again
    python benchmarks/segmentation_margin.py outputs/margin > benchmarks/segmentation_margin.json

The second line probes on more nuclei of more cases than the cohort of the first one has (of its 20 cases 8 are for testing, of 40 then 16).
For each run of the study: random weights, as probed at step 0, against the last checkpoint, on the same test images. Cases are drawn with
replacement, 10,000 times, the same ones for both: an interval of the margin over cases, for these training runs and heads.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pathssl.bench.rounds import machine
from pathssl.metrics import dice, miou
from pathssl.probe_records import read_predictions, read_probes
from pathssl.probes.null import RANDOM
from pathssl.records import arm_of, find_runs, read_config, seed_of

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


def found_in(run: Path) -> dict[str, tuple[np.ndarray, np.ndarray, dict]]:
    """{"<task>/<protocol>": (matrices of random weights, of the last checkpoint, predictions of the first step)} of segmentation tasks."""
    probes, found = read_probes(run), {}
    for task in sorted({probe["task"] for probe in probes}):
        steps = [probe["step"] for probe in probes if probe["task"] == task]
        first, last = (read_predictions(run, step, task) for step in (min(steps), max(steps)))
        for key in (key for key in last if key.endswith("_confusion")):
            # At step 0 a run from random weights is random weights itself; one from others has these as a null beside it.
            random = first.get(key.replace("_confusion", f"_{RANDOM}_confusion"), first[key])
            found[f"{task}/{key.removesuffix('_confusion')}"] = random, last[key], first
    return found


def rows_of(runs: list[Path]) -> list[dict]:
    """A row for each protocol, measure and run, and one for all runs together: the mean over them, over the same cases."""
    of_runs = {f"{arm_of(run)}/seed{seed_of(run)}": found_in(run) for run in runs}
    rows = []
    for place in sorted({place for found in of_runs.values() for place in found}):
        there = {name: found[place] for name, found in of_runs.items() if place in found}
        info = next(iter(there.values()))[2]
        background = None if info["background"] < 0 else int(info["background"])
        pairs = {name: (random, last) for name, (random, last, _) in there.items()}
        if len(pairs) > 1:  # heads of all runs are heads side by side
            pairs["all runs"] = tuple(np.concatenate(of, axis=1) for of in zip(*pairs.values(), strict=True))
        for name, (random, last) in pairs.items():
            for measure, metric in (("dice", dice), ("miou", miou)):
                numbers = margin(metric, random, last, info["groups"], background, DRAWS)
                key = f"probe/{place}/{info['split']}/{measure}"
                counted = {"cases": len(np.unique(info["groups"])), "images": len(info["groups"])}
                rows.append({"run": name, "measure": key, **counted, **numbers})
    return rows


def main(study: Path) -> None:
    runs = find_runs(study)
    rows = rows_of(runs)
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
