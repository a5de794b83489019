"""Quality against what it cost: the arms that no other arm beats in both."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from pathssl import metric_keys
from pathssl.report import costs, words
from pathssl.report.comparison import Comparison, Reading
from pathssl.report.exports import csv_text
from pathssl.report.scatter import Point, scatter_chart
from pathssl.report.sheets import Sheet
from pathssl.report.study import Study, leaked, mark, named

_KINDS = (costs.HOURS, costs.FLOPS)
ON_FRONT = {True: "yes", False: "no", None: "—"}
_NAMED = 3  # of the arms that dominate one; pareto.csv names all
_MEANING = (
    "An arm is on the front when no other one is at least as good and at least as cheap, and better in one of the two. "
    "The front is that of the means: arms that cannot be told apart in quality, or whose ranges of cost overlap, may change places in "
    "another repetition."
)


@dataclass(frozen=True)
class Front:
    """One kind of cost. `points` in the order of the arms; `beaten_by`: {arm: the arms that dominate it}, empty for those on the front.

    chart: None where all arms cost the same, or `why_not` says why there is none.
    """

    kind: str
    unit: str
    points: list[Point]
    beaten_by: dict[str, list[str]]
    sentence: str
    chart: Markup | None
    why_not: str | None

    def holds(self, arm: str) -> bool | None:
        """Whether the arm is on the front; None where all cost the same, and there is none."""
        return None if self.chart is None else not self.beaten_by[arm]


@dataclass(frozen=True)
class Pareto:
    """Of the primary metric; `digits`: its decimals. `of_costs`: what to know of the costs, which the page says under "Equal compute"."""

    key: str
    digits: int
    fronts: list[Front]
    notes: list[str]
    of_costs: list[str]

    @property
    def known(self) -> list[Front]:
        """Those whose cost could be had."""
        return [front for front in self.fronts if front.why_not is None]

    @property
    def rows(self) -> list[tuple[str, str, list[tuple[str, float, bool | None] | None]]]:
        """(arm, value, for each known front its cost, in words and as a number, and whether it is on it, None where all cost the same; None
        where its cost is not known)."""
        by_arm = [{point.arm: point for point in front.points} for front in self.known]
        values = {point.arm: point for points in by_arm for point in points.values()}
        return [
            (
                arm,
                words.interval(values[arm].value, self.digits),
                [
                    (_cost_text(points[arm], front.kind), points[arm].cost, front.holds(arm)) if arm in points else None
                    for front, points in zip(self.known, by_arm, strict=True)
                ],
            )
            for arm in sorted(values, key=lambda arm: values[arm].style)
        ]


def dominating(points: Sequence[tuple[float, float]]) -> list[list[int]]:
    """For each (cost, quality) the places of those that dominate it: none dearer, none worse, and one of the two strictly.

    Equals do not dominate each other.
    """
    return [
        [j for j, (c, q) in enumerate(points) if c <= cost and q >= quality and (c < cost or q > quality)]
        for cost, quality in points
    ]


def pareto(study: Study, reading: Reading, comparisons: list[Comparison]) -> Pareto | None:
    """The arms' means where the study is read; None with fewer than two arms to compare, or none that is trained."""
    comparison = next((one for one in comparisons if one.key == study.primary), None)
    if comparison is None or not comparison.trained or sum(bool(row.values) for row in comparison.rows) < 2:
        return None
    fronts = [_front(study, reading, comparison, kind) for kind in _KINDS]
    runs = [run for run in reading.runs if not run.untrained]
    better = "higher" if metric_keys.higher_is_better(comparison.key) else "lower"
    notes = [f"{_MEANING} In {words.full_title(comparison.key)}, {better} is better."]
    of_costs = [note for front in fronts if front.why_not is None for note in costs.remarks(runs, front.kind)]
    return Pareto(comparison.key, comparison.digits, fronts, notes, list(dict.fromkeys(of_costs)))


def _front(study: Study, reading: Reading, comparison: Comparison, kind: str) -> Front:
    runs = [run for run in reading.runs if not run.untrained]
    unit = costs.unit(runs, kind)
    if why_not := costs.why_unknown(runs, kind):
        return Front(kind, unit, [], {}, f"Against {unit}: not to be had, for {why_not}.", None, why_not)
    points = _points(study, reading, comparison, kind)
    if not points:
        why_not = "no compared run has told its cost at the checkpoint where it is read"
        return Front(kind, unit, [], {}, f"Against {unit}: not to be had, for {why_not}.", None, why_not)
    sign = 1 if metric_keys.higher_is_better(comparison.key) else -1
    beaten = dominating([(point.cost, sign * point.value.value) for point in points])
    beaten_by = {point.arm: [points[j].arm for j in found] for point, found in zip(points, beaten, strict=True)}
    equal = len({point.cost for point in points}) == 1
    if equal:
        sentence = (
            f"Every arm cost {costs.written(points[0].cost, kind)} {unit}: there is nothing to trade quality for."
        )
        return Front(kind, unit, points, beaten_by, sentence, None, None)
    sentence = _sentence(study, points, beaten_by, unit)
    if loaded := costs.why_no_budget(runs, kind, words.distinct_names(study.arms)):
        sentence += f" But {unit} are no measure of the arms here: {loaded}."
    elif kind == costs.HOURS and _equal_flops(study, reading, comparison):
        sentence += (
            f" But all arms cost equal FLOPs: a difference in {unit} is of what these leave out (reading, views, losses) or of how busy "
            "the machine was, and need not be a cost of the setting."
        )
    measure = words.full_title(comparison.key)
    on_front = {arm for arm, found in beaten_by.items() if not found}
    chart = scatter_chart(
        points,
        on_front,
        description=f"{measure} against {unit}. {sentence}",
        labels=(unit, words.name(comparison.key.rsplit("/", 1)[-1])),
        short=words.short_names(study.arms),
        write=(
            lambda value: words.number(value, comparison.digits),
            lambda cost: f"{costs.written(cost, kind)} {unit}",
        ),
    )
    return Front(kind, unit, points, beaten_by, sentence, chart, None)


def _equal_flops(study: Study, reading: Reading, comparison: Comparison) -> bool:
    known = costs.why_unknown([run for run in reading.runs if not run.untrained], costs.FLOPS) is None
    return known and len({point.cost for point in _points(study, reading, comparison, costs.FLOPS)}) == 1


def _points(study: Study, reading: Reading, comparison: Comparison, kind: str) -> list[Point]:
    """Of the arms that have a value; a run whose cost is not known there counts in no cost."""
    found = []
    for style, arm in enumerate(study.arms):
        row = next(row for row in comparison.rows if row.arm == arm)
        there = [(run, at) for run, at in zip(reading.runs, reading.patches, strict=True) if run.arm == arm]
        seeds = {seed for seed, _ in row.values}
        cost = [float(costs.spent(run, kind, np.asarray([at]))[0]) for run, at in there if run.seed in seeds]
        cost = [one for one in cost if not np.isnan(one)]
        if row.last and cost:
            # costs that are all equal must tie with those of other arms, as their rounded mean might not
            middle = cost[0] if len(set(cost)) == 1 else float(np.mean(cost))
            found.append(Point(arm, style, row.last, middle, min(cost), max(cost)))
    return found


def _sentence(study: Study, points: Sequence[Point], beaten_by: dict[str, list[str]], unit: str) -> str:
    names = words.distinct_names(study.arms)
    front = [names[point.arm] for point in sorted(points, key=lambda point: point.cost) if not beaten_by[point.arm]]
    rest = [
        f"{names[arm]} ({_named(found, names)} no worse and no dearer)" for arm, found in beaten_by.items() if found
    ]
    behind = f" Not on it: {'; '.join(rest)}." if rest else " No arm is behind it."
    return f"Against {unit}, {words.plural(len(front), 'arm')} of {len(beaten_by)} on the front: {', '.join(front)}.{behind}"


def _named(arms: Sequence[str], names: dict[str, str]) -> str:
    if len(arms) > _NAMED:
        return f"{len(arms)} others are"
    return f"{', '.join(names[arm] for arm in arms)} {'is' if len(arms) == 1 else 'are'}"


def pareto_csv(study: Study, found: Pareto | None) -> str:
    """One line for each kind of cost and arm, in full precision."""
    lines = [
        {"metric": found.key, "cost": front.kind, "arm": point.arm, "seeds": point.value.n}
        | {"value": point.value.value, "value_low": point.value.low, "value_high": point.value.high}
        | {"mean_cost": point.cost, "least_cost": point.low, "most_cost": point.high}
        | {"on_front": front.holds(point.arm)}
        | {"dominated_by": " ".join(front.beaten_by[point.arm])}
        | {"tested_on_training": leaked(study, found.key, point.arm)}
        for front in (found.known if found else [])
        for point in front.points
    ]
    return csv_text(lines)


def _cost_text(point: Point, kind: str) -> str:
    """0.0225 (0.022 to 0.023): the mean of an arm's runs and their range."""
    mean, low, high = (costs.written(cost, kind) for cost in (point.cost, point.low, point.high))
    return mean if low == high else f"{mean} ({low} to {high})"


def pareto_sheets(study: Study, found: Pareto | None) -> list[Sheet]:
    """The table of the page; what it says as notes."""
    if found is None:
        return []
    marked = mark(study, found.key)
    title = f"{words.full_title(found.key)}{f' — {marked}' if marked else ''}"
    head = ["arm", "value", *(part for front in found.known for part in (front.unit, "on the front"))]
    rows = [
        [
            named(study, found.key, arm),
            value,
            *(part for cell in of for part in ((cell[0], ON_FRONT[cell[2]]) if cell else ("—", "—"))),
        ]
        for arm, value, of in found.rows
    ]
    return [Sheet(title, head, rows, 1, [*(front.sentence for front in found.fronts), *found.notes, *found.of_costs])]
