"""Deletes what is older than its retention: staging, logs, checks, quarantine, history.

Rollups stay, and with them every figure by day. Nothing goes that is needed to load exactly once:
the newest manifest entry of each path, messages that no broker has taken, letters not relayed.
"""

import datetime as dt
from collections.abc import Iterator

from infra.postgres.connection import TRANSIENT, Pool
from infra.settings import Settings
from schemas.errors import TransientError
from tasks.prune_staging import prune_batches

BLOCK_ROWS = 10_000
"""Looked at in one transaction: no writer waits long for it."""


def retentions(settings: Settings) -> Iterator[tuple[str, int]]:
    """Yield what metadata.prune knows, each with its days, whatever refers to it before it."""
    yield "pipeline_logs", settings.log_retention_days
    for name in ("health_checks", "quality_results", "alert_events", "mail_outbox"):
        yield name, settings.check_retention_days
    for name in ("quarantine", "dead_letters", "unsent_messages"):
        yield name, settings.quarantine_retention_days
    for name in ("stream_batches", "stream_counts"):
        yield name, settings.stream_retention_days
    for name in (
        "load_profiles",
        "anomalies",
        "janitor_acts",
        "dataset_counts",
        "source_files",
        "pipeline_executions",
    ):
        yield name, settings.history_retention_days


async def prune_old_rows(pool: Pool, settings: Settings) -> dict[str, int]:
    """Leave nothing that is past its retention; returns the rows deleted, by what they were.

    `staging` counts batches. Raises TransientError where PostgreSQL goes away: what was deleted
    until then is gone, and the next run does the rest.
    """
    deleted = {"staging": await prune_batches(pool, retention_days=settings.staging_retention_days)}
    now = dt.datetime.now(dt.UTC)
    for name, days in retentions(settings):
        deleted[name] = await _prune(pool, name, now - dt.timedelta(days=days))
    return {name: count for name, count in deleted.items() if count}


async def _prune(pool: Pool, name: str, before: dt.datetime) -> int:
    deleted = 0
    last_id: int | None = 0
    try:
        while last_id is not None:
            async with pool.acquire() as connection:
                [row] = await connection.fetch(
                    "SELECT * FROM metadata.prune($1, $2, $3, $4)",
                    name,
                    before,
                    last_id,
                    BLOCK_ROWS,
                )
            deleted += row["deleted"]
            last_id = row["last_id"]
    except TRANSIENT as error:
        raise TransientError(
            f"PostgreSQL went away while old {name} were deleted ({error}): the next run deletes "
            "the rest."
        ) from error
    return deleted
