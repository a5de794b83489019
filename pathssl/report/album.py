"""A folder of pictures as a page: index.html beside them, with relative links, nothing fetched from elsewhere."""

from dataclasses import dataclass, field
from pathlib import Path

from pathssl.files import write_atomic
from pathssl.report.templates import render


@dataclass(frozen=True)
class Plate:
    """A picture in the album's folder: its file, what it shows for those who do not see it, and what stands below."""

    file: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Table:
    """Rows of text under a head; numbers are right-aligned where `numeric` has the column's number."""

    caption: str
    head: list[str]
    rows: list[list[str]]
    numeric: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Chapter:
    """A part of the page. `small`: several pictures beside one another."""

    title: str
    text: str
    plates: list[Plate] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    small: bool = False


def write_album(folder: Path, *, eyebrow: str, title: str, summary: str, chapters: list[Chapter]) -> Path:
    """The path of <folder>/index.html."""
    page = render("album.html.j2", eyebrow=eyebrow, title=title, summary=summary, chapters=chapters)
    write_atomic(Path(folder) / "index.html", page)
    return Path(folder) / "index.html"
