"""What the health checks say of the platform's components, now and over months."""

import datetime as dt

from infra.exporter.sheet import Sheet
from infra.postgres.connection import Connection
from infra.uptime import TARGET, Unit, begin_of, find_uptime

STALE = dt.timedelta(minutes=5)
"""What was checked longer ago says nothing about now."""
_PERIODS: tuple[Unit, ...] = ("month", "quarter")


async def read_components(sheet: Sheet, connection: Connection) -> None:
    """Add each component's newest check, and whether it is being maintained."""
    rows = await connection.fetch(
        # A skip scan: from one component's name to the next, over the index.
        """
        WITH RECURSIVE named AS (
            (SELECT component FROM metadata.health_checks ORDER BY component LIMIT 1)
            UNION ALL
            SELECT (SELECT h.component FROM metadata.health_checks AS h
                    WHERE h.component > named.component ORDER BY 1 LIMIT 1)
            FROM named WHERE named.component IS NOT NULL
        )
        SELECT named.component, last.status, last.latency_seconds,
            extract(epoch FROM last.checked_at)::float8 AS checked_at,
            last.checked_at < clock_timestamp() - $1::interval AS is_stale,
            EXISTS (
                SELECT FROM metadata.maintenance_windows AS w
                WHERE (w.component IS NULL OR w.component = named.component)
                    AND w.starts_at <= clock_timestamp() AND w.ends_at > clock_timestamp()
            ) AS is_maintained
        FROM named, LATERAL (
            SELECT status, latency_seconds, checked_at FROM metadata.health_checks AS h
            WHERE h.component BETWEEN named.component AND named.component
            ORDER BY h.component, h.checked_at DESC LIMIT 1
        ) AS last
        """,
        STALE,
    )
    of_component = [((row["component"],), row) for row in rows]
    sheet.gauge(
        "sluiceway_component_up",
        "1 where the component's last check was good, 0 where it was bad; absent where that is not "
        "known, or the check is older than 5 minutes.",
        ("component",),
        [
            (key, float(row["status"] == "GOOD"))
            for key, row in of_component
            if row["status"] != "UNKNOWN" and not row["is_stale"]
        ],
        combine=min,
    )
    sheet.gauge(
        "sluiceway_component_checked_timestamp_seconds",
        "When the component was last checked.",
        ("component",),
        [(key, row["checked_at"]) for key, row in of_component],
        unit="seconds",
    )
    sheet.gauge(
        "sluiceway_component_latency_seconds",
        "How long the component took to answer its last check.",
        ("component",),
        [
            (key, row["latency_seconds"])
            for key, row in of_component
            if row["latency_seconds"] is not None
        ],
        unit="seconds",
    )
    sheet.gauge(
        "sluiceway_in_maintenance",
        "1 while a maintenance window covers the component.",
        ("component",),
        [(key, float(row["is_maintained"])) for key, row in of_component],
    )


async def read_uptime(sheet: Sheet, connection: Connection) -> None:
    """Add each component's uptime in the month and the quarter so far (UTC), and the target."""
    now = await connection.fetchval("SELECT now()")
    rows = [
        ((each.component, period), each.share)
        for period in _PERIODS
        for each in await find_uptime(
            connection, period, begin=begin_of(now, period), end=now, now=now
        )
        if each.share is not None
    ]
    sheet.gauge(
        "sluiceway_uptime_ratio",
        "Good minutes over all but maintenance, in the month or quarter so far.",
        ("component", "period"),
        rows,
        combine=min,
    )
    sheet.gauge(
        "sluiceway_uptime_target_ratio",
        "What the uptime ratio is to be at least.",
        (),
        [((), TARGET)],
    )
