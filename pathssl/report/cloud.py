"""One measure against another, as inline SVG: every checkpoint of every run a small mark of its arm, a run's last one a large one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from pathssl.report import words
from pathssl.report.svg import CHARACTER, COLOURS, add, axis, drawing, frame, marker, markup

_WIDTH, _HEIGHT, _TOP, _RIGHT, _BOTTOM = 380, 260, 24, 14, 38
# Small marks as paths that begin at their middle, in the order of charts' markers: thousands of them are one element.
_SMALL = (
    "m-2 0a2 2 0 1 0 4 0a2 2 0 1 0-4 0",
    "m-2-2h4v4h-4z",
    "m0-2.8l2.8 2.8l-2.8 2.8l-2.8-2.8z",
    "m0-2.7l2.5 4.6h-5z",
)


@dataclass(frozen=True)
class Trail:
    """The checkpoints of one run, in order: x and y of each, both (n,)."""

    arm: str
    seed: int
    x: np.ndarray
    y: np.ndarray


def cloud_chart(
    trails: Sequence[Trail], styles: Mapping[str, int], labels: tuple[str, str], description: str
) -> Markup:
    """`labels`: of x and of y."""
    y = axis(np.concatenate([trail.y for trail in trails]), _HEIGHT - _BOTTOM, _TOP, 5, padding=0.06)
    left = 12 + CHARACTER * max((len(words.compact(tick)) for tick in y.ticks), default=1)
    x = axis(np.concatenate([trail.x for trail in trails]), left, _WIDTH - _RIGHT, 5, padding=0.04)
    svg = drawing(_WIDTH, _HEIGHT, description)
    frame(svg, x, y, *labels)
    groups = {
        arm: add(svg, "g", {"data-arm": str(style)}) for arm, style in sorted(styles.items(), key=lambda of: -of[1])
    }
    for arm, group in groups.items():
        mine = [trail for trail in trails if trail.arm == arm]
        small = "".join(
            f"M{x(a):g} {y(b):g}{_SMALL[styles[arm] % len(_SMALL)]}"
            for trail in mine
            for a, b in zip(trail.x[:-1], trail.y[:-1], strict=True)
        )
        if small:
            add(group, "path", {"class": f"dot arm{styles[arm] % COLOURS}", "d": small})
        for trail in mine:
            a, b = (words.number(end[-1], words.decimals(map(abs, end))) for end in (trail.x, trail.y))
            tip = f"{arm}, seed {trail.seed}, last checkpoint: {labels[0]} {a}, {labels[1]} {b}"
            marker(group, x(trail.x[-1]), y(trail.y[-1]), styles[arm], tip)
    return markup(svg)
