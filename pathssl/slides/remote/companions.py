"""The files that a slide by URL is besides its main one: of MIRAX those of its folder, of DICOM those of its series."""

import io
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from pathssl.slides.dicom import SUFFIX as DICOM
from pathssl.slides.dicom import series_in
from pathssl.slides.parts import MIRAX, is_several, number_of_all
from pathssl.slides.remote.address import joined
from pathssl.slides.remote.facts import Facts, Unfit
from pathssl.slides.remote.place import Place, number_of
from pathssl.slides.remote.store import Store

_HEAD = 64 * 1024  # bytes of a DICOM file that say its series


def companions(place: Place, store: Store) -> dict[str, Facts]:
    """{name relative to the slide's folder: facts}; OSError where these cannot be had now."""
    if not is_several(place.name):
        return {}
    try:
        return _mirax(place, store) if place.name.lower().endswith(MIRAX) else _series(place, store)
    except (FileNotFoundError, PermissionError) as error:
        raise _unlisted(place) from error


def version_number(facts: Facts, others: Mapping[str, Facts]) -> int:
    """The number of a slide's version: of its main file, and of all others where it is several."""
    if not others:
        return number_of(facts.version)
    return number_of_all([("", *facts), *((name, *each) for name, each in others.items())])


def series(urls: Sequence[str], store: Store) -> list[str | None]:
    """The SeriesInstanceUID of each DICOM file; None where it has none, or is not there."""
    return [None if head is None else series_in(io.BytesIO(head)) for head in store.beginnings(urls, _HEAD)]


def _mirax(place: Place, store: Store) -> dict[str, Facts]:
    stem = PurePosixPath(place.name).stem
    return _facts(place, store, [f"{stem}/{name}" for name in store.find(joined(place.parent, stem))])


def _series(place: Place, store: Store) -> dict[str, Facts]:
    near = [name for name in store.find(place.parent, deep=False) if name.lower().endswith(DICOM)]
    if place.name not in near:
        raise _unlisted(place)
    if len(near) == 1:
        return {}
    known = dict(zip(near, series([joined(place.parent, name) for name in near], store), strict=True))
    own = known.pop(place.name)
    return _facts(place, store, [name for name, uid in known.items() if uid == own is not None])


def _facts(place: Place, store: Store, names: list[str]) -> dict[str, Facts]:
    facts = store.facts([joined(place.parent, name) for name in names])
    for each in facts:
        if isinstance(each, OSError):
            raise each
    return dict(zip(names, facts, strict=True))


def _unlisted(place: Place) -> Unfit:
    return Unfit(f"{place} may be several files, and its server does not list its folder: copy the slide to a disk")
