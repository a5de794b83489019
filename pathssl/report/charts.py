"""The page's charts: learning curves, dot plots of arms and of differences."""

import xml.etree.ElementTree as xml
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from pathssl.report import words
from pathssl.report.curves import Band, Curve, Line
from pathssl.report.statistics import Estimate
from pathssl.report.svg import (
    CHARACTER,
    COLOURS,
    Axis,
    add,
    axis,
    dashes,
    drawing,
    frame,
    group_of,
    marker,
    markup,
    spaced,
)

_BANDED = 8  # arms: more bands on one another are mud
_ALL_MARKED, _MARKS = 16, 6  # points of a line that all have markers, and how many have them of more
_REACH = 0.6  # of the lines' range: as far as bands may widen the chart; beyond it they are cut


def line_chart(curves: Sequence[Curve], description: str, short: dict[str, str], digits: int) -> Markup:
    """A metric against patches seen: each seed thin, each arm's mean thick in its band, named at its end where names are short."""
    width, height, top, bottom = 380, 240, 10, 34
    longest = max(len(short[curve.arm]) for curve in curves)
    named = len(curves) <= 6 and longest <= 12
    right = width - 14 - (CHARACTER * longest if named else 0)
    bands = [(curve.style, curve.band) for curve in curves if curve.band] if banded(curves) else []
    y = axis(_heights(curves, [band for _, band in bands]), height - bottom, top, 5, padding=0.06)
    left = 12 + CHARACTER * max((len(words.compact(tick)) for tick in y.ticks), default=1)
    x = axis((v for curve in curves for line in curve.lines for v in line.x), left, right, 4)
    svg = drawing(width, height, description)
    frame(svg, x, y, "patches seen")
    for style, band in bands:
        _band(group_of(svg, style), band, x, y, style)
    for curve in curves:
        group = group_of(svg, curve.style)
        for line in curve.seeds:
            _polyline(group, line, x, y, curve, "seed", f"{curve.arm}, seed {line.seed}")
    means = [curve for curve in curves if curve.mean]
    for curve in reversed(means):  # the baseline on top
        name = f"{curve.arm}, mean of {words.plural(curve.averaged, 'seed')}"
        group = group_of(svg, curve.style)
        _polyline(group, curve.mean, x, y, curve, "mean", name)
        for i in _marked(len(curve.mean.x), curve.style):
            patches, value = curve.mean.x[i], curve.mean.y[i]
            tip = f"{name}: {words.number(value, digits)} after {words.count(patches)} patches"
            marker(group, x(patches), y(value), curve.style, tip)
    if named:
        _names(svg, means, x, y, short)
    return markup(svg)


def banded(curves: Sequence[Curve]) -> bool:
    """Whether a chart of these shows bands."""
    return len(curves) <= _BANDED and any(curve.band for curve in curves)


def _marked(points: int, style: int) -> range:
    """Which points of a mean have the arm's marker: of many only some, other ones in each of four arms, lest these cover one another."""
    if points <= _ALL_MARKED:
        return range(points)
    every = -(-points // _MARKS)
    return range(every * (style % 4) // 4, points, every)


def _heights(curves: Sequence[Curve], bands: Sequence[Band]) -> list[float]:
    """The values that a chart's height must hold: its lines, and its bands within their reach."""
    values = np.concatenate([line.y for curve in curves for line in curve.lines])
    reach = _REACH * np.ptp(values)
    ends = [end[np.isfinite(end)] for band in bands for end in (band.low, band.high)]
    return [*values, *np.concatenate([values[:0], *ends]).clip(values.min() - reach, values.max() + reach)]


def _band(group: xml.Element, band: Band, x: Axis, y: Axis, style: int) -> None:
    """Its area, in parts where some points have no interval; cut at the chart's edges."""
    known = np.isfinite(band.low)
    for part in np.split(np.arange(len(known)), np.flatnonzero(np.diff(known)) + 1):
        if known[part[0]] and len(part) > 1:
            low, high = (
                [(x(band.x[i]), y(np.clip(end[i], y.low, y.high))) for i in part] for end in (band.low, band.high)
            )
            points = " ".join(f"{px:g},{py:g}" for px, py in [*low, *reversed(high)])
            add(group, "polygon", {"class": f"band arm{style % COLOURS}", "points": points})


def _names(svg: xml.Element, curves: Sequence[Curve], x: Axis, y: Axis, short: dict[str, str]) -> None:
    """The arms' names at the ends of their mean lines, moved apart where they would overlap."""
    curves = sorted(curves, key=lambda curve: y(curve.mean.y[-1]))
    places = spaced([y(curve.mean.y[-1]) for curve in curves], y.end, y.start)
    for place, curve in zip(places, curves, strict=True):
        text = {"class": f"name arm{curve.style % COLOURS}", "x": x(curve.mean.x[-1]) + 8, "y": place + 3.5}
        add(group_of(svg, curve.style), "text", text, short[curve.arm])


def interval_chart(
    scale: Axis, estimate: Estimate, values: Sequence[tuple[int, float]], style: int, digits: int
) -> Markup:
    """One row of a dot plot: the seeds' values as dots, the mean as the arm's marker, its interval as a bar."""
    height, middle = 26, 13
    width = scale.end + scale.start
    text = words.interval(estimate, digits)
    svg = drawing(width, height, f"{text}; seeds: {', '.join(words.number(value, digits) for _, value in values)}")
    _ruler(svg, scale, height)
    _bar(svg, scale, estimate, middle, style)
    for seed, value in values:
        dot = add(svg, "circle", {"class": f"dot arm{style % COLOURS}", "cx": scale(value), "cy": middle, "r": 3})
        add(dot, "title", {}, f"seed {seed}: {words.number(value, digits)}")
    marker(svg, scale(estimate.value), middle, style, f"mean: {text}")
    return markup(svg)


def difference_chart(scale: Axis, estimate: Estimate, style: int, digits: int) -> Markup:
    """A difference and its interval against the line of zero."""
    height, middle = 30, 11
    text = words.change(estimate, digits)
    svg = drawing(scale.end + scale.start, height, f"difference {text}")
    add(svg, "line", {"class": "zero", "x1": scale(0), "x2": scale(0), "y1": 0, "y2": 20})
    add(svg, "text", {"class": "tick middle", "x": scale(0), "y": height - 1}, "0")
    _bar(svg, scale, estimate, middle, style)
    marker(svg, scale(estimate.value), middle, style, text)
    return markup(svg)


def pair_chart(scale: Axis, seeds: Estimate | None, cases: Estimate | None, style: int, digits: int) -> Markup:
    """A difference twice against the line of zero: over seeds above, over cases below and dashed."""
    height, shown = 34, [("over seeds", seeds, 11, {}), ("over cases", cases, 24, {"stroke-dasharray": "3 2"})]
    shown = [(name, words.change(one, digits), one, middle, dashed) for name, one, middle, dashed in shown if one]
    svg = drawing(scale.end + scale.start, height, "; ".join(f"{name} {text}" for name, text, *_ in shown) or "nothing")
    _ruler(svg, scale, height)
    add(svg, "line", {"class": "zero", "x1": scale(0), "x2": scale(0), "y1": 0, "y2": height})
    for name, text, one, middle, dashed in shown:
        _bar(add(svg, "g", dashed), scale, one, middle, style)
        marker(svg, scale(one.value), middle, style, f"{name}: {text}")
    return markup(svg)


def ruler(scale: Axis) -> Markup:
    """The labels of a dot plot's scale, for the head of its column."""
    svg = drawing(scale.end + scale.start, 14, None)
    for tick in scale.ticks:
        add(svg, "text", {"class": "tick middle", "x": scale(tick), "y": 11}, words.compact(tick))
    return markup(svg)


def swatch(style: int) -> Markup:
    """A piece of line with the arm's colour, marker and dashes, for legends and tables."""
    svg = drawing(26, 12, None)
    line = {"class": f"mean arm{style % COLOURS}", "x1": 1, "x2": 25, "y1": 6, "y2": 6}
    add(svg, "line", line | dashes(style))
    marker(svg, 13, 6, style, None)
    return markup(svg, "swatch")


def _polyline(svg: xml.Element, line: Line, x: Axis, y: Axis, curve: Curve, kind: str, tip: str) -> None:
    points = " ".join(f"{x(patches):g},{y(value):g}" for patches, value in zip(line.x, line.y, strict=True))
    element = add(
        svg, "polyline", {"class": f"{kind} arm{curve.style % COLOURS}", "points": points} | dashes(curve.style)
    )
    add(element, "title", {}, tip)


def _bar(svg: xml.Element, scale: Axis, estimate: Estimate, middle: float, style: int) -> None:
    if estimate.low is not None:
        arm = f"interval arm{style % COLOURS}"
        add(
            svg,
            "line",
            {"class": arm, "x1": scale(estimate.low), "x2": scale(estimate.high), "y1": middle, "y2": middle},
        )
        for end in (scale(estimate.low), scale(estimate.high)):
            add(svg, "line", {"class": arm, "x1": end, "x2": end, "y1": middle - 4, "y2": middle + 4})


def _ruler(svg: xml.Element, scale: Axis, height: float) -> None:
    for tick in scale.ticks:
        add(svg, "line", {"class": "grid", "x1": scale(tick), "x2": scale(tick), "y1": 0, "y2": height})
