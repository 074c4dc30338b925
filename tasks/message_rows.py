"""Messages as rows of their datasets, ready for COPY; those that make no row, and why.

Pure: no database, no broker. The same cleaning and checks as for files: `tasks.clean`.
"""

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from infra.cell_encryption import KeyRing
from infra.cell_keys import key_ring_for
from infra.postgres.session_sql import LOSES
from schemas.dataset import Kind, Role, Spec
from tasks.clean import LINE, ROW_HASH, Tally, bind, clean
from tasks.envelopes import SourceMessages, decode_envelopes
from tasks.messages import DeadLetter, Messages
from tasks.payload_cells import SourceRows, decode_payloads
from tasks.profile import ColumnProfile
from tasks.profile_rows import Extremes, describe_columns
from tasks.survey import CALENDAR

VERSION = "_version"
SOURCE = "_source"
_EXTRACTED_AT = "_extracted_at"
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class DatasetRows:
    """Rows of one dataset that keep its contract."""

    spec: Spec
    rows: pl.DataFrame
    """The contract's columns, then those of staging's lineage but for the batch's number, and the
    indexes of personal columns."""
    positions: pl.Series
    """Int64: of each row, where its message stands."""
    keys: KeyRing | None = None
    """Of the personal columns; None where the contract has none."""

    def take(self, start: int, length: int) -> "DatasetRows":
        """Return some of the rows."""
        return replace(
            self,
            rows=self.rows.slice(start, length),
            positions=self.positions.slice(start, length),
        )

    def without(self, positions: Iterable[int]) -> "DatasetRows":
        """Return the rows but for those of the messages that stand there."""
        kept = ~self.positions.is_in(list(positions))
        return replace(self, rows=self.rows.filter(kept), positions=self.positions.filter(kept))

    def in_key_order(self) -> "DatasetRows":
        """Return the rows sorted by their key: neighbours in an index are looked up together."""
        if not self.spec.key:
            return self
        order = self.rows.select(self.spec.key).select(pl.arg_sort_by(self.spec.key)).to_series()
        return replace(self, rows=self.rows[order], positions=self.positions.gather(order))

    def named(self, column: str) -> pl.Series:
        """Return the distinct values of a column."""
        return self.rows[column].drop_nulls().unique()

    @property
    def dates_outside(self) -> set[str]:
        """The date columns with a date that the calendar may not hold."""
        outside = set()
        for each in self.spec.columns:
            if each.kind is Kind.DATE and not each.pii:
                first, last = self.rows[each.name].min(), self.rows[each.name].max()
                if first is not None and (first < CALENDAR[0] or last > CALENDAR[1]):  # type: ignore[operator] # a Date column's bounds are dates
                    outside.add(each.name)
        return outside

    @property
    def oldest_version(self) -> dt.datetime | None:
        """How old the oldest row is, by what the merge goes by."""
        oldest: dt.datetime | None = self.rows[self.spec.version or VERSION].min()  # type: ignore[assignment] # a column of timestamps
        return oldest

    def rank(self) -> tuple[pl.Series, int, int]:
        """Return which rows lose their key to a newer row, and how many duplicate and differ.

        The newest wins, then the later offset; a loser that says the same is a duplicate.
        """
        none = pl.repeat(value=False, n=self.rows.height, eager=True, dtype=pl.Boolean)
        key = list(self.spec.key)
        if not key or self.spec.role is Role.STAGING or self.rows.select(key).is_unique().all():
            return none, 0, 0
        version = self.spec.version or VERSION
        ranked = (
            self.rows.lazy()
            .select(*key, version, LINE, ROW_HASH)
            .with_row_index("_row")
            .sort(version, LINE, "_row")
            .with_columns(
                pl.col("_row").last().over(key).alias("_winner"),
                pl.col(ROW_HASH).last().over(key).alias("_said"),
            )
            .sort("_row")
            .select(
                (pl.col("_row") != pl.col("_winner")).alias(LOSES),
                (pl.col(ROW_HASH) == pl.col("_said")).alias("_same"),
            )
            .collect()
        )
        loses, same = ranked[LOSES], ranked["_same"]
        duplicates = int((loses & same).sum())
        return loses, duplicates, int(loses.sum()) - duplicates


@dataclass(frozen=True, slots=True)
class MessageRows:
    """What became of some messages before any of them reached the database."""

    messages: Messages
    datasets: tuple[DatasetRows, ...]
    dead: tuple[DeadLetter, ...]
    tallies: dict[str, Tally] = field(default_factory=dict)
    """What was seen of each dataset, by table."""
    profiles: dict[str, tuple[ColumnProfile, ...]] = field(default_factory=dict)
    """What its columns hold, by table; how many values differ is not counted."""


def make_rows(messages: Messages, specs: Mapping[str, Spec]) -> MessageRows:
    """Return the rows that the messages bring, by dataset, and a dead letter for every other.

    specs: the contracts by the name that a message's `source` gives. Raises SettingError where one
    of them has personal columns and no keys are set.
    """
    now = dt.datetime.now(dt.UTC)
    routed, broken = decode_envelopes(messages.values, now=now)
    dead = [DeadLetter(each.position, each.source, each.reason, each.detail) for each in broken]
    datasets: list[DatasetRows] = []
    tallies: dict[str, Tally] = {}
    for part in routed:
        spec = specs.get(part.source)
        if spec is None:
            dead += _without_contract(part)
            continue
        sources, ambiguous = decode_payloads(part, spec)
        dead += [
            DeadLetter(each.position, spec.table, each.reason, each.detail, spec.contract_version)
            for each in ambiguous
        ]
        tally, keys = tallies.setdefault(spec.table, Tally()), key_ring_for(spec)
        for each in sources:
            rows, rejected = _check(each, spec, tally, keys)
            dead += rejected
            datasets.append(replace(_place(rows, each, spec, messages, now), keys=keys))
    joined = tuple(_join(datasets))
    return MessageRows(messages, joined, tuple(dead), tallies, _profile(joined, tallies))


def _profile(
    datasets: Iterable[DatasetRows], tallies: Mapping[str, Tally]
) -> dict[str, tuple[ColumnProfile, ...]]:
    profiles = {}
    for each in datasets:
        extremes = Extremes(each.spec)
        extremes.observe(each.rows)
        table = each.spec.table
        profiles[table] = describe_columns(each.spec, tallies[table], extremes)
    return profiles


def _without_contract(part: SourceMessages) -> Iterator[DeadLetter]:
    detail = f"no contract is named '{part.source[:_SHOWN_CHARACTERS]}'"
    for position in part.positions.tolist():
        yield DeadLetter(position, part.source, "no_contract", detail)


def _check(
    source: SourceRows, spec: Spec, tally: Tally, keys: KeyRing | None
) -> tuple[pl.DataFrame, list[DeadLetter]]:
    accepted, rejects = clean(
        source.cells,
        pl.Series(source.positions, dtype=pl.Int64),
        lambda rows: [""] * len(rows),  # the message itself is kept
        spec=spec,
        binding=bind(source.cells.columns, spec, spec.table),
        tally=tally,
        keys=keys,
        # Messages come together with others that have columns of their own.
        sparse=True,
    )
    return accepted, [
        DeadLetter(
            each.line,
            spec.table,
            f"{each.column}: {each.rule}" if each.column else each.rule,
            each.reason,
            spec.contract_version,
        )
        for each in rejects
    ]


def _place(
    rows: pl.DataFrame, source: SourceRows, spec: Spec, messages: Messages, now: dt.datetime
) -> DatasetRows:
    """Say of each row where it comes from; until here its line was its message's position."""
    positions = rows[LINE]
    index = positions.to_numpy()
    partitions = pl.Series(messages.partitions[index], dtype=pl.Int32)
    placed = rows.with_columns(
        pl.Series(LINE, messages.offsets[index], dtype=pl.Int64),
        source.versions.gather(np.searchsorted(source.positions, index)).alias(VERSION),
        pl.format("{}/{}", pl.lit(messages.topic), partitions).alias(SOURCE),
        pl.lit(now).dt.cast_time_unit("us").alias(_EXTRACTED_AT),
    )
    return DatasetRows(spec, placed, positions)


def _join(datasets: list[DatasetRows]) -> Iterator[DatasetRows]:
    by_table: dict[str, list[DatasetRows]] = {}
    for each in datasets:
        by_table.setdefault(each.spec.table, []).append(each)
    for parts in by_table.values():
        if len(parts) == 1:
            yield parts[0]
            continue
        yield replace(
            parts[0],
            rows=pl.concat(each.rows for each in parts),
            positions=pl.concat(each.positions for each in parts),
        )
