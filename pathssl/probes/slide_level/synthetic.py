"""Slides of the synthetic cohort that hold tumour or do not."""

from pathlib import Path

import pandas as pd

from pathssl.errors import UserError
from pathssl.probes.folder import read_labels
from pathssl.probes.slide_level.bags import BagTask


def synthetic_cases(
    *,
    path: str,
    slides_per_case: int,
    tumour_patches: int,
    image_px: int,
    val_fraction: float,
    threads: int,
    cache_mib: float,
) -> BagTask:
    """Each labelled case of the cohort as `slides_per_case` slides, of which every second has `tumour_patches` patches of tumour.

    path: the cohort's folder of labelled patches. The patches of the other tissues are dealt out to the slides of their case, so that
    no two slides share a patch, and label, case and scanner tell nothing of one another.
    """
    folder = Path(path)
    return BagTask(
        slides_of(read_labels(folder / "labels.csv"), slides_per_case, tumour_patches),
        folder=folder,
        source=f"slides of {folder / 'labels.csv'}",
        image_px=image_px,
        val_fraction=val_fraction,
        threads=threads,
        cache_mib=cache_mib,
    )


def slides_of(patches: pd.DataFrame, slides_per_case: int, tumour_patches: int) -> pd.DataFrame:
    """path, label (tumour or none), split, group and bag of the patches that the slides have."""
    patches = patches.sort_values("path")
    turn = patches.groupby(["group", "label"]).cumcount()  # the number of a patch among those of its case and tissue
    fewest = int(patches.groupby(["group", "label"]).size().min())
    if (
        slides_per_case < 2
        or tumour_patches < 1
        or max(slides_per_case, slides_per_case // 2 * tumour_patches) > fewest
    ):
        raise UserError(
            f"synthetic_cases: slides_per_case={slides_per_case}, tumour_patches={tumour_patches}: give two slides or more, and no more "
            f"than the {fewest} patches that a case of the cohort has of each tissue (cohort.patches_per_class) are enough for."
        )
    of_tumour = patches["label"] == "tumour"
    positive = slides_per_case // 2
    number = (turn % slides_per_case).where(~of_tumour, 2 * (turn % positive) + 1)  # of the slide
    kept = ~of_tumour | (turn < positive * tumour_patches)
    bag = patches["group"] + "_" + number.astype(str)
    label = (number % 2).map({0: "none", 1: "tumour"})
    return patches.assign(label=label, bag=bag)[kept]
