"""Settings of the views, checked: a wrong one is answered with its name, the values allowed and the remedy."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TypeVar

from pathssl.errors import UserError

Term = TypeVar("Term")


def term(kind: type[Term], name: str, settings: Mapping | None) -> Term | None:
    """`kind(**settings)`; None where `settings` is None: the term is switched off."""
    if settings is None:
        return None
    allowed = {field.name for field in fields(kind)}
    if set(settings) != allowed:
        wrong = [f"unknown {key!r}" for key in settings if key not in allowed]
        wrong += [f"missing {key!r}" for key in sorted(allowed - set(settings))]
        raise UserError(
            f"augmentation {name}: {', '.join(wrong)}; it takes exactly {', '.join(sorted(allowed))}, "
            "or null to switch it off."
        )
    return kind(**settings)


def within(name: str, value: float, low: float, high: float) -> float:
    """`value` as a float, if low <= value <= high."""
    if not low <= value <= high:
        raise UserError(f"augmentation {name}={value}: it must lie between {low} and {high}.")
    return float(value)


def interval(name: str, pair: Sequence[float], low: float, high: float) -> tuple[float, float]:
    """`pair` as two floats, if low < pair[0] <= pair[1] <= high."""
    if len(pair) != 2 or not low < pair[0] <= pair[1] <= high:
        raise UserError(
            f"augmentation {name}={list(pair)}: it must be two ascending numbers above {low} and at most {high}."
        )
    return float(pair[0]), float(pair[1])


def pixels(name: str, value: int) -> int:
    """`value` if it is a whole number of at least 1."""
    if not isinstance(value, int) or value < 1:
        raise UserError(f"augmentation {name}={value}: it must be a whole number of pixels, at least 1.")
    return value
