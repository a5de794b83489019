"""An index of slides that are not there: of any number, with any pyramid and tissue, made in a moment."""

from dataclasses import replace

import numpy as np

from pathssl.slides.slide_index import SlideIndex


def fake_index(
    real: SlideIndex,
    tissue: list[np.ndarray],
    *,
    mpp: float | np.ndarray = 0.25,
    cell_um: float = 64.0,
    case: list[str] | None = None,
    weight: np.ndarray | None = None,
    downsamples: tuple[float, ...] = (1, 4, 16),
    tile: tuple[int, int] = (256, 256),
    least: float = 0.4,
) -> SlideIndex:
    """A slide for each (rows, columns) uint8 grid in `tissue`, as wide and high as its cells; all else is taken from `real`."""
    shape = np.array([grid.shape for grid in tissue])
    cells = [np.flatnonzero(grid >= least * 255).astype(np.int32) for grid in tissue]
    mpp = np.full(len(tissue), mpp)
    side_px = cell_um / mpp
    return replace(
        real,
        settings={**real.settings, "cell_um": cell_um},
        paths=[f"slide{k}.tif" for k in range(len(tissue))],
        case=[f"case{k}" for k in range(len(tissue))] if case is None else case,
        weight=np.ones(len(tissue)) if weight is None else weight,
        width=np.round(shape[:, 1] * side_px).astype(np.int64),
        height=np.round(shape[:, 0] * side_px).astype(np.int64),
        mpp=mpp,
        tissue_mm2=np.array([grid.sum(dtype=np.int64) / 255 * cell_um**2 / 1e6 for grid in tissue]),
        downsamples=np.tile([*downsamples, np.inf], (len(tissue), 1)),
        tile_width=np.tile([tile[0]] * len(downsamples) + [1], (len(tissue), 1)),
        tile_height=np.tile([tile[1]] * len(downsamples) + [1], (len(tissue), 1)),
        _shape=shape,
        _tissue_start=np.concatenate([[0], np.cumsum(shape.prod(axis=1))]),
        _cells_start=np.concatenate([[0], np.cumsum([len(ids) for ids in cells])]),
        _tissue=np.concatenate([grid.ravel() for grid in tissue]),
        _cells=np.concatenate(cells),
    )


def disc(rows: int, columns: int) -> np.ndarray:
    """(rows, columns) uint8: tissue in the middle that thins out towards the edge."""
    y, x = np.mgrid[:rows, :columns]
    distance = np.hypot((y + 0.5) / rows - 0.5, (x + 0.5) / columns - 0.5)
    return (255 * np.clip((0.5 - distance) * 6, 0, 1)).astype(np.uint8)
