"""DataFrames as a source of rows: what a person hands over, and the formats that are not CSV.

pandas reads them; from here on their cells are text, as a CSV file's are, so that one contract
judges all alike.
"""

import datetime as dt
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd
import polars as pl

from schemas.errors import RefusedError
from tasks.csv_cells import BrokenRow
from tasks.csv_source import SourceFile
from tasks.json_records import flatten_records, read_json

BLOCK_ROWS = 50_000
FORMATS = (".xlsx", ".json", ".jsonl", ".ndjson", ".parquet")


@dataclass(frozen=True, slots=True)
class FrameBlock:
    """Some rows of a frame, as text."""

    cells: pl.DataFrame
    lines: pl.Series
    broken: tuple[BrokenRow, ...]
    read_bytes: int

    def raw_text(self, rows: Sequence[int]) -> list[str]:
        """Return rows as JSON objects."""
        return [json.dumps(self.cells.row(row, named=True), ensure_ascii=False) for row in rows]


@dataclass(slots=True)
class FrameSource:
    """A frame of text cells, read once; line numbers count as a person does in its origin."""

    cells: pl.DataFrame
    lines: pl.Series
    modified_at: dt.datetime
    sha256: str
    size_bytes: int = 0
    broken: tuple[BrokenRow, ...] = ()
    """Rows of the origin that have no cells, such as a JSON value that is no object."""
    notes: list[str] = field(default_factory=list)
    records: int = 0

    @property
    def header(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(self.cells.columns)

    def __enter__(self) -> Self:
        """Nothing has to be opened."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing has to be closed."""

    def __iter__(self) -> Iterator[FrameBlock]:
        """Yield the rows in blocks, those without cells first."""
        self.records = len(self.broken)
        if self.broken:
            none = slice(0, 0)
            yield FrameBlock(self.cells[none], self.lines[none], self.broken, 0)
        for start in range(0, self.cells.height, BLOCK_ROWS):
            cells = self.cells.slice(start, BLOCK_ROWS)
            self.records += cells.height
            done = self.size_bytes * (start + cells.height) // self.cells.height
            yield FrameBlock(cells, self.lines.slice(start, BLOCK_ROWS), (), done)


def from_frame(frame: pd.DataFrame | pl.DataFrame) -> FrameSource:
    """Return a source over a person's frame; its first row is line 1, and it is as new as now."""
    cells = text_cells(frame) if isinstance(frame, pd.DataFrame) else _text(frame)
    return FrameSource(
        cells=cells,
        lines=_numbers(cells.height, first=1),
        modified_at=dt.datetime.now(dt.UTC),
        sha256=hashlib.sha256(cells.write_csv().encode()).hexdigest(),
    )


def from_records(
    records: tuple[Any, ...], *, modified_at: dt.datetime, sha256: str, header: tuple[str, ...]
) -> FrameSource:
    """Return a source over JSON objects, flattened; a record's line is its position, from 1.

    header: the columns to assume where there is not a single record.
    """
    frame, broken = flatten_records(records)
    if frame.empty and not len(frame.columns):
        cells = pl.DataFrame(schema=dict.fromkeys(header, pl.String))
    else:
        cells = text_cells(frame)
    return FrameSource(
        cells=cells,
        lines=pl.Series([int(each) for each in frame.index], dtype=pl.Int64),
        modified_at=modified_at,
        sha256=sha256,
        broken=tuple(
            BrokenRow(
                position, raw, "not_an_object", "the record is no JSON object, or names a key twice"
            )
            for position, raw in broken
        ),
    )


def read_frame_file(path: Path) -> FrameSource:
    """Read an Excel, JSON, JSON Lines or Parquet file whole; raises RefusedError with a sentence.

    A row's line is its row in the sheet, its line in the JSON Lines, else its position from 1.
    """
    file = SourceFile(path)
    try:
        data = file.read_all()
        file.finish()
    finally:
        file.close()
    facts: dict[str, Any] = {"modified_at": file.modified_at, "sha256": file.sha256}
    name = path.name.lower()
    try:
        if name.endswith((".jsonl", ".ndjson")):
            source = _from_json_lines(data, **facts)
        elif name.endswith(".json"):
            source = from_records(_json_records(data, path), header=(), **facts)
        elif name.endswith(".parquet"):
            cells = text_cells(pd.read_parquet(path, dtype_backend="pyarrow"))
            source = FrameSource(cells=cells, lines=_numbers(cells.height, first=1), **facts)
        else:
            cells, note = _read_sheet(path)
            source = FrameSource(
                cells=cells, lines=_numbers(cells.height, first=2), notes=note, **facts
            )
    except (ValueError, KeyError, OSError, ImportError) as error:
        first = str(error).split("\n", maxsplit=1)[0]
        raise RefusedError(
            f"{path} cannot be read as {path.suffix.lstrip('.')} ({first}): export it again."
        ) from error
    source.size_bytes = file.size_bytes
    return source


def text_cells(frame: pd.DataFrame) -> pl.DataFrame:
    """Return the frame's cells as text, whatever their types; a missing value is null."""
    columns = {}
    for place, name in enumerate(frame.columns):
        series = frame.iloc[:, place]
        known = str(name)
        while known in columns:
            known += "_2"
        columns[known] = pl.Series(
            known, [_cell(value) for value in series.tolist()], dtype=pl.String
        )
    return pl.DataFrame(columns)


def _cell(value: Any) -> str | None:
    if isinstance(value, str):
        return _decodable(value)
    if isinstance(value, (list, dict)):
        return _decodable(json.dumps(value, ensure_ascii=False, default=str))
    if value is None or pd.isna(value):
        return None
    return _decodable(str(value))


def _decodable(text: str) -> str | None:
    # Half of a surrogate pair is in no UTF-8; it stays readable as its escape.
    return text.encode("utf-8", "backslashreplace").decode() if text else None


def _text(frame: pl.DataFrame) -> pl.DataFrame:
    nested = [name for name, dtype in frame.schema.items() if dtype.is_nested()]
    if nested:
        return text_cells(frame.to_pandas())
    return frame.with_columns(pl.all().cast(pl.String)).with_columns(pl.all().replace("", None))


def _numbers(height: int, *, first: int) -> pl.Series:
    return pl.int_range(first, first + height, eager=True, dtype=pl.Int64)


def _json_records(data: bytes, path: Path) -> tuple[Any, ...]:
    value = read_json(data.decode(json.detect_encoding(data)))
    if isinstance(value, dict):
        lists = [each for each in value.values() if isinstance(each, list)]
        value = lists[0] if len(lists) == 1 else [value]
    if not isinstance(value, list):
        raise ValueError("it is neither a list of objects nor an object")  # noqa: TRY004 - a file's fault, not a caller's
    return tuple(value)


def _from_json_lines(data: bytes, **facts: Any) -> FrameSource:
    records: list[Any] = []
    lines: list[int] = []
    broken: list[BrokenRow] = []
    for line, raw in enumerate(data.split(b"\n"), start=1):
        text = raw.decode("utf-8", "backslashreplace").strip().lstrip("\ufeff")
        if not text:
            continue
        try:
            record = read_json(raw.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            broken.append(BrokenRow(line, text, "json", f"the line is no JSON ({error})"))
            continue
        records.append(record)
        lines.append(line)
    source = from_records(tuple(records), header=(), **facts)
    source.lines = pl.Series([lines[each - 1] for each in source.lines], dtype=pl.Int64)
    source.broken = (
        *broken,
        *(
            BrokenRow(lines[each.line - 1], each.raw, each.reason, each.detail)
            for each in source.broken
        ),
    )
    return source


def _read_sheet(path: Path) -> tuple[pl.DataFrame, list[str]]:
    with pd.ExcelFile(path) as book:
        frame = book.parse(book.sheet_names[0], dtype=object, keep_default_na=False, na_values=[""])
        others = [str(name) for name in book.sheet_names[1:]]
    note = [f"only the first sheet was read, not {', '.join(others)}"] if others else []
    return text_cells(frame), note
