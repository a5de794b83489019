"""python -m pathssl VERB: everything but training. Verbs that need a config take the overrides that train.py takes."""

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from pathssl.bench.verb import WHAT, bench, size
from pathssl.errors import INTERRUPTED, UserError
from pathssl.launch.verbs import add_launch_verbs

_TIMM = "timm:"


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0, 1 where it failed, 2 where it was called wrongly."""
    parser = argparse.ArgumentParser(prog="python -m pathssl", description=__doc__.split(": ", 1)[1])
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_index(verbs)
    _add_gallery(verbs)
    _add_replay(verbs)
    _add_report(verbs)
    _add_compare(verbs)
    _add_noise(verbs)
    _add_leakage(verbs)
    _add_probe(verbs)
    _add_export(verbs)
    _add_verify_resume(verbs)
    _add_bench(verbs)
    _add_doctor(verbs)
    add_launch_verbs(partial(_verb, verbs))
    options, more = parser.parse_known_args(arguments)
    if more:  # overrides after an option, which argparse does not take
        if not hasattr(options, "overrides") or any(word.startswith("-") for word in more):
            parser.error(f"unrecognized arguments: {' '.join(more)}")
        options.overrides += more
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    try:
        answer = options.run(options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    try:
        print(json.dumps(answer, indent=1) if options.json else answer["text"], flush=True)
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1 if answer.get("broken") else 0


def _verb(
    verbs, name: str, help_: str, example: str, run: Callable[[argparse.Namespace], dict[str, Any]]
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=help_, description=help_, epilog=f"example: python -m pathssl {example}")
    parser.add_argument("--json", action="store_true", help="print the answer for machines")
    parser.set_defaults(run=run)
    return parser


def _add_index(verbs) -> None:
    help_ = "scan slides, find foreground, write the index; resumable; bad slides are quarantined with a reason"
    parser = _verb(verbs, "index", help_, "index data=folder data.path=/slides", _index)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for train.py")
    help_ = "look at this part of the slides alone (of N jobs at a time); the next command that needs the index puts the parts together"
    parser.add_argument("--part", metavar="K/N", help=help_)


def _index(options: argparse.Namespace) -> dict[str, Any]:
    config = compose(options.overrides)
    from pathssl import sources
    from pathssl.report.words import plural

    if options.part is not None:
        count, bad = sources.survey_slides(config, _part(options.part))
        text = f"part {options.part}: {plural(count, 'slide')}, {len(bad)} quarantined."
        text += "".join(f"\n  {path}: {reason}" for path, reason in bad)
        return {"text": text, "part": options.part, "slides": count, "quarantined": bad}
    index = sources.open_index(config)
    quarantined = [[str(path), reason] for path, reason in index.quarantined]
    slides, cases, sites = len(index.paths), len(set(index.case)), len(set(index.site))
    text = (
        f"{plural(slides, 'slide')} of {plural(cases, 'case')} and {plural(sites, 'site')}, "
        f"{index.tissue_mm2.sum():.1f} mm2 of tissue; {len(quarantined)} quarantined."
    )
    text += "".join(f"\n  {path}: {reason}" for path, reason in quarantined)
    return {
        "text": text,
        "slides": slides,
        "cases": cases,
        "sites": sites,
        "tissue_mm2": float(index.tissue_mm2.sum()),
        "quarantined": quarantined,
    }


def _part(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UserError(f"--part {text}: give K/N, as in --part 2/8 for the second of eight parts.")
    return int(number), int(count)


def _add_gallery(verbs) -> None:
    help_ = "pictures: the mask over each slide and where patches fell, accepted and rejected patches, augmented views"
    parser = _verb(verbs, "gallery", help_, "gallery data=synthetic --to gallery", _gallery)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for train.py")
    parser.add_argument("--to", default="gallery", type=Path, help="folder for pictures, index.html (default: gallery)")
    parser.add_argument("--slides", default=12, type=int, help="at most so many slides (default: 12)")


def _gallery(options: argparse.Namespace) -> dict[str, Any]:
    config = compose(options.overrides)
    from pathssl.gallery import draw_gallery

    page = draw_gallery(config, options.to, options.slides)
    return {"text": str(page), "page": str(page)}


def _add_replay(verbs) -> None:
    help_ = "which slides, positions and magnifications a step of a run saw; with --to, as pictures; of a capsule, why the step failed"
    parser = _verb(verbs, "replay", help_, "replay outputs/demo/default/seed0 --step 10 --to step10", _replay)
    help_ = "a run: outputs/<study>/<arm>/seed<k>, or a capsule of one: RUN/capsules/step_<N>"
    parser.add_argument("run_folder", type=Path, metavar="RUN", help=help_)
    help_ = "1 for the first, as in metrics.jsonl; a capsule has its own"
    parser.add_argument("--step", type=int, metavar="N", help=help_)
    parser.add_argument("--to", type=Path, metavar="DIR", help="folder for pictures, their index.html and patches.csv")
    parser.add_argument("--patches", type=int, default=64, help="at most so many patches in the pictures (default: 64)")
    help_ = "data.path=, data.manifest= or cache_dir=, where they were moved since"
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=help_)


def _replay(options: argparse.Namespace) -> dict[str, Any]:
    if options.patches < 1:
        raise UserError(f"--patches {options.patches}: at least 1.")
    _cucim_first()
    from pathssl.replay import find_step, lines, summary
    from pathssl.replay_album import draw_step
    from pathssl.replay_capsule import compute_again, is_capsule, read_capsule

    capsule = read_capsule(options.run_folder) if is_capsule(options.run_folder) else None
    run, step = (options.run_folder, options.step) if capsule is None else (capsule.run, capsule.step)
    if step is None:
        raise UserError(f"Which step of {run}? Give --step N, 1 for the first. (A capsule, in capsules/, has its own.)")
    if options.step not in (None, step):
        raise UserError(f"--step {options.step}: {options.run_folder} is of step {step}; leave --step out.")
    found = find_step(run, step, options.overrides)
    page = None if options.to is None else str(draw_step(found, options.to, options.patches))
    again = None if capsule is None else compute_again(capsule, found)
    parts = [f"{summary(found)}\n{lines(found)}", page, again and again.text()]
    return {
        "text": "\n".join(part for part in parts if part),
        "step": found.step,
        "trained": found.trained,
        "patches": found.rows(),
        "replaced": found.replaced,
        "page": page,
        "again": again and asdict(again),
    }


def _add_report(verbs) -> None:
    help_ = "compare the arms of a study: one HTML page, CSV and Markdown under FOLDER/report"
    parser = _verb(verbs, "report", help_, "report outputs/demo", _report)
    parser.add_argument("folder", type=Path, help="a study's folder, such as outputs/demo")


def _report(options: argparse.Namespace) -> dict[str, Any]:
    from pathssl.report.page import write_report

    page = write_report(options.folder)
    return {"text": str(page), "page": str(page)}


def _add_compare(verbs) -> None:
    help_ = "two runs side by side: settings, code, packages, data and hardware that differ, then their metrics"
    example = "compare outputs/demo/teacher=m0.98/seed0 outputs/demo/teacher=m0.99/seed0"
    parser = _verb(verbs, "compare", help_, example, _compare)
    parser.add_argument("runs", nargs=2, type=Path, metavar="RUN", help="a run: outputs/<study>/<arm>/seed<k>")


def _compare(options: argparse.Namespace) -> dict[str, Any]:
    from pathssl.report.run_pair import compare_runs, pair_text

    pair = compare_runs(*options.runs)
    differences = {kind: [asdict(one) for one in found] for kind, found in pair.differences.items()}
    metrics = {key: {"first": one, "second": two} for key, (one, two) in pair.metrics.items()}
    return {"text": pair_text(pair), "differences": differences, "patches": pair.patches, "metrics": metrics}


def _add_noise(verbs) -> None:
    help_ = "how much seeds alone move a study's metrics, and how many seeds show a difference of a given size"
    parser = _verb(verbs, "noise", help_, "noise outputs/demo --difference 0.01", _noise)
    parser.add_argument("folder", type=Path, help="a study's folder, with several seeds in its arms")
    help_ = "such as probe/synthetic/linear/test/balanced_accuracy; may be repeated (default: those that the report compares)"
    parser.add_argument("--metric", action="append", default=[], metavar="KEY", help=help_)
    help_ = "in the metric's own unit; may be repeated (default: 0.005, 0.01, 0.02, 0.05)"
    parser.add_argument("--difference", action="append", type=float, metavar="SIZE", help=help_)


def _noise(options: argparse.Namespace) -> dict[str, Any]:
    from pathssl.report.noise import measure_noise, noise_text

    found = measure_noise(options.folder, options.metric, options.difference or (0.005, 0.01, 0.02, 0.05))
    return {"text": noise_text(found), "metrics": [asdict(noise) for noise in found]}


def _add_leakage(verbs) -> None:
    help_ = "are cases, slides or patches that are trained on among the images of the tasks? exit code 1 where they are"
    parser = _verb(
        verbs, "leakage", help_, "leakage data=folder data.path=/slides 'task=[folder]' task.folder.path=DIR", _leakage
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="as for train.py; leakage.patches=N looks at more patches"
    )


def _leakage(options: argparse.Namespace) -> dict[str, Any]:
    config = compose(options.overrides)
    if not config["task"]:
        raise UserError("Which tasks? Name them, as in 'task=[folder]' task.folder.path=DIR.")
    _cucim_first()
    from pathssl import sources
    from pathssl.checks import check

    check(config)
    found = sources.leakage(config, sources.Data(config), sources.tasks(config))
    return {"text": found.text(), **found.record(), "broken": bool(found.of_training())}


def _add_export(verbs) -> None:
    help_ = "a run's teacher as a folder that timm opens, with a model card (Hugging Face's format), and checked"
    parser = _verb(verbs, "export", help_, "export outputs/demo/default/seed0 --to my-vit", _export)
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="a run: outputs/<study>/<arm>/seed<k>")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="an export that is there is replaced")
    parser.add_argument("--step", type=int, metavar="N", help="the checkpoint of this step (default: the last)")
    parser.add_argument("--licence", metavar="ID", help="as the Hub names it, such as cc-by-nc-4.0 (default: unknown)")
    parser.add_argument("--name", help="the model's name on its card (default: study, arm, seed and step)")
    help_ = "write eva/TASK.yaml too, by which kaiko-eva itself evaluates the export: bach, crc, mhist, pcam, pcam_10shot, breakhis, "
    help_ += "bracs, gleason, consep, monusac"
    parser.add_argument("--eva", metavar="TASK[,TASK...]", help=help_)


def _export(options: argparse.Namespace) -> dict[str, Any]:
    from pathssl.eva_config import FOLDER, eva_tasks
    from pathssl.export import ExportFailed, export

    tasks = eva_tasks(options.eva)
    asked = {"step": options.step, "licence": options.licence, "name": options.name, "eva": tasks}
    try:
        done = export(options.run_folder, options.to, **asked)
    except ExportFailed as error:
        return {"text": str(error), "error": str(error), "broken": True}
    configs = [done.folder / FOLDER / f"{task}.yaml" for task in tasks]
    text = (
        f"{done.folder}: {done.architecture} of step {done.step}, {done.parameters / 1e6:.1f} M parameters; timm opens it, and "
        f"its features differ from the teacher's by at most {done.difference:.2g}."
    )
    text += "".join(f"\n{config}: how kaiko-eva evaluates it; its first lines say how to run it." for config in configs)
    return {
        "text": text,
        "folder": str(done.folder),
        "step": done.step,
        "architecture": done.architecture,
        "parameters": done.parameters,
        "greatest_difference": done.difference,
        "eva": [str(config) for config in configs],
    }


def _add_probe(verbs) -> None:
    help_ = "probe the checkpoints of runs, a file of weights, or timm:NAME; what is there already is kept, so jobs can share and repeat it"
    example = "probe outputs/demo 'task=[folder]' task.folder.path=DIR --part 1/8"
    parser = _verb(verbs, "probe", help_, example, _probe)
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
    _cucim_first()
    from pathssl.probe_runs import flat, probe_runs, probe_timm, probe_weights

    if files or published:
        of, more = files[0] if files else published[0], {"held_out": options.held_out}
        metrics = probe_weights(of, config, **more) if files else probe_timm(of, config, **more)
        return {"text": "\n".join(f"{key} {value:.4f}" for key, value in metrics.items()), **metrics}
    rows = probe_runs(paths, config, part=_part(options.part), again=options.again)
    lines = [f"{row['run']}  step {row['step']}  {key} {value:.4f}" for row in rows for key, value in flat(row).items()]
    new = sum(row["new"] for row in rows)
    lines.append(f"{new} of {len(rows)} were probed now.")
    return {"text": "\n".join(lines), "probed": rows}


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
    _cucim_first()
    from pathssl.late_probes import probe_late

    done = probe_late(run)
    return {"text": f"{run}: probed {', '.join(f'step {step}' for step in done) or 'nothing new'}.", "steps": done}


def _add_verify_resume(verbs) -> None:
    help_ = (
        "prove on this machine that a config resumes to the bit: runs killed and started again against an unbroken one"
    )
    example = "verify-resume model=vits16 data=folder data.path=/slides"
    parser = _verb(verbs, "verify-resume", help_, example, _verify_resume)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for train.py")
    parser.add_argument("--steps", type=int, default=12, metavar="N", help="of each run (default: 12)")
    parser.add_argument("--kills", type=int, default=3, metavar="K", help="of each broken run (default: 3)")
    parser.add_argument("--workers", default="0,2", help="loader.workers of the broken runs (default: 0,2)")
    help_ = (
        "a run of so many processes too: the same patches, and the same losses to rounding (default: 1, no such run)"
    )
    parser.add_argument("--processes", type=int, default=1, metavar="P", help=help_)


def _verify_resume(options: argparse.Namespace) -> dict[str, Any]:
    try:
        workers = [int(word) for word in options.workers.split(",")]
    except ValueError as error:
        raise UserError(f"--workers {options.workers}: give numbers of workers, as in --workers 0,2.") from error
    config = compose(options.overrides)
    from pathssl.launch.verify_resume import NoProof, verify_resume

    counts = {"steps": options.steps, "kills": options.kills, "processes": options.processes}
    try:
        return verify_resume(config, options.overrides, workers=workers, **counts)
    except NoProof as error:
        return {"text": str(error), "error": str(error), "broken": True}


def _add_bench(verbs) -> None:
    help_ = (
        "measure loader, views, training step or probes beside other ways to the same, in the same alternating rounds"
    )
    parser = _verb(verbs, "bench", help_, "bench loader --json", _bench)
    help_ = "; ".join(f"{name}: {meaning}" for name, meaning in WHAT.items())
    parser.add_argument("what", choices=WHAT, help=help_)
    help_ = "as for train.py; scale=small unless named, for step on a CPU scale=tiny"
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=help_)
    parser.add_argument("--rounds", default=5, type=int, help="figures are medians over so many rounds (default: 5)")
    help_ = "patches a round (default: 1024 for loader, 64 for augment, 8 batches for step)"
    parser.add_argument("--patches", type=int, help=help_)
    help_ = "slide that the benchmark slide's tissue is taken from"
    parser.add_argument("--tissue", type=Path, metavar="SLIDE", help=help_)
    help_ = (
        "for probe: the Python of an environment with kaiko-eva (and jsonargparse 4.38), which trains the same heads"
    )
    parser.add_argument("--eva", type=Path, metavar="PYTHON", help=help_)
    parser.add_argument(
        "--steps", type=int, default=1000, help="for probe: of both eva's and our heads (default: 1000)"
    )


def _bench(options: argparse.Namespace) -> dict[str, Any]:
    for name in ("rounds", "patches", "steps"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise UserError(f"--{name} {value}: give 1 or more.")
    _cucim_first()
    config = compose([*size(options.what, options.overrides), *options.overrides])
    return bench(
        options.what,
        config,
        rounds=options.rounds,
        patches=options.patches,
        tissue=options.tissue,
        eva=options.eva,
        steps=options.steps,
    )


def _add_doctor(verbs) -> None:
    help_ = "what works here and how to mend what does not: readers, GPU, memory, disk, speed of the slides, SLURM, W&B"
    parser = _verb(verbs, "doctor", help_, "doctor data=folder data.path=/slides", _doctor)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for train.py")


def _doctor(options: argparse.Namespace) -> dict[str, Any]:
    from pathssl.doctor import examine

    logging.getLogger().setLevel(logging.WARNING)  # what matters is in the table
    return examine(options.overrides, compose)


def compose(overrides: Sequence[str]) -> dict[str, Any]:
    """The resolved config of these overrides; UserError with Hydra's words, and a suggestion, where they do not compose."""
    _cucim_first()

    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from pathssl.complaints import CONF, check_options, suggestions
    from pathssl.run import resolved

    check_options(overrides)
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = hydra_compose("config", list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError("\n".join([str(error), *suggestions(overrides)])) from error
    return resolved(config)


def _cucim_first() -> None:
    """cuCIM is imported before torch: on machines without an NVIDIA driver it would hang after it."""
    from pathssl.slides import cucim_reader

    cucim_reader.available()
