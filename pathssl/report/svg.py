"""What the page's charts are drawn with: axes, marks and elements of inline SVG.

Drawn here and not by matplotlib because the page needs what its SVG does not give: colours that follow the reader's
light or dark scheme (CSS variables), a tooltip on every mark, few bytes. matplotlib chooses the ticks. Arms are told
apart by colour (Okabe and Ito's palette, in page.css), by marker and, from the eighth on, by dashes.
"""

import xml.etree.ElementTree as xml
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from pathssl.report import words

COLOURS = 7
CHARACTER = 6.1  # px: mean width of a character in a chart's 11 px labels
_DASHES = ("", "4 2.5", "1.5 2")  # short enough to be seen beside the marker of a swatch
_MARKERS = ("circle", "square", "diamond", "triangle")


@dataclass(frozen=True)
class Axis:
    """A linear map from values `low`..`high` to pixels `start`..`end`, with ticks at round values."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]

    def __call__(self, value: float) -> float:
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)


def axis(values: Iterable[float], start: float, end: float, n_ticks: int, padding: float = 0.0) -> Axis:
    """An axis that holds all values with a share of `padding` on either side."""
    values = list(values)
    low, high = min(values), max(values)
    if low == high:
        low, high = low - (abs(low) * 0.05 or 0.5), high + (abs(high) * 0.05 or 0.5)
    low, high = low - padding * (high - low), high + padding * (high - low)
    ticks = MaxNLocator(nbins=n_ticks, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return Axis(low, high, start, end, tuple(float(f"{tick:.12g}") for tick in ticks if low <= tick <= high))


def drawing(width: float, height: float, description: str | None) -> xml.Element:
    svg = xml.Element("svg", {"viewBox": f"0 0 {width:g} {height:g}"})
    svg.attrib |= {"width": f"{width:g}", "height": f"{height:g}"}
    svg.attrib |= {"role": "img", "aria-label": description} if description else {"aria-hidden": "true"}
    return svg


def group_of(svg: xml.Element, style: int) -> xml.Element:
    """A group that is hidden with its arm."""
    return add(svg, "g", {"data-arm": str(style)})


def add(parent: xml.Element, tag: str, attributes: dict, text: str | None = None) -> xml.Element:
    written = {key: f"{value:g}" if isinstance(value, int | float) else value for key, value in attributes.items()}
    element = xml.SubElement(parent, tag, written)
    element.text = text
    return element


def marker(svg: xml.Element, x: float, y: float, style: int, tip: str | None) -> None:
    """Adds the arm's marker with its tooltip."""
    attributes = {"class": f"marker arm{style % COLOURS}"}
    kind = _MARKERS[style % len(_MARKERS)]
    if kind == "circle":
        element = add(svg, "circle", attributes | {"cx": x, "cy": y, "r": 3.6})
    else:
        corners = {
            "square": [(-3.3, -3.3), (3.3, -3.3), (3.3, 3.3), (-3.3, 3.3)],
            "diamond": [(0, -4.8), (4.8, 0), (0, 4.8), (-4.8, 0)],
            "triangle": [(0, -4.6), (4.4, 3.4), (-4.4, 3.4)],
        }[kind]
        points = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
        element = add(svg, "polygon", attributes | {"points": points})
    if tip:
        add(element, "title", {}, tip)


def dashes(style: int) -> dict[str, str]:
    dashes = _DASHES[style // COLOURS % len(_DASHES)]
    return {"stroke-dasharray": dashes} if dashes else {}


def spaced(places: list[float], top: float, bottom: float, gap: float = 13) -> list[float]:
    """The places, in order, moved apart to at least `gap` px around their common middle, all between `top` and `bottom`."""
    moved = []
    for place in places:
        moved.append(max(place, moved[-1] + gap) if moved else place)
    shift = (sum(moved) - sum(places)) / len(places) if places else 0
    shift = min(max(shift, moved[-1] - bottom), moved[0] - top) if moved else 0
    return [place - shift for place in moved]


def markup(svg: xml.Element, css_class: str = "chart") -> Markup:
    svg.set("class", css_class)
    return Markup(xml.tostring(svg, encoding="unicode"))  # ElementTree has escaped every text


def frame(svg: xml.Element, x: Axis, y: Axis, below: str, above: str | None = None) -> None:
    """Grid lines, ticks and their labels; what is below the level axis, and above the upright one."""
    for tick in y.ticks:
        add(svg, "line", {"class": "grid", "x1": x.start, "x2": x.end, "y1": y(tick), "y2": y(tick)})
        add(svg, "text", {"class": "tick end", "x": x.start - 6, "y": y(tick) + 3.5}, words.compact(tick))
    for tick in x.ticks:
        add(svg, "line", {"class": "tickmark", "x1": x(tick), "x2": x(tick), "y1": y.start, "y2": y.start + 4})
        add(svg, "text", {"class": "tick middle", "x": x(tick), "y": y.start + 16}, words.compact(tick))
    add(svg, "line", {"class": "axis", "x1": x.start, "x2": x.end, "y1": y.start, "y2": y.start})
    add(svg, "text", {"class": "tick end", "x": x.end, "y": y.start + 31}, below)
    if above:
        add(svg, "text", {"class": "tick", "x": 2, "y": 12}, above)
