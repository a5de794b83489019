"""Quality against cost, as inline SVG: one marker for each arm, with its interval and the range of its runs' costs."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from pathssl.report import words
from pathssl.report.statistics import Estimate
from pathssl.report.svg import CHARACTER, COLOURS, Axis, add, axis, drawing, frame, marker, markup, spaced

_WIDTH, _HEIGHT, _TOP, _BOTTOM = 380, 250, 24, 36


@dataclass(frozen=True)
class Point:
    """An arm: `value` with its interval, the mean `cost` of its runs, and the least and most that one of them cost."""

    arm: str
    style: int
    value: Estimate
    cost: float
    low: float
    high: float


def scatter_chart(
    points: Sequence[Point],
    on_front: Collection[str],
    description: str,
    labels: tuple[str, str],
    short: dict[str, str],
    write: tuple[Callable[[float], str], Callable[[float], str]],
) -> Markup:
    """The front is a thin line of steps, its arms are named. `labels`: of cost and of quality; `write`: quality, cost in words."""
    ends = [
        end for point in points for end in (point.value.value, point.value.low, point.value.high) if end is not None
    ]
    y = axis(ends, _HEIGHT - _BOTTOM, _TOP, 5, padding=0.06)
    left = 12 + CHARACTER * max(len(words.compact(tick)) for tick in y.ticks)
    front = sorted((point for point in points if point.arm in on_front), key=lambda point: point.cost)
    longest = max(len(short[point.arm]) for point in front)
    right = _WIDTH - 14 - (CHARACTER * longest if longest <= 12 else 0)
    power = int(np.floor(np.log10(max(point.high for point in points)))) // 3 * 3
    scale = 10.0**power if power >= 6 else 1.0  # of FLOPs, such as 10^12
    x = axis((end / scale for point in points for end in (point.low, point.high)), left, right, 4, padding=0.06)
    svg = drawing(_WIDTH, _HEIGHT, description)
    unit = f"{labels[0]}, × {words.powered(scale).removeprefix('1.00 × ')}" if scale > 1 else labels[0]
    frame(svg, x, y, unit, labels[1])
    _steps(svg, [(x(point.cost / scale), y(point.value.value)) for point in front])
    for point in reversed(points):  # the baseline on top
        at_x, at_y = x(point.cost / scale), y(point.value.value)
        group = add(svg, "g", {"data-arm": str(point.style)})
        bar = {"class": f"interval arm{point.style % COLOURS}"}
        if point.value.low is not None:
            add(group, "line", bar | {"x1": at_x, "x2": at_x, "y1": y(point.value.low), "y2": y(point.value.high)})
        add(group, "line", bar | {"x1": x(point.low / scale), "x2": x(point.high / scale), "y1": at_y, "y2": at_y})
        marker(group, at_x, at_y, point.style, f"{point.arm}: {write[0](point.value.value)} for {write[1](point.cost)}")
    if longest <= 12:
        _names(svg, front, [x(point.cost / scale) for point in front], y, short)
    return markup(svg)


def _steps(svg: object, corners: Sequence[tuple[float, float]]) -> None:
    """Along a level to the next arm's cost, and there to its quality: what can be had for so much."""
    line = [corners[0]]
    for at_x, at_y in corners[1:]:
        line += [(at_x, line[-1][1]), (at_x, at_y)]
    points = " ".join(f"{at_x:g},{at_y:g}" for at_x, at_y in line)
    add(svg, "polyline", {"class": "zero", "points": points})


def _names(svg: object, front: Sequence[Point], places_x: Sequence[float], y: Axis, short: dict[str, str]) -> None:
    """Beside their markers, moved apart where they would overlap."""
    order = sorted(range(len(front)), key=lambda i: y(front[i].value.value))
    places_y = spaced([y(front[i].value.value) - 8 for i in order], y.end, y.start)
    for place, i in zip(places_y, order, strict=True):
        text = {"class": f"name arm{front[i].style % COLOURS}", "x": places_x[i] + 8, "y": place}
        add(svg, "text", text | {"data-arm": str(front[i].style)}, short[front[i].arm])
