"""Files that are not CSV: Excel, JSON, JSON Lines and Parquet, read whole by pandas."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
from pyarrow import parquet

from schemas.errors import RefusedError, SluicewayError
from tasks.csv_cells import BrokenRow
from tasks.csv_dialect import name_columns
from tasks.csv_source import SourceFile
from tasks.discover_files import split_name
from tasks.extract_frame import FrameSource, from_records, number_rows
from tasks.frame_cells import text_cells
from tasks.json_records import read_json, write_json


def read_frame_file(path: Path, *, known_columns: tuple[str, ...] = ()) -> FrameSource:
    """Read an Excel, JSON, JSON Lines or Parquet file whole; raises RefusedError with a sentence.

    A row's line is its row in the sheet, its line in the JSON Lines, else its position from 1.
    known_columns: the contract's; they stand in where the file has no record to name columns.
    """
    file = SourceFile(path)
    try:
        data = file.read_all()
        file.finish()
    finally:
        file.close()
    facts: dict[str, Any] = {"modified_at": file.modified_at, "sha256": file.sha256}
    ending, _ = split_name(path.name)
    try:
        source = _READERS[ending](data, known_columns, facts)
    except SluicewayError:
        raise
    except RecursionError as error:
        raise RefusedError(f"{path} is nested too deeply for any table; flatten it.") from error
    except Exception as error:
        # A damaged file can make the libraries raise nearly anything.
        first = str(error).split("\n", maxsplit=1)[0] or type(error).__name__
        raise RefusedError(
            f"{path} cannot be read as {ending.lstrip('.')} ({first}): export it again."
        ) from error
    if not source.header:
        raise RefusedError(
            f"{path} has no columns, so there is nothing that could be loaded: export it again "
            "or move it away."
        )
    source.size_bytes = file.size_bytes
    return source


def _from_json(data: bytes, known_columns: tuple[str, ...], facts: dict[str, Any]) -> FrameSource:
    value = read_json(data.decode(json.detect_encoding(data)))
    notes: list[str] = []
    if isinstance(value, dict) and not value.keys() & set(known_columns):
        value, notes = _unwrap(value)
    # A list that is one by type alone: an object that names a key twice is kept as one, too.
    if type(value) is not list:
        value = [value]
    source = from_records(tuple(value), header=known_columns, **facts)
    source.notes += notes
    return source


def _unwrap(value: dict[str, Any]) -> tuple[Any, list[str]]:
    """Return the records inside `{"data": [{…}, {…}], "count": 2}`, and what was left behind."""
    lists = [
        key
        for key, each in value.items()
        if type(each) is list and each and all(isinstance(one, dict) for one in each)
    ]
    if len(lists) != 1:
        return value, []
    beside = ", ".join(f"'{key}'" for key in value if key != lists[0])
    note = f"the records were taken from '{lists[0]}', and nothing from beside it ({beside})"
    return value[lists[0]], [note] if beside else []


def _from_json_lines(
    data: bytes, known_columns: tuple[str, ...], facts: dict[str, Any]
) -> FrameSource:
    records: list[Any] = []
    lines: list[int] = []
    broken: list[BrokenRow] = []
    for line, raw in enumerate(data.split(b"\n"), start=1):
        text = raw.decode("utf-8", "backslashreplace").strip().lstrip("\ufeff")
        if not text:
            continue
        try:
            record = read_json(raw.decode("utf-8-sig"))
            write_json(record)
        except ValueError as error:
            broken.append(BrokenRow(line, text, "json", f"the line is no JSON ({error})"))
            continue
        except RecursionError:
            broken.append(BrokenRow(line, text, "json", "the line is nested too deeply"))
            continue
        records.append(record)
        lines.append(line)
    source = from_records(tuple(records), header=known_columns, **facts)
    source.lines = pl.Series([lines[each - 1] for each in source.lines], dtype=pl.Int64)
    source.broken = (
        *broken,
        *(
            BrokenRow(lines[each.line - 1], each.raw, each.reason, each.detail)
            for each in source.broken
        ),
    )
    return source


def _from_parquet(data: bytes, _: tuple[str, ...], facts: dict[str, Any]) -> FrameSource:
    table = parquet.read_table(io.BytesIO(data))
    # What pandas noted in the file would turn columns into an index, where they would be lost.
    cells = text_cells(table.to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True))
    return FrameSource(cells=cells, lines=number_rows(cells.height, first=1), **facts)


def _from_excel(data: bytes, _: tuple[str, ...], facts: dict[str, Any]) -> FrameSource:
    with pd.ExcelFile(io.BytesIO(data), engine="openpyxl") as book:
        frame = pd.read_excel(
            book,
            sheet_name=book.sheet_names[0],
            header=None,
            dtype=object,
            keep_default_na=False,
            na_values=[""],
        )
        others = [str(name) for name in book.sheet_names[1:]]
    cells, lines, notes = _read_sheet(text_cells(frame))
    if others:
        notes.append(f"only the first sheet was read, not {', '.join(others)}")
    return FrameSource(cells=cells, lines=lines, notes=notes, **facts)


def _read_sheet(cells: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series, list[str]]:
    """Take the first row that holds anything for the header, and pass blank rows over."""
    if not cells.width:
        return cells, number_rows(0, first=1), []
    blank = cells.select(pl.all_horizontal(pl.all().is_null())).to_series()
    numbered = number_rows(cells.height, first=1).filter(~blank)
    rows = cells.filter(~blank)
    if not rows.height:
        return pl.DataFrame(), numbered, []
    # A column without a name and without a cell is the sheet's margin.
    rows = rows.select(each for each in rows if each.null_count() < rows.height)
    names, notes = name_columns([cell or "" for cell in rows.row(0)])
    body = rows.slice(1)
    return body.rename(dict(zip(body.columns, names, strict=True))), numbered.slice(1), notes


_Reader = Callable[[bytes, tuple[str, ...], dict[str, Any]], FrameSource]
_READERS: dict[str, _Reader] = {
    ".xlsx": _from_excel,
    ".json": _from_json,
    ".jsonl": _from_json_lines,
    ".ndjson": _from_json_lines,
    ".parquet": _from_parquet,
}
