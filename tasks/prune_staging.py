"""Drops staged batches past their retention; the warehouse, the manifest and the counts stay."""

from collections import defaultdict

from infra.postgres.connection import TRANSIENT, Connection, Pool
from infra.postgres.identifiers import qualify
from infra.postgres.layout import STAGING
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
            return len(due)
    except TRANSIENT as error:
        raise TransientError(
            f"PostgreSQL went away while old staged batches were dropped ({error}): the next run "
            "drops the rest."
        ) from error


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
