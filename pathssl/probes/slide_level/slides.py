"""A classification task of whole slides, whose patches are read from them.

Axes: N patches; B of a batch; P pixels a side.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from pathssl.data.patches import PatchReader
from pathssl.data.regions import Region
from pathssl.data.sampling import Sampler
from pathssl.errors import UserError
from pathssl.probes.folder import read_table
from pathssl.probes.images import ImageFiles, rebatched
from pathssl.probes.settings import check_mpp, check_path, check_whole
from pathssl.probes.slide_level.bags import BagTask
from pathssl.seeding import integer_seed
from pathssl.slides.index import SlideIndex, build_index
from pathssl.slides.remote.cache import SlideCache

log = logging.getLogger(__name__)


def slides_task(
    *,
    path: str,
    labels: str,
    manifest: str | None,
    mpp: float,
    patches: int,
    image_px: int,
    val_fraction: float,
    cache_mib: float,
    reader: str,
    foreground: Mapping[str, object],
    cache: Path,
    mirrors: SlideCache | None = None,
) -> "SlidesTask":
    """The task of the slides that the CSV file `labels` names: slide (relative to the slides' folder), label, split, optionally group_id.

    `patches` of each slide are read, `image_px` wide at `mpp`, at places with tissue that follow from the slide's name. Without a
    group_id, the group of a slide is its case by the manifest. cache: where the index of the slides at `path` is kept; mirrors: where
    slides by URL are.
    """
    check_path(labels=labels, path=path)
    source = Path(labels).expanduser()
    table = read_table(source, ("slide", "label", "split"), kind="A task of slides")
    try:
        index = build_index(path, cache=cache, manifest=manifest, mirrors=mirrors, reader=reader, **foreground)
    except UserError as error:
        raise UserError(f"The slides of {source}, in {path}: {error}") from error
    return SlidesTask(
        table,
        index,
        mpp=mpp,
        patches=patches,
        source=str(source),
        image_px=image_px,
        val_fraction=val_fraction,
        cache_mib=cache_mib,
    )


class SlidesTask(BagTask):
    """A BagTask whose images are `patches` of each slide of `table` (slide, label, split and, where known, group)."""

    def __init__(self, table: pd.DataFrame, index: SlideIndex, *, mpp: float, patches: int, source: str, **settings):
        check_mpp(mpp)
        check_whole(1, patches=patches)
        self.index, self.patches, self.min_tissue = index, patches, index.settings["min_tissue"]
        self.row = {name: k for k, name in enumerate(index.paths)}
        _check_slides(table["slide"], index, source)
        if "group" not in table:
            table = table.assign(group=[index.case[self.row[name]] for name in table["slide"]])
        table = table.rename(columns={"slide": "bag"}).loc[table.index.repeat(patches)]
        number = table.groupby("bag").cumcount()
        table["path"] = table["bag"] + "#" + number.map("{:05d}".format)
        super().__init__(table, source=source, folder=index.root, mpp=float(mpp), threads=1, **settings)

    def _open(self, _folder: Path, *, image_px: int, cache_mib: float, **_) -> ImageFiles:
        slides = list(dict.fromkeys(self.bags_N.tolist()))  # in the order of ids, which begin with them
        return SlidePatches(self, slides, image_px, cache_mib)


class SlidePatches(ImageFiles):
    """The patches of a task's slides, slide by slide; kept in memory as other images are, else read again each time."""

    def __init__(self, task: SlidesTask, slides: list[str], image_px: int, cache_mib: float):
        super().__init__([Path(name) for name in task.ids_N], image_px=image_px, threads=1, cache_mib=cache_mib)
        self.slides = slides
        self.task = task
        self.samplers = {name: _sampler(task, name, image_px) for name in slides}
        self.patches = task.patches

    def _sides(self) -> list[int]:
        return [self.image_px] * 2  # as they are read

    def hash(self) -> str:
        """Of the slides' places, sizes and times, and of how patches are taken from them."""
        index = self.task.index
        files = [(str(index.root / name), index.fingerprints[self.task.row[name]]) for name in self.slides]
        how = self.image_px, self.patches, self.task.mpp, sorted(index.settings.items())
        return hashlib.blake2b(repr((files, how)).encode(), digest_size=16).hexdigest()

    def _decode(self, rows: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
        return rebatched(self._read(rows), batch_size)

    def _read(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """The patches of these numbers, slide by slide."""
        slide_N, number_N = np.divmod(rows, self.patches)
        for k in np.unique(slide_N):
            name = self.slides[k]
            reader = PatchReader(self.samplers[name], seed=integer_seed(0, f"slide {name}"), open_slides=1)
            found = reader.read(number_N[slide_N == k])
            reader.close()
            for number, _, reason in found.replaced:
                log.warning("%s: patch %d cannot be decoded and is replaced by another (%s).", name, number, reason)
            yield found.pixels


def _sampler(task: SlidesTask, name: str, image_px: int) -> Sampler:
    """Draws patches of one slide."""
    k = task.row[name]
    try:
        return Sampler(
            task.index,
            slides=np.array([k]),
            mpp=[task.mpp],
            weight=[1.0],
            patch_px=image_px,
            min_tissue=task.min_tissue,
            batch_size=task.patches,
            region=Region(patches=1, width=1.0, chunk_batches=1),
        )
    except UserError as error:
        raise UserError(
            f"{task.source}: {name} has {task.index.mpp[k]:g} um per pixel at its finest, too coarse for mpp={task.mpp:g}. Give a "
            "greater mpp, or take its row out."
        ) from error


def _check_slides(slides: pd.Series, index: SlideIndex, source: str) -> None:
    """Refuses slides that are listed twice, are not there or cannot be used."""
    repeated = slides[slides.duplicated()].tolist()
    if repeated:
        raise UserError(f"{source}: {repeated[0]} stands in more than one row. Keep one row for each slide.")
    quarantined = dict(index.quarantined)
    known = set(index.paths)
    absent = [name for name in slides if name not in known]
    if absent:
        more = f" and {len(absent) - 1} more of {len(slides)}" if len(absent) > 1 else ""
        reason = quarantined.get(absent[0], f"there is no such slide under {index.root}")
        raise UserError(f"{source}: {absent[0]}{more} cannot be used: {reason}. Correct the path, or take the row out.")
