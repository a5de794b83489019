"""MoNuSAC: nuclei of four organs by type (Verma et al. 2021), drawn from their outlines.

Axes: H, W pixels.
"""

import zlib
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError
from skimage.draw import polygon

from pathssl.errors import UserError
from pathssl.probes.datasets.published import Counts, Published
from pathssl.probes.segmentation.task import SegmentationTask
from pathssl.slides.tcga import barcode

MONUSAC = Published(
    name="MoNuSAC",
    classes=("Background", "Epithelial", "Lymphocyte", "Neutrophil", "Macrophage"),
    mpp=0.25,
    obtain="https://monusac-2020.grand-challenge.org/Data (two archives, to be unpacked)",
)
_PARTS = {"train": "MoNuSAC_images_and_annotations", "val": "MoNuSAC Testing Data and Annotations"}
_AMBIGUOUS = "Ambiguous"  # regions of the second part in which the annotators would not decide
IGNORE = len(MONUSAC.classes)
_NUMBERS = {name: k for k, name in enumerate((*MONUSAC.classes, _AMBIGUOUS))}


def monusac_task(*, path: str, counts: Counts | None, scored: str, **settings) -> SegmentationTask:
    """The task of `path`/<part>/<slide>/<slide>_<n>.tif with an .xml each; counts, scored: see published.py, others: `SegmentationTask`.

    A group is a case: the TCGA barcode of the slide's folder, else the folder. Names do not tell the part: cases that have swapped parts,
    with as many images each, are not found.
    """
    folder = MONUSAC.root(path)
    columns = ["path", "mask", "split", "group", "slide"]
    rows = pd.DataFrame([row for split in _PARTS for row in _rows(folder, split)], columns=columns)
    masks = {"background": True, "ignore": IGNORE, "instances": False, "read_mask": Outlines()}
    return MONUSAC.task(rows, folder, of=SegmentationTask, counts=counts, scored=scored, **masks, **settings)


def _rows(folder: Path, split: str) -> list[tuple[str, ...]]:
    rows = []
    for image in sorted(MONUSAC.part(folder, _PARTS[split]).rglob("*.tif")):
        slide = image.parent.name
        name = image.relative_to(folder)
        outlines = MONUSAC.part(folder, *name.with_suffix(".xml").parts)
        case = slide if (found := barcode(slide)) is None else found.case
        rows.append((name.as_posix(), outlines.relative_to(folder).as_posix(), split, case, slide))
    return rows


class Outlines:
    """Draws the mask of an .xml, each once: later ones are unpacked (a mask packs to some kilobytes)."""

    def __init__(self):
        self._packed: dict[Path, tuple[tuple[int, int], bytes]] = {}

    def __call__(self, path: Path) -> np.ndarray:
        if path not in self._packed:
            mask_HW = drawn(path)
            self._packed[path] = mask_HW.shape, zlib.compress(mask_HW)
        shape, packed = self._packed[path]
        return np.frombuffer(zlib.decompress(packed), np.uint8).reshape(shape)


def drawn(path: Path) -> np.ndarray:
    """(H, W) uint8, of the size of the .tif beside: class numbers, or IGNORE. Of nuclei that overlap the later one in the file counts."""
    width, height = _size(path.with_suffix(".tif"))
    # x first, as eva draws: what lies on an outline depends on the order of the axes.
    mask_WH = np.zeros((width, height), np.uint8)
    for name, vertices_N2 in _regions(path):
        if name not in _NUMBERS:
            raise UserError(
                f"{path} has nuclei of class {name!r}, which is none of {', '.join(_NUMBERS)}. {MONUSAC.how()}"
            )
        mask_WH[polygon(vertices_N2[:, 0], vertices_N2[:, 1], mask_WH.shape)] = _NUMBERS[name]
    return np.ascontiguousarray(mask_WH.T)


def _regions(path: Path) -> list[tuple[str, np.ndarray]]:
    """The class of each nucleus and the (x, y) of its outline's corners."""
    try:
        found = []
        for annotation in ElementTree.parse(path).getroot().findall("Annotation"):
            name = annotation.find("Attributes/Attribute").attrib["Name"]
            for region in annotation.iterfind("Regions/Region"):
                corners = [(float(at.attrib["X"]), float(at.attrib["Y"])) for at in region.iterfind("Vertices/Vertex")]
                if not corners or not np.isfinite(corners).all():
                    what = "a corner that is at no place" if corners else "no corners"
                    raise ValueError(f"region {region.get('Id')} of {name.strip()} has {what}")
                found.append((name.strip(), np.array(corners)))
        return found
    except (
        ElementTree.ParseError,
        AttributeError,
        KeyError,
        ValueError,
    ) as error:  # no XML; a part or a number that is not there
        raise UserError(f"{path} cannot be read as MoNuSAC's outlines ({error}). {MONUSAC.how()}") from error


def _size(path: Path) -> tuple[int, int]:
    """Width and height of an image."""
    try:
        with Image.open(path) as file:
            return file.size
    except (UnidentifiedImageError, OSError) as error:
        raise UserError(f"{path} cannot be decoded ({error}). {MONUSAC.how()}") from error
