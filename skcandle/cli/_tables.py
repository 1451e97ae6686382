"""Predictions as CSV, Parquet, JSON lines, or a table on the screen."""

import csv
import json
import sys

from ..inspection._csv import harmless
from ._outputs import replacing
from ._printable import printable

SUFFIXES = (".csv", ".parquet", ".jsonl")
MAX_SHOWN = 50  # rows of a table on the screen


def check_suffix(path):
    """Raise an error if no format has the suffix of `path`, which may be None."""
    if path is not None and path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{str(path)!r} must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}.")
    if path is not None and path.suffix.lower() == ".parquet":
        _pyarrow()


def write(rows, path, force):
    """Write rows to a file; its suffix chooses the format.

    Parameters
    ----------
    rows : list of dict
        All have the same keys; values are strings, floats and None.
    path : Path
    force : bool
    """
    with replacing(path, force) as temporary:
        suffix = path.suffix.lower()
        if suffix == ".parquet":
            pa = _pyarrow()
            columns = {name: [_text(row[name]) for row in rows] for name in rows[0]}
            columns = {  # an empty column gets the type that its name implies
                name: pa.array(column, pa.float64() if "probability" in name else pa.string())
                for name, column in columns.items()
            }
            pa.parquet.write_table(pa.table(columns), temporary)
            return
        with open(temporary, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            if suffix == ".csv":
                _write_csv(rows, file)
            else:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def show(rows):
    """Print a table on a terminal, and CSV if stdout is piped or redirected."""
    if not sys.stdout.isatty():
        _write_csv(rows, sys.stdout)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    shown = rows[:MAX_SHOWN]
    names = [name for name in rows[0] if any(row[name] is not None for row in shown)]
    for name in names:
        is_number = "probability" in name
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in shown:
        # as Text, because rich reads brackets in a str as markup
        table.add_row(*(Text(printable(_shown(row[name]))) for name in names))
    console = Console()
    console.print(table)
    if len(rows) > MAX_SHOWN:
        console.print(Text(f"{MAX_SHOWN} of {len(rows)} images; -o answers.csv writes them all."))


def _write_csv(rows, file):
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows([_cell(value) for value in row.values()] for row in rows)


def _cell(value):
    if isinstance(value, str):
        return harmless(_text(value))
    return _shown(value)


def _shown(value):
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else _text(str(value))


def _text(value):
    """A string that can be encoded, even if it is a file name with arbitrary bytes."""
    if not isinstance(value, str):
        return value
    return value.encode(errors="backslashreplace").decode()


def _pyarrow():
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            "Writing Parquet files needs PyArrow: pip install pyarrow. Or write a .csv file."
        ) from error
    return pa
