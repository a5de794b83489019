"""Which run is this? The run's folder, and whether two configs are the same run, as pure functions of the config."""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pathssl.errors import UserError

# What names no arm: which run of the arm it is, where its files go, and who watches.
_WHERE_AND_HOW = (
    "logger",
    "loader",
    "parallel",
    "checkpoint",
    "sentinel",
    "budget",
    "leakage",
    "output_dir",
    "cache_dir",
    "feature_cache_mib",
    "slide_cache",
)
BOOKKEEPING = (
    "seed",
    "study",
    "experiment",
    "report",
    "task",
    "probe",
    "features",
    "robustness",
    "hydra",
    *_WHERE_AND_HOW,
)
# What may differ between two starts of the same run.
_NOT_OF_THE_RUN = tuple(f"{name}." for name in ("report", "probe.where", *_WHERE_AND_HOW))
_LONGEST_NAME = 100


def arm_name(overrides: Sequence[str]) -> str:
    """The overrides that were typed or swept, sorted, without bookkeeping, as in `model=vits8,teacher=m0.99`; else `default`."""
    kept = sorted(o.lstrip("+~") for o in overrides if names_the_arm(o))
    if not kept:
        return "default"
    name = re.sub(r"[^A-Za-z0-9._=,+-]", "_", ",".join(kept))
    if len(name) > _LONGEST_NAME or name != ",".join(kept):
        # What had to be cut or replaced is told apart by a hash of the whole.
        name = f"{name[: _LONGEST_NAME - 9]}-{hashlib.sha256(','.join(kept).encode()).hexdigest()[:8]}"
    return name


def choices(overrides: Sequence[str]) -> dict[str, Any]:
    """The overrides that name the arm, and the seed, as {key: value}."""
    from hydra.core.override_parser.overrides_parser import (
        OverridesParser,  # here: those who only name folders need it not
    )

    kept = [o for o in overrides if names_the_arm(o) or o.startswith("seed=")]
    return {o.get_key_element().lstrip("+~"): o.value() for o in OverridesParser.create().parse_overrides(kept)}


def names_the_arm(override: str) -> bool:
    """Whether an override, or its key, is a part of the arm's name."""
    return re.split(r"[.=@/]", override.lstrip("+~"))[0] not in BOOKKEEPING


def run_folder(config: Mapping[str, Any], arm: str) -> Path:
    return Path(config["output_dir"]) / str(config["study"]) / arm / f"seed{config['seed']}"


def config_text(config: Mapping[str, Any]) -> str:
    """The YAML of every resolved value."""
    return yaml.safe_dump(json.loads(json.dumps(config)), sort_keys=False, allow_unicode=True, width=120)


def refuse_other_run(folder: Path, config: Mapping[str, Any]) -> None:
    """Raises UserError when `folder` holds a run of another config, with the difference."""
    path = folder / "config.yaml"
    if not path.is_file():
        return
    there, here = yaml.safe_load(path.read_text()), json.loads(json.dumps(config))
    if not ("derived" in there and "derived" in here):  # what follows from the rest is not known before a run begins
        there, here = ({key: block[key] for key in block if key != "derived"} for block in (there, here))
    theirs, ours = comparable(there), comparable(here)
    different = [
        f"  {key}: {theirs.get(key, '(none)')} there, {ours.get(key, '(none)')} here"
        for key in sorted({*theirs, *ours})
        if theirs.get(key, "(none)") != ours.get(key, "(none)")
    ]
    if different:
        raise UserError(
            f"{folder} holds a run of another config:\n"
            + "\n".join(different)
            + "\nName another study=..., or remove that folder."
        )


def comparable(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config as {dotted key: value} without what may differ between two starts of one run; absolute paths and URLs count as equal."""
    return {
        key: "(absolute path)"
        if isinstance(value, str) and (os.path.isabs(value) or re.match(r"\w+://", value))
        else value
        for key, value in flatten(config).items()
        if not f"{key}.".startswith(_NOT_OF_THE_RUN)
    }


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{dotted key: value}; lists are values."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
