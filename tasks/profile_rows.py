"""What the rows of a load hold: by column the extremes and, where it is cheap, how many differ.

Noted block by block while the rows pass, of those that keep the contract, as they are loaded.
Pure: no database, no file.
"""

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Protocol

import numpy as np
import polars as pl

from schemas.dataset import Column, Kind, Role, Spec
from tasks.clean import Tally
from tasks.ledger import Ledger
from tasks.profile import ColumnProfile
from tasks.survey import Survey

FEW = 1_000
"""A column of texts with more different values than this is not counted."""
NEAR = 1 << 16
"""Neither is one of numbers or dates that are further apart than this."""

_ORDERED = frozenset({Kind.INTEGER, Kind.NUMBER, Kind.DECIMAL, Kind.DATE, Kind.TIMESTAMP})
_NOTHING: Mapping[str, int | None] = {}
_SCIENTIFIC = 1e15
"""From here on PostgreSQL writes a double precision with an exponent."""


class Extremes:
    """The smallest and the largest value of each column that has an order and is not personal."""

    def __init__(self, spec: Spec) -> None:
        """Know of no row yet."""
        self._ordered = [each for each in spec.columns if each.kind in _ORDERED and not each.pii]
        self._found: dict[str, tuple[Any, Any]] = {}

    def observe(self, rows: pl.DataFrame) -> None:
        """Take note of some more accepted rows."""
        for each in self._ordered:
            values = rows[each.name]
            low, high = values.min(), values.max()
            if low is None:
                continue
            if each.name in self._found:
                lowest, highest = self._found[each.name]
                low, high = min(low, lowest), max(high, highest)
            self._found[each.name] = low, high

    def written(self, column: Column) -> tuple[str | None, str | None]:
        """Return both as PostgreSQL would write them; None where there are none."""
        if column.name not in self._found:
            return None, None
        low, high = self._found[column.name]
        return write_value(low, column.kind), write_value(high, column.kind)


class Variety:
    """How many different values columns have; None where that would take long to find out."""

    def __init__(self, spec: Spec, *, but: frozenset[str] = frozenset()) -> None:
        """Know of no row yet; but: columns that are counted elsewhere."""
        self._counters: dict[str, _Counter] = {
            each.name: counter
            for each in spec.columns
            if each.name not in but and (counter := _counter_of(each)) is not None
        }

    def observe(self, rows: pl.DataFrame) -> None:
        """Take note of some more accepted rows."""
        for name, counter in list(self._counters.items()):
            if not counter.add(rows[name].drop_nulls()):
                del self._counters[name]

    def counts(self) -> dict[str, int | None]:
        """Return the exact number of different values, by column; null is none."""
        return {name: counter.count() for name, counter in self._counters.items()}


class _Counter(Protocol):
    def add(self, values: pl.Series) -> bool:
        """Take note of values without nulls; returns whether it is worth going on."""
        ...

    def count(self) -> int: ...


def _counter_of(column: Column) -> _Counter | None:
    match column.kind:
        case Kind.BOOLEAN:
            return _Few(2)
        case Kind.TEXT:
            return _Few(_allowed(column))
        case Kind.INTEGER | Kind.DATE:
            return _Near()
        case _:
            return None


def _allowed(column: Column) -> int | None:
    """Return how many values the contract allows; None: any number."""
    sets = [
        len(set(check.statistics["allowed_values"]))
        for check in column.checks
        if check.name == "isin" and check.statistics
    ]
    return min(sets, default=None)


class _Few:
    """Values of any kind, as long as they are few."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._known: pl.Series | None = None

    def add(self, values: pl.Series) -> bool:
        if self._known is not None and len(self._known) == self._most:
            return True
        # Where nearly all values differ, the first of them tell, and no others are looked at.
        if self._known is None and values.head(2 * FEW).n_unique() > FEW:
            return False
        found = values.unique()
        self._known = found if self._known is None else self._known.append(found).unique()
        return len(self._known) <= FEW

    def count(self) -> int:
        return 0 if self._known is None else len(self._known)


class _Near:
    """Numbers and dates that are near each other: a table of them is exact, and much faster."""

    def __init__(self) -> None:
        self._first = 0
        self._seen = np.zeros(0, dtype=bool)

    def add(self, values: pl.Series) -> bool:
        if not len(values):
            return True
        numbers = values.to_physical().to_numpy()
        low, high = int(numbers.min()), int(numbers.max())
        if not len(self._seen):
            # Values of later blocks may be smaller as well as larger.
            self._first = (low + high) // 2 - NEAR // 2
            self._seen = np.zeros(NEAR, dtype=bool)
        if low < self._first or high >= self._first + NEAR:
            return False
        self._seen[numbers.astype(np.int64, copy=False) - self._first] = True
        return True

    def count(self) -> int:
        return int(self._seen.sum())


class RowProfile:
    """What is noted of a load's accepted rows, beside what the survey knows of them."""

    def __init__(self, spec: Spec) -> None:
        """Know of no row yet."""
        self._spec = spec
        self._extremes = Extremes(spec)
        # The survey counts what names rows, and whether a key repeats.
        self._references = [each.name for each in spec.references]
        surveyed = {*self._references, *(spec.key if len(spec.key) == 1 else ())}
        self._variety = Variety(spec, but=frozenset(surveyed))

    def observe(self, rows: pl.DataFrame) -> None:
        """Take note of some more accepted rows."""
        self._extremes.observe(rows)
        self._variety.observe(rows)

    def columns(
        self, tally: Tally, survey: Survey, rows: int, merged: Ledger
    ) -> tuple[ColumnProfile, ...]:
        """Return what is known of each column; rows: accepted; merged: what became of them."""
        distinct = self._variety.counts()
        for name in self._references:
            values = survey.references(name)
            distinct[name] = None if values is None else len(values)
        if len(self._spec.key) == 1:
            distinct[self._spec.key[0]] = _count_keys(self._spec, survey, rows, merged)
        return describe_columns(self._spec, tally, self._extremes, distinct)


def _count_keys(spec: Spec, survey: Survey, rows: int, merged: Ledger) -> int | None:
    if survey.all_differ:
        return rows
    # Duplicates lose to a row of the same load; of what is superseded, it is not said to which.
    if spec.role is not Role.STAGING and not merged.superseded:
        return rows - merged.duplicates
    return None


def describe_columns(
    spec: Spec,
    tally: Tally,
    extremes: Extremes,
    distinct: Mapping[str, int | None] = _NOTHING,
) -> tuple[ColumnProfile, ...]:
    """Return what is known of each column of a contract; distinct: by column, where counted."""
    return tuple(
        ColumnProfile(
            each.name,
            tally.checked,
            tally.checked - tally.present[each.name],
            tally.mistyped[each.name],
            distinct.get(each.name),
            *extremes.written(each),
        )
        for each in spec.columns
    )


def write_value(value: Any, kind: Kind) -> str:
    """Return the value as PostgreSQL writes it, of a time in UTC."""
    match kind:
        case Kind.NUMBER:
            return _write_number(value)
        case Kind.DECIMAL:
            return format(value, "f")
        case Kind.TIMESTAMP:
            moment: dt.datetime = value
            seconds = moment.strftime("%Y-%m-%d %H:%M:%S")
            fraction = f".{moment.microsecond:06}".rstrip("0").rstrip(".")
            return f"{seconds}{fraction}+00"
        case _:
            return str(value)


def _write_number(value: float) -> str:
    if abs(value) >= _SCIENTIFIC:
        return format(Decimal(repr(value)).normalize(), "e")
    return repr(value).removesuffix(".0")
