"""CSV files as blocks of text cells: delimiter, encoding and compression found, nothing lost."""

import datetime as dt
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from types import TracebackType
from typing import Self

from schemas.errors import RefusedError
from tasks.csv_cells import Block, BrokenRow, parse_piece
from tasks.csv_dialect import find_delimiter, name_columns, read_header
from tasks.csv_records import Grammar
from tasks.csv_source import SourceFile
from tasks.csv_text import MAX_LINE_BYTES, SAMPLE_BYTES, DecodedText

__all__ = ["Block", "BrokenRow", "CsvFile"]

BLOCK_BYTES = 4 << 20


class CsvFile:
    """One CSV file, read once: its header first, then its records in blocks of bounded size.

    The file is opened when something is first asked of it. Iterating raises RefusedError when
    the file cannot be read as CSV at all, and TransientError, at the latest after the last
    block, when it changed meanwhile: what was read of it must then be thrown away.
    """

    def __init__(
        self,
        path: Path,
        *,
        known_columns: Sequence[str] = (),
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        """Remember what to read; `known_columns` help to find the delimiter."""
        self.path = path
        self.records = 0
        """Data records seen so far, the broken ones too; blank lines are none."""
        self._known_columns = tuple(known_columns)
        self._block_bytes = max(block_bytes, 1)
        self._source: SourceFile | None = None
        self._text: DecodedText
        self._grammar: Grammar
        self._header: tuple[str, ...] = ()
        self._header_notes: list[str] = []
        self._delimiter = ""
        self._held = b""
        self._held_offset = 0
        self._next_line = 1
        self._started = False
        self._finished = False

    def __enter__(self) -> Self:
        """Open the file."""
        self._open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file; harmless when it never was open."""
        if self._source is not None:
            self._source.close()

    @property
    def header(self) -> tuple[str, ...]:
        """The names of the columns: stripped, distinct, none of them empty."""
        self._open()
        return self._header

    @property
    def delimiter(self) -> str:
        """One of comma, semicolon, tab and pipe; a comma too where there is one column only."""
        self._open()
        return self._delimiter

    @property
    def encoding(self) -> str:
        """What the file is written in: utf-8, utf-16-le, ...; exceptions stand in `notes`."""
        self._open()
        return self._text.encoding

    @property
    def compression(self) -> str | None:
        """Either gzip, zstd or None."""
        return self._open().compression

    @property
    def notes(self) -> list[str]:
        """What a person should know about how the file was read so far, a clause each."""
        self._open()
        notes = list(self._header_notes)
        if count := self._text.lines_in_windows_1252:
            lines = "1 line was" if count == 1 else f"{count:,} lines were"
            notes.append(f"{lines} not UTF-8 and read as Windows-1252")
        return notes

    @property
    def size_bytes(self) -> int:
        """The size of the file on disk; final once the last block was taken."""
        return self._open().size_bytes

    @property
    def modified_at(self) -> dt.datetime:
        """When the file was last written, in UTC; final once the last block was taken."""
        return self._open().modified_at

    @property
    def sha256(self) -> str:
        """The digest of the file on disk, in hexadecimal; there once the last block was taken."""
        if not self._finished:
            message = f"{self.path} was not read to its end yet; take all its blocks first."
            raise RuntimeError(message)
        return self._open().sha256

    def __iter__(self) -> Iterator[Block]:
        """Yield the blocks in file order, and close the file after the last."""
        if self._started:
            message = f"{self.path} was read already; open it again with a new CsvFile."
            raise RuntimeError(message)
        self._started = True
        source = self._open()
        try:
            yield from self._read_blocks(source)
            source.finish()
            self._finished = True
        finally:
            source.close()

    def _read_blocks(self, source: SourceFile) -> Iterator[Block]:
        want, at_end = self._block_bytes, False
        while not at_end:
            more = self._text.read(want)
            at_end = not more
            self._held += more
            piece = self._grammar.take(self._held, first_line=self._next_line, at_end=at_end)
            if not piece.cut:
                if len(self._held) > MAX_LINE_BYTES:
                    source.refuse_change()
                    message = (
                        f"{self.path} has a record of more than {MAX_LINE_BYTES >> 20} MB at line "
                        f"{self._next_line:,}; check the quotes there."
                    )
                    raise RefusedError(message)
                # Twice as much each time: a record of many blocks is searched a few times only.
                want = max(want, len(self._held))
                continue
            want = self._block_bytes
            block = parse_piece(
                piece,
                self._header,
                self._delimiter,
                unreadable=self._take_unreadable(self._held_offset + piece.cut),
                read_bytes=source.read_bytes,
            )
            self._advance(piece.cut, piece.count_lines())
            self.records += block.cells.height + len(block.broken)
            if block.cells.height or block.broken:
                yield block

    def _open(self) -> SourceFile:
        if self._source is None:
            source = SourceFile(self.path)
            try:
                self._text = DecodedText(source)
                self._read_header()
            except BaseException:
                source.close()
                raise
            self._source = source
        return self._source

    def _read_header(self) -> None:
        at_end, want = False, SAMPLE_BYTES
        delimiter = None
        while delimiter is None and not at_end:
            more = self._text.read(want)
            at_end = not more
            self._held += more
            if len(self._held) < SAMPLE_BYTES and not at_end:
                continue
            want = len(self._held)
            delimiter = find_delimiter(self._held, self._known_columns, at_end=at_end)
        if delimiter is None:
            message = f"{self.path} holds blank lines only; export it again or move it away."
            raise RefusedError(message)
        self._delimiter, self._grammar = delimiter, Grammar(delimiter)
        piece = self._grammar.split(self._held, at_end=at_end, most=1)
        cells, line = read_header(self._grammar, piece), int(piece.locate().lines[0])
        unreadable = self._take_unreadable(piece.cut)
        if not cells or unreadable or any(_is_control(letter) for cell in cells for letter in cell):
            what = (
                "has a quote that is never properly closed" if not cells
                else "cannot be decoded" if unreadable
                else "holds control characters"
            )  # fmt: skip
            message = f"{self.path} has no usable header: line {line} {what}; export it again."
            raise RefusedError(message)
        self._header, self._header_notes = name_columns(cells)
        self._advance(piece.cut, piece.count_lines())
        self._text.put_back(self._held)
        self._held = b""

    def _advance(self, cut: int, lines: int) -> None:
        self._held = self._held[cut:]
        self._held_offset += cut
        self._next_line += lines

    def _take_unreadable(self, stop: int) -> list[int]:
        """Remove and return the bad offsets before `stop`, counted from what is held."""
        bad = self._text.unreadable
        taken = list(takewhile(lambda offset: offset < stop, bad))
        del bad[: len(taken)]
        return [offset - self._held_offset for offset in taken]


def _is_control(letter: str) -> bool:
    return letter < " " and letter not in "\t\r\n"
