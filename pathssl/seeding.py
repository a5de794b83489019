"""Randomness as a pure function of (seed, purpose, index): no state, no rank, no worker, no time.

Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), vectorised over the index.
"""

import zlib

import numpy as np

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """(..., 4) random 32-bit words held in uint64, for a counter of (..., 4) 32-bit words held in uint64."""
    c0, c1, c2, c3 = np.moveaxis(np.asarray(counter, np.uint64), -1, 0)
    k0, k1 = key
    for _ in range(10):
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (product1 >> _32) ^ c1 ^ np.uint64(k0),
            product1 & _LOW,
            (product0 >> _32) ^ c3 ^ np.uint64(k1),
            product0 & _LOW,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack((c0, c1, c2, c3), axis=-1)


def words(seed: int, purpose: str, index: np.ndarray, n: int, attempt: int = 0) -> np.ndarray:
    """(len(index), n) random 32-bit words held in uint64.

    `purpose` separates streams ("patch", "views", ...); `attempt` is for redraws at the same index.
    """
    index = np.atleast_1d(np.asarray(index)).astype(np.uint64)
    blocks = -(-n // 4)
    counter = np.empty((len(index), blocks, 4), np.uint64)
    counter[..., 0] = (index & _LOW)[:, None]
    counter[..., 1] = (index >> _32)[:, None]
    counter[..., 2] = np.arange(blocks, dtype=np.uint64)
    counter[..., 3] = attempt
    key = (seed & 0xFFFFFFFF) ^ ((seed >> 32) & 0xFFFFFFFF), zlib.crc32(purpose.encode())
    return philox(counter, key).reshape(len(index), blocks * 4)[:, :n]


def uniforms(seed: int, purpose: str, index: np.ndarray, n: int, attempt: int = 0) -> np.ndarray:
    """(len(index), n) float64 in [0, 1); see `words`."""
    return words(seed, purpose, index, n, attempt).astype(np.float64) / 2**32


def integer_seed(seed: int, purpose: str, index: int = 0) -> int:
    """A 63-bit seed for libraries that keep their own generator (torch, NumPy)."""
    high, low = (int(word) for word in words(seed, purpose, np.array([index]), 2)[0])
    return (high << 31) ^ low
