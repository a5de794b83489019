"""A segmentation task: images with masks and splits, checked before anything is trained.

Axes: N images, M crops, K classes; H, W pixels of an image, P = image_px.
"""

import logging
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError

from pathssl.errors import UserError
from pathssl.probes.cache import key_of
from pathssl.probes.images import files_hash
from pathssl.probes.segmentation.crops import CropFiles, crops_of, cut, in_threads, resampled, room
from pathssl.probes.segmentation.masks import IGNORED, MOST_CLASSES, Meaning, load_mask
from pathssl.probes.settings import check_images, check_whole
from pathssl.probes.splits import check_groups, take_validation
from pathssl.probes.task import check_samples, slides_of, split_names

log = logging.getLogger(__name__)


class SegmentationTask:
    """Images in a folder with a mask and a split each.

    `table` has the text columns path and mask (relative to `folder`), split and, where known, group; `source` names it in
    messages. Every image is cut into crops of `crop_px` at its own resolution, the last ones padded with pixels that do
    not count, and these are resampled to `image_px` where that differs (None: it does not). Masks hold class numbers: k is
    `classes[k]`, or, where classes is None, each value found is a class of that name, in order. `instances`: they hold numbers
    of objects, and every one above 0 is of class 1. Pixels of the value
    `ignore` do not count. `background`: the value 0 is background, which is learned, and left out of Dice and mIoU.
    Without a validation split, `val_fraction` of train's images becomes one, by group. The order of the rows does not
    matter: images are sorted by path. `mpp`: um per pixel of the images, for records. `read_mask` gives the (H, W) whole numbers of
    what `mask` names, in several threads; it is asked twice for each.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        *,
        folder: Path,
        source: str,
        image_px: int,
        classes: tuple[str, ...] | None,
        background: bool,
        ignore: int | None,
        instances: bool,
        val_fraction: float,
        threads: int,
        cache_mib: float,
        mpp: float | None = None,
        crop_px: int | None = None,
        read_mask: Callable[[Path], np.ndarray] = load_mask,
    ):
        check_images(image_px=image_px, val_fraction=val_fraction, threads=threads, cache_mib=cache_mib)
        self.crop_px = image_px if crop_px is None else crop_px
        check_whole(1, crop_px=self.crop_px)
        table = table.sort_values("path", kind="stable")
        self.source, self.image_px, self.threads, self.cache_mib = source, image_px, threads, cache_mib
        self.mpp, self._read_mask = mpp, read_mask
        self.ids_N = table["path"].to_numpy(str)
        self.grouped = "group" in table
        self.groups_N = table["group"].to_numpy(str) if self.grouped else self.ids_N
        self.slides_N = slides_of(table)
        self.splits_N = split_names(table["split"], source)
        check_samples(self.ids_N, folder, source)
        if self.grouped:
            check_groups(self.groups_N, self.splits_N, source)
        self._masks = [folder / path for path in table["mask"]]
        images = [folder / path for path in self.ids_N]
        looks = list(in_threads(partial(_look, read_mask), list(zip(images, self._masks, strict=True)), threads))
        self.meaning, self.classes = _meaning(looks, classes, ignore, instances, source)
        self.background = _background(background, self.meaning, source)
        self.labels_N = np.array([look.digest for look in looks])  # by which the task is known
        self.pixels_NK = np.stack([self._pixels(look) for look in looks])
        self.val_taken_from_train = "val" not in self.splits_N and "train" in self.splits_N
        if self.val_taken_from_train:
            self._take_validation(val_fraction)
        self._check_classes()
        self.image_M = np.repeat(np.arange(len(images)), [crops_of(look.size_HW, self.crop_px) for look in looks])
        self.images = CropFiles(
            images,
            crops=len(self.image_M),
            crop_px=self.crop_px,
            image_px=image_px,
            threads=threads,
            cache_mib=cache_mib,
        )
        self._labels_MPP: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids_N)

    def rows_of_pictures(self) -> np.ndarray:
        """(M,) of which image each crop of `batches` is."""
        return self.image_M

    def data_hash(self) -> str | None:
        """Of which images these are, by their files' places, sizes and times, and how they are cut; None: not known."""
        known = files_hash(self.images.paths, self.image_px)
        return known if known is None or self.crop_px == self.image_px else key_of(known, self.crop_px)

    def describe(self) -> dict:
        """What the task is made of, for records: images, groups, crops and pixels of each class by split, and how they are shown."""
        splits = {}
        for name in dict.fromkeys(["train", "val", *np.unique(self.splits_N).tolist()]):
            here_N = self.splits_N == name
            pixels_K = self.pixels_NK[here_N].sum(axis=0).tolist()
            splits[name] = {
                "samples": int(here_N.sum()),
                "groups": len(np.unique(self.groups_N[here_N])) if self.grouped else None,
                "crops": len(self.crops(name)),
                "pixels_of_class": dict(zip(self.classes, pixels_K, strict=True)),
            }
        seen = None if self.mpp is None else [round(self.mpp * self.crop_px / self.image_px, 4)] * 2
        images = {"crop_px": self.crop_px, "image_px": self.image_px, "mpp": self.mpp, "seen_mpp": seen}
        return {
            "source": self.source,
            "val_taken_from_train": self.val_taken_from_train,
            "splits": splits,
            "images": images,
        }

    def batches(self, batch_size: int) -> Iterator[np.ndarray]:
        """(B, P, P, 3) uint8 crops of all splits; crop m is of image `image_M[m]`."""
        return self.images.batches(batch_size)

    @property
    def labels_MPP(self) -> np.ndarray:
        """(M, P, P) uint8 class numbers of all crops, or IGNORED; read once, and kept on disk where they would fill `cache_mib`."""
        if self._labels_MPP is None:
            labels_MPP = room((len(self.image_M), self.image_px, self.image_px), np.uint8, self.cache_mib)
            end = 0
            for mask_HW in in_threads(self._read_mask, self._masks, self.threads):
                crops = cut(self.meaning.labels(mask_HW), self.crop_px, IGNORED)
                start, end = end, end + len(crops)
                labels_MPP[start:end] = resampled(crops, self.image_px, Image.Resampling.NEAREST)
            self._labels_MPP = labels_MPP
        return self._labels_MPP

    def crops(self, split: str) -> np.ndarray:
        """The numbers of the crops of a split."""
        return np.flatnonzero(self.splits_N[self.image_M] == split)

    def evaluated(self) -> tuple[str, ...]:
        """The splits that get a number: val, and test where there is one."""
        return ("val", "test") if "test" in self.splits_N else ("val",)

    def _pixels(self, look: "_Look") -> np.ndarray:
        """(K,) pixels of each class in a mask."""
        counts = dict(zip(look.values, look.counts, strict=True))
        counts.pop(self.meaning.ignore, None)
        if self.meaning.instances:
            return np.array([counts.pop(0, 0), sum(counts.values())])
        return np.array([counts.get(value, 0) for value in self.meaning.values])

    def _check_classes(self) -> None:
        if "train" not in self.splits_N:
            raise UserError(f"{self.source}: no row has split train (found: {', '.join(np.unique(self.splits_N))}).")
        if len(self.classes) < 2:
            raise UserError(
                f"{self.source}: the masks hold {' and '.join(self.classes) or 'nothing'} alone. Segmentation needs two classes."
            )
        missing = [self.classes[k] for k in np.flatnonzero(self.pixels_NK[self.splits_N == "train"].sum(axis=0) == 0)]
        if missing:
            names = ", ".join(map(repr, missing))
            taken = (
                " once validation has been taken from it; give rows with split val" if self.val_taken_from_train else ""
            )
            raise UserError(f"{self.source}: no mask of train has class {names}{taken}, so it cannot be learned.")
        for name in self.evaluated():
            pixels_K = self.pixels_NK[self.splits_N == name].sum(axis=0)
            scored_K = pixels_K if self.background is None else np.delete(pixels_K, self.background)
            if not scored_K.any():
                raise UserError(f"{self.source}: no mask of {name} has any class but the background: nothing to score.")
            if not scored_K.all():
                log.warning("%s: %s has %d of %d classes; its Dice and mIoU are over those.", self.source, name,
                            np.count_nonzero(scored_K), len(scored_K))  # fmt: skip
        if "test" not in self.splits_N:
            log.warning("%s has no test split: results are on validation, by which settings are chosen.", self.source)

    def _take_validation(self, fraction: float) -> None:
        train = np.flatnonzero(self.splits_N == "train")
        groups = self.groups_N[train] if self.grouped else None
        # An image has many classes, so the folds are by number of images alone; what train then lacks is refused.
        taken, _ = take_validation(np.zeros(len(train), int), groups, fraction, self.source)
        self.splits_N[train[taken]] = "val"
        log.info("%s: no validation split; %d of %d train images taken, by %s.", self.source, taken.sum(), len(train),
                 "whole groups" if self.grouped else "single images")  # fmt: skip


class _Look(NamedTuple):
    """What is known of an image and its mask after one look: values of the mask, their counts, and a digest of it."""

    image: Path
    mask: Path
    size_HW: tuple[int, int]
    values: list[int]
    counts: list[int]
    digest: str


def _look(read_mask: Callable[[Path], np.ndarray], paths: tuple[Path, Path]) -> _Look:
    image, mask = paths
    if not mask.is_file():
        raise UserError(f"The mask {mask} of {image} is not there. Correct the path or add the file.")
    try:
        with Image.open(image) as file:
            size_HW = file.height, file.width
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError) as error:
        raise UserError(f"{image} cannot be decoded ({error}). Mend it, or take its row out of the table.") from error
    mask_HW = read_mask(mask)
    if mask_HW.shape != size_HW:
        raise UserError(
            f"{image} is {size_HW[1]} x {size_HW[0]} px and its mask {mask} {mask_HW.shape[1]} x {mask_HW.shape[0]}: "
            "they must be of one size."
        )
    values, counts = np.unique(mask_HW, return_counts=True)
    content = np.ascontiguousarray(mask_HW, np.int64)  # the same mask in another format is the same
    return _Look(image, mask, size_HW, values.tolist(), counts.tolist(), f"{zlib.crc32(content):08x}")


def _meaning(
    looks: list[_Look], classes: tuple[str, ...] | None, ignore: int | None, instances: bool, source: str
) -> tuple[Meaning, tuple[str, ...]]:
    """What the values of the masks mean, and the classes' names."""
    found = sorted({value for look in looks for value in look.values if value != ignore})
    if instances and (classes is None or len(classes) != 2):
        raise UserError(f"classes={classes}: with instances=true name two, as in classes=[background,nucleus].")
    if classes is None:
        classes, values = tuple(map(str, found)), tuple(found)
    else:
        values = tuple(range(len(classes)))
    if len(classes) > MOST_CLASSES:
        raise UserError(f"{source}: the masks hold {len(classes)} values; at most {MOST_CLASSES} classes are possible."
                        " Masks of numbered objects take instances=true.")  # fmt: skip
    meaning = Meaning(values, ignore, instances)
    wrong = [(look, meaning.unknown(look.values)) for look in looks if meaning.unknown(look.values)]
    if wrong:
        look, unknown = wrong[0]
        more = f" (as do {len(wrong) - 1} more masks)" if len(wrong) > 1 else ""
        raise UserError(
            f"{look.mask} has the value {', '.join(map(str, unknown[:5]))}{more}, which is none of the {len(classes)} classes "
            f"({', '.join(f'{k} {name}' for k, name in zip(values, classes, strict=True))}). Name all classes, or ignore=VALUE."
        )
    return meaning, classes


def _background(there: bool, meaning: Meaning, source: str) -> int | None:
    """The number of the class that is left out of Dice and mIoU."""
    if there and 0 not in meaning.values:
        raise UserError(f"{source}: background=true, and no mask has the value 0: background=false scores every class.")
    return 0 if there else None
