"""Rows as lines of a CSV file that no spreadsheet takes for something to work out."""

import csv
import datetime as dt
import io
from collections.abc import Sequence
from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""How a cell begins that spreadsheets may take for something to work out."""


def write_cell(value: Any) -> str:
    """Return a value as a cell: nothing for None, times in UTC, text that is no formula."""
    if value is None:
        return ""
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat()
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def write_lines(rows: Sequence[Sequence[str]]) -> str:
    """Return the rows as lines of a CSV file."""
    written = io.StringIO(newline="")
    csv.writer(written).writerows(rows)
    return written.getvalue()
