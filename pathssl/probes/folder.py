"""The task of a folder with a labels.csv in it."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pathssl.errors import UserError
from pathssl.probes.task import Task

COLUMNS = ("path", "label", "split")
GROUP_COLUMNS = ("group_id", "group")


def folder_task(*, path: str, image_px: int, val_fraction: float, threads: int, cache_mib: float) -> Task:
    """The task that `path`/labels.csv describes: columns path (from that folder), label, split, optionally group_id and slide."""
    folder = Path(path).expanduser()
    source = folder / "labels.csv"
    return Task(
        read_labels(source),
        folder=folder,
        source=str(source),
        image_px=image_px,
        val_fraction=val_fraction,
        threads=threads,
        cache_mib=cache_mib,
    )


def read_labels(source: Path) -> pd.DataFrame:
    """The rows of a labels.csv as text, without outer blanks: path, label, split and, where the file has one, group."""
    return read_table(source, COLUMNS, kind="A labelled folder")


def read_table(source: Path, columns: Sequence[str], *, kind: str, optional: Sequence[str] = ()) -> pd.DataFrame:
    """The rows of a CSV file as text, without outer blanks: `columns` and, where the file has them, group, slide and `optional`.

    kind: of folder that holds it.
    """
    needed = ", ".join(columns)
    if not source.is_file():
        raise UserError(
            f"{source} is not there. {kind} holds a {source.name} with the columns {needed} and, "
            "where several images belong together, group_id."
        )
    try:  # all as text: a label "NA" or "01" stays what it is
        table = pd.read_csv(source, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"{source} cannot be read as comma-separated text in UTF-8 ({error}).") from error
    table.columns = table.columns.str.strip()
    missing = [column for column in columns if column not in table]
    if missing:
        raise UserError(
            f"{source} lacks the column {', '.join(missing)} (found: {', '.join(table.columns)}); "
            f"it needs {needed} and, optionally, group_id."
        )
    found = [column for column in GROUP_COLUMNS if column in table]
    if len(found) > 1:
        raise UserError(f"{source} has both columns {' and '.join(found)}. Keep the one that holds the groups.")
    if table.empty:
        raise UserError(f"{source} has a header but no rows.")
    more = [*found, *(name for name in ("slide", *optional) if name in table and name not in columns)]
    table = table[[*columns, *more]].rename(columns=dict.fromkeys(found, "group"))
    table = table.apply(lambda column: column.fillna("").str.strip())  # a row that ends early has no value at all
    unknown = {"slide"} - set(columns)  # of some images it may not be known
    for column in table.columns.difference(unknown, sort=False):
        empty = table.index[table[column] == ""]
        if len(empty):
            name = found[0] if column == "group" else column
            raise UserError(f"{source}: {len(empty)} rows have no {name}, the first on line {empty[0] + 2}.")
    return table
