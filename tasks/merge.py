"""Takes a landed batch into the warehouse and counts what became of each of its rows."""

from io import BytesIO

from infra.postgres.connection import Connection
from infra.postgres.copy import CopyEncoder, affected
from infra.postgres.merge_sql import CHANGED, NEW, SUPERSEDED, UNCHANGED, MergeSql, dimension_of
from schemas.dataset import Column, Spec
from tasks.ledger import Ledger
from tasks.survey import Survey

BULK_ROWS = 100_000
"""From here on a batch is worth a look before anything is written for it."""

_LOCK_CLASS = 0x51C3
"""Keeps the platform's advisory locks apart from those of others in the same database."""


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

    landing: the quoted name of the table with the batch, lineage included; rows: its height.
    comes_late: a batch with a newer version of this dataset was loaded before.
    The caller holds the dataset's lock and the transaction.
    """
    sql = MergeSql(spec, landing)
    repeated = await _find_repeated(connection, sql, survey)
    inferred = await _infer_members(connection, sql, survey)
    for column in sorted(survey.dates_outside):
        await connection.execute(sql.dates_outside(column))
    is_first = (
        rows >= BULK_ROWS
        and not sql.target.surrogate
        and await connection.fetchval("SELECT warehouse.open_first_load($1)", sql.target.name)
    )
    has_repeated = bool(repeated.duplicates or repeated.superseded)
    if is_first:
        counts = await _fill_empty(connection, sql, has_repeated=has_repeated)
    else:
        counts = await _merge_rows(
            connection, sql, rows=rows, has_repeated=has_repeated, comes_late=comes_late
        )
    return counts + repeated + Ledger(inferred=inferred)


async def _find_repeated(connection: Connection, sql: MergeSql, survey: Survey) -> Ledger:
    suspects = survey.suspects
    if suspects is None:
        await connection.execute(sql.suspect_all())
    elif suspects.height:
        await connection.execute(sql.create_suspects())
        encoder = CopyEncoder(suspects.schema)
        data = encoder.encode(suspects) + encoder.finish()
        await connection.copy_to_table("_suspects", source=BytesIO(data), format="binary")
    else:
        return Ledger()
    await connection.execute(sql.find_repeated())
    counts = await connection.fetchrow(sql.count_repeated())
    return Ledger(duplicates=counts["duplicates"], superseded=counts["superseded"])


async def _infer_members(connection: Connection, sql: MergeSql, survey: Survey) -> int:
    added = 0
    for reference in _locking_order(sql.spec):
        named = survey.references(reference.name)
        listed = named is not None
        given = [named.to_list()] if named is not None else []
        if await connection.fetchval(sql.has_unknown_members(reference, listed=listed), *given):
            # Only now, and always in the same order: a dimension's own load never waits for a
            # fact's, so no two loads can wait for each other.
            await lock_dataset(connection, _table(reference))
            status = await connection.execute(sql.infer_members(reference, listed=listed), *given)
            added += affected(status)
    return added


def _locking_order(spec: Spec) -> list[Column]:
    """Put a dimension that names others before those: every load locks downwards."""
    return sorted(spec.references, key=lambda each: (-_height(dimension_of(each)), _table(each)))


def _height(spec: Spec) -> int:
    return 1 + max((_height(dimension_of(each)) for each in spec.references), default=0)


def _table(reference: Column) -> str:
    return dimension_of(reference).table


async def _fill_empty(connection: Connection, sql: MergeSql, *, has_repeated: bool) -> Ledger:
    """Fill an empty fact without its key, and build the key once, after the rows."""
    status = await connection.execute(sql.insert_all(has_repeated=has_repeated))
    await connection.execute("SELECT warehouse.close_first_load($1)", sql.target.name)
    return Ledger(inserted=affected(status))


async def _merge_rows(
    connection: Connection, sql: MergeSql, *, rows: int, has_repeated: bool, comes_late: bool
) -> Ledger:
    if rows >= BULK_ROWS:
        # A file that is loaded again mostly confirms: counting costs a fifth of writing verdicts.
        seen = await _by_verdict(connection, sql.count_verdicts(has_repeated=has_repeated))
        if set(seen) <= {UNCHANGED, SUPERSEDED}:
            return Ledger(unchanged=seen.get(UNCHANGED, 0), superseded=seen.get(SUPERSEDED, 0))
    await connection.execute(sql.judge(has_repeated=has_repeated))
    if comes_late:
        await connection.execute(sql.overtake())
    seen = await _by_verdict(connection, sql.tally_verdicts())
    updated = affected(await connection.execute(sql.update_changed()))
    if sql.target.keeps_versions and seen.get(CHANGED):
        await connection.execute(sql.close_versions())
        updated += affected(await connection.execute(sql.open_versions()))
    inserted = 0
    if seen.get(NEW):
        inserted = affected(await connection.execute(sql.insert_new()))
    return Ledger(
        inserted=inserted,
        updated=updated,
        unchanged=seen.get(UNCHANGED, 0),
        superseded=seen.get(SUPERSEDED, 0),
    )


async def _by_verdict(connection: Connection, query: str) -> dict[str, int]:
    # asyncpg gives PostgreSQL's "char" as one byte.
    return {bytes(row["verdict"]).decode(): row["rows"] for row in await connection.fetch(query)}
