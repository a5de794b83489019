"""What tasks refuse of their settings, whatever kind of value was typed."""

import math
import os
from numbers import Integral, Real
from typing import Any

from pathssl.errors import UserError


def check_whole(least: int, **settings: Any) -> None:
    """UserError for a setting that is no whole number from `least` up."""
    for name, value in settings.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise UserError(f"{name}={typed(value)}: give a whole number, at least {least}.")


def check_path(**settings: Any) -> None:
    """UserError for a setting that is no path."""
    for name, value in settings.items():
        if not isinstance(value, str | os.PathLike):
            raise UserError(f"{name}={typed(value)}: give a path.")


def check_mpp(mpp: Any) -> None:
    """UserError where it is no number of um per pixel."""
    if not is_number(mpp) or mpp <= 0:
        raise UserError(f"mpp={typed(mpp)}: give um per pixel above 0, as in 0.5.")


def check_images(*, image_px: Any, val_fraction: Any, threads: Any, cache_mib: Any) -> None:
    """What all tasks of images take."""
    if not is_number(val_fraction) or not 0 < val_fraction <= 0.5:
        raise UserError(
            f"val_fraction={typed(val_fraction)}: give a share of train above 0 and at most 0.5, such as 0.2."
        )
    check_whole(1, image_px=image_px, threads=threads)
    if not is_number(cache_mib) or cache_mib < 0:
        raise UserError(f"cache_mib={typed(cache_mib)}: give MiB from 0 up.")


def is_number(value: Any) -> bool:
    """Whether it is a number that can be computed with."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def typed(value: Any) -> Any:
    """As a config has it."""
    return "null" if value is None else value
