"""What the quality page asks of the loads' profiles. Values of personal columns are not asked for.

A profile is a row a load; of the stream, a row a dataset and day.
"""

import datetime as dt
from collections.abc import Sequence

import asyncpg

from dash_app.queries.quality import COMPLETENESS
from dash_app.reader import Reader

NEWEST = 8
_LONGEST = 60
"""Characters of a smallest or largest value that are shown."""


async def find_last_dataset(reader: Reader) -> str | None:
    """Return the dataset that was loaded last; None where nothing ever was."""
    found: str | None = await reader.fetchval(
        "SELECT dataset FROM metadata.load_profiles ORDER BY id DESC LIMIT 1"
    )
    return found


async def find_loads(reader: Reader, dataset: str) -> list[asyncpg.Record]:
    """Return the dataset's newest loads, the newest first: NEWEST at most."""
    return await reader.fetch(
        """
        SELECT id, feed, read, duplicates, quarantined, execution_id, profiled_at
        FROM metadata.load_profiles WHERE dataset = $1 ORDER BY profiled_at DESC LIMIT $2
        """,
        dataset,
        NEWEST,
    )


async def describe_columns(
    reader: Reader, profile_id: int, shown: Sequence[str]
) -> list[asyncpg.Record]:
    """Return what is known of each column of a load, beside its share missing in the load before.

    shown: columns whose smallest and largest values may be asked for.
    """
    return await reader.fetch(
        """
        SELECT each.key AS column_name, (each.value ->> 'rows')::bigint AS rows,
            (each.value ->> 'missing')::bigint AS missing,
            (each.value ->> 'mistyped')::bigint AS mistyped,
            (each.value ->> 'distinct')::bigint AS distinct_values,
            CASE WHEN each.key = ANY ($2::text[])
                THEN left(each.value ->> 'minimum', $3) END AS minimum,
            CASE WHEN each.key = ANY ($2::text[])
                THEN left(each.value ->> 'maximum', $3) END AS maximum,
            (before.columns -> each.key ->> 'missing')::float8
                / nullif((before.columns -> each.key ->> 'rows')::float8, 0) AS missing_before
        FROM metadata.load_profiles AS p
        CROSS JOIN LATERAL jsonb_each(p.columns) AS each
        LEFT JOIN LATERAL (
            SELECT b.columns FROM metadata.load_profiles AS b
            WHERE b.dataset = p.dataset AND b.feed = p.feed AND b.profiled_at < p.profiled_at
            ORDER BY b.profiled_at DESC LIMIT 1
        ) AS before ON true
        WHERE p.id = $1
        ORDER BY each.key
        """,
        profile_id,
        list(shown),
        _LONGEST,
    )


async def chart_volume(reader: Reader, dataset: str, first_day: dt.date) -> list[asyncpg.Record]:
    """Return by day (UTC) and feed how many rows came, in how many loads."""
    return await reader.fetch(
        """
        SELECT (profiled_at AT TIME ZONE 'UTC')::date AS day, feed, sum(read)::bigint AS rows,
            count(*) AS loads
        FROM metadata.load_profiles
        WHERE dataset = $1 AND profiled_at >= $2::date::timestamp AT TIME ZONE 'UTC'
        GROUP BY 1, 2 ORDER BY 1, 2
        """,
        dataset,
        first_day,
    )


async def chart_missing(reader: Reader, dataset: str, first_day: dt.date) -> list[asyncpg.Record]:
    """Return by day (UTC) and column how many cells came, and how many of them were empty.

    From the rollup of what the same loads checked: to take all profiles apart takes ten times as
    long.
    """
    return await reader.fetch(
        """
        SELECT day, column_name, checked AS rows, failed AS missing FROM metadata.daily_quality
        WHERE dataset = $1 AND day >= $2 AND rule = $3 AND column_name IS NOT NULL
        ORDER BY day, column_name
        """,
        dataset,
        first_day,
        COMPLETENESS,
    )
