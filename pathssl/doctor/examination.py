"""All checks, in an order that a newcomer understands: what is installed, the machine, the slides, what is around."""

import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pathssl.doctor import gpu, loader, machine, readers, services
from pathssl.doctor.check import UNLOADABLE, Check, table
from pathssl.errors import UserError

Compose = Callable[[Sequence[str]], dict[str, Any]]


def examine(overrides: Sequence[str], compose: Compose) -> dict[str, Any]:
    """{"text", "broken": how many, "checks": [{"name", "state", "found", "remedy", "figures"}]}; compose: overrides -> config.

    UserError where the overrides do not compose.
    """
    try:
        _say("packages")
        checks = machine.packages()
        if any(check.state == "broken" for check in checks):
            checks += [services.slurm(), services.wandb(None)]  # all else needs the packages
        else:
            with closing(gpu.Probe()) as probe:
                checks += _with_packages(overrides, compose, probe)
    finally:
        _say("")
    broken = sum(check.state == "broken" for check in checks)
    return {"text": table(checks), "broken": broken, "checks": [asdict(check) for check in checks]}


def _with_packages(overrides: Sequence[str], compose: Compose, probe: gpu.Probe) -> list[Check]:
    _say("readers")
    checks = readers.readers()
    _say("settings")
    if any(check.name == "cuCIM" and check.state == "broken" for check in checks):
        config = Check("settings", "absent", "not looked at: loading cuCIM would end this process", "Mend cuCIM first.")
    else:
        config = _config(overrides, compose)
    _say("GPU")
    on_gpu = [probe.gpu(), probe.trap()]
    probe.close()  # before anything is measured
    if isinstance(config, Check):
        return [*checks, *filter(None, on_gpu), config, services.slurm(), services.wandb(None)]
    checks += [machine.cpu(config), machine.memory(config), *filter(None, on_gpu)]
    checks += [services.disk(name, Path(config[name])) for name in ("output_dir", "cache_dir")]
    _say("")  # the index has a progress bar of its own
    typed = "".join(f" {shlex.quote(override)}" for override in overrides)
    found, data = loader.slides(config, typed)
    checks.append(found)
    if data is not None:
        _say("speed of storage and loader")
        others = [one for one in overrides if not one.startswith(("region=", "region."))]
        four = compose([*others, "region=four"])["region"]
        checks += filter(None, [loader.storage(data), loader.speed(config, data, four)])
    return [*checks, services.urls(), services.slurm(), services.wandb(config["logger"]["wandb"])]


def _config(overrides: Sequence[str], compose: Compose) -> dict[str, Any] | Check:
    try:
        config = compose(overrides)
        from pathssl import sources
        from pathssl.checks import check
        from pathssl.data.sampling import Region

        check(config)
        sources.check_tasks(config)
        Region(**config["region"])
    except UserError:
        raise
    except UNLOADABLE as error:
        return Check("settings", "broken", f"pathssl cannot be loaded: {error}", f"{machine.INSTALL}.")
    if type(side := config["resolution"]["patch_px"]) is not int or side < 1:
        raise UserError(f"resolution.patch_px={side} must be a whole number, at least 1.")
    return config


def _say(what: str) -> None:
    """Shows a person what is being looked at; nothing when it is over."""
    if sys.stderr.isatty():
        print(f"\r\033[K{f'looking at {what} ...' if what else ''}", end="", file=sys.stderr, flush=True)
