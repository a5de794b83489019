"""python -m pathssl VERB: everything but training. Verbs that need a config take the overrides that train.py takes."""

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from pathssl.bench.verb import WHAT, bench, size
from pathssl.compose import compose, cucim_first, part_of
from pathssl.errors import UserError
from pathssl.launch.verbs import add_launch_verbs
from pathssl.probe_verbs import add_probe_verbs
from pathssl.report.verbs import add_report_verbs


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0, 1 where it failed, 2 where it was called wrongly."""
    parser = argparse.ArgumentParser(prog="python -m pathssl", description=__doc__.split(": ", 1)[1])
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_index(verbs)
    _add_gallery(verbs)
    _add_replay(verbs)
    _add_export(verbs)
    _add_verify_resume(verbs)
    _add_bench(verbs)
    _add_doctor(verbs)
    for add_verbs in (add_report_verbs, add_probe_verbs, add_launch_verbs):
        add_verbs(partial(_verb, verbs))
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
        count, bad = sources.survey_slides(config, part_of(options.part))
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
    if away := len(index.unreachable):
        text += f"\n{plural(away, 'slide')} of these could not be reached just now: repeat the command when they can; no run starts before."
    return {
        "text": text,
        "broken": bool(away),
        "unreachable": [[str(path), reason] for path, reason in index.unreachable],
        "slides": slides,
        "cases": cases,
        "sites": sites,
        "tissue_mm2": float(index.tissue_mm2.sum()),
        "quarantined": quarantined,
    }


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
    cucim_first()
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
    cucim_first()
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
