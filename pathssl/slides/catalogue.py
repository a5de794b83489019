"""Which slides there are: files under a folder or a glob, with what a manifest says about them."""

import csv
import glob
import math
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet

from pathssl.errors import UserError
from pathssl.slides.remote import listing
from pathssl.slides.remote.address import is_url, scheme_of
from pathssl.slides.remote.cache import SlideCache
from pathssl.slides.remote.place import Place

SUFFIXES = (
    *(".svs", ".tif", ".tiff", ".btf", ".ndpi", ".mrxs", ".scn"),
    *(".dcm", ".vms", ".vmu", ".svslide", ".bif", ".czi"),
)
_TCGA = re.compile(r"TCGA-([0-9A-Z]{2})-[0-9A-Z]{4}", re.IGNORECASE)
_UNKNOWN_SITE = "unknown"


@dataclass(frozen=True)
class Entry:
    """One slide: its path relative to the root, and who it belongs to. `mpp` is what the manifest says, or None."""

    path: str
    mpp: float | None
    case: str
    site: str


def list_slides(
    path: Path | str | None, manifest: Path | str | None, mirrors: SlideCache | None = None
) -> tuple[Path | Place, list[Entry]]:
    """(root, slides sorted by path) for a folder (searched with all its subfolders), a single file, or a glob; or the URL of one.

    mirrors: where slides by URL are kept on this machine. Without a path the manifest names slides by their URLs.
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
    entries = {name: Entry(name, None, *_case_and_site(Path(name).stem)) for name in sorted(names)}
    if manifest is not None:
        _annotate(entries, root, Path(manifest))
    return root, list(entries.values())


def _by_url(path: str | None, manifest: Path | str | None, mirrors: SlideCache) -> tuple[Place, list[str]]:
    """(root, names): what the server lists; or the manifest's rows, where it cannot or where they are URLs."""
    if path is None and manifest is None:
        raise UserError("data.path must be given: a folder of slides, one slide, a glob, or the URL of one.")
    slides = [] if manifest is None else [row["slide"] for row in _rows(Path(manifest))]
    if slides and (path is None or any(map(is_url, slides)) or not scheme_of(listing.checked(path)).lists):
        return listing.named(path, slides, mirrors)
    return listing.find(path, mirrors, SUFFIXES)


def _find(path: str) -> tuple[Path, list[Path]]:
    given = Path(path)
    if given.is_dir() and given.suffix.lower() not in SUFFIXES:
        found = (file for file in given.rglob("*") if file.is_file())
        return given.resolve(), [given.resolve() / file.relative_to(given) for file in found if _is_slide(file)]
    if given.is_file():
        return given.resolve().parent, [given.resolve()]
    if glob.has_magic(path):
        fixed = Path(*given.parts[: _first_magic(given)])
        found = [Path(name) for name in glob.glob(path, recursive=True)]
        return fixed.resolve(), [fixed.resolve() / file.relative_to(fixed) for file in found if _is_slide(file)]
    raise UserError(
        f"There is nothing at data.path={path}: give a folder of slides, one slide, or a glob like slides/*.svs."
    )


def _first_magic(path: Path) -> int:
    return next(number for number, part in enumerate(path.parts) if glob.has_magic(part))


def _is_slide(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".")


def _case_and_site(stem: str) -> tuple[str, str]:
    """TCGA barcodes name the case (12 characters) and the tissue source site (2); other names are their own case."""
    if barcode := _TCGA.match(stem):
        return barcode[0].upper(), barcode[1].upper()
    return stem, _UNKNOWN_SITE


def _rows(manifest: Path) -> list[dict[str, str]]:
    if not manifest.is_file():
        raise UserError(f"There is no manifest {manifest}: data.manifest names a CSV or Parquet file, or null.")
    if manifest.suffix.lower() == ".parquet":
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
            "column slide, and may have mpp, case and site."
        )
    return [{name: "" if value is None else str(value).strip() for name, value in row.items()} for row in rows]


def _annotate(entries: dict[str, Entry], root: Path | Place, manifest: Path) -> None:
    """Puts the manifest's facts into `entries`. It names slides by path, or by file name or stem where those do."""
    short_names = defaultdict(list)
    for path in entries:
        for short in {Path(path).name, Path(path).stem}:
            short_names[short].append(path)
    seen = set()
    for row in _rows(manifest):
        name = row["slide"].removeprefix(f"{root}/")
        found = [name] if name in entries else short_names[name]
        if len(found) != 1 or found[0] in seen:
            problem = "is not among the slides" if not found else f"could be any of {', '.join(found[:3])}"
            raise UserError(
                f"The slide {name!r} of the manifest {manifest} {'is there twice' if len(found) == 1 else problem}: "
                f"name each slide once, by its path relative to data.path, for example {next(iter(entries))}."
            )
        seen.add(found[0])
        entry = entries[found[0]]
        case, site = row.get("case") or entry.case, row.get("site") or entry.site
        entries[found[0]] = replace(entry, mpp=_mpp(row, manifest), case=case, site=site)


def _mpp(row: dict[str, str], manifest: Path) -> float | None:
    text = row.get("mpp", "")
    if text in ("", "nan"):
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise UserError(
            f"The manifest {manifest} gives {row['slide']} the mpp {text!r}: it must be a number above 0 (um per px)."
        )
    return value
