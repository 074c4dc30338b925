"""What a load reads from: anything that gives its rows as blocks of text cells."""

import datetime as dt
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Protocol, Self

import polars as pl


class Broken(Protocol):
    """A row that could not be split into the header's columns."""

    @property
    def line(self) -> int:
        """Where it stood."""

    @property
    def raw(self) -> str:
        """What it said."""

    @property
    def reason(self) -> str:
        """The rule it broke."""

    @property
    def detail(self) -> str:
        """A sentence about it."""


class RowBlock(Protocol):
    """Some rows of a source, as text."""

    @property
    def cells(self) -> pl.DataFrame:
        """String columns, named as in the header; an empty cell is null."""

    @property
    def lines(self) -> pl.Series:
        """Int64, of the same height: where each row stood, from 1."""

    @property
    def broken(self) -> Sequence[Broken]:
        """The rows among them that have no cells."""

    @property
    def read_bytes(self) -> int:
        """Bytes of the source read so far."""

    def raw_text(self, rows: Sequence[int]) -> list[str]:
        """Return the original text of rows, counted from 0 in `cells`."""


class RowSource(Protocol):
    """A file or an answer: its header, its rows once through, and then what it was as a whole."""

    @property
    def header(self) -> tuple[str, ...]:
        """The names of the columns."""

    @property
    def notes(self) -> Sequence[str]:
        """What a person should know about how it was read."""

    @property
    def size_bytes(self) -> int:
        """Its size, once read."""

    @property
    def modified_at(self) -> dt.datetime:
        """How new it is, in UTC."""

    @property
    def sha256(self) -> str:
        """The digest of its bytes, once read."""

    @property
    def records(self) -> int:
        """Rows read so far, the broken ones too."""

    def __iter__(self) -> Iterator[RowBlock]:
        """Yield the rows, once."""

    def __enter__(self) -> Self:
        """Open it."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it."""
