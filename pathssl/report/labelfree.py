"""Measures without labels (RankMe, ODCorr, ...) beside the probes: do they agree, and what would choosing by them have cost?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pathssl import metric_keys
from pathssl.report import words
from pathssl.report.cloud import Trail, cloud_chart
from pathssl.report.comparison import Reading
from pathssl.report.exports import csv_text
from pathssl.report.ranks import together, within
from pathssl.report.sheets import Sheet
from pathssl.report.statistics import Estimate
from pathssl.report.stopping import LEAST_CHECKPOINTS, LEAST_RUNS, ArmChoice, Stopping, arm_choice, shared, stopping
from pathssl.report.study import Study, mark

LABEL_FREE = "Measures without labels beside the probes"
_MOST = 4  # probe metrics that are correlated: the study's first
RELATIONS = {
    "together": "over all checkpoints",
    "last": "over runs, last checkpoint",
    "inside": "within runs, mean",
}


@dataclass(frozen=True)
class Relation:
    """Spearman's rho of `by` and `key`: over all trained checkpoints, over the runs' last ones, and inside runs (the mean).

    points: how many checkpoints; runs: of how many runs. None where there are too few, or nothing varies.
    """

    by: str
    key: str
    points: int
    runs: int
    together: Estimate | None
    last: Estimate | None
    inside: Estimate | None


@dataclass(frozen=True)
class LabelFree:
    """`key` is the first probe metric of the study, by which costs are counted; `trails` {measure: its runs against that metric}."""

    key: str
    relations: list[Relation]
    stoppings: list[Stopping]
    choices: list[ArmChoice]
    trails: dict[str, list[Trail]]
    sentences: list[str]
    notes: list[str]


def label_free(study: Study, reading: Reading) -> LabelFree | None:
    """None without a measure or without a probe."""
    measures = [key for key in study.keys("unsupervised/") if not metric_keys.descriptive(key)]
    targets = [key for key in study.metrics if key.startswith("probe/") and not metric_keys.of_null(key)][:_MOST]
    measures.sort(
        key=lambda key: (key not in study.metrics, words.name(key.rsplit("/", 1)[-1]).lower() != "rankme", key)
    )
    if not measures or not targets:
        return None
    key = targets[0]
    relations = [_relation(reading, by, target) for by in measures for target in targets]
    stoppings = [found for by in measures if (found := stopping(reading, by, key))]
    choices = [found for by in measures if (found := arm_choice(reading, by, key))]
    trails = {by: list(_trails(reading, by, key)) for by in measures}
    names = words.distinct_names(study.arms)
    said = [by for by in measures if by in study.metrics] or measures
    sentences = [*_few(relations), *(_of_stopping(one) for one in stoppings if one.by in said)]
    sentences += [_of_choice(one, names) for one in choices if one.by in said]
    if stoppings and all(one.validated is None for one in stoppings):
        sentences.append(f"No validation split to choose by stands beside {words.full_title(key)}.")
    return LabelFree(
        key, relations, stoppings, choices, {by: of for by, of in trails.items() if of}, sentences, _notes(relations)
    )


def _trails(reading: Reading, by: str, key: str) -> Iterator[Trail]:
    """Runs that are trained and have both, with their trained checkpoints that have both."""
    for run, patches in zip(reading.runs, reading.patches, strict=True):
        found = shared(run, patches, [by, key])
        if found is not None and len(found[0]):
            yield Trail(run.arm, run.seed, *found)


def _relation(reading: Reading, by: str, key: str) -> Relation:
    trails = list(_trails(reading, by, key))
    long = [(trail.x, trail.y) for trail in trails if len(trail.x) >= LEAST_CHECKPOINTS]
    last = [(trail.x[-1:], trail.y[-1:]) for trail in trails]
    enough, many = len(long) >= LEAST_RUNS, len(last) >= LEAST_RUNS
    return Relation(
        by,
        key,
        points=sum(len(x) for x, _ in long),
        runs=len(long),
        together=together(long) if enough else None,
        last=together(last) if many else None,
        inside=within(long) if enough else None,
    )


def _few(relations: Sequence[Relation]) -> list[str]:
    """One sentence for all that have too few runs."""
    runs = min(relation.runs for relation in relations)
    if runs >= LEAST_RUNS:
        return []
    return [
        f"{words.plural(runs, 'trained run')} with {LEAST_CHECKPOINTS} checkpoints or more after step 0 "
        f"{'is' if runs == 1 else 'are'} too few for a correlation or a cost: {LEAST_RUNS} are wanted."
    ]


def short_name(key: str) -> str:
    """A measure without labels: RankMe, ODCorr, stain distance 0.05."""
    return words.name(key.rsplit("/", 1)[-1])


def _of_stopping(found: Stopping) -> str:
    best = "highest" if metric_keys.higher_is_better(found.by) else "lowest"
    text = f"Stopping each of {words.plural(len(found.costs), 'run')} at its {best} {short_name(found.by)} would have "
    if not found.other:
        return f"{text}changed nothing: all have it at the last checkpoint."
    text += "cost "
    text += f"{words.change(found.last, 3)} of {words.full_title(found.key)} against its last checkpoint"
    if found.validated is not None:
        text += f", and {words.change(found.validated, 3)} against the checkpoint after step 0 that its validation split chooses"
    return f"{text}; it chose another checkpoint than the last in {found.other}."


def _of_choice(found: ArmChoice, names: Mapping[str, str]) -> str:
    start = f"{short_name(found.by)} at the last checkpoint would pick {names[found.arm]}"
    if found.cost is None:
        return f"{start}, as validation does."
    return f"{start}, validation {names[found.validated]}: that costs {words.change(found.cost, 3)} of {words.full_title(found.key)}."


def _notes(relations: Sequence[Relation]) -> list[str]:
    notes = [
        "ρ is Spearman's rank correlation; its intervals are by drawing whole runs again, because checkpoints of one run resemble each "
        "other; of few runs they are narrow. No p, no correction: a question for a next study.",
        "Only checkpoints after step 0, and only runs that train. Within a run, both may just follow the time of training.",
        "A cost is positive where the choice was the worse one. Its interval is Student's t over runs, with the variance within arms "
        "pooled; that of an arm's cost is as if the two arms had been named beforehand. Validation chooses by the same metric on its own "
        "split.",
    ]
    lower = [
        short_name(by) for by in dict.fromkeys(one.by for one in relations) if not metric_keys.higher_is_better(by)
    ]
    return notes + (
        [f"Lower is better: {', '.join(lower)}. There a negative ρ is agreement with the probe."] if lower else []
    )


def label_free_view(found: LabelFree | None, study: Study, styles: Mapping[str, int]) -> dict[str, Any] | None:
    """What the page shows: the charts, and the tables as text."""
    if found is None:
        return None
    charts = []
    for by, trails in found.trails.items():
        points = sum(len(trail.x) for trail in trails)
        of = f"{words.plural(points, 'checkpoint')} of {words.plural(len(trails), 'run')}"
        text = f"{words.full_title(found.key)} against {short_name(by)}: {of}."
        labels = short_name(by), words.title(found.key).lower()
        charts.append({"title": short_name(by), "svg": cloud_chart(trails, styles, labels, text)})
    return {
        "found": found,
        "charts": charts,
        "sheets": [sheet for sheet in label_free_sheets(study, found) if sheet.rows],
    }


def label_free_sheets(study: Study, found: LabelFree | None) -> list[Sheet]:
    """The correlations and the costs, for the page, Markdown and LaTeX."""
    if found is None:
        return []
    related = [
        [short_name(one.by), f"{words.full_title(one.key)}{_marked(study, one.key)}"]
        + [_text(getattr(one, name), 2) for name in RELATIONS]
        + [f"{one.points} of {words.plural(one.runs, 'run')}"]
        for one in found.relations
        if one.together or one.last or one.inside
    ]
    names = words.distinct_names(study.arms)
    chosen = {one.by: one for one in found.choices}
    costs = [
        [
            short_name(one.by),
            *(_arms(chosen[one.by], names) if one.by in chosen else ["—"] * 3),
            f"{one.other} of {len(one.costs)}",
            _text(one.last, 3),
            _text(one.validated, 3),
        ]
        for one in found.stoppings
    ]
    head = ["measure", "probe", *RELATIONS.values(), "checkpoints"]
    of_costs = ["measure", "arm that it picks", "arm by validation", "cost of that arm", "stopped before the last"]
    of_costs += ["cost against the last", "cost against validation's"]
    key = f"{words.full_title(found.key)}{_marked(study, found.key)}"
    return [
        Sheet("Rank correlations ρ with the probes", head, related, 2, found.notes[:2] + found.notes[3:]),
        Sheet(
            f"What choosing by them would have cost in {key}", of_costs, costs, 3, [*found.sentences, found.notes[2]]
        ),
    ]


def _arms(choice: ArmChoice, names: Mapping[str, str]) -> list[str]:
    return [
        names[choice.arm],
        names[choice.validated],
        "none: the same arm" if choice.cost is None else _text(choice.cost, 3),
    ]


def _text(found: Estimate | None, digits: int) -> str:
    return words.change(found, digits) if found else "—"


def _marked(study: Study, key: str) -> str:
    marked = mark(study, key)
    return f" — {marked}" if marked else ""


def label_free_csv(found: LabelFree | None) -> str:
    """One line for each correlation, mean cost and choice of an arm, in full precision."""
    lines = []
    for one in found.relations if found else ():
        for name, words_of in RELATIONS.items():
            lines.append(_line("rho, " + words_of, one.by, one.key, getattr(one, name)))
    for one in found.stoppings if found else ():
        lines.append(_line("cost against the last checkpoint", one.by, one.key, one.last))
        lines.append(_line("cost against validation's checkpoint", one.by, one.key, one.validated))
    for one in found.choices if found else ():
        line = _line("cost of the arm against validation's", one.by, one.key, one.cost or Estimate(0.0, None, None, 0))
        lines.append(line | {"arm": one.arm, "arm_by_validation": one.validated})
    return csv_text(lines)


def _line(what: str, by: str, key: str, found: Estimate | None) -> dict[str, Any]:
    value, low, high, n = (found.value, found.low, found.high, found.n) if found else (None,) * 4
    line = {"what": what, "measure": by, "metric": key, "value": value, "low": low, "high": high, "runs": n}
    return line | {"arm": None, "arm_by_validation": None}
