"""Objects from blocks of the config."""

import pkgutil
from collections.abc import Mapping
from typing import Any


def make(block: Mapping[str, Any], *args: Any, **more: Any) -> Any:
    """What `block`'s `_target_` gives for the block's other keys as arguments."""
    keywords = {key: value for key, value in dict(**block).items() if key != "_target_"}
    return pkgutil.resolve_name(block["_target_"])(*args, **keywords, **more)
