"""The task of a folder with images, masks and a table of both in it."""

from collections.abc import Sequence
from pathlib import Path

from pathssl.errors import UserError
from pathssl.probes.folder import read_table
from pathssl.probes.segmentation.task import SegmentationTask


def masks_task(
    *,
    path: str,
    table: str,
    image_column: str,
    image_px: int,
    classes: Sequence[str] | None,
    background: bool,
    ignore: int | None,
    instances: bool,
    val_fraction: float,
    threads: int,
    cache_mib: float,
) -> SegmentationTask:
    """The task that `path`/`table` describes: columns `image_column` and mask (both from that folder), split, optionally group_id."""
    folder = Path(path).expanduser()
    source = folder / table
    rows = read_table(source, (image_column, "mask", "split"), kind="A folder of masks").rename(
        columns={image_column: "path"}
    )
    if classes is not None and (isinstance(classes, str) or not all(isinstance(name, str) for name in classes)):
        raise UserError(f"classes={classes}: give a list of names, as in classes=[background,tumour], or null.")
    return SegmentationTask(
        rows,
        folder=folder,
        source=str(source),
        image_px=image_px,
        classes=None if classes is None else tuple(classes),
        background=background,
        ignore=ignore,
        instances=instances,
        val_fraction=val_fraction,
        threads=threads,
        cache_mib=cache_mib,
    )
