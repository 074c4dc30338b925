"""What the overview asks: how runs went, what is behind, what is wrong."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from dash_app.reader import Reader
from schemas.datasets import DATASETS

ALWAYS_ON = "stream_processing_pipeline"
"""Ends when it is told to: how long it ran says nothing, and durations are those of the others."""
COUNTED_LETTERS = 10_000
LOOKED_AT = 200
BUCKETS_PER_OCTAVE = 8
"""Of metadata.rollup_durations: a bucket's durations differ by 9 %."""


@dataclass(frozen=True, slots=True)
class Summary:
    """How the runs of a time went."""

    ended: int
    succeeded: int
    average_seconds: float | None
    p95_seconds: float | None


async def summarise_recent(reader: Reader, since: dt.datetime) -> Summary:
    """Return how the runs that began since then went, run by run: for a day or so."""
    row = await reader.fetchrow(
        """
        SELECT count(*) AS ended,
            count(*) FILTER (WHERE status = 'SUCCESS') AS succeeded,
            (avg(extract(epoch FROM end_time - start_time))
                FILTER (WHERE pipeline_name <> $2))::float8 AS average_seconds,
            (percentile_cont(0.95) WITHIN GROUP (
                ORDER BY extract(epoch FROM end_time - start_time)
            ) FILTER (WHERE pipeline_name <> $2))::float8 AS p95_seconds
        FROM metadata.pipeline_executions
        WHERE start_time >= $1 AND status <> 'RUNNING'
        """,
        since,
        ALWAYS_ON,
    )
    assert row is not None  # noqa: S101 - an aggregate has one row
    return Summary(**dict(row))


async def summarise_days(reader: Reader, first_day: dt.date) -> Summary:
    """Return how the runs since that day (UTC) went, from the rollups; p95 to within 5 %."""
    row = await reader.fetchrow(
        """
        WITH counted AS (
            SELECT sum(executions)::bigint AS ended,
                coalesce(sum(executions) FILTER (WHERE status = 'SUCCESS'), 0)::bigint
                    AS succeeded,
                (sum(duration_seconds) FILTER (WHERE pipeline_name <> $2)
                    / nullif(sum(executions) FILTER (WHERE pipeline_name <> $2), 0))::float8
                    AS average_seconds
            FROM metadata.rollup_executions WHERE day >= $1
        ), ranked AS (
            SELECT bucket, sum(sum(executions)) OVER (ORDER BY bucket) AS up_to,
                sum(sum(executions)) OVER () AS total
            FROM metadata.rollup_durations
            WHERE day >= $1 AND pipeline_name <> $2 GROUP BY bucket
        )
        SELECT coalesce(ended, 0) AS ended, succeeded, average_seconds,
            (SELECT min(bucket) FROM ranked WHERE up_to >= 0.95 * total) AS bucket
        FROM counted
        """,
        first_day,
        ALWAYS_ON,
    )
    assert row is not None  # noqa: S101 - an aggregate has one row
    bucket = row["bucket"]
    p95 = None if bucket is None else 2 ** ((bucket + 0.5) / BUCKETS_PER_OCTAVE)
    return Summary(row["ended"], row["succeeded"], row["average_seconds"], p95)


async def find_running(reader: Reader) -> list[asyncpg.Record]:
    """Return the runs that are under way, the oldest first, a hundred at most."""
    return await reader.fetch(
        """
        SELECT id, pipeline_name, start_time, records_processed
        FROM metadata.pipeline_executions WHERE status = 'RUNNING'
        ORDER BY start_time LIMIT 100
        """
    )


async def count_since(reader: Reader, since: dt.datetime) -> int:
    """Return how many runs began since then."""
    found: int = await reader.fetchval(
        "SELECT count(*) FROM metadata.pipeline_executions WHERE start_time >= $1", since
    )
    return found


async def count_by_hour(reader: Reader, since: dt.datetime) -> list[asyncpg.Record]:
    """Return ended runs by the hour of their start and status: at most some days."""
    return await reader.fetch(
        """
        SELECT date_trunc('hour', start_time) AS at, status, count(*) AS executions,
            (avg(extract(epoch FROM end_time - start_time))
                FILTER (WHERE pipeline_name <> $2))::float8 AS average_seconds
        FROM metadata.pipeline_executions
        WHERE start_time >= $1 AND status <> 'RUNNING' GROUP BY 1, 2 ORDER BY 1
        """,
        since,
        ALWAYS_ON,
    )


async def count_by_day(reader: Reader, first_day: dt.date) -> list[asyncpg.Record]:
    """Return ended runs by day (UTC) and status, from the rollups."""
    return await reader.fetch(
        """
        SELECT day AS at, status, sum(executions)::bigint AS executions,
            (sum(duration_seconds) FILTER (WHERE pipeline_name <> $2)
                / nullif(sum(executions) FILTER (WHERE pipeline_name <> $2), 0))::float8
                AS average_seconds
        FROM metadata.rollup_executions WHERE day >= $1 GROUP BY 1, 2 ORDER BY 1
        """,
        first_day,
        ALWAYS_ON,
    )


async def count_rows_by_day(reader: Reader, first_day: dt.date) -> list[asyncpg.Record]:
    """Return rows loaded and quarantined by day (UTC), from the rollups."""
    return await reader.fetch(
        """
        SELECT day, sum(loaded)::bigint AS loaded, sum(quarantined)::bigint AS quarantined
        FROM metadata.daily_counts WHERE day >= $1 GROUP BY day ORDER BY day
        """,
        first_day,
    )


async def find_timeline(reader: Reader, since: dt.datetime) -> list[asyncpg.Record]:
    """Return the newest runs that began since then, 300 at most, newest first."""
    return await reader.fetch(
        """
        SELECT id, pipeline_name, status, start_time, end_time, records_processed
        FROM metadata.pipeline_executions WHERE start_time >= $1
        ORDER BY start_time DESC LIMIT 300
        """,
        since,
    )


async def find_last_loads(reader: Reader) -> dict[str, dt.datetime]:
    """Return by dataset when rows of it came last, or an API said again what it had said before.

    A load of which every row was refused brought none, and a file that is as it was is no news:
    who promised a daily export owes one. Looked for among the newest LOOKED_AT of each kind.
    """
    # A range and an order by the dataset: only the index on both serves that. With `=`, the planner
    # may walk all files by their number, to find those of a dataset that was loaded long ago.
    rows = await reader.fetch(
        """
        SELECT given.dataset, max(at) AS at FROM unnest($1::text[]) AS given (dataset),
        LATERAL (
            SELECT max(recorded_at) FILTER (WHERE inserted + updated + unchanged > 0) AS at
            FROM (
                SELECT recorded_at, inserted, updated, unchanged FROM metadata.dataset_counts AS c
                WHERE c.dataset = given.dataset ORDER BY recorded_at DESC LIMIT $2
            ) AS counts
            UNION ALL
            SELECT max(recorded_at) FILTER (WHERE status = 'UNCHANGED' AND path LIKE '%://%')
            FROM (
                SELECT recorded_at, status, path FROM metadata.source_files AS f
                WHERE f.dataset BETWEEN given.dataset AND given.dataset
                ORDER BY f.dataset, f.id DESC LIMIT $2
            ) AS files
        ) AS last
        GROUP BY given.dataset HAVING max(at) IS NOT NULL
        """,
        [each.spec.table for each in DATASETS],
        LOOKED_AT,
    )
    return {row["dataset"]: row["at"] for row in rows}


async def find_failed_pipelines(reader: Reader) -> list[asyncpg.Record]:
    """Return the pipelines whose newest ended run failed, with that run."""
    # A skip scan: from one pipeline's name to the next, over the index. The last run is asked for
    # by a range and an order by the name too, which only the index on both serves: with `=`, the
    # planner may walk all runs by their start, to find those of a pipeline that ran long ago.
    return await reader.fetch(
        """
        WITH RECURSIVE named AS (
            (SELECT pipeline_name FROM metadata.pipeline_executions ORDER BY pipeline_name LIMIT 1)
            UNION ALL
            SELECT (SELECT e.pipeline_name FROM metadata.pipeline_executions AS e
                    WHERE e.pipeline_name > named.pipeline_name ORDER BY 1 LIMIT 1)
            FROM named WHERE named.pipeline_name IS NOT NULL
        )
        SELECT last.* FROM named, LATERAL (
            SELECT id, pipeline_name, status, start_time, end_time, error_message
            FROM metadata.pipeline_executions AS e
            WHERE e.pipeline_name BETWEEN named.pipeline_name AND named.pipeline_name
                AND status <> 'RUNNING'
            ORDER BY e.pipeline_name, e.start_time DESC LIMIT 1
        ) AS last
        WHERE last.status = 'FAILED' ORDER BY last.end_time DESC
        """
    )


async def find_lag(reader: Reader, since: dt.datetime) -> list[asyncpg.Record]:
    """Return each partition's newest lag that was measured since then."""
    return await reader.fetch(
        """
        SELECT o.consumer_group, o.topic, o.partition, lag.*
        FROM metadata.stream_offsets AS o, LATERAL (
            SELECT lag_messages, lag_seconds, measured_at FROM metadata.stream_lag AS l
            WHERE (l.consumer_group, l.topic, l.partition)
                = (o.consumer_group, o.topic, o.partition) AND measured_at >= $1
            ORDER BY measured_at DESC LIMIT 1
        ) AS lag
        ORDER BY 1, 2, 3
        """,
        since,
    )


async def count_open_letters(reader: Reader, since: dt.datetime) -> int:
    """Return how many letters buried since then are not loaded: COUNTED_LETTERS at most."""
    found: int = await reader.fetchval(
        """
        SELECT count(*) FROM (
            SELECT FROM metadata.dead_letters
            -- Not as coalesce(): an index on all that are open would then look shorter than it is.
            WHERE buried_at >= $1 AND (outcome IS NULL OR outcome = 'failed') LIMIT $2
        ) AS counted
        """,
        since,
        COUNTED_LETTERS,
    )
    return found


async def find_refused(
    reader: Reader, datasets: Sequence[str], since: dt.datetime
) -> list[asyncpg.Record]:
    """Return sources that were refused since then and not looked at again, the newest first.

    Looked for among the newest LOOKED_AT of each dataset.
    """
    # From the dataset on, in the order of the index, as in `quality.find_drift`.
    return await reader.fetch(
        """
        SELECT newest.dataset, newest.path, left(newest.message, 1000) AS message,
            newest.execution_id, newest.recorded_at
        FROM unnest($1::text[]) AS given (dataset), LATERAL (
            SELECT id, dataset, path, status, message, execution_id, recorded_at
            FROM metadata.source_files AS f
            WHERE f.dataset >= given.dataset
            ORDER BY f.dataset, f.id DESC LIMIT $3
        ) AS newest
        WHERE newest.dataset = given.dataset AND newest.status = 'REFUSED'
            AND newest.recorded_at >= $2 AND NOT EXISTS (
                SELECT FROM metadata.source_files AS later
                WHERE later.path = newest.path AND later.id > newest.id
            )
        ORDER BY newest.recorded_at DESC LIMIT 100
        """,
        list(datasets),
        since,
        LOOKED_AT,
    )
