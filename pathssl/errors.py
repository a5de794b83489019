"""The one exception that stands for a user's mistake (doors print its sentence, never its traceback), and how a sentence names many."""

from collections.abc import Sequence


class UserError(ValueError):
    """Says what was given, what is allowed and what to do; ends a command with exit code 2."""


def some(names: Sequence[object], most: int) -> str:
    """The first `most` of the names, and how many more there are: "a, b and 3 more" in a sentence."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more


# Exit codes of the commands, beside 0, and 1 for what failed.
CALLED_WRONGLY = 2
INTERRUPTED = 75  # EX_TEMPFAIL of sysexits.h: it was stopped and can go on; try again
