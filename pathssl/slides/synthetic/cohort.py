"""The folder of the synthetic cohort: slides, labelled patches and nucleus masks, all from one seed."""

import csv
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from pathssl.errors import UserError
from pathssl.files import atomic_folder
from pathssl.slides.synthetic.cases import Cohort, write_nuclei, write_patches, write_slide
from pathssl.slides.synthetic.tissue import TISSUES


def write_cohort(
    folder: Path,
    *,
    seed: int,
    cases: int,
    sites: int,
    slide_px: int,
    mpp: float,
    labelled_cases: int,
    patches_per_class: int,
    patch_px: int,
    patch_mpp: float,
    nuclei_fields: int,
    workers: int,
    progress: bool,
) -> Path:
    """`folder`, complete; nothing is done where the same cohort stands there already.

    slides/case_000.tif ...  for each of `cases` a slide of `slide_px` squared at `mpp`
    manifest.csv             slide, case, site
    labelled/labels.csv      path, label, group_id (= case), split: for each of `labelled_cases`, which have no slide,
                             and each of TISSUES `patches_per_class` PNGs of `patch_px` squared at `patch_mpp`
    nuclei/nuclei.csv        image, mask, group_id, split: for each of `labelled_cases` `nuclei_fields` pictures of
                             256 px squared at `mpp` with 16-bit instance masks (0 = no nucleus)
    cohort.json              these settings

    `workers` processes share the work; their number does not change a byte.
    """
    folder = Path(folder)
    if workers < 1:
        raise UserError(f"Synthetic cohort: workers={workers}; give 1 or more.")
    cohort = Cohort(
        seed, cases, sites, slide_px, mpp, labelled_cases, patches_per_class, patch_px, patch_mpp, nuclei_fields
    )
    if folder.exists():
        _check_same(folder, cohort)
        return folder
    with atomic_folder(folder) as unfinished:
        for name in ("slides", "nuclei", *(f"labelled/{tissue}" for tissue in TISSUES)):
            (unfinished / name).mkdir(parents=True)
        labelled = range(cases, cases + labelled_cases)
        jobs = [partial(write_slide, cohort, unfinished, case) for case in range(cases)]
        jobs += [
            partial(write, cohort, unfinished, case) for write in (write_patches, write_nuclei) for case in labelled
        ]
        rows = list(tqdm(_results(jobs, workers), "synthetic cohort", len(jobs), disable=not progress))
        slides, patches, nuclei = rows[:cases], rows[cases:-labelled_cases], rows[-labelled_cases:]
        _write_csv(unfinished / "manifest.csv", ["slide", "case", "site"], [slides])
        _write_csv(unfinished / "labelled" / "labels.csv", ["path", "label", "group_id", "split"], patches)
        _write_csv(unfinished / "nuclei" / "nuclei.csv", ["image", "mask", "group_id", "split"], nuclei)
        (unfinished / "cohort.json").write_text(json.dumps(asdict(cohort), indent=1) + "\n")
    return folder


def _results(jobs: list[Callable[[], list]], workers: int) -> Iterator[list]:
    """What each job returns, in order."""
    if workers == 1:
        for job in jobs:
            yield job()
        return
    # spawned, not forked: the caller may hold threads (torch, slide readers)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for future in [pool.submit(job) for job in jobs]:
            yield future.result()


def _write_csv(path: Path, header: list[str], groups: list[list[list[str]]]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for rows in groups:
            writer.writerows(rows)


def _check_same(folder: Path, cohort: Cohort) -> None:
    """Raises UserError unless `folder` holds exactly this cohort."""
    record = folder / "cohort.json"
    if not record.is_file():
        raise UserError(
            f"{folder} exists and is not a synthetic cohort (no cohort.json); name another folder or remove it."
        )
    there, wanted = json.loads(record.read_text()), asdict(cohort)
    different = [
        f"{key}: {there.get(key)} there, {wanted[key]} wanted" for key in wanted if there.get(key) != wanted[key]
    ]
    if different:
        raise UserError(
            f"{folder} holds another synthetic cohort ({'; '.join(different)}); name another folder or remove it."
        )
