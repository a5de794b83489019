"""Config -> where patches and labelled images come from: slides, their index, the synthetic cohort, tasks."""

import hashlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from glob import has_magic
from pathlib import Path
from typing import Any

import numpy as np

from pathssl.augment import MultiCrop
from pathssl.checks import check_slide_cache
from pathssl.data.distinct import Distinct
from pathssl.data.holdout import held_out
from pathssl.data.limit import limited
from pathssl.data.loader import Loader
from pathssl.data.magnification import Magnification
from pathssl.data.patches import Patches, PatchReader
from pathssl.data.sampling import Region, Sampler
from pathssl.distributed import rank, world_size
from pathssl.errors import UserError
from pathssl.files import locked
from pathssl.leakage.guard import Findings, known_set, look
from pathssl.leakage.overlaps import Overlap
from pathssl.make import make
from pathssl.pictures import strip, views_picture
from pathssl.probes.cache import FeatureCache
from pathssl.probes.slide_level.bags import BagTask
from pathssl.probes.task import Task
from pathssl.slides.index import SlideIndex, build_index, survey_part
from pathssl.slides.remote.address import is_url
from pathssl.slides.remote.cache import SlideCache
from pathssl.slides.slide import COARSER

log = logging.getLogger(__name__)
_PICTURED = 8


def check_tasks(config: Mapping[str, Any]) -> None:
    """Raises UserError for datasets that lack something, all in one: it reads their tables and looks for every image."""
    wrong = {}
    for name, block in config["task"].items():
        try:
            if "cohort" not in block:  # which is written first
                _look(config, block)
        except UserError as error:
            wrong[name] = error
    if len(wrong) == 1:
        raise next(iter(wrong.values()))
    if wrong:
        rest = [name for name in config["task"] if name not in wrong]
        without = f" The others can be had alone: task=[{','.join(rest)}]." if rest else ""
        said = "".join(f"\n  {name}: {error}" for name, error in wrong.items())
        raise UserError(f"{len(wrong)} of {len(config['task'])} tasks cannot be read.{without}{said}")


def _look(config: Mapping[str, Any], block: Mapping[str, Any]) -> None:
    if "foreground" not in block:
        make(block)
    elif not (_is_file(block["labels"]) and _may_hold_slides(block["path"])):
        make(
            block, **_of_slides(config)
        )  # it says what it lacks; else its slides, which may be many, are read when they are indexed


def _is_file(path: Any) -> bool:
    return isinstance(path, str) and Path(path).expanduser().is_file()


def _may_hold_slides(path: Any) -> bool:
    return isinstance(path, str) and (is_url(path) or has_magic(path) or Path(path).expanduser().exists())


def _of_slides(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"cache": Path(config["cache_dir"]) / "index", "mirrors": mirrors(config)}


def task_hash(task: Task) -> str:
    """A hash of which images, labels, splits, groups and bags a task has."""
    known = [
        task.ids_N,
        task.labels_N,
        task.splits_N,
        task.groups_N,
        *([task.bags_N] if isinstance(task, BagTask) else []),
    ]
    columns = [[str(value) for value in column] for column in known]
    return hashlib.sha256(json.dumps(columns).encode()).hexdigest()[:16]


def cohort_folder(config: Mapping[str, Any], cohort: Mapping[str, Any]) -> Path:
    """The folder of the synthetic cohort with these settings, which is written if it is not there."""
    folder = Path(config["cache_dir"]) / cohort_name(cohort)
    if not folder.is_dir():
        log.info("Writing the synthetic cohort to %s (once, a minute or two).", folder)
        with locked(folder.with_suffix(".lock")):
            make(cohort, folder, workers=len(os.sched_getaffinity(0)), progress=sys.stderr.isatty())
    return folder


def cohort_name(cohort: Mapping[str, Any]) -> str:
    """Of the folder of a cohort with these settings."""
    settings = json.dumps(dict(**cohort), sort_keys=True)
    return f"synthetic-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"


def tasks(config: Mapping[str, Any]) -> dict[str, Task]:
    """The labelled tasks by name."""
    made = {}
    for name, block in config["task"].items():
        block = dict(**block)
        cohort = block.pop("cohort", None)
        # which part of the cohort, where not the labelled patches
        more = {"path": str(cohort_folder(config, cohort) / block.pop("path", "labelled"))} if cohort else {}
        if "foreground" in block:
            more |= _of_slides(config)
        made[name] = make(block, **more)
    return made


def leakage(config: Mapping[str, Any], data: Callable[[], "Data"], by_name: Mapping[str, Task]) -> Findings:
    """What of the tasks is among the slides and first patches that are trained on, or known to have been by the initial weights.

    With train.patches=0 nothing is trained on, and `data` is not called.
    """
    slides = data() if config["train"]["patches"] else None
    found = look(
        by_name,
        index=slides and slides.index,
        training_slides=slides.training_slides.tolist() if slides else [],
        reader=slides and slides.reader(config["seed"]),
        patches=config["leakage"]["patches"],
        batch_size=config["train"]["probe_batch_size"],
        cache=feature_cache(config),
    )
    init = config["init"]
    weights = Path(init["path"]).name if init["path"] else init.get("name") or config["model"]["name"]
    known = [Overlap(name, "weights", weights, []) for name in by_name if name in config["leakage"]["trained_on"]]
    sets = {name: leakage_key(config, name, task) for name, task in by_name.items()}
    return Findings(found.compared | {"sets": sets}, found.overlaps + known)


def leakage_key(config: Mapping[str, Any], name: str, task: Task) -> str:
    """Of all that the findings of a task follow from, but the slides."""
    settings = config["leakage"]
    more = ["weights"] * (name in settings["trained_on"]) + ["not trained"] * (config["train"]["patches"] == 0)
    return known_set(task, settings["patches"], *more)


def feature_cache(config: Mapping[str, Any]) -> FeatureCache | None:
    """Where what follows from images is kept; None where nothing is."""
    mib = config["feature_cache_mib"]
    if mib < 0:
        raise UserError(f"feature_cache_mib={mib}: give MiB from 0 up; 0 keeps no features.")
    return FeatureCache(Path(config["cache_dir"]) / "features", mib=mib) if mib else None


def open_index(config: Mapping[str, Any], rescan: bool = True) -> SlideIndex:
    """The index of the configured slides, built where it is not there yet. rescan: see `build_index`."""
    with helped(config):
        return build_index(**_of_index(config), rescan=rescan)


def survey_slides(config: Mapping[str, Any], part: tuple[int, int]) -> tuple[int, list[tuple[str, str]]]:
    """Looks at a part of the slides, for an index that is built later: see `survey_part`."""
    with helped(config):
        return survey_part(**_of_index(config), part=part)


def _of_index(config: Mapping[str, Any]) -> dict[str, Any]:
    data = config["data"]
    path, manifest = data["path"], data["manifest"]
    if data["cohort"] is not None and path is None:
        folder = cohort_folder(config, data["cohort"])
        path, manifest = str(folder), str(folder / "manifest.csv")
    cache, shown = Path(config["cache_dir"]) / "index", sys.stderr.isatty()
    place = {"path": path, "cache": cache, "manifest": manifest, "mirrors": mirrors(config), "progress": shown}
    if data["tcga"] is not None and not isinstance(data["tcga"], Mapping):
        raise UserError(f"data.tcga={data['tcga']}: choose data=tcga, and what is wanted of it by data.tcga.kind.")
    place["tcga"] = None if data["tcga"] is None else data["tcga"]["kind"]
    return place | {"reader": data["reader"], **data["foreground"]}


def mirrors(config: Mapping[str, Any]) -> SlideCache:
    """Where slides by URL are kept on this machine."""
    settings = config["slide_cache"]
    gib, folder = settings["gib"], settings["dir"]
    check_slide_cache(gib)
    return SlideCache(Path(config["cache_dir"]) / "slides" if folder is None else Path(folder), int(gib * 2**30))


@contextmanager
def helped(config: Mapping[str, Any]) -> Iterator[None]:
    """Adds what the data's option advises to a complaint."""
    help_ = config["data"]["help"]
    try:
        yield
    except UserError as error:
        if help_ is None:
            raise
        raise UserError(f"{error}\n{help_}") from error


class Data:
    """The slides of a run: which are trained on, which are held out, and the patches of both."""

    def __init__(self, config: Mapping[str, Any]):
        self.config, self.index = config, open_index(config, rescan=config["data"]["rescan"])
        passing = [f"  {path}: {reason}" for path, reason in self.index.unreachable]
        if passing:
            raise UserError(
                "These slides could not be reached just now; a run without them would be another run. Repeat the command when they can:\n"
                + "\n".join(passing)
            )
        # Only cases that can be read at the magnifications of the held-out patches can serve there.
        settings, index = config["data"], self.index
        serves = index.mpp <= COARSER * min(settings["held_out"]["mpp"])
        is_held = held_out(index.case, index.split, serves, settings["held_out"]["fraction"])
        training, self.held_out_slides = np.flatnonzero(~is_held), np.flatnonzero(is_held)
        if len(self.held_out_slides) == 0:
            log.info(
                "No case is held out (there is only one, or data.held_out.fraction=0): RankMe and ODCorr use training slides."
            )
            self.held_out_slides = training
        is_fine = index.mpp[training] <= COARSER * _usable_at(config)
        # Not among those that are trained on, though no case of theirs is held out.
        self.too_coarse = training[~is_fine]
        fine = training[is_fine & (index.weight[training] > 0)]
        limit = settings["limit"]
        if len(fine):  # else the sampler has something to say
            training = fine[limited([index.paths[k] for k in fine], limit["slides"], limit["seed"])]
        elif settings["usable_at_mpp"] is not None:
            raise UserError(
                f"data.usable_at_mpp={settings['usable_at_mpp']}: no slide is scanned finely enough for it."
            )
        self.training_slides = training
        self.sampler = self.sampler_with()
        self.accepts = make(config["patch_filter"])

    def sampler_with(self, **changes: Any) -> Sampler:
        """Draws from the training slides as configured, but for the `changes`."""
        config, limit = self.config, self.config["data"]["limit"]
        settings = {
            "slides": self.training_slides,
            **config["magnification"],
            "weight_by": config["data"]["weight_by"],
            "patch_px": config["resolution"]["patch_px"],
            "min_tissue": config["data"]["foreground"]["min_tissue"],
            "batch_size": config["batch"]["size"],
            "region": Region(**config["region"]),
            "distinct": Distinct(limit["patches"], limit["per"], limit["seed"]),
        }
        return Sampler(self.index, **(settings | changes))

    @property
    def fingerprint(self) -> str:
        """A hash of the slides by name, size, magnification, case, split and weight: the same wherever the folder lies."""
        index = self.index
        rows = zip(
            index.paths,
            index.width.tolist(),
            index.height.tolist(),
            index.mpp.round(6).tolist(),
            index.case,
            strict=True,
        )
        # Nothing is added where a manifest says nothing, so that the hash stays what it was before there were splits and weights.
        said = [
            [name, index.split[k], float(index.weight[k])]
            for k, name in enumerate(index.paths)
            if index.split[k] or index.weight[k] != 1
        ]
        return hashlib.sha256(json.dumps([*rows, *said]).encode()).hexdigest()[:16]

    def reader(self, seed: int, sampler: Sampler | None = None) -> PatchReader:
        """Reads the patches of a run with this seed, or those that another `sampler` draws."""
        return PatchReader(
            self.sampler if sampler is None else sampler,
            seed=seed,
            open_slides=self.config["loader"]["open_slides"],
            accepts=self.accepts,
        )

    def loader(self) -> Loader:
        settings = self.config["loader"]
        return Loader(
            self.reader(self.config["seed"]),
            workers=settings["workers"],
            prefetch=settings["prefetch"],
            rank=rank(),
            world_size=world_size(),
        )

    @property
    def held_out_patches(self) -> np.ndarray:
        """(N, G, G, 3) uint8: one fixed set for all arms and seeds of a study, of the global views' size."""
        return self._held_out.pixels

    @property
    def held_out_owners(self) -> tuple[list[str], list[str]]:
        """The case and the site of each held-out patch."""
        slides = self._held_out.draws.slide.tolist()
        return [self.index.case[k] for k in slides], [self.index.site[k] for k in slides]

    @cached_property
    def _held_out(self) -> Patches:
        settings, mpp = self.config["unsupervised"], self.config["data"]["held_out"]["mpp"]
        size = self.config["resolution"]["global_px"]
        sampler = Sampler(
            self.index,
            slides=self.held_out_slides,
            mpp=mpp,
            weight=[1.0] * len(mpp),
            patch_px=size,
            min_tissue=self.config["data"]["foreground"]["min_tissue"],
            batch_size=settings["patches"],
            region=Region(patches=1, width=1.0, chunk_batches=1),
        )
        reader = PatchReader(sampler, seed=settings["seed"], open_slides=self.config["loader"]["open_slides"])
        found = reader.read(np.arange(settings["patches"]))
        reader.close()
        return found

    def describe(self) -> dict[str, Any]:
        """What data.json says: slides, cases, sites, tissue, what was held out and what was left aside."""
        index = self.index
        return {
            "slides": len(index.paths),
            "training_slides": len(self.training_slides),
            "cases": len(set(index.case)),
            "sites": len(set(index.site)),
            "tissue_mm2": round(float(index.tissue_mm2[self.training_slides].sum()), 2),
            "usable_slides": {
                name: len(slides)
                for name, slides in zip(self.sampler.magnification.names(), self.sampler.slides, strict=True)
            },
            "held_out": [index.paths[k] for k in self.held_out_slides],
            "too_coarse": [index.paths[k] for k in self.too_coarse],
            "quarantined": [[str(path), reason] for path, reason in index.quarantined],
        }


def _usable_at(config: Mapping[str, Any]) -> float:
    """The um per pixel for which a slide must be scanned finely enough to be trained on."""
    given = config["data"]["usable_at_mpp"]
    if given is None:
        return Magnification(**config["magnification"]).end.max()
    if isinstance(given, bool) or not isinstance(given, int | float) or given <= 0:
        raise UserError(f"data.usable_at_mpp={given}: give um per pixel above 0, as in 0.25, or null.")
    return given


def draw_pictures(folder: Path, data: Data, views: MultiCrop) -> None:
    """pictures/patches.png and views.png: the first patches of the run, and what the student sees of the first of them."""
    if (folder / "views.png").is_file():
        return
    reader = data.reader(data.config["seed"])
    patches = reader.read(np.arange(_PICTURED))
    reader.close()
    folder.mkdir(parents=True, exist_ok=True)
    strip(patches.pixels).save(folder / "patches.png")
    views_picture(patches.pixels[:2], patches.draws.views_seed[:2], views).save(folder / "views.png")
