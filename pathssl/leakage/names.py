"""Which labelled images bear the name of a case or slide."""

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import PurePath

from pathssl.slides.catalogue import SUFFIXES

_WORD = re.compile(r"[^\W_]+")
_TCGA = re.compile(r"(?<![^-])tcga-[0-9a-z]{2}-[0-9a-z]{4}(?![^-])")
_UUID = re.compile(r"\.[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.IGNORECASE)
# Shorter names (1, a3) stand in paths for too much else; they count where they are the whole of a group or slide.
_LEAST_IN_A_PATH = 5


@lru_cache(2**14)  # images have groups, slides and folders in common
def normal(name: str) -> str:
    """A name as it is compared: its words of letters and digits, in lower case, between dashes."""
    return "-".join(_WORD.findall(name.casefold()))


def barcode(text: str) -> str | None:
    """The TCGA case (12 characters) that is named anywhere in `text`, whatever stands between its words."""
    found = _TCGA.search(normal(text))
    return found[0].upper() if found else None


def of_case(case: str) -> str:
    """What every image of a case bears: its TCGA barcode, else its name."""
    return barcode(case) or case


def of_slide(path: str) -> str:
    """What every image of a slide bears: its file name without folder, suffix and the UUID that the GDC adds."""
    return _UUID.sub("", PurePath(path).stem)


class Names:
    """Cases or slides by what they are called."""

    def __init__(self, named: Iterable[tuple[str, str]], *, classes: Iterable[str]):
        """named: (what it is called, how it is to be reported). classes: of the images; as parts of a path they name nothing else."""
        self._reported: dict[str, str] = {}
        for name, reported in named:
            if key := normal(name):
                self._reported.setdefault(key, reported)
        self._words = sorted({key.count("-") + 1 for key in self._reported})
        self._classes = {normal(name) for name in classes}
        self._in_part = lru_cache(2**14)(self._names_in)

    def find(self, *, path: str, fields: Iterable[str]) -> str | None:
        """The one that a field (a group, a slide) is called, else the longest name in the fields and `path`; None where there is none.

        Any words that follow each other in a part of a path are a name: `TUM/TUM_patient123_0001.png` holds patient123.
        """
        fields = list(fields)
        for field in fields:
            for whole in (field, PurePath(field).stem if field.lower().endswith(SUFFIXES) else ""):
                if (reported := self._reported.get(normal(whole))) is not None:
                    return reported
        found = [key for text in (*fields, path) for part in text.split("/") for key in self._in_part(part)]
        return self._reported[max(found, key=len)] if found else None

    def _names_in(self, part: str) -> list[str]:
        words, found = _WORD.findall(part.casefold()), []
        for count in self._words:
            for start in range(len(words) - count + 1):
                name = "-".join(words[start : start + count])
                if name not in self._reported or len(name) < _LEAST_IN_A_PATH or name in self._classes:
                    continue
                # Numbers further on are places in a slide as often as names.
                if start == 0 or not name.replace("-", "").isdecimal():
                    found.append(name)
        return found
