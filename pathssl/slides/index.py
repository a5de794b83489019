"""Builds the index of slides: which there are, their size and mpp, and where they have tissue.

INDEX/index.json       settings, root, SHA-256 of the manifest, quarantined slides with their reasons
INDEX/slides.parquet   one row a slide
INDEX/levels.npy       the levels of all slides, one after another: `structure.LEVEL`
INDEX/tissue.u8        the tissue grids, one after another        INDEX/cells.i32   the cells with enough tissue
INDEX.progress.jsonl   beside it, only while it is being built
INDEX.part<k>of<n>.jsonl   what a job that looks at a part of the slides has found; the next build takes it over
"""

import hashlib
import json
import logging
import os
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from tqdm import tqdm

from pathssl.errors import UserError
from pathssl.files import atomic_folder, write_atomic
from pathssl.slides.catalogue import Entry, content_hash, list_slides, root_of
from pathssl.slides.findings import Findings
from pathssl.slides.foreground import METHODS
from pathssl.slides.parts import local_version
from pathssl.slides.progress import Progress
from pathssl.slides.remote.address import checked, is_url
from pathssl.slides.remote.cache import SlideCache
from pathssl.slides.remote.listing import fingerprints as by_url
from pathssl.slides.remote.place import Place
from pathssl.slides.slide import READERS
from pathssl.slides.slide_index import VERSION, SlideIndex
from pathssl.slides.survey import Fault, Job, survey_all

log = logging.getLogger(__name__)

_SAY_EVERY_S = 60.0

__all__ = ["SlideIndex", "build_index", "survey_part"]


def build_index(
    path: Path | str | None,
    *,
    cache: Path,
    manifest: Path | str | None,
    mirrors: SlideCache | None = None,
    tcga: str | None = None,
    rescan: bool = True,
    reader: str,
    method: str,
    thumbnail_mpp: float,
    cell_um: float,
    min_tissue: float,
    workers: int | None = None,
    progress: bool = True,
) -> SlideIndex:
    """The index of the slides at `path`, kept in a folder under `cache` that these arguments name.

    Slides that are known and unchanged are not looked at again; a build that was killed goes on. Slides that cannot be
    used are quarantined with the reason. UserError where no slide is left, and then nothing stays behind.
    path: a folder, a slide or a glob, or the URL of one. manifest, mirrors, tcga: see `list_slides`. method, thumbnail_mpp: how tissue is
    found. rescan: look whether slides have come, changed or gone; without, an index that is there is taken as it is, unless the manifest
    is another, and no slide is touched.
    cell_um: the side of a cell; min_tissue: the least tissue of a cell to draw patches from. workers: processes; 0
    works in this one, None takes one per core.
    """
    settings = _settings(reader, method, thumbnail_mpp, cell_um, min_tissue)
    if not rescan and (index := _as_it_is(path, Path(cache), manifest, mirrors, tcga, settings)) is not None:
        return index
    manifest_hash = content_hash(manifest, mirrors)  # before it is read, so that a change meanwhile is noticed later
    root, entries, fingerprints, folder = _asked(path, Path(cache), manifest, mirrors, tcga, settings)
    index = _load(folder, root)
    if index is not None and _is_current(index, entries, fingerprints):
        _note_manifest(folder, manifest_hash)
        return index
    made = [parent for parent in folder.parents if not parent.exists()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    found = Progress(folder.with_name(folder.name + ".progress.jsonl"), {"version": VERSION, **settings})
    try:
        for file in sorted(folder.parent.glob(f"{folder.name}.part*of*.jsonl")):
            _take_over(file, found, {"version": VERSION, **settings})
        before = _load(folder, root) or _of_another_threshold(
            folder, root, settings
        )  # another process may have built it
        findings = Findings(found, before, fingerprints, settings["min_tissue"])
        _survey(findings, root, entries, settings, workers, progress)
        findings.refuse_nothing_usable()
        with atomic_folder(folder) as target:
            _write(target, root, settings, entries, findings, manifest_hash)
        found.remove()
    except UserError:
        found.remove()
        for parent in made:
            with suppress(OSError):  # not empty: someone else uses it
                parent.rmdir()
        raise
    finally:
        found.close()
    return SlideIndex.load(folder, root)


def survey_part(
    path: Path | str | None,
    *,
    part: tuple[int, int],
    cache: Path,
    manifest: Path | str | None,
    mirrors: SlideCache | None = None,
    tcga: str | None = None,
    reader: str,
    method: str,
    thumbnail_mpp: float,
    cell_um: float,
    min_tissue: float,
    workers: int | None = None,
    progress: bool = True,
) -> tuple[int, list[tuple[str, str]]]:
    """Looks at part k of n of the slides, so that `build_index` with the same arguments need not: how many these are, and which of
    them cannot be used. A part that was killed goes on.
    """
    number, count = part
    settings = _settings(reader, method, thumbnail_mpp, cell_um, min_tissue)
    root, entries, fingerprints, folder = _asked(path, Path(cache), manifest, mirrors, tcga, settings)
    own = list(entries)[number - 1 :: count]
    folder.parent.mkdir(parents=True, exist_ok=True)
    found = Progress(folder.with_name(f"{folder.name}.part{number}of{count}.jsonl"), {"version": VERSION, **settings})
    try:
        findings = Findings(
            found, _load(folder, root), {name: fingerprints[name] for name in own}, settings["min_tissue"]
        )
        _survey(findings, root, {name: entries[name] for name in own}, settings, workers, progress)
        if not found.slides():
            found.remove()
        outcomes = {name: findings[name] for name in own}
    finally:
        found.close()
    return len(own), [(name, outcome.reason) for name, outcome in outcomes.items() if isinstance(outcome, Fault)]


def _as_it_is(
    path: Path | str | None,
    cache: Path,
    manifest: Path | str | None,
    mirrors: SlideCache | None,
    tcga: str | None,
    settings: dict,
) -> SlideIndex | None:
    """The index that was built last, if there is one, the manifest is what it was then, and no slide was out of reach."""
    root = None if path is None or is_url(path) else root_of(path)  # which says if there is nothing
    manifest_hash = content_hash(manifest, mirrors)
    built = sorted(cache.glob(f"*-{_asked_hash(path, manifest, tcga, settings)}/index.json"))
    facts = json.loads(built[0].read_text()) if built else {}
    if facts.get("version") != VERSION or facts.get("manifest") != manifest_hash:
        return None
    index = SlideIndex.load(built[0].parent, Place(checked(facts["root"]), mirrors) if root is None else root)
    if index.unreachable:  # they may be back
        return None
    log.info(
        "%d slides are taken as the index has them; `python -m pathssl index` looks for new, changed and lost ones.",
        len(index),
    )
    return index


def _note_manifest(folder: Path, manifest_hash: str | None) -> None:
    """Writes down that the index agrees with this manifest too."""
    facts = json.loads((folder / "index.json").read_text())
    if facts.get("manifest") != manifest_hash:
        write_atomic(folder / "index.json", json.dumps(facts | {"manifest": manifest_hash}, indent=1))


def _asked(
    path: Path | str | None,
    cache: Path,
    manifest: Path | str | None,
    mirrors: SlideCache | None,
    tcga: str | None,
    settings: dict,
) -> tuple[Path | Place, dict[str, Entry], dict[str, str], Path]:
    """The slides' root, the slides and their fingerprints by name, and the index's folder."""
    root, listed = list_slides(path, manifest, mirrors=mirrors, tcga=tcga)
    entries = {entry.path: entry for entry in listed}
    return root, entries, _fingerprints(root, entries), cache / _folder_name(path, manifest, tcga, root, settings)


def _survey(
    findings: Findings,
    root: Path | Place,
    entries: dict[str, Entry],
    settings: dict,
    workers: int | None,
    progress: bool,
) -> None:
    """Looks at those of `entries` that nothing is known of."""
    jobs = [Job(name, root / name, entries[name].mpp, **settings) for name in findings.missing()]
    workers = len(os.sched_getaffinity(0)) if workers is None else workers
    known, total, began_s = len(entries) - len(jobs), len(entries), time.monotonic()
    said_s = began_s
    with tqdm(total=total, initial=known, desc="index", unit="slide", disable=not progress) as bar:
        for done, (job, outcome) in enumerate(survey_all(jobs, workers), known + 1):
            findings.add(job.name, outcome)
            bar.update()
            if not progress and (now_s := time.monotonic()) - said_s >= _SAY_EVERY_S:  # a job's log wants to know too
                said_s = now_s
                meter = tqdm.format_meter(done, total, now_s - began_s, ncols=0, unit="slide", initial=known)
                log.info("index: %s", meter)


def _take_over(file: Path, found: Progress, header: dict) -> None:
    """Adds to `found` what the job of a part wrote, once that has ended."""
    part = Progress(file, header)
    for name in part.slides():
        if found.fingerprint(name) != part.fingerprint(name):
            found.add(name, part.fingerprint(name), part.find(name))
    part.remove()
    part.close()


def _settings(reader: str, method: str, thumbnail_mpp: float, cell_um: float, min_tissue: float) -> dict:
    """What the index depends on, in the order in which its folder's name has it; UserError for what cannot be."""
    settings = {
        "reader": reader,
        "method": method,
        "thumbnail_mpp": float(thumbnail_mpp),
        "cell_um": float(cell_um),
        "min_tissue": float(min_tissue),
    }
    for name, choices in (("method", METHODS), ("reader", READERS)):
        if settings[name] not in choices:
            raise UserError(f"Unknown {name} {settings[name]!r} for slides: choose one of {', '.join(choices)}.")
    if not (0 < thumbnail_mpp <= cell_um and 0 < min_tissue <= 1):
        raise UserError(
            f"The foreground was asked for with thumbnail_mpp={thumbnail_mpp:g}, cell_um={cell_um:g}, "
            f"min_tissue={min_tissue:g}: thumbnail_mpp must be above 0 and at most cell_um, min_tissue in (0, 1]."
        )
    return settings


def _folder_name(
    path: Path | str | None, manifest: Path | str | None, tcga: str | None, root: Path | Place, settings: dict
) -> str:
    """A name of its own for each question, so that studies with other settings do not undo each other's index."""
    return f"{root.name}-{_asked_hash(path, manifest, tcga, settings)}"


def _asked_hash(path: Path | str | None, manifest: Path | str | None, tcga: str | None, settings: dict) -> str:
    asked = [
        *(given if given is None or is_url(given) else os.path.abspath(given) for given in (path, manifest)),
        VERSION,
        settings,
    ]
    asked += [] if tcga is None else [tcga]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:10]


def _fingerprints(root: Path | Place, entries: dict[str, Entry]) -> dict[str, str]:
    """Of each slide what changes when its file or the mpp that the manifest gives it does; empty while it cannot be reached."""
    files = by_url(root, list(entries)) if isinstance(root, Place) else [_fingerprint(root / name) for name in entries]
    return {name: file and f"{file}-{entry.mpp}" for (name, entry), file in zip(entries.items(), files, strict=True)}


def _fingerprint(file: Path) -> str:
    try:
        size, modified_ns = local_version(file)
    except OSError:
        return ""
    return f"{size}-{modified_ns}"


def _load(folder: Path, root: Path | Place) -> SlideIndex | None:
    return SlideIndex.load(folder, root) if (folder / "index.json").is_file() else None


def _of_another_threshold(folder: Path, root: Path, settings: dict) -> SlideIndex | None:
    """An index of these slides that differs in min_tissue alone: its slides need not be looked at again."""
    for file in sorted(folder.parent.glob(f"{root.name}-*/index.json")):
        facts = json.loads(file.read_text())
        alike = {**facts["settings"], "min_tissue": settings["min_tissue"]} == settings
        if alike and (facts.get("version"), facts["root"]) == (VERSION, str(root)):
            return SlideIndex.load(file.parent, root)
    return None


def _is_current(index: SlideIndex, entries: dict[str, Entry], fingerprints: dict[str, str]) -> bool:
    faulty = dict(zip((name for name, _ in index.quarantined), index.quarantine_fingerprints, strict=True))
    usable = dict(zip(index.paths, index.fingerprints, strict=True))
    said = list(zip(index.case, index.site, index.split, index.weight.tolist(), strict=True))
    return usable | faulty == fingerprints and said == [entries[name].said for name in index.paths]


def _write(
    folder: Path,
    root: Path | Place,
    settings: dict,
    entries: dict[str, Entry],
    findings: Findings,
    manifest_hash: str | None,
) -> None:
    rows, quarantined, levels = [], [], []
    least = settings["min_tissue"] * 255
    with open(folder / "tissue.u8", "wb") as tissue_file, open(folder / "cells.i32", "wb") as cells_file:
        for name, entry in entries.items():
            finding, fingerprint = findings[name], findings.fingerprints[name]
            if isinstance(finding, Fault):
                quarantined.append([name, fingerprint, finding.reason])
                continue
            cells, file = np.flatnonzero(finding.tissue >= least).astype(np.int32), finding.structure
            levels.append(file.levels)
            tissue_file.write(finding.tissue.tobytes())
            cells_file.write(cells.tobytes())
            rows.append(
                {
                    "path": name,
                    "fingerprint": fingerprint,
                    "case": entry.case,
                    "site": entry.site,
                    "split": entry.split,
                    "weight": entry.weight,
                    "width": int(file.levels["width"][0]),
                    "height": int(file.levels["height"][0]),
                    "mpp": finding.mpp,
                    "levels": len(file.levels),
                    "vendor": file.vendor,
                    "file_bytes": file.file_bytes,
                    "modified_ns": file.modified_ns,
                    "rows": finding.tissue.shape[0],
                    "columns": finding.tissue.shape[1],
                    "cells": len(cells),
                    "tissue_mm2": float(finding.tissue.sum(dtype=np.int64)) / 255 * settings["cell_um"] ** 2 / 1e6,
                }
            )
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "slides.parquet")
    np.save(folder / "levels.npy", np.concatenate(levels))
    facts = {"version": VERSION, "settings": settings, "root": str(root), "manifest": manifest_hash}
    facts["quarantined"] = quarantined
    (folder / "index.json").write_text(json.dumps(facts, indent=1))
