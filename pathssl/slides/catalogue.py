"""Which slides there are: files under a folder or a glob, with what a manifest says about them."""

import csv
import glob
import hashlib
import math
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet

from pathssl.errors import UserError
from pathssl.slides.dicom import one_a_series, series_of, titles
from pathssl.slides.remote import listing
from pathssl.slides.remote.address import is_url, name_below, scheme_of
from pathssl.slides.remote.cache import SlideCache
from pathssl.slides.remote.place import Place
from pathssl.slides.tcga import barcode, chosen

SUFFIXES = (
    *(".svs", ".tif", ".tiff", ".btf", ".ndpi", ".mrxs", ".scn"),
    *(".dcm", ".vms", ".vmu", ".svslide", ".bif", ".czi"),
)
SPLITS = ("train", "held_out", "ignore", "")
_UNKNOWN_SITE = "unknown"
_NAMED = 5  # of slides that are not there


@dataclass(frozen=True)
class Entry:
    """One slide: its path relative to the root, who it belongs to, and what the manifest says of it.

    mpp: None where nothing is said. split: train, held_out, or empty where nothing is said. weight: by which it is drawn.
    """

    path: str
    mpp: float | None
    case: str
    site: str
    split: str = ""
    weight: float = 1.0

    @property
    def said(self) -> tuple[str, str, str, float]:
        """What may change while the file stays what it is."""
        return self.case, self.site, self.split, self.weight


def list_slides(
    path: Path | str | None,
    manifest: Path | str | None,
    *,
    mirrors: SlideCache | None = None,
    tcga: str | None = None,
) -> tuple[Path | Place, list[Entry]]:
    """(root, slides sorted by path) for a folder (searched with all its subfolders), a single file, or a glob; or the URL of one.

    mirrors: where slides by URL are kept on this machine. Without a path the manifest names slides by their URLs.
    manifest: says more of slides, and which to ignore; slides that it does not name are there all the same.
    tcga: of TCGA's slides only this kind; see `tcga.chosen`.
    """
    if is_url(manifest):
        manifest = listing.local_copy(manifest, mirrors)
    if path is None or is_url(path):
        root, names = _by_url(path, manifest, mirrors)
    else:
        root, files = _find(str(path))
        names = [file.relative_to(root).as_posix() for file in files]
    if not names:
        raise UserError(f"No slides found in {path}: looked for {' '.join(SUFFIXES)} files. Set data.path.")
    entries = {name: Entry(name, None, *_case_and_site(title)) for name, title in titles(sorted(names)).items()}
    if manifest is not None:
        _annotate(entries, root, Path(manifest))
    if tcga is not None:
        entries = {name: entries[name] for name in sorted(chosen(entries, tcga))}
    return root, list(entries.values())


def _by_url(path: str | None, manifest: Path | str | None, mirrors: SlideCache) -> tuple[Place, list[str]]:
    """(root, names): what the server lists; or the manifest's rows, where it cannot or where they are URLs."""
    if path is None and manifest is None:
        raise UserError("data.path must be given: a folder of slides, one slide, a glob, or the URL of one.")
    slides = [] if manifest is None else [row["slide"] for row in _rows(Path(manifest))]
    if slides and (path is None or any(map(is_url, slides)) or not scheme_of(listing.checked(path)).lists):
        return listing.named(path, slides, mirrors)
    return listing.find(path, mirrors, SUFFIXES)


def content_hash(manifest: Path | str | None, mirrors: SlideCache | None) -> str | None:
    """Of a manifest."""
    if manifest is None:
        return None
    file = listing.local_copy(manifest, mirrors) if is_url(manifest) else _there(Path(manifest))
    return hashlib.sha256(file.read_bytes()).hexdigest()


def root_of(path: Path | str) -> Path:
    """The folder that slides are named relative to."""
    given = Path(path)
    if given.is_dir() and given.suffix.lower() not in SUFFIXES:
        return given.resolve()
    if given.is_file():
        return given.resolve().parent
    if glob.has_magic(str(path)):
        return Path(*given.parts[: _first_magic(given)]).resolve()
    raise UserError(
        f"There is nothing at data.path={path}: give a folder of slides, one slide, or a glob like slides/*.svs."
    )


def _find(path: str) -> tuple[Path, list[Path]]:
    given, root = Path(path), root_of(path)
    if given.is_file():
        return root, [given.resolve()]
    if given.is_dir() and given.suffix.lower() not in SUFFIXES:
        fixed, found = given, (file for file in given.rglob("*") if file.is_file())
    else:
        fixed, found = Path(*given.parts[: _first_magic(given)]), map(Path, glob.glob(path, recursive=True))
    return root, [root / file.relative_to(fixed) for file in one_a_series(filter(_is_slide, found), series_of)]


def _first_magic(path: Path) -> int:
    return next(number for number, part in enumerate(path.parts) if glob.has_magic(part))


def _is_slide(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".")


def _case_and_site(stem: str) -> tuple[str, str]:
    """TCGA barcodes name the case (12 characters) and the tissue source site (2); other names are their own case."""
    if known := barcode(stem):
        return known.case, known.site
    return stem, _UNKNOWN_SITE


def _there(manifest: Path) -> Path:
    if not manifest.is_file():
        raise UserError(
            f"There is no manifest {manifest}: data.manifest names a CSV or Parquet file that you write (`index` does not), or null."
        )
    return manifest


def _rows(manifest: Path) -> list[dict[str, str]]:
    if _there(manifest).suffix.lower() == ".parquet":
        table = pyarrow.parquet.read_table(manifest)
        columns, rows = table.column_names, table.to_pylist()
    else:
        with open(manifest, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            columns = reader.fieldnames or []
    if "slide" not in columns:
        raise UserError(
            f"The manifest {manifest} has the columns {', '.join(columns) or 'none'}: it needs the "
            "column slide, and may have mpp, case, site, split and weight."
        )
    return [{name: "" if value is None else str(value).strip() for name, value in row.items()} for row in rows]


def _annotate(entries: dict[str, Entry], root: Path | Place, manifest: Path) -> None:
    """Puts the manifest's facts into `entries`, and takes out what it says to ignore.

    It names slides by path, or by file name or stem where those do; those of DICOM also by their folder.
    """
    short_names = defaultdict(list)
    for path, title in titles(entries).items():
        folder = {Path(path).parent.as_posix()} if title == Path(path).parent.name else set()
        for short in {Path(path).name, Path(path).stem, title} | folder:
            short_names[short].append(path)
    rows, seen = _rows(manifest), set()
    names = [_below(root, row["slide"]) for row in rows]
    _refuse_lost([name for name in names if name not in entries and name not in short_names], manifest, entries)
    for name, row in zip(names, rows, strict=True):
        found = [name] if name in entries else short_names[name]
        if len(found) != 1 or found[0] in seen:
            problem = "is not among the slides" if not found else f"could be any of {', '.join(found[:3])}"
            raise UserError(
                f"The slide {name!r} of the manifest {manifest} {'is there twice' if len(found) == 1 else problem}: "
                f"name each slide once, by its path relative to data.path, for example {next(iter(entries))}."
            )
        seen.add(found[0])
        entry = entries[found[0]]
        entries[found[0]] = replace(
            entry,
            mpp=_number(row, "mpp", manifest, default=None),
            case=row.get("case") or entry.case,
            site=row.get("site") or entry.site,
            split=_split(row, manifest),
            weight=_number(row, "weight", manifest, default=1.0, zero=True),
        )
    for name in [name for name, entry in entries.items() if entry.split == "ignore"]:
        del entries[name]
    if not entries:
        raise UserError(f"The manifest {manifest} says to ignore every slide.")


def _below(root: Path | Place, name: str) -> str:
    return name_below(root.url, name) if is_url(name) and isinstance(root, Place) else name.removeprefix(f"{root}/")


def _refuse_lost(lost: list[str], manifest: Path, entries: Collection[str]) -> None:
    """UserError for several names of no slide, all at once; one alone is told like the other mistakes of a row."""
    if len(lost) > 1:
        more = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        raise UserError(
            f"{len(lost)} slides of the manifest {manifest} are not among the {len(entries)} that are there: "
            f"{', '.join(lost[:_NAMED])}{more}. Take out their rows, or name each by its path "
            f"relative to data.path, for example {next(iter(entries))}."
        )


def _split(row: dict[str, str], manifest: Path) -> str:
    text = row.get("split", "")
    if text not in SPLITS:
        raise UserError(
            f"The manifest {manifest} gives {row['slide']} the split {text!r}: it must be train, held_out (never trained on), ignore "
            "(left out), or empty (data.held_out decides)."
        )
    return text


_COARSEST = 100.0  # um per pixel: above it, another unit was meant


def _number(
    row: dict[str, str], column: str, manifest: Path, *, default: float | None, zero: bool = False
) -> float | None:
    """`default` where the column is not there or empty. It may be 0 where `zero`."""
    text = row.get(column, "")
    if text in ("", "nan"):
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and (value > 0 or (zero and value == 0))):
        least = "0 or more (0: never drawn)" if zero else "above 0 (um per px)"
        raise UserError(
            f"The manifest {manifest} gives {row['slide']} the {column} {text!r}: it must be a number {least}."
        )
    if column == "mpp" and value > _COARSEST:
        raise UserError(
            f"The manifest {manifest} gives {row['slide']} the mpp {text!r}: that is more than {_COARSEST:g} um per pixel. Is it nm?"
        )
    return value
