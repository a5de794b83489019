"""A classification task: labelled images with splits, checked before anything is trained.

Axes: N samples, D features.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pathssl.errors import UserError
from pathssl.probes.feature_set import FeatureSet, Split
from pathssl.probes.images import ImageFiles
from pathssl.probes.settings import check_images
from pathssl.probes.splits import SPLIT_NAMES, check_groups, take_validation
from pathssl.seeding import uniforms

log = logging.getLogger(__name__)


class Task:
    """Images in a folder with a label and a split each.

    `table` has the text columns path (relative to `folder`), label, split and, where known, group and slide. `source` names
    the table in messages. Images come as (image_px, image_px, 3) uint8. Without a validation split, `val_fraction` of train
    becomes one (see `take_validation`). The order of the rows does not matter: samples are sorted by path. `classes`: the labels in the
    order of their numbers; None: those of the table, sorted. `mpp`: um per pixel of the images as they lie there, for records.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        *,
        folder: Path,
        source: str,
        image_px: int,
        val_fraction: float,
        threads: int,
        cache_mib: float,
        classes: Sequence[str] | None = None,
        mpp: float | None = None,
    ):
        check_images(image_px=image_px, val_fraction=val_fraction, threads=threads, cache_mib=cache_mib)
        table = table.sort_values("path", kind="stable")
        self.source = source
        self.ids_N = table["path"].to_numpy(str)
        self.grouped = "group" in table
        self.groups_N = table["group"].to_numpy(str) if self.grouped else self.ids_N
        self.slides_N = slides_of(table)
        self.splits_N = split_names(table["split"], source)
        self.classes = tuple(sorted(table["label"].unique()) if classes is None else classes)
        self.labels_N = self._numbers(table["label"])
        self.mpp = mpp
        self.images = self._open(folder, image_px=image_px, threads=threads, cache_mib=cache_mib)
        if self.grouped:
            check_groups(self.groups_N, self.splits_N, source)
        self._check_classes()
        self.val_taken_from_train = "val" not in self.splits_N
        if self.val_taken_from_train:
            self._take_validation(val_fraction)

    def __len__(self) -> int:
        return len(self.ids_N)

    def batches(self, batch_size: int) -> Iterator[np.ndarray]:
        """(B, image_px, image_px, 3) uint8 of all splits, in the order of `ids_N`."""
        return self.images.batches(batch_size)

    def feature_set(self, features_ND: np.ndarray) -> FeatureSet:
        """The features of all samples (in the order of `ids_N`) by split, with labels, groups and ids."""
        if len(features_ND) != len(self):
            raise ValueError(f"{len(features_ND)} rows of features for the {len(self)} samples of {self.source}")

        def split(name: str) -> Split:
            rows = np.flatnonzero(self.splits_N == name)
            return self.split_of(rows, features_ND[rows])

        test = split("test") if "test" in self.splits_N else None
        return FeatureSet(self.classes, split("train"), split("val"), test)

    def split_of(self, rows: np.ndarray, features_ND: np.ndarray) -> Split:
        """These images, by their numbers in ascending order, with their features."""
        return Split(features_ND, self.labels_N[rows], self.groups_N[rows], self.ids_N[rows])

    def some_of(self, split: str, most: int, seed: int) -> np.ndarray:
        """The numbers of at most `most` images of a split, ascending: whole samples, at least one, drawn from `seed`."""
        rows = np.flatnonzero(self.splits_N == split)
        _, of_sample, sizes = np.unique(self.samples_N[rows], return_inverse=True, return_counts=True)
        order = np.argsort(uniforms(seed, "some samples", np.arange(len(sizes)), 1)[:, 0])
        fits = np.cumsum(sizes[order]) <= most
        fits[0] = True
        return rows[np.isin(of_sample, order[fits])]

    @property
    def samples_N(self) -> np.ndarray:
        """Which sample each image is of: each is one by itself."""
        return self.ids_N

    def rows_of_pictures(self) -> np.ndarray:
        """(M,) of which sample each picture of `batches` is."""
        return np.arange(len(self))

    def data_hash(self) -> str | None:
        """Of which images these are, by their files' places, sizes and times, and how they are resampled; None: not known."""
        return self.images.hash()

    def describe(self) -> dict:
        """What the task is made of, for records: classes, samples and groups of each split, where val comes from."""
        splits = {}
        for name in dict.fromkeys(["train", "val", *np.unique(self.splits_N).tolist()]):
            here_N = self.splits_N == name
            counts = np.bincount(self.labels_N[here_N], minlength=len(self.classes))
            splits[name] = {
                "samples": int(here_N.sum()),
                "groups": len(np.unique(self.groups_N[here_N])) if self.grouped else None,
                "per_class": dict(zip(self.classes, counts.tolist(), strict=True)),
            }
        return {
            "source": self.source,
            "val_taken_from_train": self.val_taken_from_train,
            "splits": splits,
            "images": self.images.describe(self.mpp),
        }

    def _open(self, folder: Path, **settings) -> ImageFiles:
        check_samples(self.ids_N, folder, self.source)
        return ImageFiles([folder / path for path in self.ids_N], **settings)

    def _numbers(self, labels: pd.Series) -> np.ndarray:
        """(N,) the class number of each label."""
        numbers = {name: k for k, name in enumerate(self.classes)}
        unknown = sorted(set(labels) - numbers.keys())
        if unknown:
            raise UserError(
                f"{self.source}: label {', '.join(map(repr, unknown))} is none of the classes {', '.join(self.classes)}."
            )
        return labels.map(numbers).to_numpy(int)

    def _check_classes(self) -> None:
        if len(self.classes) < 2:
            raise UserError(f"{self.source}: every label is {self.classes[0]!r}. Classification needs two classes.")
        present = {name: set(self.labels_N[self.splits_N == name]) for name in np.unique(self.splits_N)}
        if "train" not in present:
            raise UserError(f"{self.source}: no row has split train (found: {', '.join(present)}).")
        missing = sorted(set(range(len(self.classes))) - present["train"])
        if missing:
            names = ", ".join(repr(self.classes[label]) for label in missing)
            raise UserError(f"{self.source}: no train row has label {names}, so it cannot be learned.")
        if "test" not in present:
            log.warning("%s has no test split: results are on validation, by which settings are chosen.", self.source)
        for name in sorted(present.keys() - {"train"}):
            if len(present[name]) < len(self.classes):
                log.warning(
                    "%s: %s has %d of %d classes; its balanced accuracy is over those.",
                    self.source, name, len(present[name]), len(self.classes),
                )  # fmt: skip

    def _take_validation(self, fraction: float) -> None:
        train = np.flatnonzero(self.splits_N == "train")
        groups = self.groups_N[train] if self.grouped else None
        taken, lacking = take_validation(self.labels_N[train], groups, fraction, self.source)
        self.splits_N[train[taken]] = "val"
        unit = "whole groups" if self.grouped else "single images"
        log.info("%s: no validation split; %d of %d train images taken, by %s.",
                 self.source, taken.sum(), len(train), unit)  # fmt: skip
        if lacking:
            log.warning("%s: the validation split taken from train lacks %d of %d classes, which have too few %s.",
                        self.source, lacking, len(self.classes), "groups" if self.grouped else "images")  # fmt: skip


def slides_of(table: pd.DataFrame) -> np.ndarray:
    """(N,) the slide of each image, "" where it is not known; a bag is a slide."""
    known = [name for name in ("slide", "bag") if name in table]
    return table[known[0]].to_numpy(str) if known else np.full(len(table), "")


def split_names(column: pd.Series, source: str) -> np.ndarray:
    """(N,) "train", "val" or "test"."""
    unknown = sorted(set(column.str.lower()) - SPLIT_NAMES.keys())
    if unknown:
        raise UserError(f"{source}: unknown split {', '.join(map(repr, unknown))}; allowed: {', '.join(SPLIT_NAMES)}.")
    return column.str.lower().map(SPLIT_NAMES).to_numpy(str)


def check_samples(ids_N: np.ndarray, folder: Path, source: str) -> None:
    """Refuses images that are listed twice or are not there."""
    repeated = ids_N[1:][ids_N[1:] == ids_N[:-1]]  # ids are sorted
    if len(repeated):
        more = f" and {len(np.unique(repeated)) - 1} more" if len(np.unique(repeated)) > 1 else ""
        raise UserError(f"{source}: {repeated[0]}{more} stands in more than one row. Keep one row for each image.")
    absent = [path for path in ids_N if not (folder / path).is_file()]
    if absent:
        more = f" and {len(absent) - 1} more of {len(ids_N)} images" if len(absent) > 1 else ""
        raise UserError(f"{source}: {absent[0]}{more} not found under {folder}. Correct the paths or add the files.")
