"""What the rows of a load have in common, noted block by block while they pass.

The merge would otherwise scan and sort the whole batch again to learn it: which keys may occur
twice, which rows of dimensions are named, whether a date lies outside the calendar. Memory is
bounded: where a load would need more, the survey says "unknown" and the merge asks PostgreSQL.
"""

import datetime as dt

import numpy as np
import polars as pl

from schemas.dataset import Kind, Spec

CALENDAR = (dt.date(2000, 1, 1), dt.date(2100, 12, 31))
"""What the first migration fills `dim_date` with."""

MAX_VALUES = 1_000_000
"""More distinct values than this are not remembered."""

_SMALL = 1 << 24
_FEW = 0.02
_MIN_BITS = 1 << 20
_MAX_BITS = 1 << 30
_BITS_PER_BYTE_READ = 2
"""A row has rarely less than 16 bytes, so this makes at least 32 bits a row: one false suspect
in a hundred rows or fewer, up to 30 million rows a file."""


class Survey:
    """The suspects, references and dates of one load."""

    def __init__(self, spec: Spec, size_bytes: int) -> None:
        """Size the memory of keys for a source of so many bytes (0: unknown)."""
        self._key = list(spec.key)
        # A personal date is nothing to join: dim_date would tell somebody's birthday.
        self._dates = [
            each.name for each in spec.columns if each.kind is Kind.DATE and not each.pii
        ]
        self._bits = _MIN_BITS
        while self._bits < min(size_bytes * _BITS_PER_BYTE_READ, _MAX_BITS):
            self._bits *= 2
        self._seen = np.zeros(self._bits // 8, dtype=np.uint8) if self._key else None
        is_number = len(spec.key) == 1 and spec.column(spec.key[0]).kind is Kind.INTEGER
        self._highest: int | None = np.iinfo(np.int64).min if is_number else None
        self._is_first = True
        self._suspects: list[pl.DataFrame] = []
        self._suspect_count = 0
        self._references = {each.name: _Distinct() for each in spec.references}
        self.dates_outside: set[str] = set()
        """Date columns that hold a date beyond CALENDAR."""

    @property
    def suspects(self) -> pl.DataFrame | None:
        """The keys that may occur more than once, each key once; None: too many to remember."""
        if self._suspect_count > MAX_VALUES:
            return None
        if not self._suspects:
            return pl.DataFrame()
        return pl.concat(self._suspects).unique()

    @property
    def all_differ(self) -> bool:
        """Whether no key can occur more than once."""
        return bool(self._key) and not self._suspect_count

    def references(self, column: str) -> pl.Series | None:
        """Return the distinct values of a column that names rows; None: too many to remember."""
        return self._references[column].values()

    def observe(self, rows: pl.DataFrame) -> None:
        """Take note of some more accepted rows."""
        if self._seen is not None and rows.height:
            self._observe_keys(rows.select(self._key), self._seen)
        for name, distinct in self._references.items():
            distinct.add(rows[name])
        for name in self._dates:
            first, last = rows[name].min(), rows[name].max()
            if first is not None and (first < CALENDAR[0] or last > CALENDAR[1]):  # type: ignore[operator] # a Date column's bounds are dates
                self.dates_outside.add(name)

    def _observe_keys(self, keys: pl.DataFrame, seen: np.ndarray) -> None:
        suspect = self._not_ascending(keys)
        if suspect is None:
            hashes = keys.hash_rows(seed=7).to_numpy()
            suspect = self._seen_before(hashes, seen) | _repeated_within(hashes)
        if self._suspect_count <= MAX_VALUES and suspect.any():
            found = keys.filter(pl.Series(suspect))
            self._suspects.append(found)
            self._suspect_count += found.height

    def _not_ascending(self, keys: pl.DataFrame) -> np.ndarray | None:
        """Tell which keys do not exceed every key before them; None where most do not.

        Exports mostly come in the order of a number: there, only a row that steps back can
        repeat a key, and no bit has to be kept. The first block decides for the whole source.
        """
        if self._highest is None:
            return None
        numbers = keys.to_series().to_numpy()
        highest = np.maximum.accumulate(np.concatenate(([self._highest], numbers)))
        steps_back: np.ndarray = numbers <= highest[:-1]
        if self._is_first and steps_back.mean() > _FEW:
            self._highest = None
            return None
        self._is_first = False
        self._highest = int(highest[-1])
        return steps_back

    def _seen_before(self, hashes: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Tell which keys an earlier block may have had, and remember these for the next.

        One bit a key, at a place that its hash gives: a bit that is set already makes a suspect.
        """
        places = hashes & np.uint64(self._bits - 1)
        cells = (places >> np.uint64(3)).astype(np.int64)
        masks = np.left_shift(np.uint8(1), (places & np.uint64(7)).astype(np.uint8))
        was_set: np.ndarray = (seen[cells] & masks) != 0
        seen[cells] |= masks
        # Of two keys in one byte the plain assignment keeps the later one's bit only.
        lost = (seen[cells] & masks) == 0
        np.bitwise_or.at(seen, cells[lost], masks[lost])
        return was_set


class _Distinct:
    """The distinct values of a column so far, put together only now and then."""

    def __init__(self) -> None:
        self._small = np.zeros(0, dtype=bool)
        self._parts: list[pl.Series] = []
        self._pending = 0
        self._known = 0
        self._overflown = False
        self._is_compact = False

    def add(self, values: pl.Series) -> None:
        if self._overflown:
            return
        self._is_compact = False
        values = values.drop_nulls()
        if values.dtype == pl.Int64 and len(values):
            # Most identifiers are small numbers: a table of them is exact, and much faster.
            numbers = values.to_numpy()
            if numbers.min() >= 0 and numbers.max() < _SMALL:
                if not len(self._small):
                    self._small = np.zeros(_SMALL, dtype=bool)
                self._small[numbers] = True
                return
        part = values.unique()
        self._parts.append(part)
        self._pending += len(part)
        if self._pending > max(4 * self._known, 200_000):
            self._compact()

    def values(self) -> pl.Series | None:
        self._compact()
        return None if self._overflown else self._parts[0]

    def _compact(self) -> None:
        if self._overflown or self._is_compact:
            return
        small = pl.Series(np.flatnonzero(self._small))
        parts = [small, *self._parts] if len(small) else self._parts
        union = pl.concat(parts).unique() if parts else small
        self._known, self._pending = len(union), 0
        self._overflown = self._known > MAX_VALUES
        self._parts = [] if self._overflown else [union]
        self._is_compact = True


def _repeated_within(hashes: np.ndarray) -> np.ndarray:
    """Tell, for each key that stands several times in a block, all but one of its rows."""
    slots = (hashes >> np.uint64(44)).astype(np.int64)
    rows = np.arange(len(hashes))
    last = np.zeros(1 << 20, dtype=np.int64)
    last[slots] = rows
    winner = last[slots]
    # Keys that share a slot by chance hide each other; then the slot's rows are looked at singly.
    repeated: np.ndarray = (winner != rows) & (hashes[winner] == hashes)
    hidden = (winner != rows) & ~repeated
    if hidden.any():
        _, first = np.unique(hashes[hidden], return_index=True)
        again = np.ones(int(hidden.sum()), dtype=bool)
        again[first] = False
        repeated[np.flatnonzero(hidden)[again]] = True
    return repeated
