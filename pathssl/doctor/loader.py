"""How fast patches come from the configured slides on one core, and what would make them come faster."""

import json
import math
import os
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathssl.doctor.check import Check, within
from pathssl.errors import UserError

if TYPE_CHECKING:  # numpy, torch and the like may be what is missing
    from pathssl.sources import Data

_INDEX_LIMIT_S, _READ_LIMIT_S, _STORAGE_LIMIT_S = 30.0, 60.0, 20.0
_MEASURE_S, _STORAGE_S = 3.0, 1.0
_BATCH = 32  # patches that the loader reads at a time
_MANY = 10_000  # chunks: more than are read
_LOOKED_AT = 8  # slides
_BLOCK_BYTES, _BLOCKS = 64 * 1024, 64
_SLOW_MS = 5.0  # a read of a local disk takes less, a decoded tile about 0.25 ms
_LARGE_PART = 0.1
_MANY_OPEN = 512  # slides that a worker may keep open: each takes a file handle and some memory


def slides(config: Mapping[str, Any], overrides: str) -> tuple[Check, "Data | None"]:
    """Whether the configured slides can be used; with them where they are there and indexed soon."""
    from pathssl.sources import Data

    index = f"python -m pathssl index{overrides}"
    cohort = config["data"]["cohort"]
    if config["data"]["path"] is None and cohort is not None and not _is_written(cohort, Path(config["cache_dir"])):
        found = "the synthetic cohort is not written yet, so that no speed is measured"
        remedy = f"{index} writes it now (a minute or two), a run at its first start."
        return Check("slides", "absent", found, remedy), None
    try:
        data = within(_INDEX_LIMIT_S, lambda: Data(config))
    except TimeoutError:
        found = f"they were not indexed in {_INDEX_LIMIT_S:g} s, so that no speed is measured"
        return Check("slides", "absent", found, f"{index} (once; it goes on where this stopped)."), None
    except (ValueError, OSError) as error:  # UserErrors; a manifest that is none; a missing permission
        return Check("slides", "broken", " ".join(str(error).split()), f"Mend that, then: {index}"), None
    found = f"{len(data.index)} usable, {len(data.training_slides)} to train on, {data.index.tissue_mm2.sum():,.0f} mm2 of tissue"
    if data.index.quarantined:
        remedy = f"{index} names them and says why; a missing mpp can be given in data.manifest."
        return Check("slides", "warning", f"{found}; {len(data.index.quarantined)} that cannot be used", remedy), data
    return Check("slides", "ok", found), data


def _is_written(cohort: Mapping[str, Any], cache: Path) -> bool:
    wanted = {key: value for key, value in cohort.items() if key != "_target_"}
    return any(wanted.items() <= json.loads(file.read_text()).items() for file in cache.glob("synthetic-*/cohort.json"))


def storage(data: "Data") -> Check | None:
    """How long reads of the slides' bytes take, past what is cached; None where the slides are too small to say, or come by URL."""
    paths = [data.index.root / data.index.paths[k] for k in _some(data.training_slides)]
    if not all(isinstance(path, Path) for path in paths):
        return None
    try:
        taken_s = within(_STORAGE_LIMIT_S, lambda: _reads_s(paths))
    except (TimeoutError, OSError) as error:
        remedy = "Look whether the disk is mounted and the slides may be read: ls -l."
        return Check("storage", "broken", f"the slides' bytes cannot be read: {error}", remedy)
    if not taken_s:
        return None
    read_ms, median_ms = 1e3 * sum(taken_s) / len(taken_s), 1e3 * sorted(taken_s)[len(taken_s) // 2]
    mb_per_s = _BLOCK_BYTES / 1e3 / read_ms
    found = f"{read_ms:.2g} ms a random read of 64 KiB (median {median_ms:.2g} ms), {mb_per_s:,.0f} MB/s"
    figures = {"read_ms": read_ms, "mb_per_s": mb_per_s}
    if read_ms > _SLOW_MS:
        remedy = "The storage is the slow side: copy the slides to a local disk, or raise loader.workers (which wait, not compute)."
        return Check("storage", "warning", found, remedy, figures)
    return Check("storage", "ok", found, figures=figures)


def _reads_s(paths: list[Path]) -> list[float]:
    """Seconds of each of at most _BLOCKS reads, one slide after the other."""
    import numpy as np

    from pathssl.seeding import uniforms

    taken_s: list[float] = []
    for number, path in enumerate(paths):
        file = os.open(path, os.O_RDONLY)
        try:
            blocks = os.fstat(file).st_size // _BLOCK_BYTES
            count = min(blocks, _BLOCKS // len(paths))
            positions = (
                uniforms(time.time_ns() % 2**32, "storage", np.array([number]), max(count, 1))[0] * blocks
            ).astype(int)
            for offset in positions[:count] * _BLOCK_BYTES:
                os.posix_fadvise(
                    file, offset, _BLOCK_BYTES, os.POSIX_FADV_DONTNEED
                )  # else memory is measured, not the disk
                since = time.perf_counter()
                os.pread(file, _BLOCK_BYTES, offset)
                taken_s.append(time.perf_counter() - since)
                if sum(taken_s) > _STORAGE_S:
                    return taken_s
        finally:
            os.close(file)
    return taken_s


def speed(config: Mapping[str, Any], data: "Data", four: Mapping[str, Any]) -> Check:
    """Patches a second on one core, as configured, and what would raise it. four: the settings of region=four."""
    from pathssl.slides.fault import SlideError

    alone = config["region"]["patches"] == 1 and config["data"]["limit"]["patches"] is None
    try:
        rate = within(_READ_LIMIT_S, lambda: _rate(config, data, config["region"]))
        rate_four = within(_READ_LIMIT_S, lambda: _rate(config, data, four)) if alone else None
        readers, opening_s = within(_READ_LIMIT_S, lambda: _openings(data))
    except TimeoutError as error:
        remedy = "See storage above; data.reader=openslide tells whether the reader is at fault."
        return Check("loader", "broken", f"reading patches hangs: {error}", remedy)
    except (SlideError, UserError, RuntimeError, OSError) as error:
        remedy = "python -m pathssl index with the same settings looks at every slide that changed."
        return Check("loader", "broken", f"patches cannot be read: {error}", remedy)
    found = (
        f"{rate:,.0f} patches/s per core{_resampled(data)}; a GPU that trains M patches/s needs M/{rate:.0f} workers"
    )
    if workers := config["loader"]["workers"]:
        found += f" (loader.workers={workers} would read {workers * rate:,.0f} patches/s, with a core each)"
    figures = {"patches_per_s_per_core": rate, "opening_s": opening_s}
    if rate_four is not None:
        figures["patches_per_s_per_core_region_four"] = rate_four
    advice = _advice(rate, rate_four, readers, opening_s, config["loader"]["open_slides"], len(data.training_slides))
    return Check("loader", "ok", found, f"To raise it: {'; '.join(advice)}." if advice else "", figures)


def _advice(
    rate: float, rate_four: float | None, readers: Counter, opening_s: float, open_slides: int, slides: int
) -> list[str]:
    """What would raise the rate, as far as it was measured."""
    advice = []
    others = [f"{name} reads {count} of {readers.total()}" for name, count in readers.items() if name != "cucim"]
    if others:
        advice.append(f"{' and '.join(others)} slides, slower than cuCIM (which is not for every format; see above)")
    if (part := opening_s * max(0.0, 1 - open_slides / slides) * rate) > _LARGE_PART:
        more = f"loader.open_slides={slides}, " if slides <= _MANY_OPEN else ""
        more += "region=four, which opens a slide once for four patches"
        advice.append(f"{min(part, 1):.0%} of the time opens slides, {1e3 * opening_s:.1f} ms each: {more}")
    if rate_four is not None and rate_four > (1 + _LARGE_PART) * rate:
        advice.append(
            f"region=four reads {rate_four:,.0f} patches/s, of neighbouring patches (see experiments/regions.yaml)"
        )
    return advice


def _rate(config: Mapping[str, Any], data: "Data", region: Mapping[str, Any]) -> float:
    """Patches a second through the loader, in this process, after a first chunk that is not counted."""
    from pathssl.data.loader import Loader
    from pathssl.data.sampling import Region

    sampler = data.sampler_with(batch_size=_BATCH, region=Region(**region))
    chunk, reader = sampler.chunk_batches, data.reader(config["seed"], sampler)
    batches = Loader(reader, workers=0, prefetch=1).batches(0, _MANY * chunk)
    with closing(batches):
        for _ in range(chunk):
            next(batches)
        since, patches = time.perf_counter(), 0
        while time.perf_counter() - since < _MEASURE_S:
            patches += sum(len(next(batches).patches.pixels) for _ in range(chunk))
        return patches / (time.perf_counter() - since)


def _openings(data: "Data") -> tuple[Counter, float]:
    """(slides by the reader that reads them, mean seconds that opening one takes before its first patch)."""
    readers, opening_s = Counter(), 0.0
    looked_at = _some(data.training_slides)
    for k in looked_at:
        at = 0, 0, float(data.index.mpp[k]), 64
        warm = data.index.open(k)  # its bytes are cached then
        warm.read(*at)
        warm.close()
        since = time.perf_counter()
        slide = data.index.open(k)
        slide.read(*at)
        opened = time.perf_counter()
        slide.read(*at)
        opening_s += 2 * opened - since - time.perf_counter()
        readers[slide.reader] += 1
        slide.close()
    return readers, max(0.0, opening_s / len(looked_at))


def _resampled(data: "Data") -> str:
    """Words on slides without a level of the configured magnifications."""
    import numpy as np

    parts = []
    asked = data.sampler.magnification
    if asked.continuous:
        return " (with magnification.continuous nearly all patches are resampled)"
    for mpp, usable in zip(asked.mpp, data.sampler.slides, strict=True):
        _, ratio = data.index.source(usable, np.full(len(usable), mpp))
        if (between := ratio != 1).any():
            pixels = (ratio[between] ** 2).mean()
            parts.append(
                f"{between.mean():.0%} of the slides have no level at {mpp:g} um/px: resampled, from {pixels:.1f} times the pixels"
            )
    return f" ({'; '.join(parts)})" if parts else ""


def _some(training_slides: Any) -> list[int]:
    """At most _LOOKED_AT of the slides, spread over all."""
    step = max(1, math.ceil(len(training_slides) / _LOOKED_AT))
    return [int(k) for k in training_slides[::step]]
