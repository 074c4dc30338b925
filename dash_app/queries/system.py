"""What the system's page asks: are the parts alive, and have they been; what they use."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from dash_app.reader import Reader
from schemas.errors import SluicewayError


class WindowError(SluicewayError):
    """A maintenance window cannot be set as it was asked for."""


@dataclass(frozen=True, slots=True)
class Life:
    """From when on a component is expected to be checked."""

    component: str
    first_at: dt.datetime


@dataclass(frozen=True, slots=True)
class Minutes:
    """What was found of a component from one moment on, in minutes."""

    component: str
    since: dt.datetime
    first_at: dt.datetime
    good: int
    bad: int
    unknown: int
    """Checked, without an answer; minutes in which nobody checked are not in it."""
    maintenance: int


@dataclass(frozen=True, slots=True)
class PoolUse:
    """How this dashboard uses its own connections."""

    opened: int
    idle: int
    most: int


async def find_checks(reader: Reader) -> list[asyncpg.Record]:
    """Return the newest health check of each component."""
    return await reader.fetch(
        """
        WITH RECURSIVE named AS (
            (SELECT component FROM metadata.health_checks ORDER BY component LIMIT 1)
            UNION ALL
            SELECT (SELECT h.component FROM metadata.health_checks AS h
                    WHERE h.component > named.component ORDER BY 1 LIMIT 1)
            FROM named WHERE named.component IS NOT NULL
        )
        SELECT last.* FROM named, LATERAL (
            SELECT component, status, latency_seconds, left(detail, 500) AS detail, checked_at
            FROM metadata.health_checks AS h WHERE h.component = named.component
            ORDER BY checked_at DESC LIMIT 1
        ) AS last
        ORDER BY last.component
        """
    )


async def find_lives(reader: Reader) -> list[Life]:
    """Return each component that was ever checked, with when that was first."""
    rows = await reader.fetch(
        # A skip scan: from one component's name to the next, over the index.
        """
        WITH RECURSIVE named AS (
            (SELECT component FROM metadata.rollup_uptime ORDER BY component LIMIT 1)
            UNION ALL
            SELECT (SELECT u.component FROM metadata.rollup_uptime AS u
                    WHERE u.component > named.component ORDER BY 1 LIMIT 1)
            FROM named WHERE named.component IS NOT NULL
        )
        SELECT component, CASE
            -- Where the oldest checks are pruned, only the hour of the first is known.
            WHEN first_check < first_hour + interval '1 hour'
                THEN date_trunc('minute', first_check)
            ELSE first_hour END AS first_at
        FROM (
            SELECT component,
                (SELECT min(hour) FROM metadata.rollup_uptime AS u
                 WHERE u.component = named.component) AS first_hour,
                (SELECT min(checked_at) FROM metadata.health_checks AS h
                 WHERE h.component = named.component) AS first_check
            FROM named WHERE component IS NOT NULL
        ) AS lives
        ORDER BY component
        """
    )
    return [Life(row["component"], row["first_at"]) for row in rows]


async def sum_minutes(
    reader: Reader, lives: Sequence[Life], starts: Sequence[dt.datetime], now: dt.datetime
) -> list[Minutes]:
    """Return for each component and start what was found from then on, from the rollups alone.

    Maintenance that no check has followed yet is in no rollup: it is added from the windows.
    """
    rows = await reader.fetch(
        """
        SELECT life.component, life.first_at, given.since,
            coalesce(sums.good, 0) AS good, coalesce(sums.bad, 0) AS bad,
            coalesce(sums.unknown, 0) AS unknown,
            coalesce(sums.maintenance, 0) + greatest(0, coalesce(tail.minutes, 0)
                - CASE WHEN last.hour >= given.since THEN last.maintenance ELSE 0 END)
                AS maintenance
        FROM unnest($1::text[], $2::timestamptz[]) AS life (component, first_at)
        CROSS JOIN unnest($3::timestamptz[]) AS given (since)
        CROSS JOIN LATERAL (
            SELECT hour, maintenance FROM metadata.rollup_uptime AS u
            WHERE u.component = life.component ORDER BY hour DESC LIMIT 1
        ) AS last
        CROSS JOIN LATERAL (
            SELECT sum(good)::int AS good, sum(bad)::int AS bad, sum(unknown)::int AS unknown,
                sum(maintenance)::int AS maintenance
            FROM metadata.rollup_uptime AS u
            WHERE u.component = life.component AND u.hour >= given.since
        ) AS sums
        CROSS JOIN LATERAL (
            SELECT floor(sum(extract(epoch FROM upper(each) - lower(each))) / 60)::int AS minutes
            FROM unnest((
                SELECT range_agg(tstzrange(w.starts_at, w.ends_at))
                FROM metadata.maintenance_windows AS w
                WHERE (w.component IS NULL OR w.component = life.component)
                    AND w.ends_at > last.hour AND w.starts_at < $4
            ) * tstzmultirange(tstzrange(
                least(greatest(last.hour, given.since, life.first_at), $4), $4
            ))) AS each
        ) AS tail
        """,
        [each.component for each in lives],
        [each.first_at for each in lives],
        list(starts),
        now,
    )
    return [Minutes(**dict(row)) for row in rows]


async def chart_minutes(
    reader: Reader, component: str, since: dt.datetime, unit: str
) -> list[asyncpg.Record]:
    """Return minutes by component and hour or day (UTC); component: empty for all."""
    return await reader.fetch(
        """
        SELECT component, date_trunc($3, hour, 'UTC') AS at, sum(good)::int AS good,
            sum(bad)::int AS bad, sum(unknown)::int AS unknown,
            sum(maintenance)::int AS maintenance
        FROM metadata.rollup_uptime
        WHERE hour >= $2 AND ($1 = '' OR component = $1)
        GROUP BY 1, 2
        """,
        component,
        since,
        unit,
    )


async def find_windows(reader: Reader, since: dt.datetime) -> list[asyncpg.Record]:
    """Return the maintenance windows that end after that moment, the last to begin first."""
    return await reader.fetch(
        """
        SELECT id, component, starts_at, ends_at, reason, created_by, changed_by
        FROM metadata.maintenance_windows WHERE ends_at > $1
        ORDER BY starts_at DESC, id DESC LIMIT 200
        """,
        since,
    )


async def find_overlapping(
    reader: Reader, component: str | None, starts_at: dt.datetime, ends_at: dt.datetime
) -> list[asyncpg.Record]:
    """Return the windows that cover a part of that time, of the component or of everything.

    Of every component where it is None. One that was called off before it began covers none.
    """
    return await reader.fetch(
        """
        SELECT component, starts_at, ends_at, reason FROM metadata.maintenance_windows
        WHERE starts_at < $3 AND ends_at > $2 AND ends_at - starts_at > interval '1 second'
            AND (component IS NULL OR component = $1 OR $1::text IS NULL)
        ORDER BY starts_at, id LIMIT 20
        """,
        component,
        starts_at,
        ends_at,
    )


async def find_window(reader: Reader, window_id: int) -> asyncpg.Record | None:
    """Return a maintenance window, if there is one of that id."""
    return await reader.fetchrow(
        "SELECT id, component, starts_at, ends_at, reason FROM metadata.maintenance_windows "
        "WHERE id = $1",
        window_id,
    )


async def set_window(
    reader: Reader,
    *,
    window_id: int | None,
    component: str | None,
    starts_at: dt.datetime,
    ends_at: dt.datetime,
    reason: str,
    by: str,
) -> int:
    """Make a maintenance window, or change the one of that id; returns its id.

    Only for who may: the caller has asked. Raises WindowError with PostgreSQL's own sentence.
    """
    try:
        found: int = await reader.write(
            "SELECT metadata.set_maintenance($1, $2, $3, $4, $5, $6)",
            window_id,
            component,
            starts_at,
            ends_at,
            reason,
            by,
        )
    except asyncpg.RaiseError as error:
        raise WindowError(str(error)) from error
    return found


async def count_connections(reader: Reader) -> list[asyncpg.Record]:
    """Return connections by role and state, as far as this role is told."""
    return await reader.fetch(
        """
        SELECT a.usename AS role, a.state, count(*) AS connections,
            nullif(max(r.rolconnlimit), -1) AS most
        FROM pg_stat_activity AS a LEFT JOIN pg_roles AS r ON r.oid = a.usesysid
        WHERE a.datid IS NOT NULL
        GROUP BY 1, 2 ORDER BY 1, 2
        """
    )


async def describe_server(reader: Reader) -> asyncpg.Record:
    """Return PostgreSQL's limits and sizes, of this database."""
    row = await reader.fetchrow(
        """
        SELECT current_setting('max_connections')::int AS max_connections,
            current_setting('server_version') AS version,
            pg_postmaster_start_time() AS started_at,
            pg_database_size(current_database()) AS size_bytes,
            s.blks_hit, s.blks_read, s.deadlocks, s.temp_bytes,
            (SELECT min(xact_start) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()) AS oldest_at,
            pg_has_role('pg_read_all_stats', 'USAGE') AS sees_all
        FROM pg_stat_database AS s WHERE s.datname = current_database()
        """
    )
    assert row is not None  # noqa: S101 - who is connected to a database finds it
    return row


def pool_use(reader: Reader) -> PoolUse | None:
    """Return how the dashboard's own pool is used; None where none is open."""
    pool = reader._pool._pool  # noqa: SLF001 - the reader tells nothing of its pool
    if pool is None:
        return None
    return PoolUse(pool.get_size(), pool.get_idle_size(), pool.get_max_size())
