"""The one exception that stands for a user's mistake: doors print its sentence, never its traceback."""


class UserError(ValueError):
    """Says what was given, what is allowed and what to do; ends a command with exit code 2."""


# Exit codes of the commands, beside 0, and 1 for what failed.
CALLED_WRONGLY = 2
INTERRUPTED = 75  # EX_TEMPFAIL of sysexits.h: it was stopped and can go on; try again
