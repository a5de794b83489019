"""Slides that have the label of their case, as TP53 mutated or not for TCGA's: which slides these are, and splits by case or by site."""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from pathssl.errors import UserError, some
from pathssl.probes.folder import read_table
from pathssl.probes.settings import check_mpp, check_path, check_whole, is_number, typed
from pathssl.probes.slide_level.slides import SlidesTask
from pathssl.slides.index import SlideIndex, build_index
from pathssl.slides.remote.cache import SlideCache
from pathssl.slides.slide import COARSER
from pathssl.slides.tcga import barcode

log = logging.getLogger(__name__)

SPLIT_BY = ("case", "site")
SPLITS = ("train", "val", "test")
_NAMED = 3


def tp53_task(
    *,
    path: str,
    manifest: str | None,
    kind: str | None,
    rescan: bool,
    labels: str,
    split_by: str,
    fractions: Mapping[str, float],
    seed: int,
    mpp: float,
    reader: str,
    foreground: Mapping[str, object],
    cache: Path,
    mirrors: SlideCache | None = None,
    **settings,
) -> SlidesTask:
    """The task of the slides at `path` whose case the CSV file `labels` has: case, label and, optionally, split.

    kind, rescan: as data.tcga.kind and data.rescan. Without a split column, `split_cases` makes them. Slides whose case has no label, or
    which are too coarse for `mpp`, and cases without slides are left out and counted. The rest: see `SlidesTask` and `slides_task`.
    """
    check_path(labels=labels)
    source = Path(labels).expanduser()
    of_case = _labels(source)
    check_path(path=path)
    check_mpp(mpp)
    if "split" not in of_case:  # before slides are looked for
        _shares(fractions, seed, split_by)
    try:
        index = build_index(
            path, cache=cache, manifest=manifest, mirrors=mirrors, tcga=kind, rescan=rescan, reader=reader, **foreground
        )
    except UserError as error:
        raise UserError(f"The slides of {source}, in {path}: {error}") from error
    table = _slides(index, of_case, mpp, source)
    if "split" not in of_case:
        sites = dict(zip(index.case, index.site, strict=True))
        cases = of_case.loc[of_case.index.isin(table["group"]), "label"]
        made = split_cases(cases, cases.index.map(sites), fractions, seed, split_by, str(source))
        table["split"] = table["group"].map(made)
    return SlidesTask(table, index, mpp=mpp, source=str(source), **settings)


def _labels(source: Path) -> pd.DataFrame:
    """By case: label and, where the file has it, split. A barcode of a sample or slide is one of its case."""
    if not source.is_file():
        raise UserError(
            f"{source} is not there: a CSV file with the columns case (as TCGA-A2-A0T2), label and, optionally, split. Whose TP53 is "
            "mutated is to be had from https://www.cbioportal.org (TCGA PanCancer Atlas, a download of the gene's mutations)."
        )
    table = read_table(source, ("case", "label"), kind="A task of labelled cases", optional=("split",))
    table["case"] = [name if (found := barcode(name)) is None else found.case for name in table["case"]]
    table = table[[name for name in ("case", "label", "split") if name in table]].drop_duplicates()
    twice = table.loc[table["case"].duplicated(), "case"].tolist()
    if twice:
        more = f", as have {len(set(twice)) - 1} more cases" if len(set(twice)) > 1 else ""
        raise UserError(f"{source}: case {twice[0]} has two labels or splits{more}. Keep one row for each case.")
    return table.set_index("case")


def _slides(index: SlideIndex, of_case: pd.DataFrame, mpp: float, source: Path) -> pd.DataFrame:
    """slide, group (its case), label and, where known, split of the slides that are used; says which are not."""
    slides = pd.DataFrame({"slide": index.paths, "group": index.case, "fine": index.mpp <= COARSER * mpp})
    labelled = slides["group"].isin(of_case.index)
    if not labelled.any():
        raise UserError(
            f"{source}: none of its {len(of_case)} cases ({some(of_case.index, _NAMED)}) has a slide in {index.root}, whose cases are "
            f"{some(slides['group'].unique(), _NAMED)}. Give their labels, or other slides."
        )
    lacking = of_case.index.difference(slides["group"])
    for number, what, names in (
        ((~labelled).sum(), "slides have no label for their case and are left out", slides.loc[~labelled, "group"]),
        (len(lacking), "cases have a label and no slide", lacking),
        ((labelled & ~slides["fine"]).sum(), f"slides are too coarse for mpp={mpp:g} and are left out",
         slides.loc[labelled & ~slides["fine"], "slide"]),
    ):  # fmt: skip
        if number:
            log.warning("%s: %d %s: %s.", source, number, what, some(names.unique(), _NAMED))
    used = slides[labelled & slides["fine"]]
    if used.empty:
        raise UserError(f"{source}: every slide is too coarse for mpp={mpp:g}. Give a greater mpp.")
    return used.join(of_case, on="group").drop(columns="fine")


def split_cases(
    labels: pd.Series, sites: pd.Index, fractions: Mapping[str, float], seed: int, by: str, source: str
) -> pd.Series:
    """The split of each case (the index of `labels`), the same for the same cases and seed, whatever their order.

    by=case: of every label, `fractions` of its cases, ranked by a hash of their names with the seed. by=site: whole sites, the largest
    first, each into the split that thereby comes nearest to its fractions of the labels. UserError where a split would lack a label.
    """
    shares = _shares(fractions, seed, by)
    made = _by_site(labels, sites, shares, seed) if by == "site" else _by_case(labels, shares, seed)
    every = sorted(labels.unique())
    lacking = {name: [label for label in every if label not in set(labels[made == name])] for name in SPLITS}
    said = [
        f"{name} would be empty" if of == every else f"{name} would have no case of label {some(of, _NAMED)}"
        for name, of in lacking.items()
        if of
    ]
    if said:
        raise UserError(
            f"{source}: {len(labels)} cases of {len(set(sites))} sites are too few to be split by {by}: {' and '.join(said)}. Give a "
            "column split, or more cases."
        )
    return made


def _shares(fractions: object, seed: object, by: object) -> np.ndarray:
    """(3,) `fractions` of SPLITS; UserError where a setting of how splits are made is none."""
    if by not in SPLIT_BY:
        raise UserError(f"split_by={typed(by)} is not one of {', '.join(SPLIT_BY)}.")
    check_whole(0, seed=seed)
    of = [fractions.get(name) for name in SPLITS] if isinstance(fractions, Mapping) else [None]
    if (
        not all(is_number(share) and share > 0 for share in of)
        or set(fractions) - set(SPLITS)
        or abs(sum(of) - 1) > 1e-6
    ):
        raise UserError(f"fractions={typed(fractions)}: give shares of train, val and test above 0 whose sum is 1.")
    return np.array(of)


def _by_case(labels: pd.Series, shares: np.ndarray, seed: int) -> pd.Series:
    made = pd.Series(index=labels.index, dtype=object)
    for label in sorted(labels.unique()):
        cases = sorted(labels.index[labels == label], key=lambda name: _rank(name, seed))
        ends = np.rint(np.cumsum(shares) * len(cases)).astype(int)
        for name, part in zip(SPLITS, np.split(np.array(cases, object), ends[:-1]), strict=True):
            made[part] = name
    return made


def _by_site(labels: pd.Series, sites: pd.Index, shares: np.ndarray, seed: int) -> pd.Series:
    counts = pd.crosstab(np.asarray(sites), labels.to_numpy())
    target_SK = np.outer(shares, counts.sum())
    have_SK = np.zeros_like(target_SK)
    chosen = {}
    for site in sorted(counts.index, key=lambda name: (-counts.loc[name].sum(), _rank(name, seed))):
        of_site_K = counts.loc[site].to_numpy()
        off_S = ((have_SK + of_site_K - target_SK) ** 2 - (have_SK - target_SK) ** 2).sum(axis=1)
        split = int(off_S.argmin())
        have_SK[split] += of_site_K
        chosen[site] = SPLITS[split]
    return pd.Series(pd.Index(sites).map(chosen), index=labels.index)


def _rank(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()
