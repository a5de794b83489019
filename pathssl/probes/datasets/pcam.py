"""PCam: patches of lymph nodes with tumour in their middle or without (Veeling et al. 2018), in its published splits.

Axes: N images; K classes.
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from pathssl.errors import UserError
from pathssl.probes.datasets.hdf5 import HDF5Images, array_of, length_of
from pathssl.probes.datasets.published import Counts, Published
from pathssl.probes.settings import check_whole
from pathssl.probes.task import Task

log = logging.getLogger(__name__)

PCAM = Published(
    name="PCam",
    classes=("no_tumor", "tumor"),
    mpp=0.972,  # Camelyon16's 0.243 at 40x, "undersampled at 10x": https://github.com/basveeling/pcam
    obtain="https://zenodo.org/records/2546921 (six .h5.gz files, to be gunzipped, and three _meta.csv that may be left out)",
)
SPLITS = {"train": "train", "val": "valid", "test": "test"}  # as they are called in the files' names
_IMAGES = (None, 96, 96, 3)
_LABELS = (None, 1, 1, 1)


def pcam_task(*, path: str, counts: Counts | None, shots: int | None, shots_seed: int, **settings) -> "PCamTask":
    """The task of `path`/camelyonpatch_level_2_split_{train,valid,test}_{x,y}.h5; counts: see published.py, the rest: see `Task`.

    Where the three ..._meta.csv lie there too, an image's slide is its group. shots: as many images of each class of train alone, those
    that kaiko-eva 0.4.5's BalancedSampler draws from `shots_seed` (42 in eva's configuration, for each of its runs); None: all.

    Images have no names. Files in another split's place are found by their counts of classes; another order of a split's images or
    labels, and images of one class that have swapped splits, are not (with the tables, a slide that is in two splits is).
    """
    check_whole(0, shots_seed=shots_seed)
    if shots is not None:
        check_whole(1, shots=shots)
    folder = PCAM.root(path)
    rows = pd.concat([_rows(folder, split) for split in SPLITS], ignore_index=True)
    if rows["slide"].isna().any():
        rows = rows.drop(columns="slide")
    else:
        rows["group"] = rows["slide"]
    return PCAM.task(rows, folder, of=PCamTask, counts=counts, shots=shots, shots_seed=shots_seed, **settings)


class PCamTask(Task):
    """A Task whose images lie in PCam's HDF5 files: image train/000007 is the eighth of the training file. shots: see `pcam_task`."""

    def __init__(self, table: pd.DataFrame, *, shots: int | None, shots_seed: int, **settings):
        super().__init__(table if shots is None else _few(table, shots, shots_seed), **settings)

    def _open(self, folder: Path, **settings) -> HDF5Images:
        names = pd.Series(self.ids_N).str.split("/", n=1)
        file_N, files = pd.factorize(names.str[0], sort=True)  # ids are sorted, so both numbers ascend
        row_N = names.str[1].astype(np.int64).to_numpy()
        return HDF5Images([_file(folder, name, "x") for name in files], file_N, row_N, dataset="x", **settings)


def _rows(folder: Path, split: str) -> pd.DataFrame:
    """path, label, split and slide (None: not known) of the images of a split."""
    name = SPLITS[split]
    images, labels = _file(folder, name, "x"), _file(folder, name, "y")
    label_N = array_of(labels, "y", _LABELS).reshape(-1)
    if (count := length_of(images, "x", _IMAGES)) != len(label_N):
        raise UserError(f"{images} has {count} images and {labels.name} {len(label_N)} labels. {PCAM.how()}")
    unknown = np.setdiff1d(label_N, range(len(PCAM.classes)))
    if len(unknown):
        raise UserError(f"{labels} has the label {unknown[0]}; PCam's are 0 (no_tumor) and 1 (tumor). {PCAM.how()}")
    path = name + "/" + pd.Series(np.arange(count)).map("{:06d}".format)
    label = pd.Series(np.array(PCAM.classes, object)[label_N])
    return pd.DataFrame({"path": path, "label": label, "split": split, "slide": _slides(folder, name, count)})


def _file(folder: Path, name: str, what: str) -> Path:
    file = f"camelyonpatch_level_2_split_{name}_{what}.h5"
    if not (folder / file).exists() and (folder / f"{file}.gz").exists():
        raise UserError(f"{folder / file}.gz is still packed, and images are read from anywhere in it: gunzip it.")
    return PCAM.part(folder, file)


def _slides(folder: Path, name: str, count: int) -> pd.Series | None:
    """The slide of each image, by the table that may lie beside the images."""
    path = folder / f"camelyonpatch_level_2_split_{name}_meta.csv"
    if not path.is_file():
        log.info("%s: %s is not there, so that slides in two splits cannot be found.", PCAM.name, path.name)
        return None
    try:
        slides = pd.read_csv(path, usecols=["wsi"], dtype=str, keep_default_na=False)["wsi"].str.strip()
    except (ValueError, pd.errors.ParserError) as error:  # no such column; no table
        raise UserError(
            f"{path} cannot be read ({error}): it needs the column wsi. Fetch it again, or remove it."
        ) from error
    if len(slides) != count or (slides == "").any():
        raise UserError(
            f"{path} names the slides of {(slides != '').sum()} images, and there are {count}. Fetch it again, or remove it."
        )
    return slides


def _few(rows: pd.DataFrame, shots: int, seed: int) -> pd.DataFrame:
    """All rows but those of train that are not drawn: class after class, in the order of each one's first image, by one generator."""
    train = rows.index[rows["split"] == "train"]
    labels = rows.loc[train, "label"]
    fewest = int(labels.value_counts().reindex(PCAM.classes, fill_value=0).min())
    if shots > fewest:
        raise UserError(
            f"shots={shots}: give 1 to {fewest} images a class, as many as the smallest class of train has, or null."
        )
    draws = np.random.default_rng(seed)
    drawn = [draws.choice(train[labels == name], size=shots, replace=False) for name in labels.unique()]
    return rows.drop(train.difference(np.concatenate(drawn)))
