"""How much of the slides a run has seen: patches counted by magnification and slide, and the draws that failed."""

from collections.abc import Iterable, Mapping

import numpy as np

from pathssl.data.sampling import Draws, Sampler


class Coverage:
    """Counts the patches that `sampler` drew and a trainer used.

    patches: (M, K) int64, by magnification (or interval) and slide. turned_down: draws that a filter did not accept. replaced: {path of a
    slide: [its draws that failed, the first reason]}. digest: 64 bits that two runs share if they saw the same patches at the same steps,
    however these were shared by processes.
    The four are the state: a checkpoint keeps them, and `restore` takes them back.
    """

    def __init__(self, sampler: Sampler):
        self._sampler, index = sampler, sampler.index
        self._case, self._site = (np.unique(names, return_inverse=True)[1] for names in (index.case, index.site))
        # Magnifications in ascending order, for draws to be found in; one that is given twice counts as one.
        drawn = sampler.magnification
        self.mpp, first = np.unique(drawn.mpp, return_index=True)
        self._end, self._mean_square = drawn.end[first], drawn.mean_square()[first]
        self._usable = [sampler.slides[m] for m in first]
        self.patches = np.zeros((len(self.mpp), len(index)), np.int64)
        self.replaced: dict[str, list] = {}
        self.digest = self.turned_down = 0

    def state(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in ("patches", "turned_down", "replaced", "digest")}

    def restore(self, state: Mapping[str, object]) -> None:
        """Goes on from what was counted before."""
        self.patches[:] = state["patches"]
        self.replaced = {slide: list(tally) for slide, tally in state["replaced"].items()}
        self.turned_down, self.digest = state["turned_down"], state["digest"]

    @staticmethod
    def merged(states: Iterable[Mapping[str, object]]) -> dict[str, object]:
        """What several processes counted, together."""
        states, replaced = list(states), {}
        for slide, (count, reason) in (item for state in states for item in state["replaced"].items()):
            replaced[slide] = [replaced.get(slide, [0])[0] + count, replaced.get(slide, [0, reason])[1]]
        return {
            "patches": np.sum([state["patches"] for state in states], axis=0),
            "turned_down": sum(state["turned_down"] for state in states),
            "replaced": replaced,
            "digest": sum(state["digest"] for state in states) % 2**64,
        }

    def add(self, step: int, draws: Draws, replaced: Iterable[tuple[int, str, str]]) -> list[tuple[str, str]]:
        """Counts a batch; gives the slides that failed for the first time, as (path, reason)."""
        self.digest = (self.digest + _digest(step, draws)) % 2**64
        np.add.at(self.patches, (np.searchsorted(self.mpp, draws.mpp, side="right") - 1, draws.slide), 1)
        replaced = list(replaced)
        self.turned_down += int(draws.redraw.sum()) - len(replaced)
        new = []
        for _, slide, reason in replaced:
            if slide not in self.replaced:
                self.replaced[slide] = [0, reason]
                new.append((slide, reason))
            self.replaced[slide][0] += 1
        return new

    def table(self, state: Mapping[str, object] | None = None) -> dict[str, object]:
        """What coverage.json holds, for what is counted here, or in `state`.

        {"magnifications": [a row each], "total": a row, "digest", "turned_down" (draws), "replaced": [{"slide", "draws", "reason"}] by
        draws}, where a row is {"mpp" ([finest, coarsest] of an interval, None in the total), "patches", "slides" that gave any,
        "usable_slides" that are scanned finely enough, "cases", "sites", "tissue_mm2" of those slides, "read_mm2" (area of the patches; of
        an interval, what is expected), "times_over" = read_mm2 / tissue_mm2 (None where nothing was read)}.
        """
        state = self.state() if state is None else state
        patches = state["patches"]
        area_mm2 = patches.sum(axis=1) * self._mean_square * (self._sampler.patch_px / 1000) ** 2
        names = [m if m == end else [m, end] for m, end in zip(self.mpp.tolist(), self._end.tolist(), strict=True)]
        rows = [self._row(name, patches[i], self._usable[i], float(area_mm2[i])) for i, name in enumerate(names)]
        any_usable = np.unique(np.concatenate(self._usable))
        total = self._row(None, patches.sum(axis=0), any_usable, float(area_mm2.sum()))
        replaced = [{"slide": slide, "draws": n, "reason": reason} for slide, (n, reason) in state["replaced"].items()]
        replaced.sort(key=lambda row: (-row["draws"], row["slide"]))
        return {
            "magnifications": rows,
            "total": total,
            "turned_down": state["turned_down"],
            "replaced": replaced,
            "digest": f"{state['digest']:016x}",
        }

    def _row(
        self, mpp: float | list[float] | None, patches_K: np.ndarray, usable: np.ndarray, read_mm2: float
    ) -> dict[str, object]:
        seen = np.flatnonzero(patches_K)
        tissue_mm2 = float(self._sampler.index.tissue_mm2[seen].sum())
        return {
            "mpp": mpp,
            "patches": int(patches_K.sum()),
            "slides": len(seen),
            "usable_slides": len(usable),
            "cases": len(np.unique(self._case[seen])),
            "sites": len(np.unique(self._site[seen])),
            "tissue_mm2": tissue_mm2,
            "read_mm2": read_mm2,
            "times_over": read_mm2 / tissue_mm2 if tissue_mm2 else None,
        }


def _digest(step: int, draws: Draws) -> int:
    """The sum of a hash of each draw with its step (the finaliser of splitmix64, Steele et al. 2014, over its columns)."""
    hashed = np.full(len(draws.slide), step, np.uint64)
    for column in (draws.views_seed, draws.slide, draws.x0, draws.y0, draws.mpp):
        hashed = (hashed ^ np.ascontiguousarray(column).view(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
        hashed = (hashed ^ (hashed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        hashed = (hashed ^ (hashed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        hashed ^= hashed >> np.uint64(31)
    return int(hashed.sum(dtype=np.uint64))
