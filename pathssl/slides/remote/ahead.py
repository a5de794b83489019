"""What many patches of many slides will need, brought together: fewer waits than one patch after the other."""

from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field

from pathssl.slides.layout import TiffLayout, TiffLevel
from pathssl.slides.remote.mirror import Mirror, fetch
from pathssl.slides.remote.place import Place
from pathssl.slides.remote.store import store_of


@dataclass
class Wanted:
    """Windows of a slide's levels that are going to be read. size, number: of the slide's version."""

    place: Place
    size: int
    number: int
    layout: TiffLayout | None
    windows: list[tuple[TiffLevel, int, int, int, int]] = field(default_factory=list)

    def add(self, level: int, left: int, top: int, right: int, bottom: int) -> None:
        """A window may leave the level."""
        if self.layout is not None:
            facts = self.layout.levels[level]
            left, top, right, bottom = max(left, 0), max(top, 0), min(right, facts.width), min(bottom, facts.height)
            if left < right and top < bottom:
                self.windows.append((facts, left, top, right - left, bottom - top))


def bring(slides: Sequence[Wanted]) -> None:
    """Brings what reading these windows takes, for all slides together. What cannot be had now is left to who reads it, and says why."""
    if not slides:
        return
    store, cache, fetched = store_of(slides[0].place.url), slides[0].place.cache, 0
    with ExitStack() as held, suppress(OSError):
        mirrors = []
        for slide in slides:
            with suppress(OSError):
                mirror = held.enter_context(closing(Mirror(slide.place, slide.size, slide.number)))
                if slide.windows and (opening := mirror.opening()) is not None:
                    held.enter_context(mirror.reading())
                    mirrors.append((mirror, opening, slide.windows))
        fetched += fetch(store, [(mirror.file, opening) for mirror, opening, _ in mirrors])
        tiles = [
            (mirror.file, [part for window in windows for part in mirror.tiles(*window)])
            for mirror, _, windows in mirrors
        ]
        fetched += fetch(store, tiles)
    with suppress(OSError):
        cache.fetched(fetched)  # now that these mirrors may be made smaller
