"""How fast patches reach the trainer, beside others that read the same slide."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pathssl.bench import peers
from pathssl.bench.benchmark_slide import SETTINGS, Settings, benchmark_slide
from pathssl.bench.rounds import Contender, Figures, alternate, cores, installed, pinned, report, table
from pathssl.data.loader import Loader
from pathssl.data.patches import PatchReader
from pathssl.data.sampling import Draws, Region, Sampler
from pathssl.slides.index import SlideIndex, build_index

PATCH_PX, BATCH = 224, 64
_REGIONS = Path(__file__).resolve().parents[2] / "conf" / "region"
SINGLE, FOUR = (Region(**yaml.safe_load((_REGIONS / f"{name}.yaml").read_text())) for name in ("single", "four"))
_WARM_UP = 8  # batches that come before those that are timed; whole chunks for every worker
_SLOW = 4  # what is slow reads this part of the patches
_UNIT = "patches/s"
_DECODERS = ("decoder: imagecodecs", "decoder: cucim")
_NOT_INSTALLED = {"wsistream": "not installed: pip install wsistream", "cucim": "not installed: make env installs it"}


def bench_loader(
    *,
    cache: Path,
    tissue: Path | None,
    rounds: int,
    patches: int,
    reader: str,
    foreground: Mapping[str, Any],
    prefetch: int,
    settings: Settings = SETTINGS,
) -> dict[str, Any]:
    """The answer of `bench loader`. All but the two workers have one core in all. See `benchmark_slide` for cache and tissue.

    patches: that are read a round (rounded up to whole chunks). reader, foreground, prefetch: as in the config.
    """
    slide, made_of = benchmark_slide(cache, tissue, settings)
    index = build_index(
        slide, cache=cache / "index", manifest=None, reader=reader, workers=0, progress=False, **foreground
    )
    bench = _Bench(index, slide, settings, prefetch, -(-patches // (BATCH * _SLOW)) * _SLOW)
    one, two = cores(1), cores(2)
    with pinned(one):
        contenders, missing = bench.others()
        contenders += bench.own()
    if two is None:
        missing["pathssl, 2 workers"] = "this process may use one core only"
    else:
        contenders.append(bench.two_workers(two))
    with pinned(one):
        figures = alternate(contenders, rounds)
    single, region4 = (bench.tiles_a_patch(region) for region in (SINGLE, FOUR))
    _add_decoders_limit(figures, single, region4)
    ratio = figures.ratio
    ratios = {
        "pathssl/cucim@0.25": ratio("pathssl", "cucim"),
        "pathssl/wsistream@0.25": ratio("pathssl", "wsistream"),
        "pathssl/reopened@0.25": ratio("pathssl", "reopened"),
        "pathssl+region4/cucim@0.25": ratio("pathssl+region4", "cucim"),
        "pathssl@0.5/footprint": ratio("footprint of 0.5", "pathssl@0.5"),  # speeds: the inverse is the ratio of times
        "pathssl@0.4/footprint": ratio("footprint of 0.4", "pathssl@0.4"),
        "2workers/1worker@0.25": ratio("pathssl, 2 workers", "pathssl"),
    }
    answer = report("loader", figures, ratios, missing, slide=made_of)
    return {**answer, "text": table(answer, _advice(figures))}


class _Bench:
    """The contenders. In round r all read the patches of batches _WARM_UP + r n ... of the same run, n = `batches`."""

    def __init__(self, index: SlideIndex, slide: Path, settings: Settings, prefetch: int, batches: int):
        self.index, self.slide, self.settings, self.prefetch, self.batches = index, slide, settings, prefetch, batches

    def sampler(self, mpp: float, patch_px: int, region: Region) -> Sampler:
        return Sampler(
            self.index,
            slides=np.array([0]),
            mpp=[mpp],
            weight=[1.0],
            patch_px=patch_px,
            min_tissue=self.index.settings["min_tissue"],
            batch_size=BATCH,
            region=region,
        )

    def draws(self, region: Region, number: int, batches: int) -> Draws:
        """The patches of a round, at the finest magnification."""
        first = (_WARM_UP + number * self.batches) * BATCH
        return self.sampler(self.settings.mpp, PATCH_PX, region).sample(0, np.arange(first, first + batches * BATCH))

    def tiles_a_patch(self, region: Region) -> float:
        """Tiles that must be decoded for a patch, where what shares a region is read together."""
        draws, tile = self.draws(region, 0, self.batches), self.settings.tile_px
        rank = np.unique(draws.region, return_inverse=True)[1]
        tiles = np.ones(rank.max() + 1)
        for corner in (draws.x0, draws.y0):
            first, last = np.full(len(tiles), np.iinfo(np.int64).max), np.zeros(len(tiles), np.int64)
            np.minimum.at(first, rank, corner // tile)
            np.maximum.at(last, rank, (corner + PATCH_PX - 1) // tile)
            tiles *= last - first + 1
        return float(tiles.sum() / len(draws))

    def others(self) -> tuple[list[Contender], dict[str, str]]:
        """Those that work here, and those that do not with the reason."""
        slide, size, mpp, tile = self.slide, PATCH_PX, self.settings.mpp, self.settings.tile_px
        at = f"{size} px at {mpp:g}"
        known: list[tuple[str, str, str, int, Callable[[], peers.Read]]] = [
            (_DECODERS[0], f"{tile} px tiles from memory", "tiles/s", 1, partial(peers.imagecodecs_tiles, slide, tile)),
            (_DECODERS[1], "aligned windows of 2 x 2 tiles", "tiles/s", 1, partial(peers.cucim_tiles, slide, tile)),
            ("cucim", f"{at}, one open handle", _UNIT, 1, partial(peers.cucim, slide, size)),
            ("openslide", f"{at}, one open handle", _UNIT, 1, partial(peers.openslide_, slide, size)),
            ("wsistream", f"{at}, PatchPipeline, OpenSlide, batches of {BATCH}", _UNIT, 1,
             partial(peers.wsistream, slide, size, mpp, BATCH)),
            ("reopened", f"{at}, OpenSlide opened per patch", _UNIT, _SLOW, partial(peers.openslide_reopened, slide, size)),
            ("reopened: cucim", f"{at}, cuCIM opened per patch", _UNIT, 1, partial(peers.cucim_reopened, slide, size)),
            ("reopened: pathssl", f"{at}, open_slide per patch", _UNIT, _SLOW,
             partial(peers.pathssl_reopened, slide, size, mpp)),
        ]  # fmt: skip
        contenders, missing = [], {}
        for name, setting, unit, part, factory in known:
            module = next((module for module in _NOT_INSTALLED if module in name), None)
            if module is not None and not installed(module):
                missing[name] = _NOT_INSTALLED[module]
                continue
            try:
                read = factory()
                read([0], [0])
            except peers.FAULTS as error:
                missing[name] = f"{type(error).__name__}: {error}"
                continue
            tiles = 4 if name == _DECODERS[1] else 1
            contenders.append(
                Contender(name, setting, unit, partial(self._peers_speed, read, self.batches // part, tiles))
            )
        return contenders, missing

    def _peers_speed(self, read: peers.Read, batches: int, each: int, number: int) -> float:
        draws = self.draws(SINGLE, number, batches)
        x0, y0 = draws.x0.tolist(), draws.y0.tolist()
        start = time.perf_counter()
        read(x0, y0)
        return each * len(x0) / (time.perf_counter() - start)

    def own(self) -> list[Contender]:
        """Our loader with one worker, which shares the core with this process."""
        mpp, one = self.settings.mpp, f"one worker, batches of {BATCH}"

        def contender(name: str, setting: str, mpp: float, patch_px: int, region: Region, part: int) -> Contender:
            measure = partial(self._speed, self.sampler(mpp, patch_px, region), 1, self.batches // part)
            return Contender(name, f"{patch_px} px at {mpp:g}, {setting}", _UNIT, measure)

        made = [
            contender("pathssl", one, mpp, PATCH_PX, SINGLE, 1),
            contender("pathssl+region4", f"{one}, regions of 4", mpp, PATCH_PX, FOUR, 1),
        ]
        for coarser in (0.5, 0.4):
            made.append(contender(f"pathssl@{coarser}", f"resampled, {one}", coarser, PATCH_PX, SINGLE, _SLOW))
            footprint_px = round(PATCH_PX * coarser / mpp)
            made.append(contender(f"footprint of {coarser}", f"as it is, {one}", mpp, footprint_px, SINGLE, _SLOW))
        return made

    def two_workers(self, cpus: Sequence[int]) -> Contender:
        sampler = self.sampler(self.settings.mpp, PATCH_PX, SINGLE)

        def measure(number: int) -> float:
            with pinned(cpus):
                return self._speed(sampler, 2, self.batches, number)

        setting = f"{PATCH_PX} px at {self.settings.mpp:g}, two workers on two cores, batches of {BATCH}"
        return Contender("pathssl, 2 workers", setting, _UNIT, measure)

    def _speed(self, sampler: Sampler, workers: int, batches: int, number: int) -> float:
        """Patches a second once the workers are in step: from the arrival of a batch to that of the one `batches` later."""
        reader = PatchReader(sampler, seed=0, open_slides=1)
        loader = Loader(reader, workers=workers, prefetch=self.prefetch)
        first = _WARM_UP + number * self.batches
        behind = (self.prefetch + 1) * sampler.chunk_batches  # so that the workers are busy to the last
        arrived = {}
        with closing(loader.batches(first - _WARM_UP, first + batches + behind)) as stream:
            for batch in stream:
                arrived[batch.step] = time.perf_counter()
                if batch.step == first + batches:
                    break
        return batches * BATCH / (arrived[first + batches] - arrived[first])


def _add_decoders_limit(figures: Figures, single: float, region4: float) -> None:
    """What the faster of the decoders would allow, and the share of it that our loader reaches."""
    decoders = [figures.values[name] for name in _DECODERS if name in figures.values]
    fastest = [max(values) for values in zip(*decoders, strict=True)]
    for name, tiles in (("pathssl", single), ("pathssl+region4", region4)):
        limit = [speed / tiles for speed in fastest]
        share = [speed / most for speed, most in zip(figures.values[name], limit, strict=True)]
        figures.add(f"decoder's limit of {name}", f"{tiles:.2f} tiles a patch, decoded once", _UNIT, limit)
        figures.add(f"{name} / decoder's limit", "share of what decoding alone would allow", "share", share)


def _advice(figures: Figures) -> list[str]:
    single, region4 = figures.median("pathssl"), figures.median("pathssl+region4")
    lines = [
        f"One worker on one core hands over {single:,.0f} patches/s of this slide, {region4:,.0f} with region=four.",
        f"A GPU that eats Y patches/s needs Y / {single:,.0f} workers, or Y / {region4:,.0f} with region=four (loader.workers=...).",
        "Y is train/patches_per_s in the log of a run whose train/data_wait is near 0. Slides with more bytes per pixel take longer.",
    ]
    if "pathssl, 2 workers" in figures.values:
        lines.insert(1, f"Two workers on two cores hand over {figures.median('pathssl, 2 workers'):,.0f}.")
    return lines
