"""What the page of one run asks.

A streaming run loads thousands of batches an hour, and may run for weeks: whatever it left is
summed over the newest SUMMED rows.
"""

import asyncpg

from dash_app.reader import Reader

SUMMED = 20_000
SHOWN = 200
COUNTED_REJECTS = 10_000


async def find_run(reader: Reader, execution_id: int) -> asyncpg.Record | None:
    """Return the run; None where there is none of that number."""
    return await reader.fetchrow(
        """
        SELECT id, pipeline_name, status, records_processed, start_time, end_time, warnings,
            flow_run_id, parameters, host, process_id
        FROM metadata.pipeline_executions WHERE id = $1
        """,
        execution_id,
    )


async def find_error(reader: Reader, execution_id: int) -> asyncpg.Record | None:
    """Return the run's status, error and traceback."""
    return await reader.fetchrow(
        """
        SELECT status, error_message, error_traceback
        FROM metadata.pipeline_executions WHERE id = $1
        """,
        execution_id,
    )


async def is_run(reader: Reader, execution_id: int) -> bool:
    """Return whether there is a run of that number."""
    return bool(
        await reader.fetchval(
            "SELECT EXISTS (SELECT FROM metadata.pipeline_executions WHERE id = $1)", execution_id
        )
    )


async def find_ledger(reader: Reader, execution_id: int) -> list[asyncpg.Record]:
    """Return the sums of each dataset (source: None) and, after it, of its sources."""
    return await reader.fetch(
        """
        SELECT dataset, source, sum(read)::bigint AS read, sum(inserted)::bigint AS inserted,
            sum(updated)::bigint AS updated, sum(unchanged)::bigint AS unchanged,
            sum(superseded)::bigint AS superseded, sum(duplicates)::bigint AS duplicates,
            sum(quarantined)::bigint AS quarantined, count(*) AS loads
        FROM (
            SELECT * FROM metadata.dataset_counts
            WHERE execution_id = $1 ORDER BY id DESC LIMIT $2
        ) AS newest
        GROUP BY GROUPING SETS ((dataset), (dataset, source))
        ORDER BY dataset, grouping(source) DESC, sum(read) DESC, source
        LIMIT $3
        """,
        execution_id,
        SUMMED,
        SHOWN,
    )


async def sum_batches(reader: Reader, execution_id: int) -> asyncpg.Record | None:
    """Return the sums of the run's micro-batches; `batches` is 0 for a run without."""
    return await reader.fetchrow(
        """
        SELECT count(*) AS batches, coalesce(sum(messages), 0)::bigint AS messages,
            coalesce(sum(loaded), 0)::bigint AS loaded, coalesce(sum(dead), 0)::bigint AS dead,
            coalesce(sum(skipped), 0)::bigint AS skipped
        FROM (
            SELECT messages, loaded, dead, skipped FROM metadata.stream_batches
            WHERE execution_id = $1 ORDER BY id DESC LIMIT $2
        ) AS newest
        """,
        execution_id,
        SUMMED,
    )


async def find_files(reader: Reader, execution_id: int) -> list[asyncpg.Record]:
    """Return what the run looked at, refused ones first, one more than SHOWN at most."""
    return await reader.fetch(
        """
        SELECT * FROM (
            SELECT id, dataset, path, status, contracted, size_bytes, rows, message, notes
            FROM metadata.source_files WHERE execution_id = $1 LIMIT $3
        ) AS found
        ORDER BY status <> 'REFUSED', id LIMIT $2
        """,
        execution_id,
        SHOWN + 1,
        SUMMED,
    )


async def find_quality(reader: Reader, execution_id: int) -> list[asyncpg.Record]:
    """Return each rule's results summed over the run, failed ones first, SHOWN at most."""
    return await reader.fetch(
        """
        SELECT dataset, column_name, rule, severity, sum(checked)::bigint AS checked,
            sum(failed)::bigint AS failed
        FROM (
            SELECT dataset, column_name, rule, severity, checked, failed
            FROM metadata.quality_results WHERE execution_id = $1 ORDER BY id DESC LIMIT $2
        ) AS newest
        GROUP BY 1, 2, 3, 4
        ORDER BY sum(failed) = 0, severity, sum(failed) DESC, dataset, rule, column_name
        LIMIT $3
        """,
        execution_id,
        SUMMED,
        SHOWN,
    )


async def count_quarantined(reader: Reader, execution_id: int) -> int:
    """Return how many rows of the run are in quarantine, counting to COUNTED_REJECTS."""
    found: int = await reader.fetchval(
        """
        SELECT count(*) FROM (
            SELECT FROM metadata.quarantine WHERE execution_id = $1 LIMIT $2
        ) AS counted
        """,
        execution_id,
        COUNTED_REJECTS,
    )
    return found


async def find_logs(reader: Reader, execution_id: int) -> list[asyncpg.Record]:
    """Return the run's newest lines, the newest first."""
    return await reader.fetch(
        """
        SELECT logged_at, level, dataset, event, fields
        FROM metadata.pipeline_logs WHERE execution_id = $1
        ORDER BY logged_at DESC, id DESC LIMIT $2
        """,
        execution_id,
        SHOWN,
    )
