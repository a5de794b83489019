"""What one case of the cohort leaves on disk: a slide, or labelled patches and nucleus masks."""

import math
from dataclasses import dataclass
from pathlib import Path

import einops
import numpy as np
from PIL import Image

from pathssl.errors import UserError
from pathssl.seeding import integer_seed
from pathssl.slides.synthetic.layout import regions, slide_plan
from pathssl.slides.synthetic.nuclei import Canvas
from pathssl.slides.synthetic.pyramid import through_jpeg, write_pyramid
from pathssl.slides.synthetic.stain import develop, draw_stain
from pathssl.slides.synthetic.tissue import TISSUES, Painter

PICTURES = 1  # the look of the cohort: counted up when the same settings come to mean other pixels
NUCLEI_PX = 256
SPLITS = ("train", "test", "val", "train", "test")  # of a site's 1st, 2nd, ... labelled case, over and over
_PURE = 0.4  # a labelled patch shows at least this share of its own tissue, if it can (glands lie in stroma)
_WHOLE_UM2 = 6.0  # smaller rests of nuclei, beneath others or at the rim, are not counted


@dataclass(frozen=True)
class Cohort:
    """What decides every byte. Cases 0, 1, ... have slides, the next `labelled_cases` have labelled pictures."""

    seed: int
    cases: int
    sites: int
    slide_px: int
    mpp: float
    labelled_cases: int
    patches_per_class: int
    patch_px: int
    patch_mpp: float
    nuclei_fields: int
    pictures: int = PICTURES

    def __post_init__(self) -> None:
        least = {"cases": 1, "sites": 1, "slide_px": 512, "labelled_cases": 3 * self.sites}
        least |= {"patches_per_class": 1, "patch_px": 16, "nuclei_fields": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                reason = " (three a site: train, val, test)" if name == "labelled_cases" else ""
                raise UserError(
                    f"Synthetic cohort: {name}={getattr(self, name)} is too few; give {low}{reason} or more."
                )
        if not 0.1 <= self.mpp <= 1:
            raise UserError(f"Synthetic cohort: mpp={self.mpp}; give 0.1 to 1 um per pixel.")
        if self.patch_mpp < self.mpp:
            raise UserError(
                f"Synthetic cohort: patch_mpp={self.patch_mpp} is finer than the slides' mpp={self.mpp}; "
                "give the same or more."
            )

    def name(self, case: int) -> str:
        return f"case_{case:03d}"

    def site(self, case: int) -> str:
        return f"site_{case % self.sites + 1}"

    def split(self, case: int) -> str:
        """The split of a labelled case; each site has all three."""
        return SPLITS[(case - self.cases) // self.sites % len(SPLITS)]

    def rng(self, purpose: str, index: int) -> np.random.Generator:
        return np.random.default_rng(integer_seed(self.seed, f"synthetic {purpose}", index))

    def paint(self, plan: np.ndarray, case: int, rng: np.random.Generator) -> tuple[np.ndarray, Canvas]:
        """(H, W, 3) uint8 in the stain of the case, and the canvas behind it."""
        stain = draw_stain(self.rng("site", case % self.sites), self.rng("case", case))
        canvas = Painter(plan, self.mpp, rng, integer_seed(self.seed, "synthetic stamps")).paint()
        return develop(canvas.haematoxylin, canvas.eosin, stain, self.mpp, rng), canvas


def write_slide(cohort: Cohort, folder: Path, case: int) -> list[str]:
    """[slide, case, site]: the manifest's row for the slide it writes."""
    rng = cohort.rng("slide", case)
    picture, _ = cohort.paint(slide_plan(cohort.slide_px, cohort.mpp, rng), case, rng)
    slide = f"slides/{cohort.name(case)}.tif"
    write_pyramid(folder / slide, picture, cohort.mpp)
    return [slide, cohort.name(case), cohort.site(case)]


def write_patches(cohort: Cohort, folder: Path, case: int) -> list[list[str]]:
    """[path, label, group_id, split] of each labelled patch it writes, paths relative to labelled/."""
    footprint_px = round(cohort.patch_px * cohort.patch_mpp / cohort.mpp)
    places = math.ceil(math.sqrt(1.6 * cohort.patches_per_class))  # a side; more than needed, to choose from
    rows = []
    for k, tissue in enumerate(TISSUES):
        rng = cohort.rng(f"patches of {tissue}", case)
        picture, canvas = cohort.paint(np.full([places * footprint_px] * 2, k + 1, np.uint8), case, rng)
        axes = "(rows h) (columns w) ... -> (rows columns) h w ..."
        patches = einops.rearrange(picture, axes, h=footprint_px, w=footprint_px)
        own = einops.rearrange(canvas.structure == k + 1, axes, h=footprint_px, w=footprint_px)
        share = einops.reduce(own.astype(np.float64), "places h w -> places", "mean")
        order = rng.permutation(len(patches))
        order = order[np.argsort(-np.minimum(share[order], _PURE), kind="stable")]
        for number, place in enumerate(order[: cohort.patches_per_class]):
            # means over the footprint, then JPEG: what a slide's coarser level holds
            patch = Image.fromarray(patches[place]).resize([cohort.patch_px] * 2, Image.Resampling.BOX)
            path = f"{tissue}/{cohort.name(case)}_{number:02d}.png"
            Image.fromarray(through_jpeg(np.asarray(patch))).save(folder / "labelled" / path)
            rows.append([path, tissue, cohort.name(case), cohort.split(case)])
    return rows


def write_nuclei(cohort: Cohort, folder: Path, case: int) -> list[list[str]]:
    """[image, mask, group_id, split] of each field it writes: several tissues a field, paths relative to nuclei/."""
    rows = []
    for field in range(cohort.nuclei_fields):
        rng = cohort.rng(f"nuclei {field}", case)
        picture, canvas = cohort.paint(regions((NUCLEI_PX, NUCLEI_PX), 40 / cohort.mpp, rng, every_px=1), case, rng)
        areas_px = np.bincount(canvas.ids.ravel(), minlength=canvas.nuclei + 1)
        counted = areas_px * cohort.mpp**2 >= _WHOLE_UM2
        counted[0] = False
        number = np.where(counted, np.cumsum(counted), 0)
        stem = f"{cohort.name(case)}_{field:02d}"
        Image.fromarray(through_jpeg(picture)).save(folder / "nuclei" / f"{stem}.png")
        Image.fromarray(number[canvas.ids].astype(np.uint16)).save(folder / "nuclei" / f"{stem}_mask.png")
        rows.append([f"{stem}.png", f"{stem}_mask.png", cohort.name(case), cohort.split(case)])
    return rows
