"""A classification task of slides: images in bags, with one label a bag.

Axes: N images, D features, M images of one bag.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from pathssl.errors import UserError
from pathssl.probes.feature_set import Split
from pathssl.probes.folder import COLUMNS, read_table
from pathssl.probes.task import Task


def bags_task(*, path: str, image_px: int, val_fraction: float, threads: int, cache_mib: float) -> "BagTask":
    """The task that `path`/labels.csv describes: columns path, label, split, bag (the image's slide), optionally group_id."""
    folder = Path(path).expanduser()
    source = folder / "labels.csv"
    return BagTask(
        read_table(source, (*COLUMNS, "bag"), kind="A folder of slides' patches"),
        folder=folder,
        source=str(source),
        image_px=image_px,
        val_fraction=val_fraction,
        threads=threads,
        cache_mib=cache_mib,
    )


class BagTask(Task):
    """A Task whose `table` has the column bag too: which slide an image is of. Without groups, each bag is a group of its own.

    Its samples are the bags, in the order of their names. Their features are means over images, so that every protocol works on them;
    the features of all images stand beside for those that look at whole bags.
    """

    def __init__(self, table: pd.DataFrame, *, source: str, **settings):
        table = table.sort_values("path", kind="stable")
        _check_bags(table, source)
        self.bags_N = table["bag"].to_numpy(str)
        super().__init__(table if "group" in table else table.assign(group=table["bag"]), source=source, **settings)

    def split_of(self, rows: np.ndarray, features_ND: np.ndarray) -> Split:
        names, first, of_bag = np.unique(self.bags_N[rows], return_index=True, return_inverse=True)
        order = np.argsort(of_bag, kind="stable")
        bags = np.split(features_ND[order], np.cumsum(np.bincount(of_bag))[:-1])
        means = np.stack([bag_MD.mean(axis=0, dtype=np.float64) for bag_MD in bags]).astype(np.float32)
        return Split(means, self.labels_N[rows[first]], self.groups_N[rows[first]], names, bags)

    @property
    def samples_N(self) -> np.ndarray:
        return self.bags_N

    def describe(self) -> dict:
        """As a Task's, with the number of bags of each split; `samples` and `per_class` count images."""
        described = super().describe()
        for name, split in described["splits"].items():
            split["bags"] = len(np.unique(self.bags_N[self.splits_N == name]))
        return described


def _check_bags(table: pd.DataFrame, source: str) -> None:
    """Refuses bags with two labels, splits or groups."""
    for column in ("label", "split", "group"):
        if column not in table:
            continue
        kinds = table.groupby("bag")[column].nunique()
        mixed = kinds.index[kinds > 1].tolist()
        if mixed:
            found = ", ".join(map(repr, sorted(table.loc[table["bag"] == mixed[0], column].unique())))
            more = f", as do {len(mixed) - 1} more bags" if len(mixed) > 1 else ""
            raise UserError(
                f"{source}: bag {mixed[0]!r} has images of {column} {found}{more}. Give one {column} to each bag."
            )
