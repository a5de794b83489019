"""A plan for people and for machines."""

from typing import Any

from pathssl.launch.plan import Cost, Plan
from pathssl.launch.ranges import Range, total
from pathssl.report.words import distinct_names, duration, plural

_UNKNOWN = "no run like this was measured here; `python -m pathssl plan ... --calibrate` measures one"


def rows(plan: Plan) -> list[dict[str, Any]]:
    """Of each figure: what, value, low, high, unit, source."""
    to_do = plan.to_do
    done = len(plan.costs) - len(to_do)
    begun = sum(cost.goes_on for cost in to_do)
    said = [f"scale={scale}" for scale in plan.scales]
    said += [f"{done} more have finished or are under way, and are left alone"] * bool(done) + [
        f"{begun} of them go on"
    ] * bool(begun)
    if not to_do:
        return [_row("runs", 0, None, "", "; ".join(said))]
    found = [
        _row("runs", len(to_do), None, "", "; ".join(said)),
        _row("steps", sum(cost.steps for cost in to_do), None, "", "of all runs, from where they stand"),
    ]
    trained = [cost for cost in to_do if cost.steps]
    found += [_of(f"time a step{label}", group[0].step_s) for label, group in _groups(trained)] if trained else []
    known = [cost for cost in to_do if cost.probe_s]
    all_known = len(known) == len(to_do)
    probes = total(cost.probe_s[0].times(cost.probes) for cost in known) if all_known else None
    count = sum(cost.probes for cost in to_do)
    source = known[0].probe_s[1] if all_known else "no probe like these was measured here; not counted below"
    found.append(_row(f"time of {count} probes", probes and probes.mid, probes, "s", source))
    starts = [cost.start_s for cost in to_do if cost.start_s]
    start = total(start for start, _ in starts) if starts else None
    source = starts[0][1] if starts else "no whole run like this was measured here; not counted below"
    found.append(_row("starting and saving", start and start.mid, start, "s", source))
    return [*found, *_sums(plan)]


def _sums(plan: Plan) -> list[dict[str, Any]]:
    hardware, hours, wall = plan.where.hardware, plan.run_hours(), plan.wall_hours()
    unknown = "see the time a step"
    if hardware.gpu:
        worked = plan.gpu_hours()
        name, source = "GPU-hours", f"{plural(hardware.processes, 'GPU')} a run"
    else:
        worked = hours and hours.times(plan.threads * hardware.processes)
        name, source = "core-hours", f"{plural(plan.threads * hardware.processes, 'core')} a run, no GPU"
    together = plan.where.together
    how = f"{min(together, max(1, len(plan.to_do)))} at a time"
    if hardware.name is None:
        how += " at most; waiting for the cluster is not in it"
    source, how = _least(plan.not_counted(beside=True)) + source, _least(plan.not_counted(beside=False)) + how
    return [
        _row(name, worked and worked.mid, worked, "h", source if worked else unknown),
        _row("wall time", wall and wall.mid * 3600, wall and wall.times(3600), "s", how if wall else unknown),
        _disk(plan.to_do, together),
    ]


def _least(lacking: list[str]) -> str:
    return f"at least: {' and '.join(lacking)} not counted; " if lacking else ""


def _disk(to_do: list[Cost], together: int) -> dict[str, Any]:
    """What the checkpoints take in the end, and while some are being saved beside those before them."""
    if any(cost.disk is None for cost in to_do):
        return _row("disk", None, None, "bytes", "no such run was saved here")
    teachers, states = [cost.kept * cost.disk[0][0] for cost in to_do], [cost.disk[0][1] for cost in to_do]
    size, more = sum(teachers) + sum(states), sum(sorted(states)[-together:])
    counted = f"{sum(cost.kept for cost in to_do)} teachers and {plural(len(states), 'training state')}"
    return _row(
        "disk",
        size,
        Range(size, size, size + more),
        "bytes",
        f"{counted}; more while they are saved; {to_do[0].disk[1]}",
    )


def _groups(costs: list[Cost]) -> list[tuple[str, list[Cost]]]:
    """Runs whose steps take equally long, each with a label where there are several such groups."""
    groups: dict[Any, list[Cost]] = {}
    for cost in costs:
        groups.setdefault(cost.step_s, []).append(cost)
    if len(groups) == 1:
        return [("", costs)]
    arms = [group[0].name.rpartition("/")[0] for group in groups.values()]
    names = distinct_names(arms)
    return [
        (f", {names[arm]}{' ...' if len(group) > 1 else ''}", group)
        for arm, group in zip(arms, groups.values(), strict=True)
    ]


def _of(what: str, known: tuple[Range, str] | None) -> dict[str, Any]:
    return _row(what, None, None, "s", _UNKNOWN) if known is None else _row(what, known[0].mid, known[0], "s", known[1])


def _row(what: str, value: float | None, range_: Range | None, unit: str, source: str) -> dict[str, Any]:
    low, high = (None, None) if range_ is None else (range_.low, range_.high)
    return {"what": what, "value": value, "low": low, "high": high, "unit": unit, "source": source}


def table(plan: Plan) -> str:
    """A line a figure."""
    cells = [("", "estimate", "range", "source"), *(_cells(row) for row in rows(plan))]
    widths = [max(len(row[i]) for row in cells) for i in range(3)]
    lines = ["  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[3]]).rstrip() for row in cells]
    if plan.max_gpu_hours is not None and not plan.where.hardware.gpu:
        lines.append("These runs use no GPU: budget.max_gpu_hours does not bound them.")
    lines += filter(None, [plan.for_gpus()])
    return "\n".join(lines)


def _cells(row: dict[str, Any]) -> tuple[str, str, str, str]:
    if row["value"] is None:
        return row["what"], "not known", "", row["source"]
    spread = "" if row["low"] is None else f"{_written(row['low'], row)} to {_written(row['high'], row)}"
    return row["what"], _written(row["value"], row), spread, row["source"]


def _written(value: float, row: dict[str, Any]) -> str:
    if row["unit"] == "bytes":
        return f"{value / 1e9:,.3g} GB" if value >= 1e8 else f"{value / 1e6:,.3g} MB"
    if row["unit"] == "h":
        return f"{value:,.3g}"
    if row["unit"] == "":
        return f"{value:,.0f}"
    return f"{value:.3g} s" if value < 10 else duration(value / 3600)


def answer(plan: Plan) -> dict[str, Any]:
    """For `python -m pathssl plan`."""
    beyond = plan.beyond_budget()
    text = table(plan) + (f"\n{beyond}" if beyond else "")
    return {"text": text, "rows": rows(plan), "beyond_budget": beyond, "broken": beyond is not None}
