"""The guard of one run: what of its tasks it trains on, looked for once and kept in its leakage.json."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pathssl import sources
from pathssl.errors import UserError
from pathssl.files import locked, write_atomic
from pathssl.leakage import check_action
from pathssl.leakage.guard import Findings, act
from pathssl.probes.task import Task
from pathssl.records import LEAKS, read_json


def find_leaks(
    run: Path, config: Mapping[str, Any], tasks: Mapping[str, Task], data: Callable[[], sources.Data]
) -> Findings:
    """All that is known of the run: what leakage.json says, and of those of `tasks` that it does not know, what is found by the slides.

    Of a run that trains nothing (train.patches=0) no slide is asked for: it has no training slides.
    """
    there = Findings.of_record(read_json(run / LEAKS))
    new = {name: task for name, task in tasks.items() if not _knows(there, config, name, task)}
    return there.joined(sources.leakage(config, data, new)) if new else there


def write_leaks(run: Path, found: Findings) -> None:
    """Into leakage.json, beside what it says of other tasks by now."""
    everything = Findings.of_record(read_json(run / LEAKS)).joined(found)
    write_atomic(run / LEAKS, json.dumps(everything.record(), indent=1) + "\n")


def guard_probe(run: Path, own: Mapping[str, Any], config: Mapping[str, Any], name: str, task: Task) -> None:
    """Before a task is probed: UserError where the run trained on it, or leakage.json says so, as config.leakage.on_overlap will have it.

    own: the run's config, which says what it trained on.
    """
    action = check_action(config["leakage"]["on_overlap"])
    if action == "ignore":
        return
    trained_on = own["leakage"].get("trained_on", [])  # runs before there was this key lack it
    own = {**own, "leakage": {**config["leakage"], "trained_on": trained_on}}
    own["feature_cache_mib"] = config["feature_cache_mib"]
    with locked(run / ".leakage.lock"):  # several jobs may probe one run
        there = Findings.of_record(read_json(run / LEAKS))
        if _knows(there, own, name, task):
            if action == "refuse":
                act(there.of([name]), action)
            return
        found = find_leaks(run, own, {name: task}, partial(_slides, run, own)).of([name])
        act(found, action)
        write_leaks(run, found)


def _knows(there: Findings, config: Mapping[str, Any], name: str, task: Task) -> bool:
    return there.compared["sets"].get(name) == sources.leakage_key(config, name, task)


def _slides(run: Path, own: Mapping[str, Any]) -> sources.Data:
    try:
        return sources.Data(own)
    except UserError as error:
        raise UserError(
            f"Whether {run} was trained on what it is to be tested on cannot be told without its slides: {error}\n"
            "leakage.on_overlap=ignore probes without looking."
        ) from error
