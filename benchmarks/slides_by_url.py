"""How fast patches of slides by URL come, beside those of the same slides on the disk, and what they cost; figures in slides_by_url.json.

    python benchmarks/slides_by_url.py [--patches N] [--rounds N]

Four slides (the benchmark slide and copies of it) behind nginx on loopback; reading takes one process. Prints JSON. What is slow on a real
network is the wait for answers: `turns` counts how often a batch waits, `requests` and `bytes` what a patch costs its server.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from pathssl.slides import cucim_reader

cucim_reader.available()  # before anything imports torch

import numpy as np  # noqa: E402

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "slides"))
from servers import Nginx, nginx  # noqa: E402

from pathssl.bench.benchmark_slide import Settings, benchmark_slide  # noqa: E402
from pathssl.bench.loader import BATCH, FOUR, PATCH_PX, SINGLE  # noqa: E402
from pathssl.bench.rounds import Contender, alternate, report  # noqa: E402
from pathssl.data.patches import PatchReader  # noqa: E402
from pathssl.data.sampling import Region, Sampler  # noqa: E402
from pathssl.slides.index import SlideIndex, build_index  # noqa: E402
from pathssl.slides.remote import store  # noqa: E402
from pathssl.slides.remote.cache import SlideCache  # noqa: E402

SLIDES = 4
FOREGROUND = {"method": "otsu", "thumbnail_mpp": 8.0, "cell_um": 64.0, "min_tissue": 0.4}


def reader_of(index: SlideIndex, mpp: float, region: Region) -> PatchReader:
    sampler = Sampler(
        index, slides=np.arange(len(index)), mpp=[mpp], weight=[1.0], patch_px=PATCH_PX, min_tissue=0.4, batch_size=BATCH, region=region
    )  # fmt: skip
    return PatchReader(sampler, seed=0, open_slides=SLIDES)


class Cost:
    """What the server was asked for between two looks, and how often somebody waited for it."""

    def __init__(self, server: Nginx):
        self._server, self._turns, real = server, 0, store.Store.fetch

        def counted(here: store.Store, wanted: list) -> None:
            self._turns += 1
            real(here, wanted)

        store.Store.fetch = counted
        self.look()

    def look(self) -> dict[str, int]:
        time.sleep(0.2)  # nginx writes its log after the answer
        asked = self._server.requests()
        now = {"turns": self._turns, "requests": len(asked), "bytes": sum(sent for _, _, sent in asked)}
        since, self._then = getattr(self, "_then", now), now
        return {key: now[key] - since[key] for key in now}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--patches", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    batches = options.patches // BATCH
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        settings = Settings(side_px=12288)
        slide, made_of = benchmark_slide(place, None, settings)
        (place / "slides").mkdir()
        for k in range(SLIDES):
            shutil.copy(slide, place / "slides" / f"{k}.tif")
        with nginx(place / "slides", place / "nginx", "autoindex on;") as server:
            print(json.dumps(measure(place, server, made_of, batches, options.rounds), indent=1))


def measure(place: Path, server: Nginx, made_of: dict, batches: int, rounds: int) -> dict:
    mirrors, cost = SlideCache(place / "mirrors", 2**40), Cost(server)
    common = {
        "cache": place / "index",
        "manifest": None,
        "reader": "auto",
        "workers": 0,
        "progress": False,
        **FOREGROUND,
    }
    local = build_index(place / "slides", **common)
    remote = build_index(server.url, mirrors=mirrors, **common)
    costs = {"index, a slide": {key: value / SLIDES for key, value in cost.look().items()}}

    def speed(index: SlideIndex, mpp: float, region: Region, name: str = "", cold: bool = False, warm: bool = False):
        def rate(number: int) -> float:
            if warm:
                rate_of(number)  # brings everything
            return rate_of(number)

        def rate_of(number: int) -> float:
            if cold:  # but for what opens the slides, which the index has brought
                shutil.rmtree(mirrors.folder)
                for k in range(SLIDES):
                    index.open(k).close()
                cost.look()
            reader, chunk = reader_of(index, mpp, region), region.chunk_batches * BATCH
            first, count = number * batches * BATCH, -(-batches * BATCH // chunk) * chunk
            since = time.perf_counter()
            for start in range(first - first % chunk, first - first % chunk + count, chunk):
                reader.read(np.arange(start, start + chunk))
            taken_s = time.perf_counter() - since
            reader.close()
            if cold:
                costs[name] = {key: round(value / count, 4) for key, value in cost.look().items()}
            return count / taken_s

        return rate

    contenders = []
    for name, mpp, region in (("0.25", 0.25, SINGLE), ("0.5", 0.5, SINGLE), ("0.25, region=four", 0.25, FOUR)):
        at = f"{PATCH_PX} px at {name}"
        contenders += [
            Contender(f"disk@{name}", f"{at}, slides on the disk", "patches/s", speed(local, mpp, region)),
            Contender(f"cold@{name}", f"{at}, nothing but what opening takes is here", "patches/s",
                      speed(remote, mpp, region, f"{name}, a patch, cold", cold=True)),
            Contender(f"warm@{name}", f"{at}, all that is read is here", "patches/s",
                      speed(remote, mpp, region, warm=True)),
        ]  # fmt: skip
    figures = alternate(contenders, rounds)
    ratios = {
        f"{state}/disk@{name}": figures.ratio(f"{state}@{name}", f"disk@{name}")
        for state in ("cold", "warm")
        for name in ("0.25", "0.5", "0.25, region=four")
    }
    return report("slides by URL", figures, ratios, {}, slide=made_of, costs=costs)


if __name__ == "__main__":
    main()
