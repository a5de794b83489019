"""The one exception that stands for a user's mistake: doors print its sentence, never its traceback."""


class UserError(ValueError):
    """Says what was given, what is allowed and what to do; ends a command with exit code 2."""
