"""What the numbers of a task follow from beside the encoder: kept with them, so that other numbers are not taken for these."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pathssl import sources
from pathssl.errors import UserError
from pathssl.identity import flatten
from pathssl.probes.task import Task

_PROTOCOLS = "protocols"


def probe_settings(config: Mapping[str, Any], name: str, task: Task) -> dict[str, Any]:
    """For task `name`: its block and images, what stands for an image, the stains, and the protocols, as plain values."""
    stains = {key: config["robustness"][key] for key in ("stain", "patches", "seed")}
    block = dict(config["task"][name])
    if isinstance(block.get("path"), str):
        block["path"] = os.path.abspath(block["path"])
    return {
        "task": block,
        "images": sources.task_hash(task),
        "features": dict(config["features"]),
        "robustness": stains,
        _PROTOCOLS: {key: dict(of) for key, of in protocol_blocks(config).items()},
    }


def protocol_blocks(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configured protocols by name: what stands under `probe` beside `where`."""
    return {name: block for name, block in config["probe"].items() if name != "where"}


def refuse_other_settings(where: str, there: Mapping[str, Any] | None, here: Mapping[str, Any]) -> None:
    """UserError where the numbers `there` were made in another way than `here`, but for protocols that only one of them has."""
    different = list(_differences(there or {}, here))
    if different:
        raise UserError(
            f"{where} holds numbers that were made with other settings:\n"
            + "\n".join(different)
            + "\nGive the task another name, probe with the same settings, or replace what is there: --again."
        )


def together(there: Mapping[str, Any] | None, here: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of numbers that were made at two times."""
    return {**here, _PROTOCOLS: (there or {}).get(_PROTOCOLS, {}) | here[_PROTOCOLS]}


def _differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    both = there.get(_PROTOCOLS, {}).keys() & here[_PROTOCOLS].keys()
    theirs, ours = (
        flatten({**of, _PROTOCOLS: {key: of.get(_PROTOCOLS, {})[key] for key in both}}) for of in (there, here)
    )
    for key in sorted({*theirs, *ours}):
        one, other = theirs.get(key, "(not said)"), ours.get(key, "(not said)")
        if one != other and not key.endswith(_HOW) and not (key == "task.path" and _may_have_moved(one, other)):
            yield f"  {key}: {one} there, {other} here"


_HOW = (".threads", ".cache_mib", ".device")  # of which the numbers do not follow


def _may_have_moved(one: str, other: str) -> bool:
    """Whether two paths may be one folder, on two machines or before and after: one of them is not here."""
    return not (Path(one).exists() and Path(other).exists()) or os.path.samefile(one, other)
