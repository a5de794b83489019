"""Which pictures of two sets are copies of each other."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from pathssl.leakage.fingerprint import WAYS, Fingerprints

# Set by benchmarks/leakage.py: copies differ in fewer of 63 bits, and unrelated tissue is far less alike.
MOST_BITS = 14
LEAST_SIMILARITY = 0.85
_PAIRS_AT_A_TIME = 2**18  # 2 MiB of differences, and half a GiB where all are candidates


@dataclass(frozen=True)
class Copies:
    """n pairs, no pair twice, ordered by row and column: (n,) int64, int64, float32."""

    rows: np.ndarray
    columns: np.ndarray
    similarity: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


def find_copies(a: Fingerprints, b: Fingerprints | None = None) -> Copies:
    """The pairs (row of `a`, column of `b`) that show the same; without `b` the pairs row < column within `a`.

    What is found: the same field after JPEG, flips, right angles, resizing, small changes of colour, a shift or crop of some 2 %.
    What is not: fields that only overlap, other angles or zooms, plain pictures (glass). All pairs are looked at, so nothing depends on
    luck: the hashes by exclusive-or and a count of bits, a slab at a time; memory does not grow with the product of the sizes.
    """
    within, b = b is None, a if b is None else b
    rows_of_a, rows_of_b = np.flatnonzero(~a.plain_N), np.flatnonzero(~b.plain_N)
    hashes_b = b.hashes_N2[rows_of_b, 0]
    slab = max(1, _PAIRS_AT_A_TIME // max(1, len(rows_of_b)))

    def laid(way: tuple[int, int, int]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(rows, columns, similarity) of the pairs that show the same when `a` is laid that way."""
        found, hashes_a = [], a.laid(way)[rows_of_a]
        for start in range(0, len(rows_of_a), slab):
            # Within one set only what lies to the right of the diagonal.
            left = start if within else 0
            bits = np.bitwise_count(hashes_a[start : start + slab, None] ^ hashes_b[None, left:])
            row, column = np.divmod(np.flatnonzero(bits <= MOST_BITS), bits.shape[1])
            row, column = rows_of_a[start + row], rows_of_b[left + column]
            if within:
                row, column = row[row < column], column[row < column]
            similarity = a.similarity(row, b, column, way)
            alike = similarity >= LEAST_SIMILARITY
            found.append((row[alike], column[alike], similarity[alike]))
        return found

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        found = [part for parts in pool.map(laid, WAYS) for part in parts]
    return _once(*(np.concatenate(parts) for parts in zip(*found, strict=True))) if found else _NONE


_NONE = Copies(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))


def _once(rows: np.ndarray, columns: np.ndarray, similarity: np.ndarray) -> Copies:
    """Each pair by the way in which it is most alike."""
    order = np.lexsort((-similarity, columns, rows))
    rows, columns, similarity = rows[order], columns[order], similarity[order]
    first = np.ones(len(rows), bool)
    first[1:] = (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1])
    return Copies(rows[first], columns[first], similarity[first])
