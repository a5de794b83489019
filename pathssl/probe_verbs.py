"""`python -m pathssl probe | leakage`: labelled images, and what is trained already or is to be."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pathssl.compose import compose, cucim_first, part_of
from pathssl.errors import INTERRUPTED, UserError

_TIMM = "timm:"


def add_probe_verbs(add: Callable[..., argparse.ArgumentParser]) -> None:
    """add(name, help, example, run) gives a verb's parser."""
    _add_leakage(add)
    _add_probe(add)


def _add_probe(add: Callable[..., argparse.ArgumentParser]) -> None:
    help_ = "probe the checkpoints of runs, a file of weights, or timm:NAME; what is there already is kept, so jobs can share and repeat it"
    example = "probe outputs/demo 'task=[folder]' task.folder.path=DIR --part 1/8"
    parser = add("probe", help_, example, _probe)
    help_ = "studies, runs, a file of weights (and model.name=...), timm:NAME; overrides as for train.py: other tasks and protocols"
    parser.add_argument("words", nargs="+", metavar="FOLDER|FILE|timm:NAME|KEY=VALUE", help=help_)
    parser.add_argument("--part", metavar="K/N", default="1/1", help="this share of the checkpoints alone")
    parser.add_argument("--again", action="store_true", help="probe what is probed already too")
    help_ = "of weights: RankMe, ODCorr, site and stain on held-out patches of data=... too, as a run has them in its metrics.jsonl"
    parser.add_argument("--held-out", action="store_true", help=help_)
    help_ = "what a run with probe.where=job starts: everything that its checkpoints lack; may be repeated"
    parser.add_argument("--late", action="store_true", help=help_)
    parser.add_argument("--here", action="store_true", help="with --late: here, not in a job of SLURM's")


def _probe(options: argparse.Namespace) -> dict[str, Any]:
    # The name of an arm, and so a run's folder, has a = too.
    paths = [Path(word) for word in options.words if "=" not in word or Path(word).exists()]
    overrides = [word for word in options.words if Path(word) not in paths]
    published = [str(path).removeprefix(_TIMM) for path in paths if str(path).startswith(_TIMM)]
    files = [path for path in paths if path.suffix in (".safetensors", ".pth", ".pt")]
    if options.late:
        return _probe_late(paths, overrides, options.here)
    if (files or published) and (len(paths) > 1 or options.part != "1/1"):
        raise UserError(f"{paths[0]}: weights are probed by themselves, and whole.")
    if options.held_out and not (files or published):
        raise UserError("--held-out is of weights: runs have these numbers in their metrics.jsonl.")
    config = compose(overrides) if overrides or files or published else None
    if files and _by_name_alone(overrides):
        config["model"]["args"] = {}
    cucim_first()
    from pathssl.probe_runs import flat, probe_runs, probe_timm, probe_weights

    if files or published:
        of, more = files[0] if files else published[0], {"held_out": options.held_out}
        metrics = probe_weights(of, config, **more) if files else probe_timm(of, config, **more)
        return {"text": "\n".join(f"{key} {value:.4f}" for key, value in metrics.items()), **metrics}
    rows = probe_runs(paths, config, part=part_of(options.part), again=options.again)
    lines = [f"{row['run']}  step {row['step']}  {key} {value:.4f}" for row in rows for key, value in flat(row).items()]
    new = sum(row["new"] for row in rows)
    lines.append(f"{new} of {len(rows)} were probed now.")
    return {"text": "\n".join(lines), "probed": rows}


def _by_name_alone(overrides: Sequence[str]) -> bool:
    """Whether a file's architecture is a name of timm's: then it has timm's own arguments, not those of the option that is the default."""
    typed = [override.lstrip("+") for override in overrides]
    return any(o.startswith("model.name=") for o in typed) and not any(
        o.startswith(("model=", "model.args")) for o in typed
    )


def _probe_late(paths: Sequence[Path], overrides: Sequence[str], here: bool) -> dict[str, Any]:
    if len(paths) != 1 or overrides:
        raise UserError(
            "--late takes one run, outputs/<study>/<arm>/seed<k>, and nothing else: its config says what is probed."
        )
    (run,) = paths
    from pathssl.records import read_submission

    if "SLURM_JOB_ID" in os.environ and not here and read_submission(run) is not None:
        from pathssl.launch.late_job import send_probe

        job = send_probe(run)
        return {"text": f"{run}: probed by job {job}." if job else f"{run}: a job does that already.", "job": job}
    for warning in (signal.SIGUSR2, signal.SIGTERM):  # results are whole or absent; the job comes again
        signal.signal(warning, lambda *_: sys.exit(INTERRUPTED))
    cucim_first()
    from pathssl.late_probes import probe_late

    done = probe_late(run)
    return {"text": f"{run}: probed {', '.join(f'step {step}' for step in done) or 'nothing new'}.", "steps": done}


def _add_leakage(add: Callable[..., argparse.ArgumentParser]) -> None:
    help_ = "are cases, slides or patches that are trained on among the images of the tasks? exit code 1 where they are"
    example = "leakage data=folder data.path=/slides 'task=[folder]' task.folder.path=DIR"
    parser = add("leakage", help_, example, _leakage)
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="as for train.py; leakage.patches=N looks at more patches"
    )


def _leakage(options: argparse.Namespace) -> dict[str, Any]:
    config = compose(options.overrides)
    if not config["task"]:
        raise UserError("Which tasks? Name them, as in 'task=[folder]' task.folder.path=DIR.")
    cucim_first()
    from pathssl import sources
    from pathssl.checks import check

    check(config)
    found = sources.leakage(config, lambda: sources.Data(config), sources.tasks(config))
    return {"text": found.text(), **found.record(), "broken": bool(found.of_training())}
