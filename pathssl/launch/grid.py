"""`-m` lines, taken apart as Hydra's sweeper does: what is fixed, what is swept, and the overrides of each run."""

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from pathssl.complaints import CONF, check_options, suggestions
from pathssl.errors import UserError
from pathssl.identity import arm_name, names_the_arm, refuse_other_run, run_folder
from pathssl.records import find_runs
from pathssl.report.study import called


@dataclass(frozen=True)
class Interval:
    """Any number between the two; `log`: by its logarithm."""

    low: float
    high: float
    log: bool


@dataclass(frozen=True)
class Grid:
    """fixed: overrides that all runs share. swept: {key: the values, as they are typed, or an interval}.

    own: the keys that the study's file varies.
    """

    fixed: list[str]
    swept: dict[str, list[str] | Interval]
    own: frozenset[str]

    def jobs(self) -> list[list[str]]:
        """The overrides of each run, the last key's values first, as Hydra's sweeper deals them out."""
        for key, values in self.swept.items():
            if isinstance(values, Interval):
                raise UserError(
                    f"{key} is swept over an interval: name its values, or search with `python -m pathssl sweep`."
                )
        ways = [[f"{key}={value}" for value in values] for key, values in self.swept.items()]
        return [[*self.fixed, *chosen] for chosen in product(*ways)]


def read_grid(overrides: Sequence[str]) -> Grid:
    """The grid of what was typed and of the experiment's hydra.sweeper.params, over which what was typed wins."""
    check_options([o for o in overrides if "(" not in o])
    with complained(overrides):
        typed = OverridesParser.create().parse_overrides(list(overrides))
        fixed = [o for o in typed if not o.is_sweep_override()]
        with initialize_config_dir(str(CONF), version_base="1.3"):
            params = compose("config", [o.input_line for o in fixed], return_hydra_config=True).hydra.sweeper.params
        own = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in (params or {}).items()])
    by_key = {o.get_key_element(): o for o in [*own, *typed]}
    sweeps = {key: o for key, o in by_key.items() if o.is_sweep_override()}
    return Grid(
        [
            f"{key}={o.get_value_element_as_str()}" if "=" in o.input_line else key
            for key, o in by_key.items()
            if key not in sweeps
        ],
        {key: _values(o) for key, o in sweeps.items()},
        frozenset(o.get_key_element() for o in own),
    )


def _values(override: Override) -> list[str] | Interval:
    if override.is_discrete_sweep():
        return list(override.sweep_string_iterator())
    swept = override.value()
    return Interval(swept.start, swept.end, "log" in swept.tags)


def check_runs(
    jobs: Sequence[Sequence[str]], configs: Sequence[Mapping[str, Any]], typed: Sequence[str], own: Collection[str]
) -> None:
    """UserError, before anything starts, for what runs or their report would complain of when it is late: a folder that holds a run of
    another config, and a baseline that is none of the arms.

    Who types arms (`typed`, of the keys `own` that the study's file varies, or swept) may want a part of them, without the baseline.
    """
    if not _chooses_arms(typed, own):
        _refuse_lost_baseline(jobs, configs[0])
    for job, config in zip(jobs, configs, strict=True):
        refuse_other_run(run_folder(config, arm_name(job)), config)


def _refuse_lost_baseline(jobs: Sequence[Sequence[str]], config: Mapping[str, Any]) -> None:
    baseline, arms = (config.get("report") or {}).get("baseline"), _arms(jobs)
    if baseline is None or len(arms) < 2:
        return
    study = run_folder(config, next(iter(arms))).parents[1]
    before = sorted({run.parent.name for run in find_runs(study)})
    if baseline in {*arms, *arms.values()} or called(baseline, before) in before:
        return
    near = difflib.get_close_matches(baseline, arms.values(), n=1, cutoff=0.4)
    did_you = f" Did you mean {near[0]}?" if near else ""
    raise UserError(
        f"report.baseline={baseline} is no arm of the study {config['study']}, whose arms are {', '.join(arms.values())}.{did_you} "
        "Nothing was started."
    )


def _arms(jobs: Sequence[Sequence[str]]) -> dict[str, str]:
    """By the arm's name, what sets it apart from the others, as it was typed: names may be cut, and end in a hash."""
    kept = {arm_name(job): sorted(o.lstrip("+~") for o in job if names_the_arm(o)) for job in jobs}
    return {
        arm: ",".join(o for o in own if not all(o in other for other in kept.values())) for arm, own in kept.items()
    }


def _chooses_arms(typed: Sequence[str], own: Collection[str]) -> bool:
    parsed = [o for o in OverridesParser.create().parse_overrides(list(typed)) if names_the_arm(o.get_key_element())]
    return any(o.is_sweep_override() or o.get_key_element() in own for o in parsed)


def compose_runs(jobs: Sequence[Sequence[str]]) -> Iterator[tuple[dict[str, Any], dict[str, Any], str]]:
    """The resolved config of each run, the settings of its launcher, and its option of `scale`."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for overrides in jobs:
            with complained(overrides):
                config = compose("config", list(overrides), return_hydra_config=True)
                launcher = OmegaConf.to_container(config.hydra.launcher, resolve=True)
                yield plain(config), launcher, scale_of(config)


def scale_of(config: DictConfig) -> str:
    """The option of `scale`, of a config with Hydra's part."""
    return str(config.hydra.runtime.choices["scale"])


def plain(config: DictConfig) -> dict[str, Any]:
    """As plain values, without Hydra's part; UserError for one that must be given and was not."""
    own = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
    try:
        return OmegaConf.to_container(own, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise UserError(f"{error.full_key} must be given, as in {error.full_key}=...") from error


@contextmanager
def complained(overrides: Sequence[str]) -> Iterator[None]:
    """Hydra's complaints as UserErrors, with a suggestion."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError("\n".join([str(error), *suggestions(overrides)])) from error
