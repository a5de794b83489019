"""What an index of 30,000 slides costs: to open, in each worker, at the start of a run; figures in index_scale.json.

    python benchmarks/index_scale.py [--slides 30000] [--folder DIR]

Writes an index of slides as large as TCGA's (some 8 GB in DIR, removed at the end) that do not exist: whatever touched one would fail.
Prints JSON; medians of five fresh processes, seconds of reading with the files in the page cache.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow
import pyarrow.parquet

HERE = Path(__file__).resolve()
ROUNDS, WORKERS, DRAWS, BATCH = 5, 2, 40, 256
CELL_UM, TISSUE = 64.0, 0.25
WORK = "index_scale:work"


def overrides(folder: Path) -> list[str]:
    return [
        "data=tcga",
        f"data.path={folder / 'slides'}",
        f"cache_dir={folder / 'cache'}",
        "magnification=5x_10x_20x_40x",
    ]


def write(folder: Path, slides: int) -> Path:
    """The index's folder, in the files' own format, with slides of about 100,000 x 80,000 px, a third of them scanned at 0.5 um per px."""
    from pathssl.cli import compose
    from pathssl.slides import index as building
    from pathssl.slides.slide_index import VERSION
    from pathssl.slides.structure import LEVEL

    root = folder / "slides"
    root.mkdir(parents=True)
    data = compose(overrides(folder))["data"]
    settings = building._settings(reader=data["reader"], **data["foreground"])
    target = folder / "cache" / "index" / building._folder_name(root, None, data["tcga"]["kind"], root, settings)
    target.mkdir(parents=True)
    rng = np.random.default_rng(0)
    disc = np.hypot(*np.meshgrid(*[np.linspace(-1, 1, 1024)] * 2, indexing="ij")) < 2 * np.sqrt(TISSUE / np.pi)
    rows, levels = [], []
    with open(target / "tissue.u8", "wb") as tissue_file, open(target / "cells.i32", "wb") as cells_file:
        for k in range(slides):
            mpp = 0.5 if k % 3 == 0 else 0.25
            width, height = (int(side * 0.25 / mpp * rng.uniform(0.4, 1.6)) for side in (100_000, 80_000))
            columns, lines = (int(np.ceil(side * mpp / CELL_UM)) for side in (width, height))
            picked = [np.linspace(0, 1023, n).astype(int) for n in (lines, columns)]
            tissue = np.where(disc[np.ix_(*picked)], 255, 0).astype(np.uint8)
            cells = np.flatnonzero(tissue).astype(np.int32)
            tissue_file.write(tissue.tobytes())
            cells_file.write(cells.tobytes())
            pyramid = np.zeros(4, LEVEL)
            pyramid["downsample"] = 4.0 ** np.arange(4)
            pyramid["width"], pyramid["height"] = width // pyramid["downsample"], height // pyramid["downsample"]
            for name, value in {"tile_width": 240, "tile_height": 240, "tiled": True, "compression": 7, "predictor": 1,
                                "offsets_type": "<u4", "sizes_type": "<u4"}.items():  # fmt: skip
                pyramid[name] = value
            levels.append(pyramid)
            case = f"TCGA-{k % 600:02X}-{k // 3:04X}"[:12]
            uuid = rng.bytes(16).hex()
            rows.append(
                {
                    "path": f"{uuid}/{case}-01Z-00-DX{k % 3 + 1}.{uuid.upper()}.svs",
                    "fingerprint": f"{rng.integers(10**9)}-{rng.integers(10**18)}-None",
                    "case": case, "site": case[5:7], "split": "", "weight": 1.0, "width": width, "height": height, "mpp": mpp,
                    "levels": 4, "vendor": "aperio", "file_bytes": 10**9, "modified_ns": 10**18, "rows": lines, "columns": columns,
                    "cells": len(cells), "tissue_mm2": len(cells) * CELL_UM**2 / 1e6,
                }
            )  # fmt: skip
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), target / "slides.parquet")
    np.save(target / "levels.npy", np.concatenate(levels))
    quarantined = [[f"bad/{k}.svs", "1-2-None", "its TIFF structure cannot be read"] for k in range(slides // 100)]
    facts = {"version": VERSION, "settings": settings, "root": str(root), "quarantined": quarantined}
    (target / "index.json").write_text(json.dumps(facts, indent=1))
    return target


def memory_mib() -> dict[str, float]:
    """Of this process: what is its own, and its share of mapped files, which lie in the page cache and are nobody's own."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    kib = {line.split(":")[0]: float(line.split()[1]) for line in lines}
    return {"own": kib["Pss_Anon"] / 1024, "share_of_files": kib["Pss_File"] / 1024}


def grown(before: dict[str, float]) -> dict[str, float]:
    return {name: round(now - before[name], 1) for name, now in memory_mib().items()}


def work(connection: Connection) -> None:
    """What a worker of the loader does first: takes the reader over; then draws, as all workers do at the same time."""
    import pathssl.data.crew  # noqa: F401  what a worker has anyway

    before, since = memory_mib(), time.perf_counter()
    reader = connection.recv()
    taken_s = time.perf_counter() - since
    for step in range(DRAWS):
        reader.sampler.sample(0, np.arange(step * BATCH, (step + 1) * BATCH))
    connection.send({"taken_s": taken_s, **grown(before)})
    connection.recv()


def opened(target: Path) -> dict[str, float]:
    from pathssl.slides.slide_index import SlideIndex

    before, since = memory_mib(), time.perf_counter()
    index = SlideIndex.load(target)
    return {"open_s": time.perf_counter() - since, "slides": len(index), **grown(before)}


def started(folder: Path) -> dict:
    """The start of a run as far as slides go, and its workers."""
    from pathssl.slides import cucim_reader

    cucim_reader.available()  # before torch
    from pathssl import sources
    from pathssl.cli import compose
    from pathssl.worker import Worker

    config = compose(overrides(folder))
    before, since = memory_mib(), time.perf_counter()
    data = sources.Data(config)
    data.describe()
    answer = {"fingerprint": data.fingerprint, "start_s": time.perf_counter() - since, **grown(before)}
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    workers = [Worker(WORK) for _ in range(WORKERS)]
    for worker in workers:
        worker.send(data.reader(0))
    answer["workers"] = []
    for worker in workers:
        while not (found := list(worker.answers())):
            time.sleep(0.05)
        answer["workers"] += found
    for worker in workers:
        worker.kill()
    return answer


def rounds(what: str, place: Path) -> list[dict]:
    """Answers of fresh processes."""
    command = [sys.executable, str(HERE), "--only", what, "--folder", str(place)]
    return [json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout) for _ in range(ROUNDS)]


def measure(folder: Path, slides: int) -> dict:
    from pathssl.environment import describe_environment

    target = write(folder, slides)
    sizes = {file.name: file.stat().st_size for file in sorted(target.iterdir())}
    opens, starts = rounds("open", target), rounds("start", folder)
    workers = [worker for start in starts for worker in start["workers"]]

    def middle(answers: list[dict], name: str) -> float:
        return round(median(answer[name] for answer in answers), 3)

    known = describe_environment()
    return {
        "command": f"python benchmarks/index_scale.py --slides {slides}",
        "commit": known["commit"],
        "cpu": known["cpu"],
        "slides": slides,
        "index, bytes": sizes,
        "open": {
            "s": middle(opens, "open_s"),
            "most s": max(one["open_s"] for one in opens),
            "own MiB": middle(opens, "own"),
        },
        "each worker": {
            "own MiB": middle(workers, "own"),
            "most own MiB": max(one["own"] for one in workers),
            "share of mapped files, MiB": middle(workers, "share_of_files"),
            "takes the sampler over, s": middle(workers, "taken_s"),
            "draws": DRAWS * BATCH,
        },
        "start of a run": {
            "s": middle(starts, "start_s"),
            "most s": max(one["start_s"] for one in starts),
            "own MiB": middle(starts, "own"),
            "slides that exist": 0,
        },
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--slides", type=int, default=30_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--only", choices=["open", "start"])
    options = parser.parse_args()
    if options.only:
        print(json.dumps({"open": opened, "start": started}[options.only](options.folder)))
    else:
        place = Path(tempfile.mkdtemp(dir=options.folder))
        try:
            print(json.dumps(measure(place, options.slides), indent=1))
        finally:
            shutil.rmtree(place)
