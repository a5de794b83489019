"""What a step of a run saw, as a folder of pictures with a page."""

import os
from collections import Counter
from pathlib import Path

import torch

from pathssl.files import make_folder, write_atomic
from pathssl.gallery import draw_slide
from pathssl.make import make
from pathssl.pictures import sheet, views_picture
from pathssl.replay import Step, summary
from pathssl.report.album import Chapter, Plate, Table, write_album
from pathssl.report.exports import csv_text

_PER_ROW, _SHEET, _VIEWED, _SLIDES = 8, 64, 4, 12
_NAME_LETTERS = 20


def draw_step(found: Step, folder: Path, count: int) -> Path:
    """The path of <folder>/index.html: the first `count` patches, their views, where all lie; patches.csv names every patch."""
    torch.set_num_threads(found.config["train"]["threads"])
    make_folder(folder, "--to")
    rows = found.rows()
    write_atomic(folder / "patches.csv", csv_text(rows))
    pixels = found.pixels(count)
    sheets = []
    for start in range(0, len(pixels), _SHEET):
        shown = rows[start : min(start + _SHEET, len(pixels))]
        file = f"patches_{start // _SHEET:02d}.png"
        captions = [f"{row['patch']}: {row['mpp']:g} µm/px\n{_short(row['slide'])}" for row in shown]
        sheet(list(pixels[start : start + _SHEET]), captions, _PER_ROW).save(folder / file)
        sheets.append(Plate(file, f"Patches {shown[0]['patch']} to {shown[-1]['patch']}", ""))
    views, viewed = make(found.config["augmentation"]), slice(_VIEWED)
    names = [f"patch {row['patch']}" for row in rows[viewed]]
    picture = views_picture(pixels[viewed], found.draws.views_seed[viewed], views, names[: len(pixels)])
    picture.save(folder / "views.png")
    plates = [Plate("views.png", f"The views of the first {len(pixels[viewed])} patches", "")]
    table = Table(
        f"All {len(rows)} patches",
        list(rows[0]),
        [[f"{x:g}" if isinstance(x, float) else str(x) for x in row.values()] for row in rows],
    )
    chapters = [
        Chapter(
            "The patches",
            f"The first {len(pixels)} of {len(rows)}, as they were read, in the order of the batch.",
            sheets,
            [table],
        ),
        Chapter("What the student saw", "The views of the first of them, made again from the same seeds.", plates),
        _slides(found, folder),
    ]
    arm, seed = os.path.abspath(found.run).split(os.sep)[-2:]
    return write_album(
        folder,
        eyebrow="pathssl replay",
        title=f"Step {found.step}",
        summary=f"{summary(found)} Run {arm}, {seed}.",
        chapters=chapters,
    )


def _slides(found: Step, folder: Path) -> Chapter:
    """Where the step's patches lie, on the slides that gave most of them."""
    numbers = Counter(found.draws.slide.tolist())
    plates = []
    for i, (k, number) in enumerate(numbers.most_common(_SLIDES)):
        name = found.data.index.paths[k]
        file = f"slide_{i:02d}_{Path(name).stem}.png"
        draw_slide(found.data, k, found.draws).save(folder / file)
        plates.append(
            Plate(
                file,
                f"Slide {name} with the places of {number} patches",
                f"{name}: {number} of {len(found.indices)} patches",
            )
        )
    text = f"{len(plates)} of {len(numbers)} slides, those that gave most patches first. What lies outside of the tissue mask is paled."
    return Chapter("Where they lie", text, plates, small=True)


def _short(path: str) -> str:
    name = Path(path).stem
    return name if len(name) <= _NAME_LETTERS else f"{name[: _NAME_LETTERS - 1]}…"
