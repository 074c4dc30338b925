"""Takes a landed batch into the warehouse and counts what became of each of its rows."""

from collections.abc import Callable, Iterable
from io import BytesIO

import polars as pl

from infra.postgres.connection import Connection
from infra.postgres.copy import CopyEncoder, affected
from infra.postgres.layout import STAGING
from infra.postgres.merge_sql import (
    AMENDED,
    CHANGED,
    CONFIRMED,
    NEW,
    SUPERSEDED,
    UNCHANGED,
    MergeSql,
    dimension_of,
)
from infra.postgres.session_sql import SessionSql
from schemas.dataset import Column, Spec
from tasks.ledger import Ledger
from tasks.survey import Survey

BULK_ROWS = 100_000
"""From here on a batch is worth a look before anything is written for it."""

_SAMPLED_ROWS = 2_000
_LITTLE_NEWS = 0.2

_LOCK_CLASS = 0x51C3
"""Keeps the platform's advisory locks apart from those of others in the same database."""

_CALENDAR = "warehouse.dim_date"
"""Locked last, behind all dimensions; no dataset's name has a point."""


async def lock_dataset(connection: Connection, table: str) -> None:
    """Hold the dataset's lock until the transaction ends: its loads come one after the other."""
    await connection.execute("SELECT pg_advisory_xact_lock($1, hashtext($2))", _LOCK_CLASS, table)


async def merge(
    connection: Connection,
    spec: Spec,
    landing: str,
    survey: Survey,
    *,
    rows: int,
    comes_late: bool,
) -> Ledger:
    """Leave the newest row of each key in the warehouse; returns what became of the rows.

    landing: the batch's table in the schema staging, lineage included; rows: its height.
    comes_late: a batch with a newer version of this dataset was loaded before.
    The caller holds the dataset's lock and the transaction.
    """
    sql = MergeSql(spec, landing)
    await connection.execute(sql.analyze())
    repeated = await _find_repeated(connection, sql, survey)
    inferred = await infer_members(connection, sql, survey.references)
    await add_dates(connection, sql, survey.dates_outside)
    is_first = (
        rows >= BULK_ROWS
        and not sql.target.surrogate
        and await connection.fetchval("SELECT warehouse.open_first_load($1)", sql.target.name)
    )
    has_repeated = bool(repeated.duplicates or repeated.superseded)
    if is_first:
        counts = await _fill_empty(connection, sql, has_repeated=has_repeated)
    else:
        counts = await merge_rows(
            connection, sql, rows=rows, has_repeated=has_repeated, comes_late=comes_late
        )
    await connection.execute(sql.drop_working_tables())
    return counts + repeated + Ledger(inferred=inferred)


async def _find_repeated(connection: Connection, sql: MergeSql, survey: Survey) -> Ledger:
    suspects = survey.suspects
    if suspects is None:
        await connection.execute(sql.suspect_all())
    elif suspects.height:
        await connection.execute(sql.create_suspects())
        encoder = CopyEncoder(suspects.schema)
        data = encoder.encode(suspects) + encoder.finish()
        await connection.copy_to_table(
            sql.suspects_name, schema_name=STAGING, source=BytesIO(data), format="binary"
        )
    else:
        return Ledger()
    await connection.execute(sql.analyze_suspects())
    await connection.execute(sql.find_repeated())
    await connection.execute(sql.analyze_repeated())
    counts = await _counts(connection, sql.count_repeated())
    return Ledger(duplicates=counts["duplicates"], superseded=counts["superseded"])


async def infer_members(
    connection: Connection, sql: MergeSql, find_named: Callable[[str], pl.Series | None]
) -> int:
    """Give rows that are named before they arrived a member of their dimension; returns how many.

    find_named: the distinct values of a column that names rows; None: look in the batch.
    """
    added = 0
    for reference in _locking_order(sql.spec):
        named = find_named(reference.name)
        listed = named is not None
        given = [named.to_list()] if named is not None else []
        if await connection.fetchval(sql.has_unknown_members(reference, listed=listed), *given):
            # Only now, and always in the same order: a dimension's own load never waits for a
            # fact's, so no two loads can wait for each other.
            await lock_dataset(connection, _table(reference))
            status = await connection.execute(sql.infer_members(reference, listed=listed), *given)
            added += affected(status)
    return added


async def add_dates(connection: Connection, sql: MergeSql, columns: Iterable[str]) -> None:
    """Leave in dim_date every date of those columns of the batch."""
    ordered = sorted(columns)
    if ordered:
        # Loads of other datasets may add the same dates, column by column in another order.
        await lock_dataset(connection, _CALENDAR)
    for column in ordered:
        await connection.execute(sql.dates_outside(column))


def _locking_order(spec: Spec) -> list[Column]:
    """Put a dimension that names others before those: every load locks downwards."""
    return sorted(spec.references, key=lambda each: locking_place(dimension_of(each)))


def locking_place(spec: Spec) -> tuple[int, str]:
    """Return what to sort datasets by whose locks one transaction takes."""
    return -_height(spec), spec.table


def _height(spec: Spec) -> int:
    return 1 + max((_height(dimension_of(each)) for each in spec.references), default=0)


def _table(reference: Column) -> str:
    return dimension_of(reference).table


async def _fill_empty(connection: Connection, sql: MergeSql, *, has_repeated: bool) -> Ledger:
    """Fill an empty fact without its key, and build the key once, after the rows."""
    status = await connection.execute(sql.insert_all(has_repeated=has_repeated))
    await connection.execute("SELECT warehouse.close_first_load($1)", sql.target.name)
    return Ledger(inserted=affected(status))


async def merge_rows(
    connection: Connection, sql: MergeSql, *, rows: int, has_repeated: bool, comes_late: bool
) -> Ledger:
    """Leave the newest row of each key in a table that has rows already."""
    counted = None
    # What a session's merge confirms it writes: nothing is saved by counting first.
    may_skip = not isinstance(sql, SessionSql)
    if may_skip and await _mostly_confirms(connection, sql, rows, has_repeated=has_repeated):
        # A file that is loaded again: counting, by all cores, costs a part of writing verdicts.
        counted = await _counts(connection, sql.count_verdicts(has_repeated=has_repeated))
        if not (counted[NEW] or counted[CHANGED] or counted[AMENDED]):
            return Ledger(unchanged=counted[UNCHANGED], superseded=counted[SUPERSEDED])
    judge = sql.judge(has_repeated=has_repeated, only_news=counted is not None)
    await connection.execute(judge)
    if comes_late:
        await connection.execute(sql.overtake())
    if not isinstance(sql, SessionSql):  # the planner goes by the size of a session's table
        await connection.execute(sql.analyze_verdicts())
    seen = await _counts(connection, sql.tally_verdicts())
    updated = 0
    if seen[AMENDED] or seen[CHANGED]:
        updated = await _in_place(connection, sql.update_changed())
    if sql.target.keeps_versions and seen[CHANGED]:
        await connection.execute(sql.close_versions())
        updated += affected(await connection.execute(sql.open_versions()))
    inserted = 0
    if seen[NEW]:
        inserted = affected(await connection.execute(sql.insert_new()))
    if seen[CONFIRMED] and isinstance(sql, SessionSql):
        await _in_place(connection, sql.confirm())
    before = counted or {UNCHANGED: 0, SUPERSEDED: 0}
    return Ledger(
        inserted=inserted,
        updated=updated,
        unchanged=seen[UNCHANGED] + seen[CONFIRMED] + before[UNCHANGED],
        superseded=seen[SUPERSEDED] + before[SUPERSEDED],
    )


async def _in_place(connection: Connection, update: str) -> int:
    # The planner would read the whole target for them; the places say which pages to fetch, in
    # the order in which they lie on disk.
    await connection.execute("SET LOCAL enable_seqscan = off")
    status = await connection.execute(update)
    await connection.execute("SET LOCAL enable_seqscan = on")
    return affected(status)


async def _mostly_confirms(
    connection: Connection, sql: MergeSql, rows: int, *, has_repeated: bool
) -> bool:
    """Tell, from a few pages drawn at random, whether a batch is likely to bring little news."""
    if rows < BULK_ROWS:
        return False
    percent = min(100.0, 100.0 * _SAMPLED_ROWS / rows)
    [sample] = await connection.fetch(sql.sample_news(has_repeated=has_repeated), percent)
    share: float = sample["news"] / max(1, sample["sampled"])
    return share < _LITTLE_NEWS


async def _counts(connection: Connection, query: str) -> dict[str, int]:
    """Return the one row of counts that such a query gives."""
    [row] = await connection.fetch(query)
    return dict(row.items())
