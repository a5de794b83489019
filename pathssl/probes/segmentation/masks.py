"""Masks from files: arrays of whole numbers, and what these numbers mean.

Axes: H, W pixels; K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from PIL import Image, UnidentifiedImageError

from pathssl.errors import UserError

IGNORED = (
    255  # the label of pixels that are neither learned nor scored: the rim of crops, and what a mask says to ignore
)
MOST_CLASSES = IGNORED  # labels are uint8
_INTEGER_MODES = (
    "1",
    "L",
    "P",
    "I",
    "I;16",
    "I;16B",
    "I;16L",
)  # of Pillow: one channel of whole numbers (P: palette indices)


def load_mask(path: Path) -> np.ndarray:
    """(H, W) whole numbers: a single-channel image, or the one array of an .npy or .npz."""
    try:
        mask = _array(path) if path.suffix in (".npy", ".npz") else _picture(path)
    except UserError:
        raise
    except (UnidentifiedImageError, Image.DecompressionBombError, BadZipFile, OSError, EOFError, ValueError) as error:
        raise UserError(f"The mask {path} cannot be decoded ({error}). Mend it, or take its row out.") from error
    if mask.ndim != 2 or not (np.issubdtype(mask.dtype, np.integer) or mask.dtype == bool):
        raise UserError(f"The mask {path} is {mask.dtype} of shape {mask.shape}; give (height, width) whole numbers.")
    return mask


def _array(path: Path) -> np.ndarray:
    content = np.load(path, allow_pickle=False)
    if isinstance(content, np.ndarray):
        return content
    with content:
        if len(content.files) != 1:
            raise UserError(
                f"The mask {path} holds {len(content.files)} arrays ({', '.join(content.files)}); give a file with one."
            )
        return content[content.files[0]]


def _picture(path: Path) -> np.ndarray:
    with Image.open(path) as file:
        if file.mode not in _INTEGER_MODES:
            raise UserError(
                f"The mask {path} is an image of mode {file.mode} ({', '.join(file.getbands())}); give one channel of class numbers."
            )
        return np.asarray(file)


@dataclass(frozen=True)
class Meaning:
    """What the numbers in masks stand for: `values[k]` is class k, `ignore` no class. instances: every number above 0 is class 1."""

    values: tuple[int, ...]
    ignore: int | None
    instances: bool

    def labels(self, mask_HW: np.ndarray) -> np.ndarray:
        """(H, W) uint8 class numbers, or IGNORED. The values are known to be right: see `unknown`."""
        mask_HW = mask_HW.astype(np.int64)
        ignored_HW = np.zeros(mask_HW.shape, bool) if self.ignore is None else mask_HW == self.ignore
        if self.instances:
            labels_HW = (mask_HW > 0).astype(np.uint8)
        else:
            labels_HW = np.searchsorted(self.values, mask_HW).astype(np.uint8)
        labels_HW[ignored_HW] = IGNORED
        return labels_HW

    def unknown(self, found: Sequence[int]) -> list[int]:
        """Those of the values `found` in a mask that mean nothing."""
        if self.instances:
            return [value for value in found if value < 0 and value != self.ignore]
        return [value for value in found if value not in self.values and value != self.ignore]
