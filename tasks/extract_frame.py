"""DataFrames as a source of rows: what a person hands over, what an API answers.

From here on their cells are text, as a CSV file's are, so that one contract judges all alike.
"""

import datetime as dt
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import pandas as pd
import polars as pl

from tasks.csv_cells import NUL, BrokenRow
from tasks.frame_cells import text_cells
from tasks.json_records import flatten_records, write_json

BLOCK_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class FrameBlock:
    """Some rows of a frame, as text."""

    cells: pl.DataFrame
    lines: pl.Series
    broken: tuple[BrokenRow, ...]
    read_bytes: int

    def raw_text(self, rows: Sequence[int]) -> list[str]:
        """Return rows as JSON objects."""
        return [_row_text(self.cells, row) for row in rows]


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
            yield _set_nul_aside(cells, self.lines.slice(start, BLOCK_ROWS), done)


def from_frame(frame: pd.DataFrame | pl.DataFrame) -> FrameSource:
    """Return a source over a person's frame; its first row is line 1, and it is as new as now."""
    cells = text_cells(frame)
    return FrameSource(
        cells=cells,
        lines=number_rows(cells.height, first=1),
        modified_at=dt.datetime.now(dt.UTC),
        sha256=hashlib.sha256(cells.write_csv().encode()).hexdigest(),
    )


def from_records(
    records: tuple[Any, ...], *, modified_at: dt.datetime, sha256: str, header: tuple[str, ...]
) -> FrameSource:
    """Return a source over JSON objects, flattened; a record's line is its position, from 1.

    header: the columns to assume where no record names one.
    """
    frame, broken = flatten_records(records)
    rejected = [
        BrokenRow(
            position, raw, "not_an_object", "the record is no JSON object, or names a key twice"
        )
        for position, raw in broken
    ]
    lines = pl.Series([int(each) for each in frame.index], dtype=pl.Int64)
    if len(frame.columns):
        cells = text_cells(frame.reset_index(drop=True))
    elif header:
        cells = pl.DataFrame({name: [None] * len(frame) for name in header}).cast(pl.String)
    else:
        # Rows without a single column cannot be kept in a frame: they are told apart here.
        rejected += [
            BrokenRow(line, write_json(records[line - 1]), "empty_object", "the record has no keys")
            for line in lines
        ]
        cells, lines = pl.DataFrame(), lines.clear()
    return FrameSource(
        cells=cells, lines=lines, modified_at=modified_at, sha256=sha256, broken=tuple(rejected)
    )


def number_rows(height: int, *, first: int) -> pl.Series:
    """Return the numbers of so many rows, counted from `first`."""
    return pl.int_range(first, first + height, eager=True, dtype=pl.Int64)


def _set_nul_aside(cells: pl.DataFrame, lines: pl.Series, read_bytes: int) -> FrameBlock:
    """Return the block, its rows with a NUL among the broken ones, as those of a CSV file are."""
    holds = cells.select(
        pl.any_horizontal(pl.all().str.contains("\0", literal=True).fill_null(value=False))
    ).to_series()
    if not holds.any():
        return FrameBlock(cells, lines, (), read_bytes)
    broken = tuple(
        BrokenRow(lines[row], _row_text(cells, row), NUL.reason, f"the row {NUL.detail}")
        for row in holds.arg_true().to_list()
    )
    return FrameBlock(cells.filter(~holds), lines.filter(~holds), broken, read_bytes)


def _row_text(cells: pl.DataFrame, row: int) -> str:
    return json.dumps(cells.row(row, named=True), ensure_ascii=False)
