"""Which patches a step of a run saw: from the run's folder and the slides alone, whatever the config files say today."""

import logging
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from pathssl import sources
from pathssl.data.sampling import Draws
from pathssl.errors import UserError
from pathssl.pictures import GAP_PX, strip
from pathssl.records import read_status
from pathssl.replaced import read_replaced
from pathssl.report.words import plural
from pathssl.slides.remote.address import is_url
from pathssl.slides.slide import SlideError

log = logging.getLogger(__name__)
_LISTED = 6  # magnifications
_MOST_REDRAWS = 10_000  # more than any run takes
# What the config says of places: `replay` may be given others, where things were moved.
PLACES = ("data.path", "data.manifest", "cache_dir")


@dataclass(frozen=True)
class Step:
    """The patches of one step (counted from 1), in the order of its batch.

    indices: their numbers in the run. draws: where they were read, after replacements.
    replaced: the lines of replaced.jsonl. trained: whether the run has come so far, be it to fail; if not, no draw is known to have failed.
    """

    run: Path
    step: int
    config: dict[str, Any]
    data: sources.Data
    indices: np.ndarray
    draws: Draws
    replaced: list[dict[str, Any]]
    trained: bool

    @property
    def redraws(self) -> np.ndarray:
        """How many draws of each patch had failed, or were turned down by the run's filter, before."""
        return self.draws.redraw

    def rows(self) -> list[dict[str, Any]]:
        """A row for each patch: its number, slide, case, site, corner in level-0 pixels, magnification (um per pixel), failed draws."""
        index, draws = self.data.index, self.draws
        return [
            {
                "patch": int(self.indices[i]),
                "slide": index.paths[k],
                "case": index.case[k],
                "site": index.site[k],
                "x0": int(draws.x0[i]),
                "y0": int(draws.y0[i]),
                "mpp": float(draws.mpp[i]),
                "redraws": int(self.redraws[i]),
            }
            for i, k in enumerate(draws.slide.tolist())
        ]

    def pixels(self, count: int | None = None) -> np.ndarray:
        """(n, P, P, 3) uint8: the first `count` patches of the step, or all, as they were read then."""
        size, draws = self.data.sampler.patch_px, self.draws
        n = len(self.indices) if count is None else min(count, len(self.indices))
        pixels = np.empty((n, size, size, 3), np.uint8)
        for k in np.unique(draws.slide[:n]):
            with closing(self.data.index.open(int(k))) as slide:
                for i in np.flatnonzero(draws.slide[:n] == k):
                    try:
                        pixels[i] = slide.read(int(draws.x0[i]), int(draws.y0[i]), float(draws.mpp[i]), size)
                    except SlideError as error:
                        raise UserError(self._unreadable(int(self.indices[i]), error)) from error
        return pixels

    def _unreadable(self, patch: int, error: SlideError) -> str:
        if self.trained:
            return f"Patch {patch} of step {self.step} cannot be read any more, though the run read it: {error}"
        return f"Patch {patch} of step {self.step} cannot be read, and the run, which has not come so far, will replace it: {error}"


def find_step(run: Path, step: int, places: Sequence[str] = ()) -> Step:
    """What step `step` of `run` saw. `places`: KEY=VALUE for those of `PLACES` that were moved since.

    UserError where the run has no such step, or the slides are not those that it was trained on.
    """
    run = Path(run)
    config = config_of(run, places)
    total_steps, batch_size = config["derived"]["total_steps"], config["batch"]["size"]
    if step == 0:
        raise UserError("Step 0 is the network before training: it saw no patch. Steps count from 1.")
    if total_steps == 0:
        raise UserError(f"{run} trains on no patch (train.patches=0), so there is nothing to replay.")
    if not 1 <= step <= total_steps:
        raise UserError(f"--step {step}: {run} has the steps 1 to {total_steps}.")
    data = _data(run, config)
    done = (read_status(run) or {}).get("step", 0)
    indices = np.arange((step - 1) * batch_size, step * batch_size)
    replaced = read_replaced(run, step)
    draws = data.sampler.sample(config["seed"], indices)
    _settle(data, config["seed"], indices, draws, replaced)
    trained = step <= done or (run / "capsules" / f"step_{step:08d}").is_dir()
    found = Step(run, step, config, data, indices, draws, replaced, trained)
    if not found.trained:
        log.info(
            "%s has not come to step %d yet (%d of %d are done): this is what it is going to see.",
            run,
            step,
            done,
            total_steps,
        )
    _compare_with_picture(found)
    return found


def _settle(data: sources.Data, seed: int, indices: np.ndarray, draws: Draws, replaced: list[dict[str, Any]]) -> None:
    """Moves `draws` on to those that the run took: failed ones are in `replaced`, and what its filter turned down is judged again."""
    failed: dict[int, list[str]] = {}
    for line in replaced:
        failed.setdefault(line["patch"], []).append(line["slide"])
    reader = data.reader(seed)
    for row, index in enumerate(indices.tolist()):
        left = failed.get(index, [])
        redraw = len(left) if data.accepts is None else 0
        while redraw <= _MOST_REDRAWS:
            if redraw:
                draws.overwrite(row, data.sampler.sample(seed, indices[row : row + 1], redraw))
            if data.accepts is None:
                break
            if not reader.turns_down(draws, row):
                if not left or left[0] != data.index.paths[draws.slide[row]]:
                    break
                left.pop(0)  # it could not be read then
            redraw += 1
        else:
            raise UserError(f"Patch {index} cannot be found again: {data.accepts} turns down {redraw:,} draws for it.")
    reader.close()


def summary(found: Step) -> str:
    """The step in a sentence or two."""
    rows = found.rows()
    slides, cases, sites = (plural(len({row[name] for row in rows}), name) for name in ("slide", "case", "site"))
    drawn = sorted({row["mpp"] for row in rows})
    mpp = f"{drawn[0]:g} to {drawn[-1]:g}" if len(drawn) > _LISTED else " and ".join(f"{m:g}" for m in drawn)
    text = f"{len(rows)} patches of {slides}, {cases} and {sites} at {mpp} µm/px."
    if found.replaced:
        text += f" {plural(len(found.replaced), 'draw')} could not be decoded and the next draw of the same patch was taken."
    turned_down = int(found.redraws.sum()) - len(found.replaced)
    if turned_down:
        text += f" {plural(turned_down, 'draw')} had been turned down by {found.data.accepts}."
    if not found.trained:
        text += " Not yet trained: what the run is going to see."
    return text


def lines(found: Step) -> str:
    """A line for each patch, under a head."""
    rows = [{name: f"{x:g}" if isinstance(x, float) else str(x) for name, x in row.items()} for row in found.rows()]
    width = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    right = {"patch", "x0", "y0", "mpp", "redraws"}
    return "\n".join(
        "  ".join(row[name].rjust(w) if name in right else row[name].ljust(w) for name, w in width.items()).rstrip()
        for row in [{name: name for name in width}, *rows]
    )


def config_of(run: Path, places: Sequence[str] = ()) -> dict[str, Any]:
    """The run's own config, its relative paths made absolute, those in `places` replaced."""
    path = run / "config.yaml"
    if not path.is_file():
        raise UserError(f"There is no run in {run}: replay takes a run's folder, outputs/<study>/<arm>/seed<k>.")
    config = yaml.safe_load(path.read_text())
    start, given = _started_in(run, config), {}
    for place in places:
        key, _, value = place.partition("=")
        if key not in PLACES or not value:
            raise UserError(
                f"{place}: replay takes everything from the run but {', '.join(PLACES)}, as KEY=VALUE, where things were moved."
            )
        given[key] = value if is_url(value) else os.path.abspath(value)
    for key in PLACES:
        *groups, name = key.split(".")
        block = config[groups[0]] if groups else config
        if block[name] is not None or key in given:
            block[name] = given.get(key) or (block[name] if is_url(block[name]) else str(start / block[name]))
    return config


def _started_in(run: Path, config: dict[str, Any]) -> Path:
    """The folder that the config's relative paths start from: the one in which output_dir/<study>/<arm>/seed<k> is `run`, else this one."""
    here = Path(os.path.abspath(run)).parts
    ending = Path(config["output_dir"], *here[-3:]).parts
    return Path(*here[: -len(ending)]) if here[-len(ending) :] == ending else Path.cwd()


def _data(run: Path, config: dict[str, Any]) -> sources.Data:
    """The run's slides; UserError where they cannot be found or are others."""
    path = config["data"]["path"] or f"{config['cache_dir']} (the synthetic cohort)"
    moved = f"The run's config says that they are in {path}. Where they were moved, add data.path=..., and data.manifest=... if it has one."
    try:
        data = sources.Data(config)
    except UserError as error:
        raise UserError(f"The slides of {run} cannot be used: {error}\n{moved}") from error
    if data.fingerprint != config["derived"]["slides"]:
        raise UserError(
            f"The slides are not those of {run}: these {len(data.index.paths)} have the fingerprint {data.fingerprint}, the run's have "
            f"{config['derived']['slides']}. Some were added, removed, changed or quarantined since, or this is another folder.\n{moved}"
        )
    return data


def _compare_with_picture(found: Step) -> None:
    """Warns where the run's own picture of its first patches shows others: then another version of pathssl drew them."""
    path = found.run / "pictures" / "patches.png"
    if not path.is_file():
        return
    with Image.open(path) as picture:
        kept = np.array(picture.convert("RGB"))
    count = (kept.shape[1] + GAP_PX) // (found.data.sampler.patch_px + GAP_PX)
    reader = found.data.reader(found.config["seed"])
    again = np.array(strip(reader.read(np.arange(count)).pixels)) if count else kept
    reader.close()
    if not np.array_equal(kept, again):
        log.warning(
            "The first patches of this run, in %s, are not those that this version of pathssl draws: do not trust the replay. "
            "environment.json has the commit of the code that the run ran with.",
            path,
        )
