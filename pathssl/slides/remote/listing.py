"""Which slides there are at a URL: a list that its server gives, or the rows of a manifest."""

import fnmatch
import hashlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from pathssl.errors import UserError
from pathssl.files import write_atomic
from pathssl.slides.dicom import SUFFIX as DICOM
from pathssl.slides.dicom import one_a_series
from pathssl.slides.remote.address import checked, is_url, name_below, scheme_of
from pathssl.slides.remote.cache import SlideCache
from pathssl.slides.remote.companions import companions, series, version_number
from pathssl.slides.remote.facts import Facts
from pathssl.slides.remote.place import Place
from pathssl.slides.remote.store import store_of

_MAGIC = "*?["
_MOST_ASKED = 1000  # files that are asked for one by one where a list could be had
_AT_ONCE = 16  # slides whose further files are looked for


def find(path: str, cache: SlideCache, suffixes: tuple[str, ...]) -> tuple[Place, list[str]]:
    """(root, names below it) for the URL of a folder (with all its subfolders), a slide or a glob; UserError where there are none.

    Of the files of a DICOM series there is one.
    """
    url = checked(path)
    parts = url.split("/")
    fixed = next((n for n, part in enumerate(parts) if any(sign in part for sign in _MAGIC)), None)
    if fixed is None and url.lower().endswith(suffixes):
        root = Place(url.rpartition("/")[0], cache)
        return root, [name_below(root.url, url)]
    root = Place("/".join(parts[:fixed]), cache)
    try:
        listed = list(store_of(url).find(root.url))
        pattern = "**" if fixed is None else "/".join(parts[fixed:])
        found = [name for name in listed if name.lower().endswith(suffixes) and _matches(name, pattern)]
        found = _one_a_series(root, found)
    except FileNotFoundError:
        listed = found = []
    except OSError as error:
        raise UserError(f"The slides at data.path={path} cannot be listed: {error}{_by_manifest(url)}") from error
    if not found:
        looked = f"{len(listed)} files, none of them a slide" if listed else "nothing that can be listed"
        raise UserError(f"There is no slide at data.path={path}: its server shows {looked}.{_by_manifest(url)}")
    return root, found


def _one_a_series(root: Place, names: list[str]) -> list[str]:
    paths = [PurePosixPath(name) for name in names]
    folders = Counter(path.parent for path in paths if path.suffix.lower() == DICOM)
    shared = [path for path in paths if path.suffix.lower() == DICOM and folders[path.parent] > 1]
    uids = series([(root / path.as_posix()).url for path in shared], store_of(root.url)) if shared else []
    known = dict(zip(shared, uids, strict=True))
    return [path.as_posix() for path in one_a_series(paths, known.get)]


def named(path: str | None, slides: Sequence[str], cache: SlideCache) -> tuple[Place, list[str]]:
    """(root, names below it) of the slides that a manifest names, by URL or relative to `path`."""
    if path is None and not all(map(is_url, slides)):
        raise UserError(
            "Without data.path the manifest must name each slide by its URL; or give data.path, a folder or its URL."
        )
    root = checked(path) if path is not None else _common(list(map(checked, slides)))
    outside = [slide for slide in slides if is_url(slide) and not slide.startswith(f"{root}/")]
    if outside:
        raise UserError(
            f"The manifest names {outside[0]}, which does not lie below data.path={path}: one folder for all, or data.path=null."
        )
    return Place(root, cache), [name_below(root, slide) if is_url(slide) else slide for slide in slides]


def facts_of(root: Place, names: Sequence[str]) -> list[Facts | None]:
    """Of each file, None where it cannot be reached."""
    store = store_of(root.url)
    listed = {}
    if scheme_of(root.url).lists and len(names) > _MOST_ASKED:
        try:
            listed = store.find(root.url)
        except OSError as error:
            raise UserError(f"The slides at {root} cannot be listed: {error}") from error
    known = [listed.get(name) for name in names]
    asked = [name for name, facts in zip(names, known, strict=True) if facts is None]
    answers = iter(store.facts([(root / name).url for name in asked]))
    known = [facts if facts is not None else next(answers) for facts in known]
    return [None if isinstance(facts, OSError) else facts for facts in known]


def fingerprints(root: Place, names: Sequence[str]) -> list[str]:
    """What changes when a slide does, or a file that belongs to it; empty while it cannot be reached."""

    def fingerprint(name: str, facts: Facts | None) -> str:
        try:
            return (
                ""
                if facts is None
                else f"{facts.size}-{version_number(facts, companions(root / name, store_of(root.url)))}"
            )
        except OSError:
            return ""

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(fingerprint, names, facts_of(root, names)))


def local_copy(url: str, cache: SlideCache) -> Path:
    """The path of a small file, such as a manifest, that is fetched anew each time."""
    store = store_of(checked(url))
    try:
        content = store.whole(url)
    except OSError as error:
        raise UserError(f"data.manifest={url} cannot be read: {error}") from error
    name = url.rpartition("/")[2]
    path = cache.folder / ".manifests" / hashlib.sha256(url.encode()).hexdigest()[:12] / name
    write_atomic(path, content)
    return path


def _common(urls: list[str]) -> str:
    """The innermost folder of all of them."""
    common = urls[0].split("/")[:-1]
    for url in urls:
        same = [a == b for a, b in zip(common, url.split("/")[:-1], strict=False)]
        common = common[: same.index(False) if False in same else len(same)]
    if len(common) < 3:  # scheme, nothing, server
        raise UserError(
            f"The manifest names slides of several servers or buckets, such as {urls[0]} and {urls[-1]}: one at a time."
        )
    return "/".join(common)


def _matches(name: str, pattern: str) -> bool:
    """As in globs of files: ** stands for folders, * does not cross a slash."""
    return _parts_match(name.split("/"), pattern.split("/"))


def _parts_match(parts: list[str], patterns: list[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        rest = patterns[1:] or ["*"]
        return any(_parts_match(parts[n:], rest) for n in range(len(parts)))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], patterns[0]) and _parts_match(parts[1:], patterns[1:])


def _by_manifest(url: str) -> str:
    if scheme_of(url).lists:
        return ""
    return " HTTP servers need not list files: name the slides in a manifest (column slide), data.manifest=FILE."
