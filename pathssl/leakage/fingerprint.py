"""What a picture looks like, in few numbers: the same for a copy that was encoded again, flipped, turned by right angles or resized.

The low frequencies (a cosine transform) of the luminance of a thumbnail. Their signs are a hash of 63 bits, which picks candidates among
very many pairs; a correlation of four times as many frequencies confirms them. Flips only change signs of cosines and transposing
only swaps them, so one fingerprint answers for all eight ways to lay a square.

Axes: N pictures, K frequencies a side, V = 8 ways to lay a square.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.fft import dctn

_THUMBNAIL_PX = 32
_HASHED = 8  # frequencies a side whose signs are the hash
_COMPARED = 16  # and that are correlated
# Grey levels (standard deviation of the thumbnail) below which there is nothing to tell apart: glass, and single colours.
_PLAIN = 2.0
# Power falls off with frequency in any tissue; weighted like this, all frequencies count alike, and smooth shading tells nothing.
_WEIGHT_KK = np.add.outer(np.arange(_COMPARED), np.arange(_COMPARED)).astype(np.float32)
_BITS = (np.uint64(1) << np.arange(_HASHED**2, dtype=np.uint64)).reshape(_HASHED, _HASHED)
_ODD_ROWS, _ODD_COLUMNS = _BITS[1::2].sum(dtype=np.uint64), _BITS[:, 1::2].sum(dtype=np.uint64)
_SIGNS_K = (-1.0) ** np.arange(_COMPARED, dtype=np.float32)
# (transposed, rows flipped, columns flipped)
WAYS = [(transposed, rows, columns) for transposed in (0, 1) for rows in (0, 1) for columns in (0, 1)]


@dataclass(frozen=True)
class Fingerprints:
    """Of N pictures, in order."""

    hashes_N2: np.ndarray  # uint64: of the picture, and of its transpose
    shapes_NKK: np.ndarray  # float32, of unit length
    plain_N: np.ndarray  # bool: too little in it to be known again

    def __len__(self) -> int:
        return len(self.plain_N)

    def laid(self, way: tuple[int, int, int]) -> np.ndarray:
        """(N,) uint64: the hashes of the pictures laid another way."""
        transposed, rows, columns = way
        flipped = (_ODD_ROWS if rows else np.uint64(0)) ^ (_ODD_COLUMNS if columns else np.uint64(0))
        return self.hashes_N2[:, transposed] ^ flipped

    def similarity(self, rows: np.ndarray, others: "Fingerprints", columns: np.ndarray, way) -> np.ndarray:
        """(n,) float32 in [-1, 1]: how alike pictures `rows`, laid that way, and pictures `columns` of `others` are."""
        transposed, flip_rows, flip_columns = way
        shapes = self.shapes_NKK[rows]
        shapes = shapes.transpose(0, 2, 1) if transposed else shapes
        signs_KK = np.multiply.outer(_SIGNS_K**flip_rows, _SIGNS_K**flip_columns)
        return np.einsum("nij,nij,ij->n", shapes, others.shapes_NKK[columns], signs_KK)


def fingerprints(batches: Iterable[np.ndarray]) -> Fingerprints:
    """Of all pictures in batches (B, H, H, 3) uint8."""
    thumbnails = [_thumbnail(picture) for batch in batches for picture in batch]
    cosines = dctn(
        np.stack(thumbnails) if thumbnails else np.empty((0, *[_THUMBNAIL_PX] * 2), np.float32),
        axes=(1, 2),
        norm="ortho",
    )
    cosines[:, 0, 0] = 0
    plain_N = np.sqrt((cosines**2).sum((1, 2))) / _THUMBNAIL_PX < _PLAIN
    signs = cosines[:, :_HASHED, :_HASHED] > 0
    hashes = [
        np.where(bits, _BITS, np.uint64(0)).sum((1, 2), dtype=np.uint64) for bits in (signs, signs.swapaxes(1, 2))
    ]
    shapes = cosines[:, :_COMPARED, :_COMPARED] * _WEIGHT_KK
    length = np.sqrt((shapes**2).sum((1, 2), keepdims=True))
    return Fingerprints(np.stack(hashes, axis=1), shapes / np.where(length > 0, length, 1), plain_N)


def _thumbnail(picture: np.ndarray) -> np.ndarray:
    size = (_THUMBNAIL_PX, _THUMBNAIL_PX)
    return np.asarray(Image.fromarray(picture).convert("L").resize(size, Image.Resampling.BOX), np.float32)
