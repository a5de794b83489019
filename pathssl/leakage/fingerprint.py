"""What a picture looks like, in few numbers: the same for a copy that was encoded again, flipped, turned by right angles or resized.

The low frequencies (a cosine transform) of the luminance of a thumbnail. Their signs are a hash of 63 bits, which picks candidates among
very many pairs; a correlation of four times as many frequencies confirms them. Flips only change signs of cosines and transposing
only swaps them, so one fingerprint answers for all eight ways to lay a square.

Axes: N pictures, K frequencies a side, V = 8 ways to lay a square.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

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
_PACKED = np.dtype([("hashes", "u8", 2), ("shapes", "f2", (_COMPARED, _COMPARED)), ("plain", "?")])
VERSION = 1  # of what fingerprints are: those that are kept of another one are made anew
# (transposed, rows flipped, columns flipped)
WAYS = [(transposed, rows, columns) for transposed in (0, 1) for rows in (0, 1) for columns in (0, 1)]


@dataclass(frozen=True)
class Fingerprints:
    """Of N pictures, in order."""

    hashes_N2: np.ndarray  # uint64: of the picture, and of its transpose
    shapes_NKK: np.ndarray  # float16, of unit length
    plain_N: np.ndarray  # bool: too little in it to be known again

    @classmethod
    def of_packed(cls, packed_N: np.ndarray) -> "Fingerprints":
        """What `packed` gave."""
        return cls(*(packed_N[name] for name in _PACKED.names))

    def packed(self) -> np.ndarray:
        """(N,) of all that there is, in one array."""
        packed_N = np.empty(len(self), _PACKED)
        for name, of in zip(_PACKED.names, (self.hashes_N2, self.shapes_NKK, self.plain_N), strict=True):
            packed_N[name] = of
        return packed_N

    def only(self, those_N: np.ndarray) -> "Fingerprints":
        """With the others plain, so that only these have copies."""
        return replace(self, plain_N=self.plain_N | ~those_N)

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
        shapes = self.shapes_NKK[rows].astype(np.float32)
        shapes = shapes.transpose(0, 2, 1) if transposed else shapes
        signs_KK = np.multiply.outer(_SIGNS_K**flip_rows, _SIGNS_K**flip_columns)
        return np.einsum("nij,nij,ij->n", shapes, others.shapes_NKK[columns].astype(np.float32), signs_KK)


def fingerprints(batches: Iterable[np.ndarray]) -> Fingerprints:
    """Of all pictures in batches (B, H, H, 3) uint8: half a KiB each, whatever their number."""
    packed = [_of_batch(batch).packed() for batch in batches if len(batch)]
    return Fingerprints.of_packed(np.concatenate([np.empty(0, _PACKED), *packed]))


def _of_batch(pictures: np.ndarray) -> Fingerprints:
    cosines = dctn(np.stack([_thumbnail(picture) for picture in pictures]), axes=(1, 2), norm="ortho")
    cosines[:, 0, 0] = 0
    plain_N = np.sqrt((cosines**2).sum((1, 2))) / _THUMBNAIL_PX < _PLAIN
    signs = cosines[:, :_HASHED, :_HASHED] > 0
    hashes = [
        np.where(bits, _BITS, np.uint64(0)).sum((1, 2), dtype=np.uint64) for bits in (signs, signs.swapaxes(1, 2))
    ]
    shapes = cosines[:, :_COMPARED, :_COMPARED] * _WEIGHT_KK
    length = np.sqrt((shapes**2).sum((1, 2), keepdims=True))
    shapes = (shapes / np.where(length > 0, length, 1)).astype(np.float16)
    return Fingerprints(np.stack(hashes, axis=1), shapes, plain_N)


def _thumbnail(picture: np.ndarray) -> np.ndarray:
    size = (_THUMBNAIL_PX, _THUMBNAIL_PX)
    return np.asarray(Image.fromarray(picture).convert("L").resize(size, Image.Resampling.BOX), np.float32)
