"""The kinds of dirt that are planted, what must become of each, and what the ledger must say."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from infra.sample.draw import Draw


class Outcome(StrEnum):
    """What must become of a row that carries a flaw."""

    LOADED = "loaded"
    QUARANTINED = "quarantined"
    DUPLICATE = "duplicate"
    SUPERSEDES = "supersedes"
    """It is loaded, and the earlier row of the same key is counted as superseded."""


class Flaw(StrEnum):
    """One kind of dirt. A row carries one at most."""

    SPACES = "surrounding spaces"
    DATE_FORMAT = "another date format"
    IMPOSSIBLE_DATE = "impossible date"
    THOUSANDS_COMMA = "1,234.50"
    THOUSANDS_POINT = "1.234,50"
    CURRENCY_SIGN = "currency sign"
    WRONG_TYPE = "wrong type"
    MISSING_KEY = "missing key"
    MISSING_VALUE = "missing required value"
    EMPTY_OPTIONAL = "empty optional cell"
    EMPTY_DEFAULTED = "empty cell that has a default"
    BELOW_RANGE = "below the range"
    ABOVE_RANGE = "above the range"
    INVALID_EMAIL = "invalid e-mail"
    UNKNOWN_WORD = "word outside the list"
    UNKNOWN_MEMBER = "key that no dimension row has"
    WINDOWS_BYTES = "Windows-1252 bytes"
    EMOJI = "emoji"
    RIGHT_TO_LEFT = "right-to-left text"
    QUOTED_NEWLINE = "quoted newline"
    QUOTED_QUOTES = "quoted quotes"
    FIELD_TOO_MANY = "a field too many"
    FIELD_TOO_FEW = "too few fields"
    EXACT_DUPLICATE = "exact duplicate"
    NEAR_DUPLICATE = "same key, other content"

    @property
    def outcome(self) -> Outcome:
        """What must become of a row with this flaw."""
        return OUTCOMES.get(self, Outcome.QUARANTINED)


OUTCOMES = {
    Flaw.SPACES: Outcome.LOADED,
    Flaw.DATE_FORMAT: Outcome.LOADED,
    Flaw.THOUSANDS_COMMA: Outcome.LOADED,
    Flaw.THOUSANDS_POINT: Outcome.LOADED,
    Flaw.EMPTY_OPTIONAL: Outcome.LOADED,
    Flaw.EMPTY_DEFAULTED: Outcome.LOADED,
    Flaw.UNKNOWN_MEMBER: Outcome.LOADED,
    Flaw.WINDOWS_BYTES: Outcome.LOADED,
    Flaw.EMOJI: Outcome.LOADED,
    Flaw.RIGHT_TO_LEFT: Outcome.LOADED,
    Flaw.QUOTED_NEWLINE: Outcome.LOADED,
    Flaw.QUOTED_QUOTES: Outcome.LOADED,
    Flaw.EXACT_DUPLICATE: Outcome.DUPLICATE,
    Flaw.NEAR_DUPLICATE: Outcome.SUPERSEDES,
}
"""The flaws a load survives; a row with any other flaw belongs in quarantine."""


@dataclass(frozen=True, slots=True)
class Written:
    """A spoilt cell: the text in the file, and the text a correct reader makes of it."""

    text: str
    clean: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one flaw is planted in a file: how often, in which columns, by which change."""

    flaw: Flaw
    count: int
    columns: tuple[str, ...] = ()
    change: Callable[[str, Draw], Written] | None = None


@dataclass(frozen=True, slots=True)
class Planted:
    """One flaw at its place in a file."""

    flaw: Flaw
    record: int
    """The record's number: 1 is the first after the header."""
    line: int
    """The physical line the record starts on: 1 is the header."""
    column: str
    """The spoilt column; empty where the whole row is the flaw."""
    key: str
    """The row's key as text; empty where the key is what is missing."""
    clean: str
    """What the spoilt cell must read after cleaning, if its row is loaded."""
    first_line: int | None = None
    """Of a duplicate: the line of the row it repeats."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """What a load of the file must count, if the warehouse was empty or holds the first load."""

    read: int
    inserted: int
    updated: int = 0
    superseded: int = 0
    duplicates: int = 0
    quarantined: int = 0

    @classmethod
    def count(cls, clean: int, planted: Mapping[Flaw, int]) -> "Ledger":
        """Return the ledger of a first load of so many clean rows and these flaws.

        A near duplicate puts one row in and one out, so it adds to `superseded` alone.
        """
        by_outcome = dict.fromkeys(Outcome, 0)
        for flaw, number in planted.items():
            by_outcome[flaw.outcome] += number
        return cls(
            read=clean + sum(by_outcome.values()),
            inserted=clean + by_outcome[Outcome.LOADED],
            superseded=by_outcome[Outcome.SUPERSEDES],
            duplicates=by_outcome[Outcome.DUPLICATE],
            quarantined=by_outcome[Outcome.QUARANTINED],
        )
