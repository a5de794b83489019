"""Pictures of what a config would train on: slides with mask and patches, patches accepted and rejected, views."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from pathssl import sources
from pathssl.checks import check
from pathssl.data.sampling import Draws
from pathssl.files import make_folder
from pathssl.make import make
from pathssl.pictures import Footprint, sheet, slide_picture, views_picture
from pathssl.report.album import Chapter, Plate, Table, write_album
from pathssl.report.words import plural
from pathssl.seeding import uniforms
from pathssl.slides.foreground import tissue_mask
from pathssl.slides.slide import COARSER

_PER_SLIDE, _MOST_DRAWS = 64, 100_000
_PER_ROW, _ROWS, _VIEWED = 8, 4, 4
_CANDIDATES = 64  # random places for each rejected patch that is shown
_PICTURE_PX = 720  # the longer side of a slide's picture


def draw_gallery(config: Mapping[str, Any], folder: Path, most_slides: int) -> Path:
    """The path of <folder>/index.html, which shows slide_*.png, accepted.png, rejected.png and views.png beside it."""
    check(config)
    sources.check_tasks(config)
    torch.set_num_threads(config["train"]["threads"])
    data = sources.Data(config)
    make_folder(folder, "--to")
    chapters = [_slides(data, folder, most_slides), *_patches(data, folder)]
    sampler, index = data.sampler, data.index
    magnifications = " and ".join(sampler.magnification.names())
    whole = f"{plural(len(index.paths), 'slide')} of {plural(len(set(index.case)), 'case')}"
    summary = (
        f"{whole}, {index.tissue_mm2.sum():.3g} mm² of tissue. Training draws patches of {sampler.patch_px} px at {magnifications} µm/px "
        f"with at least {sampler.min_tissue:.0%} tissue, from {plural(len(data.training_slides), 'slide')}"
        f"{'' if data.accepts is None else f', by {data.accepts}'}."
    )
    path = Path(config["data"]["path"] or "synthetic cohort")
    return write_album(folder, eyebrow="pathssl gallery", title=path.name, summary=summary, chapters=chapters)


def _slides(data: sources.Data, folder: Path, most: int) -> Chapter:
    """Pictures of at most so many slides, spread over the list; and tables of what is left aside."""
    index, training = data.index, data.training_slides
    count = min(_PER_SLIDE * len(training), _MOST_DRAWS)
    draws = data.sampler.sample(data.config["seed"], np.arange(count))
    plates = []
    for number, k in enumerate(training[np.unique(np.linspace(0, len(training) - 1, most).astype(int))]):
        file = f"slide_{number:02d}_{Path(index.paths[k]).stem}.png"
        on_it = int((draws.slide == k).sum())
        draw_slide(data, int(k), draws).save(folder / file)
        facts = f"{index.width[k]:,} × {index.height[k]:,} px at {index.mpp[k]:.3g} µm/px, {index.tissue_mm2[k]:.3g} mm² of tissue"
        alt = f"Slide {index.paths[k]} with its tissue mask and the places of {on_it} patches"
        plates.append(Plate(file, alt, f"{index.paths[k]}: {facts}"))
    aside = [[path, "in quarantine", reason] for path, reason in index.quarantined]
    aside += [[index.paths[k], "held out", "its case is never trained on"] for k in _only_held_out(data)]
    for name, usable in zip(data.sampler.magnification.names(), data.sampler.slides, strict=True):
        reason = "finest level {:.3g} µm/px, {} asked"
        coarse = np.setdiff1d(training, usable)
        aside += [[index.paths[k], f"too coarse for {name} µm/px", reason.format(index.mpp[k], name)] for k in coarse]
    tables = [Table(f"Left aside: {len(aside)}", ["Slide", "Why", "Reason"], aside)] if aside else []
    text = (
        f"What lies outside of the tissue mask is paled. The squares are the first {count:,} patches of a run with seed "
        f"{data.config['seed']}, at their true size. Shown: {len(plates)} of {plural(len(training), 'slide')}."
    )
    return Chapter("Where patches fall", text, plates, tables, small=True)


def _only_held_out(data: sources.Data) -> np.ndarray:
    return np.setdiff1d(data.held_out_slides, data.training_slides)


def _patches(data: sources.Data, folder: Path) -> list[Chapter]:
    reader = data.reader(data.config["seed"])
    accepted = reader.read(np.arange(_PER_ROW * _ROWS))
    reader.close()
    draws, size = accepted.draws, data.sampler.patch_px
    tissue = data.index.overlaps(draws.slide, draws.x0, draws.y0, draws.mpp, size)
    captions = [f"{m:g} µm/px\n{fraction:.0%} tissue" for m, fraction in zip(draws.mpp, tissue, strict=True)]
    sheet(list(accepted.pixels), captions, _PER_ROW).save(folder / "accepted.png")
    plate = Plate("accepted.png", f"{len(captions)} accepted patches with their tissue fractions", "")
    chapters = [Chapter("Accepted", f"The first {len(captions)} patches of the run.", [plate])]
    rejected = [*rejected_patches(data, _PER_ROW * _ROWS), *coarse_patches(data, _PER_ROW)]
    if rejected:
        sheet(*map(list, zip(*rejected, strict=True)), _PER_ROW).save(folder / "rejected.png")
        text = "Places all over the slides that training never draws, from nearly enough tissue to none, and why."
        plate = Plate("rejected.png", f"{len(rejected)} rejected patches with the reasons", "")
        chapters.append(Chapter("Rejected", text, [plate]))
    views, shown = make(data.config["augmentation"]), slice(_VIEWED)
    captions = [f"{m:g} µm/px" for m in draws.mpp[shown]]
    views_picture(accepted.pixels[shown], draws.views_seed[shown], views, captions).save(folder / "views.png")
    text = "What the networks see of a patch: the teacher its global views, the student these and the local ones."
    plate = Plate("views.png", f"{_VIEWED} patches, each with its global and local views", "")
    return [*chapters, Chapter("Views", text, [plate])]


def draw_slide(data: sources.Data, k: int, draws: Draws) -> Image.Image:
    """Slide k with its tissue mask and those of the `draws` that lie on it."""
    settings, index = data.config["data"]["foreground"], data.index
    mpp = max(float(index.mpp[k]), max(index.width[k], index.height[k]) * index.mpp[k] / _PICTURE_PX)
    mask_mpp = max(settings["thumbnail_mpp"], float(index.mpp[k]))  # as where the index finds the tissue
    slide = index.open(k)
    thumbnail = slide.thumbnail(mpp)
    mask = tissue_mask(slide.thumbnail(mask_mpp), settings["method"])
    slide.close()
    places = [((np.arange(n) + 0.5) * mpp / mask_mpp).astype(int) for n in thumbnail.shape[:2]]
    rows, columns = (np.minimum(place, n - 1) for place, n in zip(places, mask.shape, strict=True))
    scale, asked = index.mpp[k] / mpp, data.sampler.magnification
    finest = np.unique(asked.mpp)
    interval = finest[np.searchsorted(finest, draws.mpp, side="right") - 1]
    footprints = [
        Footprint(
            draws.x0[i] * scale, draws.y0[i] * scale, data.sampler.patch_px * draws.mpp[i] / mpp, float(interval[i])
        )
        for i in np.flatnonzero(draws.slide == k)
    ]
    names = dict(zip(asked.mpp.tolist(), asked.names(), strict=True))
    return slide_picture(thumbnail, mask[np.ix_(rows, columns)], footprints, names)


def rejected_patches(data: sources.Data, count: int) -> list[tuple[np.ndarray, str]]:
    """Up to `count` patches with too little tissue, as (pixels, reason), from nearly enough to none."""
    index, sampler, training = data.index, data.sampler, data.training_slides
    u = uniforms(0, "rejected", np.arange(count * _CANDIDATES), 4)
    _, mpp = sampler.magnification.draw(u[:, 0])
    k = training[(u[:, 1] * len(training)).astype(int)]
    side = sampler.patch_px * mpp / index.mpp[k]
    x0 = (u[:, 2] * np.maximum(0, index.width[k] - side)).astype(int)
    y0 = (u[:, 3] * np.maximum(0, index.height[k] - side)).astype(int)
    tissue = index.overlaps(k, x0, y0, mpp, sampler.patch_px)
    poor = np.flatnonzero((tissue < sampler.min_tissue) & (index.mpp[k] <= COARSER * mpp))
    chosen = []
    for wanted in np.linspace(sampler.min_tissue, 0, count):
        if len(poor):
            nearest = np.abs(tissue[poor] - wanted).argmin()
            chosen.append(int(poor[nearest]))
            poor = np.delete(poor, nearest)
    found = []
    for i in chosen:
        slide = index.open(int(k[i]))
        pixels = slide.read(int(x0[i]), int(y0[i]), float(mpp[i]), sampler.patch_px)
        slide.close()
        found.append(
            (pixels, f"{mpp[i]:g} µm/px\n{int(100 * tissue[i])}% tissue, {100 * sampler.min_tissue:g}% needed")
        )
    return found


def coarse_patches(data: sources.Data, count: int) -> list[tuple[np.ndarray, str]]:
    """Up to `count` patches of slides that are too coarse for a magnification, enlarged to its size, as (pixels, reason)."""
    index, sampler = data.index, data.sampler
    pairs = [
        (float(m), int(k))
        for m, usable in zip(sampler.magnification.end, sampler.slides, strict=True)
        for k in np.setdiff1d(np.union1d(data.training_slides, data.too_coarse), usable)
    ]
    found = []
    for m, k in pairs[:count]:
        cells = index.cells(k)
        row, column = divmod(int(cells[len(cells) // 2]), index.tissue(k).shape[1])
        cell_px = index.cell_um / index.mpp[k]
        slide = index.open(k)
        size = max(1, round(sampler.patch_px * m / slide.mpp))
        pixels = Image.fromarray(slide.read(int(column * cell_px), int(row * cell_px), slide.mpp, size))
        slide.close()
        enlarged = np.array(pixels.resize((sampler.patch_px, sampler.patch_px), Image.Resampling.NEAREST))
        found.append((enlarged, f"slide too coarse:\n{index.mpp[k]:.3g} µm/px, {m:g} asked"))
    return found
