"""Blocks of a CSV file: its cells as text, and the records that have no cells."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
from pyarrow import csv

from tasks.csv_records import Fault, Integers, Piece, Records

UTF8_MARK = b"\xef\xbb\xbf"
UNREADABLE = Fault("encoding", "holds bytes that are no text in UTF-8 or Windows-1252")
NUL = Fault("nul_byte", "holds a NUL byte, which PostgreSQL cannot keep in text")


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A record that cannot be split into the header's columns, or cannot be kept as text.

    `reason` is the rule's short name, `detail` says it with the facts: "line 7 " + detail.
    """

    line: int
    raw: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Block:
    """Some thousand records in file order: each is one row of `cells` or one of `broken`."""

    cells: pl.DataFrame
    """Every column text, named as in the header; an empty cell without quotes is null."""
    lines: pl.Series
    """The physical line, counted from 1, on which each row of `cells` begins."""
    broken: tuple[BrokenRow, ...]
    read_bytes: int
    """Bytes of the file on disk read so far."""
    piece: Piece
    kept: Integers | None
    """The record behind each row of `cells`; None where the two agree."""

    def raw_text(self, rows: Sequence[int]) -> list[str]:
        """Return the text of these rows as it stands in the file, without the line end."""
        records = self.piece.locate()
        wanted = rows if self.kept is None else [int(self.kept[row]) for row in rows]
        return [_read_raw(self.piece, records, index) for index in wanted]


def parse_piece(
    piece: Piece,
    columns: Sequence[str],
    delimiter: str,
    *,
    unreadable: Sequence[int] = (),
    read_bytes: int,
) -> Block:
    """Split a piece of text into a block; `unreadable` are offsets on lines without a decoding."""
    faults: dict[int, Fault] = dict(piece.known.faults) if piece.known else {}
    if unreadable or b"\0" in piece.data:
        _find_bad_text(piece, unreadable, faults)
    kept: Integers | None = None
    text: pa.Buffer = pa.py_buffer(piece.data).slice(0, piece.cut)
    if faults:
        records = piece.locate()
        kept = np.delete(np.arange(len(records.starts)), sorted(faults))
        text = pa.py_buffer(_join(piece, records, kept))
    table, ragged = _parse(text, columns, delimiter)
    if ragged:
        places = np.array([number - 1 for number, _ in ragged])
        rows = np.arange(table.num_rows + len(ragged)) if kept is None else kept
        width = len(columns)
        for index, (_, fields) in zip(rows[places].tolist(), ragged, strict=True):
            detail = f"has {_count(fields)} where the header has {width}"
            faults[index] = Fault("column_count", detail)
        kept = np.delete(rows, places)
    broken: tuple[BrokenRow, ...] = ()
    if faults:
        records = piece.locate()
        broken = tuple(
            BrokenRow(
                int(records.lines[index]),
                _read_raw(piece, records, index),
                faults[index].reason,
                faults[index].detail,
            )
            for index in sorted(faults)
        )
    lines = _number_lines(piece, table.num_rows + len(broken), kept)
    cells = pl.from_arrow(table)
    if not isinstance(cells, pl.DataFrame):
        message = f"pyarrow gave {type(cells).__name__}, not a table."
        raise TypeError(message)
    return Block(cells, lines, broken, read_bytes, piece, kept)


def _find_bad_text(piece: Piece, unreadable: Sequence[int], faults: dict[int, Fault]) -> None:
    records = piece.locate()
    for offset in unreadable:
        faults.setdefault(records.find(offset), UNREADABLE)
    nul = piece.data.find(b"\0", 0, piece.cut)
    while nul >= 0:
        index = records.find(nul)
        faults.setdefault(index, NUL)
        nul = piece.data.find(b"\0", int(records.ends[index]), piece.cut)


def _parse(
    text: pa.Buffer, columns: Sequence[str], delimiter: str
) -> tuple[pa.Table, list[tuple[int, int]]]:
    """Return the table, and for each record that does not fit it (its number from 1, its cells)."""
    schema = pa.schema([(name, pa.large_string()) for name in columns])
    if not text.size:
        return schema.empty_table(), []
    view = memoryview(text).cast("B")
    # pyarrow takes a mark in front for that of a file; a blank line before it counts nowhere.
    before = b"\n" if view[:3] == UTF8_MARK else b""
    # Without a line end it takes an empty last cell for a quoted one, if that before it is.
    after = b"" if view[-1] in b"\r\n" else b"\n"
    if before or after:
        text = pa.py_buffer(before + text.to_pybytes() + after)
    ragged: list[tuple[int, int]] = []

    def note(row: csv.InvalidRow) -> str:
        ragged.append((row.number, row.actual_columns))
        return "skip"

    table = csv.read_csv(
        pa.BufferReader(text),
        read_options=csv.ReadOptions(
            # One thread and one block, or rows have no numbers; other stages use other cores.
            use_threads=False,
            block_size=text.size + 1,
            column_names=list(columns),
        ),
        parse_options=csv.ParseOptions(delimiter=delimiter, invalid_row_handler=note),
        convert_options=csv.ConvertOptions(
            check_utf8=False,
            column_types=schema,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    return table, ragged


def _number_lines(piece: Piece, height: int, kept: Integers | None) -> pl.Series:
    """Return the first line of each row; counting is enough where every line is a record."""
    ends_open = not piece.data.endswith((b"\n", b"\r"), 0, piece.cut)
    if piece.known is None and height == piece.count_lines() + ends_open:
        first = piece.first_line
        if kept is None:
            return pl.int_range(first, first + height, dtype=pl.Int64, eager=True).alias("line")
        return pl.Series("line", kept + first, dtype=pl.Int64)
    lines = piece.locate().lines
    return pl.Series("line", lines if kept is None else lines[kept], dtype=pl.Int64)


def _join(piece: Piece, records: Records, kept: Integers) -> bytes:
    starts, ends = records.starts[kept].tolist(), records.ends[kept].tolist()
    parts = [piece.data[start:end] for start, end in zip(starts, ends, strict=True)]
    return b"\n".join([*parts, b""])


def _read_raw(piece: Piece, records: Records, index: int) -> str:
    return piece.data[records.starts[index] : records.ends[index]].decode()


def _count(fields: int) -> str:
    return "1 field" if fields == 1 else f"{fields:,} fields"
