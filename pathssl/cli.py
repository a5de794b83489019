"""python -m pathssl VERB: everything but training. Verbs that need a config take the overrides that train.py takes."""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pathssl.errors import UserError


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0, 1 where it failed, 2 where it was called wrongly."""
    parser = argparse.ArgumentParser(prog="python -m pathssl", description=__doc__.split(": ", 1)[1])
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_index(verbs)
    _add_gallery(verbs)
    _add_report(verbs)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    try:
        answer = options.run(options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(json.dumps(answer, indent=1) if options.json else answer["text"])
    return 0


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


def _index(options: argparse.Namespace) -> dict[str, Any]:
    config = compose(options.overrides)
    from pathssl import parts

    index = parts.open_index(config)
    quarantined = [[str(path), reason] for path, reason in index.quarantined]
    text = (
        f"{len(index.paths)} slides of {len(set(index.case))} cases and {len(set(index.site))} sites, "
        f"{index.tissue_mm2.sum():.1f} mm2 of tissue; {len(quarantined)} quarantined."
    )
    text += "".join(f"\n  {path}: {reason}" for path, reason in quarantined)
    return {
        "text": text,
        "slides": len(index.paths),
        "cases": len(set(index.case)),
        "sites": len(set(index.site)),
        "tissue_mm2": float(index.tissue_mm2.sum()),
        "quarantined": quarantined,
    }


def _add_gallery(verbs) -> None:
    help_ = "pictures: the mask over each slide and where patches fell, accepted and rejected patches, augmented views"
    parser = _verb(verbs, "gallery", help_, "gallery data=synthetic --to gallery", _gallery)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for train.py")
    parser.add_argument("--to", default="gallery", type=Path, help="folder for the pictures (default: gallery)")
    parser.add_argument("--slides", default=12, type=int, help="at most so many slides (default: 12)")


def _gallery(options: argparse.Namespace) -> dict[str, Any]:
    config = compose(options.overrides)
    from pathssl.gallery import draw_gallery

    pictures = draw_gallery(config, options.to, options.slides)
    return {"text": "\n".join(map(str, pictures)), "pictures": list(map(str, pictures))}


def _add_report(verbs) -> None:
    help_ = "compare the arms of a study: one HTML page, CSV and Markdown under FOLDER/report"
    parser = _verb(verbs, "report", help_, "report outputs/demo", _report)
    parser.add_argument("folder", type=Path, help="a study's folder, such as outputs/demo")


def _report(options: argparse.Namespace) -> dict[str, Any]:
    from pathssl.report import write_report

    page = write_report(options.folder)
    return {"text": str(page), "page": str(page)}


def compose(overrides: Sequence[str]) -> dict[str, Any]:
    """The resolved config of these overrides; UserError with Hydra's words, and a suggestion, where they do not compose."""
    from pathssl.slides import cucim_reader

    cucim_reader.available()  # before torch: on machines without an NVIDIA driver cuCIM would hang after it

    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from pathssl.complaints import CONF, suggestions
    from pathssl.run import resolved

    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = hydra_compose("config", list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError("\n".join([str(error), *suggestions(overrides)])) from error
    return resolved(config)
