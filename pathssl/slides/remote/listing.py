"""Which slides there are at a URL: a list that its server gives, or the rows of a manifest."""

import fnmatch
import hashlib
from collections.abc import Sequence
from pathlib import Path

from pathssl.errors import UserError
from pathssl.files import write_atomic
from pathssl.slides.remote.address import checked, is_url, scheme_of
from pathssl.slides.remote.cache import SlideCache
from pathssl.slides.remote.facts import Facts
from pathssl.slides.remote.place import Place, number_of
from pathssl.slides.remote.store import store_of

_MAGIC = "*?["
_MOST_ASKED = 1000  # files that are asked for one by one where a list could be had


def find(path: str, cache: SlideCache, suffixes: tuple[str, ...]) -> tuple[Place, list[str]]:
    """(root, names below it) for the URL of a folder (with all its subfolders), a slide or a glob; UserError where there are none."""
    url = checked(path)
    parts = url.split("/")
    fixed = next((n for n, part in enumerate(parts) if any(sign in part for sign in _MAGIC)), None)
    if fixed is None and url.lower().endswith(suffixes):
        return Place("/".join(parts[:-1]), cache), [parts[-1]]
    root = Place("/".join(parts[:fixed]), cache)
    try:
        listed = store_of(url).find(root.url)
    except FileNotFoundError:
        listed = {}
    except OSError as error:
        raise UserError(f"The slides at data.path={path} cannot be listed: {error}{_by_manifest(url)}") from error
    pattern = url if fixed is not None else f"{url}/**"
    found = [name for name in listed if name.lower().endswith(suffixes) and _matches(name, pattern)]
    if not found:
        looked = f"{len(listed)} files, none of them a slide" if listed else "nothing that can be listed"
        raise UserError(f"There is no slide at data.path={path}: its server shows {looked}.{_by_manifest(url)}")
    return root, [name.removeprefix(f"{root.url}/") for name in found]


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
    return Place(root, cache), [slide.removeprefix(f"{root}/") for slide in slides]


def facts_of(root: Place, names: Sequence[str]) -> list[Facts | None]:
    """Of each file, None where it cannot be reached."""
    store = store_of(root.url)
    listed = {}
    if scheme_of(root.url).lists and len(names) > _MOST_ASKED:
        listed = store.find(root.url)
    known = [listed.get((root / name).url) for name in names]
    asked = [name for name, facts in zip(names, known, strict=True) if facts is None]
    answers = iter(store.facts([(root / name).url for name in asked]))
    known = [facts if facts is not None else next(answers) for facts in known]
    return [None if isinstance(facts, OSError) else facts for facts in known]


def fingerprints(root: Place, names: Sequence[str]) -> list[str]:
    """What changes when a slide does, empty while it cannot be reached."""
    return ["" if facts is None else f"{facts.size}-{number_of(facts.version)}" for facts in facts_of(root, names)]


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


def _matches(url: str, pattern: str) -> bool:
    """As in globs of files: ** stands for folders, * does not cross a slash."""
    return _parts_match(url.split("/"), pattern.split("/"))


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
