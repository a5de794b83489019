"""The exception for a slide that cannot be used."""


class SlideError(Exception):
    """A slide that cannot be opened or decoded, or has no usable mpp: a permanent fault, with its reason."""
