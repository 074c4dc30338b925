"""What a load looked like: rows and, by column, what is missing, distinct, smallest and largest."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """The cells of one column of a load."""

    column: str
    rows: int
    """Cells that were looked at."""
    missing: int
    mistyped: int
    """Cells that held something that is not of the column's type."""
    distinct: int | None
    """Different values; None: not counted."""
    minimum: str | None
    maximum: str | None
    """As PostgreSQL would write them; None where there is none, or the column is personal."""


@dataclass(frozen=True, slots=True)
class LoadProfile:
    """One load of a file or an answer, or what the stream brought of a dataset in a UTC day."""

    dataset: str
    feed: str
    """Loads of one feed are compared with each other: the source without what changes in its
    name from load to load."""
    read: int
    duplicates: int
    quarantined: int
    columns: tuple[ColumnProfile, ...]
