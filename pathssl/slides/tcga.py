"""TCGA's slides: what their barcodes say, and which of those that GDC's client fetched are used.

    TCGA-CR-7395-01A-01-TS1.UUID.svs    case TCGA-CR-7395, tissue source site CR, sample 01A, portion 01, slide TS1

Slides DX... are diagnostic: formalin-fixed and paraffin-embedded (FFPE). TS (top), MS (middle) and BS (bottom) of a portion are frozen.
"""

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from pathssl.errors import UserError

log = logging.getLogger(__name__)

KINDS = ("ffpe", "frozen", "all")
_BARCODE = re.compile(
    r"(TCGA-([0-9A-Z]{2})-[0-9A-Z]{4})(?:-[0-9]{2}[A-Z]-[0-9]{2}-(DX|TS|MS|BS)[0-9A-Z]{1,2}(?![0-9A-Z]))?",
    re.IGNORECASE,
)
_NAMED = 3


@dataclass(frozen=True)
class Barcode:
    """All in capitals. slide: the whole barcode, or None where the name ends before; kind: ffpe or frozen, None without a slide."""

    case: str
    site: str
    slide: str | None
    kind: str | None


def barcode(name: str) -> Barcode | None:
    """What the name of a file says; None where it does not begin with a barcode."""
    found = _BARCODE.match(name)
    if found is None:
        return None
    whole, case, site, slide = (None if part is None else part.upper() for part in (found[0], *found.groups()))
    if slide is None:
        return Barcode(case, site, None, None)
    return Barcode(case, site, whole, "ffpe" if slide == "DX" else "frozen")


def chosen(paths: Iterable[str], kind: str) -> list[str]:
    """Those of `paths` that are slides of this kind, each slide once: the first by path of those with one barcode."""
    if kind not in KINDS:
        raise UserError(f"data.tcga.kind={kind} is not one of {', '.join(KINDS)}.")
    kept: dict[str, str] = {}
    others, again = 0, []
    for path in sorted(paths):
        name = PurePosixPath(path).name
        found = barcode(name)
        if kind != "all" and (found is None or found.kind != kind):
            others += 1
            continue
        slide = name if found is None or found.slide is None else found.slide
        if slide in kept:
            again.append(path)
        else:
            kept[slide] = path
    if not kept:
        raise UserError(
            f"None of {others} slides is {kind} by its barcode (ffpe: DX; frozen: TS, MS, BS): set data.tcga.kind to one of "
            f"{', '.join(KINDS)}, or data=folder for slides of other names."
        )
    if others:
        log.info("%d slides are not %s by their barcodes and are left out (data.tcga.kind).", others, kind)
    if again:
        log.warning(
            "%d slides are there twice, by barcode, and are left out: %s", len(again), ", ".join(again[:_NAMED])
        )
    return list(kept.values())
