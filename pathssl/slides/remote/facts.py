"""What identifies a version of a remote file, and what can be wrong with its bytes."""

from typing import NamedTuple


class Facts(NamedTuple):
    """Of a file: its length, and what changes when its content does."""

    size: int
    version: str


class Changed(OSError):
    """A file that is not any more what it was when it was looked at."""


class Full(OSError):
    """No room is left where the mirrors lie."""


class Cut(OSError):
    """An answer that ended too early."""


class Unfit(OSError):
    """A server that cannot serve slides."""
