"""Prints a contract suggested from a CSV file, ready to paste into schemas/datasets.py.

python -m tasks.suggest_contract data/raw/orders.csv --name Orders
"""

import argparse
import keyword
import re
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import polars as pl

from infra.postgres.identifiers import slug
from schemas.contradictions import MAX_TABLE_CHARACTERS
from schemas.dataset import KINDS, Column, Dataset, Kind, Role, Spec
from schemas.datasets import DATASETS
from schemas.errors import RefusedError, SettingError, SluicewayError
from schemas.spec import DEFAULT_DATE_FORMATS, DEFAULT_TIMESTAMP_FORMATS
from tasks.discover_files import CSV_ENDINGS, split_name
from tasks.extract_csv import CsvFile
from tasks.guess_contract import Guess, guess_contract

SAMPLE_BLOCKS = 2
"""Blocks of a file, of 4 MB each, that a contract is guessed from."""

_LINE_CHARACTERS = 100
_SHOWN_CHARACTERS = 60
_TYPES = {kind: each.__name__ for each, kind in KINDS.items()} | {
    Kind.DATE: "dt.date",
    Kind.TIMESTAMP: "dt.datetime",
}


def suggest_contract(path: Path, name: str = "") -> str:
    """Return Python source of a contract that accepts at least 95% of the file's first rows.

    Raises RefusedError when the file cannot be read or none of its columns has a usable name,
    SettingError when the name cannot name a class.
    """
    if name and (not name.isidentifier() or keyword.iskeyword(name)):
        raise SettingError(
            f"'{name}' cannot name a class; give letters and digits, such as Orders."
        )
    table = _table_of(path)
    name = name or "".join(word.capitalize() for word in table.split("_"))
    guess = guess_contract(_sample(path), name=name, table=table)
    if not guess.spec.columns:
        raise RefusedError(
            f"No column of {path} has a name that a contract can have; rename them in the file."
        )
    return _render(guess, path)


def _sample(path: Path) -> pl.DataFrame:
    with CsvFile(path) as file:
        header = file.header
        parts = [block.cells for block in islice(file, SAMPLE_BLOCKS)]
    empty = pl.DataFrame(schema=dict.fromkeys(header, pl.String))
    return pl.concat([empty, *parts])


def _table_of(path: Path) -> str:
    """Return the table that a file of this name would be found for, dates at its end aside."""
    stem = path.name.lower().split(".", maxsplit=1)[0]
    bare = re.sub(r"[-_. ]?[0-9][0-9tz_:+\- ]*$", "", stem) or stem
    return slug(bare)[:MAX_TABLE_CHARACTERS].rstrip("_")


def _render(guess: Guess, path: Path) -> str:
    spec = guess.spec
    lines = [*_comments(guess, path), *_imports(spec), "", "", *_class_line(spec)]
    subject = spec.table.replace("_", " ")
    lines += [f'    """One row per line of {subject}; say here what one row is."""', ""]
    lines += [line for each in spec.columns for line in _column_lines(each, spec)]
    return "\n".join(lines) + "\n"


def _comments(guess: Guess, path: Path) -> list[str]:
    spec = guess.spec
    lines = [
        f"# Accepts {guess.accepted:,} of the first {guess.rows:,} rows. Look at types, key, pii,",
        f"# add checks, then put it into schemas/datasets.py and {spec.name} into DATASETS.",
    ]
    if spec.role is Role.STAGING:
        lines.append("# No column is there and distinct in every row: without a key, staging only.")
    if present := [each.__name__ for each in DATASETS if each.spec.table == spec.table]:
        lines.append(f"# There is a contract for '{spec.table}' already: {present[0]}.")
    if not re.match(re.escape(spec.table) + r"([-_. 0-9].*)?$", path.name.lower()):
        lines.append(
            f"# Only files named {spec.table}.csv, {spec.table}_2025-01-31.csv fall under it."
        )
    for header in guess.left_out:
        shown = ascii(header[:_SHOWN_CHARACTERS])
        lines.append(f"# No contract can have a column named {shown}: it is kept in _extra.")
    return lines


def _imports(spec: Spec) -> list[str]:
    kinds = {each.kind for each in spec.columns}
    standard = []
    if kinds & {Kind.DATE, Kind.TIMESTAMP}:
        standard.append("import datetime as dt")
    if Kind.DECIMAL in kinds:
        standard.append("from decimal import Decimal")
    return [*standard, *[""] * bool(standard), "from schemas.dataset import Dataset, Role, column"]


def _class_line(spec: Spec) -> list[str]:
    words = [Dataset.__name__, f'table="{spec.table}"', f"role=Role.{spec.role.name}"]
    if spec.key:
        words.append(f'key=("{spec.key[0]}",)')
    if spec.event_time:
        words.append(f'event_time="{spec.event_time}"')
    line = f"class {spec.name}({', '.join(words)}):"
    if len(line) <= _LINE_CHARACTERS:
        return [line]
    return [f"class {spec.name}(", *(f"    {each}," for each in words), "):"]


def _column_lines(column: Column, spec: Spec) -> list[str]:
    words = []
    if column.pii:
        words.append("pii=True")
    if column.nullable:
        words.append("nullable=True")
    if column.kind is Kind.DECIMAL and column.scale != 2:  # noqa: PLR2004 - what column() assumes
        words.append(f"scale={column.scale}")
    if column.formats not in {(), DEFAULT_DATE_FORMATS, DEFAULT_TIMESTAMP_FORMATS}:
        quoted = ", ".join(f'"{each}"' for each in column.formats)
        words.append(f"formats=({quoted},)")
    start = f"    {column.name}: {_TYPES[column.kind]} = column("
    line = f"{start}{', '.join(words)})"
    lines = [line]
    if len(line) > _LINE_CHARACTERS:
        lines = [start, *(f"        {each}," for each in words), "    )"]
    named = [each.__name__ for each in DATASETS if each.spec.key == (column.name,)]
    if named and spec.key != (column.name,):
        lines.insert(0, f"    # Does it name a row of another dataset? references={named[0]}")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the suggestion, or one sentence about why there is none; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tasks.suggest_contract", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("path", type=Path, help="a CSV file")
    parser.add_argument("--name", default="", help="the class's name; by default the file's")
    given = parser.parse_args(arguments)
    try:
        if split_name(given.path.name)[0] not in CSV_ENDINGS:
            raise RefusedError(
                f"{given.path} is no CSV file: a contract is drafted from .csv or .tsv files; "
                "save some of its rows as one."
            )
        text = suggest_contract(given.path, given.name)
    except SluicewayError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
