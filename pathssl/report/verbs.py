"""`python -m pathssl report | compare | noise`: what runs that are there come to."""

import argparse
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any


def add_report_verbs(add: Callable[..., argparse.ArgumentParser]) -> None:
    """add(name, help, example, run) gives a verb's parser."""
    _add_report(add)
    _add_compare(add)
    _add_noise(add)


def _add_report(add: Callable[..., argparse.ArgumentParser]) -> None:
    help_ = "compare the arms of a study: one HTML page, CSV and Markdown under FOLDER/report; prints where, and what is published beside"
    parser = add("report", help_, "report outputs/demo", _report)
    parser.add_argument("folder", type=Path, help="a study's folder, such as outputs/demo")


def _report(options: argparse.Namespace) -> dict[str, Any]:
    from pathssl.report.write import write_report

    page = write_report(options.folder)
    published = page.with_name("published.md")
    beside = f"\n\n{published.read_text().rstrip()}" if published.is_file() else ""
    return {"text": f"{page}{beside}", "page": str(page)}


def _add_compare(add: Callable[..., argparse.ArgumentParser]) -> None:
    help_ = "two runs side by side: settings, code, packages, data and hardware that differ, then their metrics"
    example = "compare outputs/demo/teacher=m0.98/seed0 outputs/demo/teacher=m0.99/seed0"
    parser = add("compare", help_, example, _compare)
    parser.add_argument("runs", nargs=2, type=Path, metavar="RUN", help="a run: outputs/<study>/<arm>/seed<k>")


def _compare(options: argparse.Namespace) -> dict[str, Any]:
    from pathssl.report.run_pair import compare_runs, pair_text

    pair = compare_runs(*options.runs)
    differences = {kind: [asdict(one) for one in found] for kind, found in pair.differences.items()}
    metrics = {key: {"first": one, "second": two} for key, (one, two) in pair.metrics.items()}
    return {"text": pair_text(pair), "differences": differences, "patches": pair.patches, "metrics": metrics}


def _add_noise(add: Callable[..., argparse.ArgumentParser]) -> None:
    help_ = "how much seeds alone move a study's metrics, and how many seeds show a difference of a given size"
    parser = add("noise", help_, "noise outputs/demo --difference 0.01", _noise)
    parser.add_argument("folder", type=Path, help="a study's folder, with several seeds in its arms")
    help_ = "such as probe/synthetic/linear/test/balanced_accuracy; may be repeated (default: those that the report compares)"
    parser.add_argument("--metric", action="append", default=[], metavar="KEY", help=help_)
    help_ = "in the metric's own unit; may be repeated (default: 0.005, 0.01, 0.02, 0.05)"
    parser.add_argument("--difference", action="append", type=float, metavar="SIZE", help=help_)


def _noise(options: argparse.Namespace) -> dict[str, Any]:
    from pathssl.report.noise import measure_noise, noise_text

    found = measure_noise(options.folder, options.metric, options.difference or (0.005, 0.01, 0.02, 0.05))
    return {"text": noise_text(found), "metrics": [asdict(noise) for noise in found]}
