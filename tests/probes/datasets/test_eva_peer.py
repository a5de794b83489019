"""Splits, classes, labels and masks are those of kaiko-eva 0.4.5's own dataset classes, item by item, on the same miniature folders.

eva_listing.json is what these say, by eva_peer.py. With PATHSSL_EVA_PYTHON, the Python of an environment that has kaiko-eva, they are
asked anew.
"""

import hashlib
import json
import os
import subprocess
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from miniatures import bach, bracs, breakhis, crc, gleason, mhist
from miniatures_consep import consep
from miniatures_monusac import monusac
from miniatures_pcam import pcam
from PIL import Image

from pathssl.probes.datasets.bach import bach_task
from pathssl.probes.datasets.bracs import bracs_task
from pathssl.probes.datasets.breakhis import breakhis_task
from pathssl.probes.datasets.consep import consep_task
from pathssl.probes.datasets.crc import crc_task
from pathssl.probes.datasets.gleason import gleason_task
from pathssl.probes.datasets.mhist import mhist_task
from pathssl.probes.datasets.monusac import monusac_task
from pathssl.probes.datasets.pcam import pcam_task
from pathssl.probes.segmentation.masks import IGNORED

HERE = Path(__file__).parent
LISTING = HERE / "eva_listing.json"
MINIATURES = {
    "bach": partial(bach, size=(64, 48)),
    "crc": partial(crc, size=(32, 32)),
    "mhist": partial(mhist, size=(32, 32)),
    "pcam": pcam,
    "breakhis": partial(breakhis, size=(70, 46)),
    "bracs": partial(bracs, sizes=((129, 89), (70, 113), (231, 204))),
    "gleason": partial(gleason, size=(75, 75)),
    "consep": partial(consep, size=500),
    "monusac": monusac,
}
SETTINGS = {"counts": None, "image_px": 16, "val_fraction": 0.2, "threads": 2, "cache_mib": 30}
IN_TWO_PARTS = {"scored": "val"}  # what eva calls val, or test where it has no val, is val
SHOTS = {"shots": None, "shots_seed": 42}
TASKS = {
    "bach": (bach_task, IN_TWO_PARTS),
    "crc": (crc_task, IN_TWO_PARTS),
    "mhist": (mhist_task, IN_TWO_PARTS),
    "pcam": (pcam_task, SHOTS),
    "pcam_10shot": (pcam_task, SHOTS | {"shots": 10}),
    "breakhis": (breakhis_task, IN_TWO_PARTS),
    "bracs": (bracs_task, {}),
    "gleason": (gleason_task, {}),
    "consep": (consep_task, IN_TWO_PARTS | {"image_px": 500, "crop_px": 500}),  # one crop is the whole image
    "monusac": (monusac_task, IN_TWO_PARTS | {"image_px": 80, "crop_px": 80}),
}
# What our names have before eva's.
BEFORE = {"bach": "ICIAR2018_BACH_Challenge/Photos/", "mhist": "images/", "bracs": "BRACS_RoI/latest_version/"}
PCAM = {"train": "train", "valid": "val", "test": "test"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The miniatures, each in a folder called as its task."""
    folder = tmp_path_factory.mktemp("datasets")
    for name, write in MINIATURES.items():
        write(folder / name)
    return folder


def opened(root, name):
    make, settings = TASKS[name]
    return make(path=str(root / name.removesuffix("_10shot")), **SETTINGS | settings)


def evas_name(name, path):
    """What eva calls the item that is `path` here."""
    if name == "crc":
        return path.partition("/")[2]
    if name in ("pcam", "pcam_10shot"):
        split, number = path.split("/")
        return f"camelyonpatch_level_2_split_{PCAM[split]}_x_{int(number)}"
    return Path(path).name if name == "consep" else path.removeprefix(BEFORE.get(name, ""))


def mask(task, row) -> np.ndarray:
    """(H, W) class numbers of an image. eva numbers pixels that do not count as the class after the last; here they are IGNORED."""
    with Image.open(task.images.paths[row]) as file:
        width, height = file.size
    (crop,) = np.flatnonzero(task.image_M == row)
    labels_HW = task.labels_MPP[crop, :height, :width]
    return np.where(labels_HW == IGNORED, len(task.classes), labels_HW).astype(np.uint8)


def digest(mask_HW) -> str:
    return hashlib.blake2b(f"{mask_HW.shape}".encode() + mask_HW.tobytes(), digest_size=8).hexdigest()


@pytest.mark.parametrize("name", TASKS)
def test_every_item_is_in_evas_split_with_evas_label_or_mask(name, root):
    evas, task = json.loads(LISTING.read_text())[name], opened(root, name)
    # The annotators' doubts, of which eva has a class that it does not count, are none here.
    assert list(task.classes) == [label for label in evas["classes"] if label != "Ambiguous"]
    masked = hasattr(task, "labels_MPP")
    values = [digest(mask(task, row)) for row in range(len(task))] if masked else task.labels_N.tolist()
    for split, expected in evas["items"].items():
        ours = [(evas_name(name, task.ids_N[row]), values[row]) for row in np.flatnonzero(task.splits_N == split)]
        assert Counter(ours) == Counter(map(tuple, expected)) and len(set(ours)) == len(ours)
    assert set(task.splits_N) == ({"train", "val", "test"} if name == "pcam_10shot" else set(evas["items"]))


@pytest.mark.slow
def test_listing_is_what_eva_says(root):
    assert json.loads(LISTING.read_text()) == json.loads(asked(root))


def asked(root) -> str:
    python = os.environ.get("PATHSSL_EVA_PYTHON")
    if python is None:
        pytest.skip("PATHSSL_EVA_PYTHON does not name the Python of an environment with kaiko-eva 0.4.5")
    command = [python, HERE / "eva_peer.py", "list", root]
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=clean)
    assert done.returncode == 0, done.stderr
    return done.stdout
