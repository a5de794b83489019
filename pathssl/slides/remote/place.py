"""Where a slide by URL is: what a path is for a file."""

import hashlib
from dataclasses import dataclass

from pathssl.slides.remote.address import joined, name_below
from pathssl.slides.remote.cache import SlideCache


@dataclass(frozen=True)
class Place:
    """A folder or a file by its URL, and where mirrors of what is there are kept."""

    url: str
    cache: SlideCache

    def __truediv__(self, name: str) -> "Place":
        return Place(joined(self.url, name), self.cache)

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        return name_below(self.parent, self.url)

    @property
    def parent(self) -> str:
        """The URL of its folder."""
        return self.url.rpartition("/")[0]


def number_of(version: str) -> int:
    """A version, which servers name in their own ways, as 63 bits: what a time of modification is for a file."""
    return int.from_bytes(hashlib.sha256(version.encode()).digest()[:8]) >> 1
