"""Run folders of studies that never ran, with numbers drawn from a seed."""

import json
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from pathssl import probe_records, records

ACCURACY = "probe/synthetic/linear/test/balanced_accuracy"
DEMO = {
    "question": "Does a slower teacher help a small ViT in a few hundred steps?",
    "expectation": "The faster teacher learns sooner; the slower one is still close to its initial self.",
    "baseline": "teacher=m0.9",
    "metrics": [ACCURACY, "probe/synthetic/knn/test/balanced_accuracy", "unsupervised/rankme", "unsupervised/odcorr"],
    "primary": ACCURACY,
}


def write_study(
    folder: Path,
    effects: dict[str, float],
    *,
    seeds: int = 2,
    report: dict | None = None,
    checkpoints: int = 4,
    lines: int = 40,
    noise: float = 0.015,
    pictures: bool = True,
) -> Path:
    """outputs/<folder's name> with an arm for each key of `effects` (added to its accuracies); all runs finished."""
    for a, (arm, effect) in enumerate(effects.items()):
        for seed in range(seeds):
            write_run(
                folder / arm / f"seed{seed}",
                effect,
                random=np.random.default_rng([a, seed]),
                report=report,
                checkpoints=checkpoints,
                lines=lines,
                noise=noise,
                pictures=pictures,
            )
    return folder


def coverage(patches: dict[float, int], replaced: dict[str, int] | None = None, slides: int = 24) -> dict:
    """coverage.json of a run that drew so many patches at each mpp from `slides` of 24 slides; draws failed as `replaced` says."""
    facts = {"slides": slides, "usable_slides": 24, "cases": slides // 2, "sites": 4, "tissue_mm2": 76.0 * slides}
    area = {m: n * (0.224 * m) ** 2 for m, n in patches.items()}
    rows = [
        {"mpp": m, "patches": n, **facts, "read_mm2": area[m], "times_over": area[m] / facts["tissue_mm2"]}
        for m, n in patches.items()
    ]
    total = {"mpp": None, "patches": sum(patches.values()), **facts, "read_mm2": sum(area.values())}
    total["times_over"] = total["read_mm2"] / facts["tissue_mm2"]
    faults = [{"slide": slide, "draws": n, "reason": "tile 7 is damaged"} for slide, n in (replaced or {}).items()]
    return {"magnifications": rows, "total": total, "replaced": faults}


def write_run(run, effect, *, random, report, checkpoints=4, lines=40, noise=0.015, pictures=True, state="finished"):
    """One run folder. `lines` of training, a probe at step 0 and at each checkpoint."""
    run.mkdir(parents=True)
    total, batch = lines * 5, 64
    settings = dict(part.partition("=")[::2] for part in run.parent.name.split(","))
    config = {
        "study": run.parents[1].name,
        "seed": records.seed_of(run),
        "model": {"name": "vit_nano"},
        "teacher": {"momentum": 0.99, "rising": False},
        "data": {"path": "/somewhere/slides", "workers": 2},
    }
    config |= {key: {"name": value} for key, value in settings.items() if key != "default"}
    if settings.get("teacher"):
        config["teacher"] = {"momentum": float(settings["teacher"].removeprefix("m")), "rising": False}
    if report:
        config["report"] = report
    (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    records.write_status(
        run, state, step=total, total_steps=total, patches_seen=total * batch, host="node1", job_id=None, error=None
    )
    start, luck = 0.6 + random.normal(0, 0.008), random.normal(0, noise)
    rows = []
    for step in range(5, total + 1, 5):
        loss = 8.3 - 3.1 * (1 - np.exp(-3 * step / total)) - 2 * effect + random.normal(0, 0.06)
        speed = 74 + random.normal(0, 2)
        rows.append({"step": step, "train/loss": loss, "train/lr": 5e-4, "train/patches_per_s": speed})
        rows[-1] |= {"train/data_wait": abs(random.normal(0.02, 0.01)), "time_s": step * batch / 74}
    points = np.unique(np.linspace(0, total, checkpoints + 1).astype(int) // 5 * 5)
    for step in points:
        learnt = 1 - np.exp(-2.5 * step / total)
        value = start + (0.17 + effect + luck) * learnt
        row = {"step": int(step), "unsupervised/rankme": 9 + 30 * learnt * (1 + 3 * effect) + random.normal(0, 0.4)}
        row["unsupervised/odcorr"] = 0.31 - 0.16 * learnt + random.normal(0, 0.004)
        results = {
            "linear/test/balanced_accuracy": value,
            "linear/val/balanced_accuracy": value + random.normal(0.01, 0.006),
            "knn/test/balanced_accuracy": value - 0.05 + random.normal(0, 0.006),
        }
        row |= {f"probe/synthetic/{key}": number for key, number in results.items()}
        probe_records.write_probe(
            run, step=int(step), patches_seen=int(step) * batch, task="synthetic", results=results
        )
        rows.append(row)
    for row in sorted(rows, key=lambda row: row["step"]):
        records.append_metrics(run, {"step": row["step"], "patches_seen": row["step"] * batch} | row)
    if pictures:
        (run / "pictures").mkdir()
        for i, name in enumerate(("patches", "views")):
            tiles = np.random.default_rng(i).integers(120, 255, (4, 40, 3), dtype=np.uint8)
            Image.fromarray(tiles).resize((640, 64), Image.Resampling.BICUBIC).save(run / "pictures" / f"{name}.png")


def write_points(
    run: Path, rows: list[dict], *, report=None, compute=None, config=None, environment=None, host="node1"
):
    """A finished run of these rows of metrics.jsonl and no more; what is given, its step 100 patches apart."""
    run.mkdir(parents=True)
    config = {"study": run.parents[1].name, "seed": records.seed_of(run), "report": report} | (config or {})
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    if environment:
        (run / "environment.json").write_text(json.dumps(environment))
    if compute:
        records.write_compute(run, **compute)
    for row in rows:
        records.append_metrics(run, {"step": row["patches_seen"] // 100} | row)
    last = {"step": 1, "total_steps": 1, "patches_seen": rows[-1]["patches_seen"], "job_id": None, "error": None}
    records.write_status(run, "finished", host=host, **last)
