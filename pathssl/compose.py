"""What is typed after a verb: overrides that compose a config, and parts of a whole."""

from collections.abc import Sequence
from typing import Any

from pathssl.errors import UserError


def compose(overrides: Sequence[str]) -> dict[str, Any]:
    """The resolved config of these overrides; UserError with Hydra's words, and a suggestion, where they do not compose."""
    cucim_first()

    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from pathssl.complaints import CONF, check_options, suggestions
    from pathssl.run import resolved

    check_options(overrides)
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = hydra_compose("config", list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError("\n".join([str(error), *suggestions(overrides)])) from error
    return resolved(config)


def cucim_first() -> None:
    """cuCIM is imported before torch: on machines without an NVIDIA driver it would hang after it."""
    from pathssl.slides import cucim_reader

    cucim_reader.available()


def part_of(text: str) -> tuple[int, int]:
    """(K, N) of K/N."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UserError(f"--part {text}: give K/N, as in --part 2/8 for the second of eight parts.")
    return int(number), int(count)
