"""Drops staged batches past their retention; the warehouse, the manifest and the counts stay."""

import datetime as dt
from collections import defaultdict

from infra.postgres.connection import TRANSIENT, Connection, Pool
from infra.postgres.identifiers import qualify
from infra.postgres.layout import STAGING
from infra.postgres.session_sql import DAY_TABLE
from schemas.errors import TransientError
from tasks.merge import lock_dataset


async def prune_batches(pool: Pool, *, retention_days: int) -> int:
    """Leave no staged batch that was loaded longer ago; returns how many were dropped.

    Each dataset's batches go in a transaction of their own, under the dataset's lock.
    """
    try:
        async with pool.acquire() as connection:
            due = await connection.fetch(
                """
                SELECT id, dataset, staged_in FROM metadata.source_files
                WHERE status = 'LOADED' AND staged_in IS NOT NULL
                    AND recorded_at < clock_timestamp() - make_interval(days => $1)
                ORDER BY dataset, id
                """,
                retention_days,
            )
            batches: dict[str, dict[int, str]] = defaultdict(dict)
            for row in due:
                batches[row["dataset"]][row["id"]] = row["staged_in"]
            for dataset, staged in batches.items():
                async with connection.transaction():
                    await lock_dataset(connection, dataset)
                    await _drop(connection, dataset, staged)
            return len(due) + await _drop_days(connection, retention_days)
    except TRANSIENT as error:
        raise TransientError(
            f"PostgreSQL went away while old staged batches were dropped ({error}): the next run "
            "drops the rest."
        ) from error


async def _drop_days(connection: Connection, retention_days: int) -> int:
    """Leave no table of messages that were staged on a day longer ago; returns how many were."""
    first_kept = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=retention_days)
    dropped = 0
    for row in await connection.fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = $1 AND tablename ~ '__s[0-9]{8}$'",
        STAGING,
    ):
        found = DAY_TABLE.search(row["tablename"])
        if found and dt.datetime.strptime(found[1], "%Y%m%d").date() < first_kept:  # noqa: DTZ007 - a date
            await connection.execute(f"DROP TABLE IF EXISTS {qualify(STAGING, row['tablename'])}")
            dropped += 1
    return dropped


async def _drop(connection: Connection, dataset: str, staged: dict[int, str]) -> None:
    for table in staged.values():
        if table != dataset:
            await connection.execute(f"DROP TABLE IF EXISTS {qualify(STAGING, table)}")
    shared = [batch for batch, table in staged.items() if table == dataset]
    if shared:
        await connection.execute(
            f"DELETE FROM ONLY {qualify(STAGING, dataset)} WHERE _batch_id = ANY($1)",  # noqa: S608 - quoted
            shared,
        )
    await connection.execute(
        "UPDATE metadata.source_files SET staged_in = NULL WHERE id = ANY($1)", list(staged)
    )
