"""Time and memory of the paper's tasks at their published sizes, from what is measured here: paper_tasks.json, told in paper_tasks.md.

    python benchmarks/paper_tasks.py --scratch DIR [--only pcam,heads]

PCam is written with all its images (8 GB in DIR, removed again) and gone through once with a trivial encoder; images of other sets
are copies of tests' miniatures at their real size; heads get random features of the real number. Each measures in its own process.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve()
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/probes/datasets")]

from pathssl.slides import cucim_reader  # noqa: E402

cucim_reader.available()  # before anything imports torch

import h5py  # noqa: E402
import miniatures  # noqa: E402
import numpy as np  # noqa: E402
import timm  # noqa: E402
import torch  # noqa: E402
from hydra import compose, initialize_config_dir  # noqa: E402
from miniatures_consep import consep  # noqa: E402
from miniatures_monusac import NAMES, PARTS, write  # noqa: E402
from miniatures_tp53 import SITES, write_labels, write_svs  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402

from pathssl.environment import cpu_name  # noqa: E402
from pathssl.leakage.fingerprint import Fingerprints, fingerprints  # noqa: E402
from pathssl.leakage.overlaps import straddling  # noqa: E402
from pathssl.make import make  # noqa: E402
from pathssl.probes.feature_set import FeatureSet, Split  # noqa: E402
from pathssl.probes.features import extract  # noqa: E402

PCAM = {"train": 262_144, "valid": 32_768, "test": 32_768}
DIM, BATCH, HALF = 384, 128, [0.5] * 3  # of ViT-S/16; train.probe_batch_size; the normalisation
DISTINCT = 1024  # images of PCam
GPU = 1000.0  # images a second: not measured
SIZES = {
    "bach": (400, "images"),
    "crc": (107_180, "images"),
    "mhist": (3_152, "images"),
    "pcam": (sum(PCAM.values()), "images"),
    "consep": (41 * 16, "crops"),
    "monusac": (294 * 16, "crops"),
    "tp53": (11_765 * 64, "patches"),
}


def config(*overrides: str):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return OmegaConf.to_container(compose("config", list(overrides)), resolve=True)


def task(name: str, **more):
    """The task as conf/task has it, with a part of its arguments otherwise. All counts, but those of PCam, are left out."""
    block = config(f"task=[{name}]")["task"][name] | more
    return make(block)


def protocol(name: str, **more):
    return make(config(f"probe=[{name}]", "train.device=cpu")["probe"][name] | more)


def timed(do) -> float:
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


def peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def write_pcam(folder: Path, counts: dict[str, int], compressed: bool) -> float:
    """PCam with so many images, DISTINCT ones in turn; in GB."""
    folder.mkdir(parents=True)
    labels = np.arange(DISTINCT, dtype=np.uint8) % 2
    noise = np.random.default_rng(0).integers(-12, 13, (DISTINCT, 96, 96, 3))
    images = np.stack([miniatures.tissue((96, 96), hue=3 * label, seed=k) for k, label in enumerate(labels)])
    images = (images + noise).clip(0, 255).astype(np.uint8)
    rows = 32  # of a chunk
    for split, count in counts.items():
        stem = f"{folder}/camelyonpatch_level_2_split_{split}"
        with h5py.File(f"{stem}_x.h5", "w") as file:
            how = {"chunks": (rows, 96, 96, 3), "compression": "gzip", "compression_opts": 1} if compressed else {}
            x = file.create_dataset("x", (count, 96, 96, 3), np.uint8, **how)
            x[:DISTINCT] = images
            chunks = [x.id.read_direct_chunk((k, 0, 0, 0)) for k in range(0, DISTINCT, rows)] if compressed else None
            for start in range(DISTINCT, count, DISTINCT):
                if chunks is None:
                    x[start : start + DISTINCT] = images
                for k, (mask, chunk) in enumerate(chunks or []):
                    x.id.write_direct_chunk((start + k * rows, 0, 0, 0), chunk, mask)
        with h5py.File(f"{stem}_y.h5", "w") as file:
            file["y"] = np.tile(labels, count // DISTINCT).reshape(-1, 1, 1, 1)
        slides = "".join(f"{n},0,0,False,False,camelyon16_{split}_{n // 1500:03d}\n" for n in range(count))
        Path(f"{stem}_meta.csv").write_text(",coord_y,coord_x,tumor_patch,center_tumor_patch,wsi\n" + slides)
    return sum(file.stat().st_size for file in folder.iterdir()) / 1e9


def pcam_pass(scratch: Path) -> dict:
    """All images of PCam, through a trivial encoder."""
    began = peak_mib()
    start = time.perf_counter()
    made = task("pcam", path=str(scratch / "pcam"))
    built_s, built = time.perf_counter() - start, peak_mib()
    start = time.perf_counter()
    # as good as nothing to compute: every 28th pixel
    features_ND = np.concatenate([batch[:, ::28, ::28].reshape(len(batch), -1) for batch in made.batches(BATCH)])
    pass_s = time.perf_counter() - start
    assert len(features_ND) == len(made)
    return {"images": len(made), "process before, MiB": began, "task, s": built_s, "with the task, MiB": built, "pass, s": pass_s,
            "images/s": len(made) / pass_s, "peak, MiB": peak_mib()}  # fmt: skip


def pcam_read(scratch: Path) -> dict:
    """Reading and resizing alone, of the test images."""
    made = task("pcam", path=str(scratch / "pcam"), counts=None)
    rows = np.flatnonzero(made.splits_N == "test")
    resized_s = timed(lambda: [None for _ in made.images.some(rows, BATCH)])
    read_s = timed(lambda: [None for _ in made.images._sources(rows, BATCH)])
    return {"read and resized, images/s": len(rows) / resized_s, "read alone, images/s": len(rows) / read_s}


def stage_plain(scratch: Path) -> dict:
    """PCam as it is handed out: contiguous. Fewer images to train on, since only the test images are read."""
    write_pcam(scratch / "pcam", PCAM | {"train": 4096, "valid": 1024}, compressed=False)
    return child("pcam_read", scratch)


def stage_pcam(scratch: Path) -> dict:
    """PCam whole, gzip in chunks of 32 images."""
    size = write_pcam(scratch / "pcam", PCAM, compressed=True)
    return {"GB": size} | child("pcam_read", scratch) | child("pcam_pass", scratch)


def monusac_full(root: Path) -> Path:
    """One tile of 700 x 700 px with 160 nuclei of 40 corners, which are about the means of MoNuSAC, linked to 20 names."""
    rng = np.random.default_rng(0)
    turns = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    circle = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    nuclei = [(NAMES[k % 4], (rng.uniform(0, 700, 2) + 12 * circle).tolist()) for k in range(160)]
    for split, count in (("train", 15), ("val", 5)):
        for k in range(count):
            write(root / PARTS[split] / f"{split}{k}" / f"{split}{k}_1", (700, 700), nuclei, seed=k)
    return root


def stage_decode(scratch: Path) -> dict:
    """Images or crops a second that each set's format gives, by the two threads of conf/task; and how fast they are told apart."""
    known = {"counts": None, "cache_mib": 0}
    made = {
        "bach": task("bach", path=str(miniatures.bach(scratch / "bach")), **known),
        "crc": task("crc", path=str(miniatures.crc(scratch / "crc", train=(60,) * 9, val=(6,) * 9)), **known),
        "mhist": task("mhist", path=str(miniatures.mhist(scratch / "mhist", train=(200, 200), test=(50, 50))), **known),
        "consep": task(
            "consep", path=str(consep(scratch / "consep", size=1000, counts={"Train": 10, "Test": 5})), **known
        ),
    }
    start = time.perf_counter()
    made["monusac"] = task("monusac", path=str(monusac_full(scratch / "monusac")), **known)
    found = {"monusac, masks/s": len(made["monusac"]) / (time.perf_counter() - start)}
    for name, one in made.items():
        pictures = len(one.rows_of_pictures())
        found[f"{name}, images/s"] = pictures / timed(lambda one=one: [None for _ in one.batches(BATCH)])
    images = np.concatenate(list(made["crc"].batches(BATCH)))
    found["fingerprints, images/s"] = len(images) / timed(lambda: fingerprints([images]))
    return found | slides_read(scratch)


def slides_read(scratch: Path) -> dict:
    """Patches a second from JPEG tiles in two threads' time of one process."""
    for k in range(6):
        case = f"TCGA-{SITES[k % 4]}-{k:04d}"
        (scratch / "tcga" / str(k)).mkdir(parents=True)
        path = scratch / "tcga" / str(k) / f"{case}-01Z-00-DX1.{k}.svs"
        write_svs(path, miniatures.tissue((4096, 4096), hue=3 * (k % 2), seed=k))
    rows = [(f"TCGA-{SITES[k % 4]}-{k:04d}", "wm"[k % 2], ("train", "train", "val")[k // 2]) for k in range(6)]
    labels = write_labels(scratch / "labels.csv", rows, "case,label,split")
    block = config("task=[tp53]")["task"]["tp53"] | {
        "path": str(scratch / "tcga"),
        "labels": str(labels),
        "cache_mib": 0,
    }
    made = make(block, cache=scratch / "index")
    return {"tp53, patches/s": len(made) / timed(lambda: [None for _ in made.batches(BATCH)])}


def stage_forward(scratch: Path) -> dict:  # noqa: ARG001
    """ViT-S/16 at 224 px in float32 on this CPU."""
    encoder = timm.create_model("vit_small_patch16_224", num_classes=0)
    batches = [np.zeros((BATCH, 224, 224, 3), np.uint8)] * 2
    found = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        extract(encoder, batches[:1], device="cpu", mean=HALF, std=HALF)
        seconds = timed(lambda: extract(encoder, batches, device="cpu", mean=HALF, std=HALF))
        found[f"{threads} threads, images/s"] = 2 * BATCH / seconds
    return found


def made_features(sizes: tuple[int, int, int], classes: int, bag: int | None = None) -> FeatureSet:
    """Classes that overlap, in features whose directions fade; with `bag`, so many of each slide."""
    rng = np.random.default_rng(0)
    spread = np.arange(1, DIM + 1, dtype=np.float32) ** -0.7
    centres = 0.3 * rng.standard_normal((classes, DIM), np.float32)

    def split(n: int) -> Split:
        labels = np.arange(n) % classes
        ids = np.array([f"{k:06d}" for k in range(n)])
        if bag is None:
            features = rng.standard_normal((n, DIM), np.float32)
            features += centres[labels]
            features *= spread
            return Split(features, labels, ids, ids)
        bags = [(rng.standard_normal((bag, DIM), np.float32) + centres[label]) * spread for label in labels]
        return Split(np.stack([one.mean(axis=0) for one in bags]), labels, ids, ids, bags)

    return FeatureSet(tuple(map(str, range(classes))), *(split(n) for n in sizes))


FULL, EIGHTH = (262_144, 32_768, 32_768), (32_768, 4_096, 4_096)


def head_linear(scratch: Path) -> dict:  # noqa: ARG001
    """An eighth of PCam's features: L-BFGS costs as many passes, each by the number of samples."""
    features = made_features(EIGHTH, 2)
    return {"linear, an eighth, s": timed(lambda: protocol("linear").run(features))}


def head_linear_memory(scratch: Path) -> dict:  # noqa: ARG001
    features = made_features(FULL, 2)
    before = peak_mib()
    seconds = timed(lambda: protocol("linear", c_grid=[1e-4], max_iterations=5).run(features))
    return {
        "with the features, MiB": before,
        "linear, peak MiB": peak_mib(),
        "linear, one C of five iterations, s": seconds,
    }


def head_others(scratch: Path) -> dict:  # noqa: ARG001
    """knn with a 64th of the queries; few_shot with an eighth; a quarter of an epoch of eva, and some steps of the others."""
    features = made_features((262_144, 512, 512), 2)
    found = {"knn, a 64th, s": timed(lambda: protocol("knn").run(features))}
    features = made_features((262_144, 4_096, 4_096), 2)
    found["few_shot, an eighth, s"] = timed(lambda: protocol("few_shot").run(features))
    found["eva, 256 steps, s"] = timed(lambda: protocol("eva", steps=256).run(features))
    found["eva_2024 at batch 4096, 16 steps, s"] = timed(
        lambda: protocol("eva_2024", steps=16, batch=4096).run(features)
    )
    ten = made_features((20, 32_768, 64), 2)
    found["eva_10shot, 50 steps, s"] = timed(lambda: protocol("eva_10shot", steps=50).run(ten))
    return found | {"peak, MiB": peak_mib()}


def head_slides(scratch: Path) -> dict:  # noqa: ARG001
    """A hundredth of 11,765 slides for three epochs."""
    features = made_features((71, 24, 24), 2, bag=64)
    return {"slide_abmil, a hundredth, 3 epochs, s": timed(lambda: abmil(3).run(features))}


def head_slides_memory(scratch: Path) -> dict:  # noqa: ARG001
    """All of them for one epoch."""
    features = made_features((7_059, 2_353, 2_353), 2, bag=64)
    before = peak_mib()
    seconds = timed(lambda: abmil(1).run(features))
    return {"with the features, MiB": before, "slide_abmil, peak MiB": peak_mib(), "slide_abmil, one epoch, s": seconds}


def abmil(epochs: int):
    return protocol("slide_abmil", epochs=epochs, device="cpu")


def head_masks(scratch: Path) -> dict:
    """CoNSeP whole, with random tokens: six steps of seg_linear, two of seg_conv (for GPUs)."""
    made = task("consep", path=str(consep(scratch / "consep", size=1000, counts={"Train": 27, "Test": 14})))
    start = time.perf_counter()
    tokens = np.random.default_rng(0).standard_normal((*made.labels_MPP.shape[:1], 14, 14, DIM), np.float32)
    found = {"crops": len(tokens), "masks and random tokens, s": time.perf_counter() - start}
    for name, steps in (("seg_linear", 6), ("seg_conv", 2)):
        heads = protocol(name, steps=steps, checks=1, runs=1)
        found[f"{name}, {steps} steps of one run, s"] = timed(lambda heads=heads: heads.run(made, tokens, device="cpu"))
    return found | {"peak, MiB": peak_mib()}


class Images:
    """As much of a task as `straddling` asks."""

    def __init__(self, splits_N: np.ndarray):
        self.splits_N = splits_N

    def rows_of_pictures(self) -> np.ndarray:
        return np.arange(len(self.splits_N))


def head_copies(scratch: Path) -> dict:  # noqa: ARG001
    """Copies between the splits of PCam, an eighth of each: every pair is compared, so all take 64 times as long."""
    rng = np.random.default_rng(0)
    splits_N = np.repeat(["train", "val", "test"], [32_768, 4_096, 4_096])
    n = len(splits_N)
    shapes = rng.standard_normal((n, 16, 16), np.float32)
    shapes /= np.sqrt((shapes**2).sum((1, 2), keepdims=True))
    made = Fingerprints(rng.integers(0, 2**63, (n, 2), np.uint64), shapes.astype(np.float16), np.zeros(n, bool))
    return {"copies between splits, an eighth, s": timed(lambda: straddling(Images(splits_N), made))}


def child(name: str, scratch: Path) -> dict:
    """What the function `name` gives, in a process of its own."""
    command = [sys.executable, str(HERE), "--scratch", str(scratch), "--child", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name}: {done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


HEADS = ("linear", "linear_memory", "others", "slides", "slides_memory", "masks", "copies")
PEAKS = ("linear_memory", "others", "slides_memory", "masks")
STAGES = {"plain": stage_plain, "pcam": stage_pcam, "decode": stage_decode, "forward": stage_forward}
STAGES |= {name: partial(child, f"head_{name}") for name in HEADS}


def page(found: dict) -> str:
    """What the figures come to."""
    plain, pcam, decode, forward = (found[name] for name in ("plain", "pcam", "decode", "forward"))
    cpu = max(forward.values())
    rates = {name: decode[f"{name}, images/s"] for name in ("bach", "crc", "mhist", "consep", "monusac")}
    rates |= {"pcam": pcam["images/s"], "tp53": decode["tp53, patches/s"]}
    rows = []
    for name, (count, what) in SIZES.items():
        mib = count * DIM * 4 / 2**20 * (196 if what == "crops" else 1)
        times = (count / rates[name], count / cpu, count / GPU, count / decode["fingerprints, images/s"])
        rows.append((name, f"{count:,} {what}", *map(told, times), f"{mib:,.0f}"))
    peaks = {name: max(mib for key, mib in found[name].items() if "peak" in key) for name in PEAKS}
    values = {
        "command": found["command"],
        "cores": found["cores"],
        "cpu": found["cpu"],
        "images_per_s": f"{cpu:.3g}",
        "gpu": f"{GPU:,.0f}",
        "tasks": table(
            ("task", "size", "read and resized", "forward, this CPU", f"at {GPU:,.0f}/s", "fingerprints", "features, MiB"), rows
        ),
        "gb": f"{pcam['GB']:.3g}",
        "images": f"{pcam['images']:,}",
        "pass": told(pcam["pass, s"]),
        "peak": f"{pcam['peak, MiB']:,}",
        "before": f"{pcam['process before, MiB']:,}",
        "task_s": told(pcam["task, s"]),
        "task_mib": f"{pcam['with the task, MiB']:,}",
        "all_gib": f"{pcam['images'] * 224 * 224 * 3 / 2**30:.0f}",
        "plain": f"{plain['read alone, images/s']:,.0f}",
        "gzip": f"{pcam['read alone, images/s']:,.0f}",
        "heads": table(("task", "protocol", "time, at most", "from"), [(a, b, told(s), c) for a, b, s, c in ends(found)]),
        **{name: f"{mib:,}" for name, mib in peaks.items()},
    }  # fmt: skip
    return PAGE.format(**values)


PAGE = """# The paper's tasks at their real size, on paper

Written by `{command}` from [paper_tasks.json](paper_tasks.json), measured on {cores} cores of {cpu} that others used at the same time:
times are upper bounds, and no published set was here. Rates are those of the tests' miniatures with images of the real size.

{tasks}

ViT-S/16 at 224 px in float32 makes {images_per_s} images/s on this CPU; no GPU was here, so {gpu} images/s is an assumption. Features
of images are kept on disk (`feature_cache_mib`), so that all protocols share one forward pass, and fingerprints (of the guard against
leakage) too. Features of crops are their tokens.
TP53 is taken as 64 patches of each of TCGA's 11,765 diagnostic slides, MoNuSAC as 294 tiles of
700 x 700 px.

## Memory: never all images

PCam with all its images ({gb} GB, gzip in chunks of 32), one pass with a trivial encoder: {images} images in {pass}, at most {peak} MiB
of memory, of which the process had {before} before it began. The task itself (labels, ids, slides as groups) takes {task_s} and brings
it to {task_mib} MiB. All images at 224 px would be {all_gib} GiB. Reading alone: {plain} images/s as handed out, {gzip} from gzip.

The peak of `linear` on PCam's features (float64) is {linear_memory} MiB, of knn, few_shot and eva {others}, of `slide_abmil` on all of
TP53 {slides_memory}, of masks on CoNSeP {masks}.

## Heads, on this CPU

{heads}
"""


def ends(heads: dict) -> list[tuple[str, str, float, str]]:
    """task, protocol, seconds and from what they are."""
    others = heads["others"]
    return [
        ("pcam", "linear", 8 * heads["linear"]["linear, an eighth, s"], "8 x an eighth; real features may take more iterations"),
        ("pcam", "knn", 64 * others["knn, a 64th, s"], "64 x a 64th of the queries"),
        ("pcam", "few_shot", 8 * others["few_shot, an eighth, s"], "8 x an eighth of the queries"),
        ("pcam", "eva", 12_500 / 256 * others["eva, 256 steps, s"], "12,500 steps; 3 epochs without a gain end it"),
        ("pcam", "eva_2024, batch 4096", 12_500 / 16 * others["eva_2024 at batch 4096, 16 steps, s"], "12,500 steps"),
        ("pcam_10shot", "eva_10shot", 250 * others["eva_10shot, 50 steps, s"], "12,500 steps; 125 looks without a gain end it"),
        ("tp53", "slide_abmil", 10_000 / 3 * heads["slides"]["slide_abmil, a hundredth, 3 epochs, s"], "100 epochs at most"),
        ("consep", "seg_linear", 150 * heads["masks"]["seg_linear, 6 steps of one run, s"], "3 runs of 300 steps"),
        ("consep", "seg_conv", 5000 * heads["masks"]["seg_conv, 2 steps of one run, s"], "5 runs of 2,000 steps: it is for GPUs"),
        ("pcam", "copies between splits", 64 * heads["copies"]["copies between splits, an eighth, s"], "64 x an eighth; once a set"),
    ]  # fmt: skip


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def told(seconds: float) -> str:
    for length, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}" if seconds >= 10 * length else f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def rounded(value):
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    return float(f"{value:.3g}") if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path, required=True, help="a folder for 9 GB, made and removed")
    parser.add_argument(
        "--only",
        default=",".join(STAGES),
        help="stages; the others keep their figures, and without any the page is written again",
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(globals()[options.child](options.scratch)))
        return
    record = HERE.with_suffix(".json")
    figures = json.loads(record.read_text()) if record.is_file() else {}
    figures |= {"command": "python benchmarks/paper_tasks.py --scratch DIR", "cpu": cpu_name(), "cores": os.cpu_count()}
    for name in filter(None, options.only.split(",")):
        options.scratch.mkdir(parents=True)
        try:
            figures[name] = rounded(STAGES[name](options.scratch))
        finally:
            shutil.rmtree(options.scratch)
        record.write_text(json.dumps(figures, indent=1) + "\n")
        print(json.dumps(figures[name], indent=1), flush=True)
    if set(STAGES) <= set(figures):
        HERE.with_suffix(".md").write_text(page(figures))


if __name__ == "__main__":
    main()
