"""Which labelled images bear the name of a case or slide."""

import re
from collections.abc import Iterable
from pathlib import PurePath

_TCGA = re.compile(r"(?<![0-9A-Z])TCGA-[0-9A-Z]{2}-[0-9A-Z]{4}(?![0-9A-Z])", re.IGNORECASE)
_BOUNDARY = re.compile(r"(?<=[A-Za-z0-9])(?=[^A-Za-z0-9])")
# Shorter ones (1, a3) stand in paths for too much else.
_LEAST_IN_A_PATH = 5


def barcode(text: str) -> str | None:
    """The TCGA case (12 characters) that is named anywhere in `text`."""
    found = _TCGA.search(text)
    return found[0].upper() if found else None


def normal(name: str) -> str:
    """A case as it is compared: its TCGA barcode, else without case and outer blanks."""
    return barcode(name) or name.strip().casefold()


def in_path(path: str) -> set[str]:
    """What a path may name: each of its parts, and each beginning of a part that ends before a sign, in lower case.

    `luad/Slide7_tile_3.png` -> luad, slide7, slide7_tile, slide7_tile_3, slide7_tile_3.png. A TCGA barcode counts wherever it stands.
    """
    names = set()
    for part in PurePath(path).parts:
        names |= {part[: match.start()] for match in _BOUNDARY.finditer(part)} | {part}
    names = {name.casefold() for name in names if len(name) >= _LEAST_IN_A_PATH}
    return names | ({found} if (found := barcode(path)) else set())


class Names:
    """Cases or slides by what they are called."""

    def __init__(self, named: Iterable[tuple[str, str]]):
        """named: (what it is called, how it is to be reported)."""
        self._reported = {normal(name): reported for name, reported in named}

    def find(self, *, path: str, exactly: Iterable[str]) -> str | None:
        """The one that `path` names or that is called like one of `exactly`; None where there is none."""
        for name in (*(normal(text) for text in exactly), *sorted(in_path(path))):
            if (reported := self._reported.get(name)) is not None:
                return reported
        return None
