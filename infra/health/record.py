"""Results of health checks in PostgreSQL, and events for somebody to be told where that is due.

Whether a component is down is read from the database each time: a checker that was restarted
repeats nothing, and of several side by side one writes what the others then find.
"""

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from infra.health.finding import Result, Status
from infra.postgres.connection import Connection

PROBLEM = "component:"
_LOOK_BACK = dt.timedelta(days=1)
"""Bad checks that are further apart are none in a row."""
_MANY = 16
"""Rows that are looked at for each check in a row: several checkers, and maintenance between."""
_SUMMARY_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Minute:
    """What was found of a component in a minute; BAD where any check of it was."""

    at: dt.datetime
    is_bad: bool
    checked_at: dt.datetime
    """The check that decided it: the first bad one, or else the first."""
    detail: str


@dataclass(frozen=True, slots=True)
class Event:
    """A component that is down, or is back."""

    component: str
    minute: Minute
    since: dt.datetime
    """When it was first found to be down."""
    checks: int
    """Bad minutes in a row."""
    is_down: bool


async def write_results(
    connection: Connection, results: Sequence[Result], *, alert_after: int
) -> list[Event]:
    """Leave a row for each result, and an event for each component that went down or came back.

    All of it in one transaction. Results may be of several minutes and late; they count for
    theirs. A component is down with so many bad minutes in a row (`alert_after`), and back with
    the first good one after that; what is UNKNOWN or under maintenance changes neither.
    """
    async with connection.transaction():
        # One checker after another: the later one sees what the earlier one wrote.
        await connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('metadata.health_checks', 0))"
        )
        await connection.execute(
            """
            INSERT INTO metadata.health_checks
                (checked_at, component, status, latency_seconds, detail)
            SELECT * FROM unnest(
                $1::timestamptz[], $2::text[], $3::text[], $4::float8[], $5::text[]
            )
            """,
            [each.checked_at for each in results],
            [each.component for each in results],
            [each.status.value for each in results],
            [each.latency_seconds for each in results],
            [each.detail for each in results],
        )
        events = await _judge(connection, results, alert_after)
        await _write_events(connection, events)
    return events


def find_events(
    component: str,
    minutes: Sequence[Minute],
    *,
    alert_after: int,
    is_down: bool,
    since: dt.datetime | None = None,
) -> list[Event]:
    """Return what the minutes, in their order, say of a component.

    is_down: whether it was before them, and since when.
    """
    events: list[Event] = []
    first, run = since, 0
    for minute in minutes:
        if minute.is_bad:
            run += 1
            if run == 1 and not is_down:
                first = minute.checked_at
            if run >= alert_after and not is_down:
                is_down = True
                events.append(
                    Event(component, minute, first or minute.checked_at, run, is_down=True)
                )
        else:
            if is_down:
                is_down = False
                events.append(
                    Event(component, minute, first or minute.checked_at, run, is_down=False)
                )
            run = 0
    return events


async def _judge(
    connection: Connection, results: Sequence[Result], alert_after: int
) -> list[Event]:
    known = [each for each in results if each.status is not Status.UNKNOWN]
    firsts: dict[str, dt.datetime] = {}
    for each in known:
        firsts[each.component] = min(firsts.get(each.component, each.checked_at), each.checked_at)
    rows = await connection.fetch(
        """
        SELECT given.component, last.is_down, last.since, minutes.*
        FROM unnest($1::text[], $2::timestamptz[]) AS given (component, first_at)
        LEFT JOIN LATERAL (
            SELECT e.kind = 'health' AS is_down, e.happened_at,
                (e.detail ->> 'since')::timestamptz AS since
            FROM metadata.alert_events AS e
            WHERE e.problem = $5 || given.component AND e.kind IN ('health', 'recovery')
            ORDER BY e.id DESC LIMIT 1
        ) AS last ON true
        CROSS JOIN LATERAL (
            -- By its name, BAD comes first.
            SELECT minute AS at, bool_or(status = 'BAD') AS is_bad,
                (array_agg(checked_at ORDER BY status, checked_at))[1] AS checked_at,
                (array_agg(coalesce(detail, '') ORDER BY status, checked_at))[1] AS detail
            FROM (
                SELECT date_trunc('minute', checked_at, 'UTC') AS minute, checked_at, status, detail
                FROM metadata.health_checks AS h
                WHERE h.component = given.component AND h.checked_at > given.first_at - $3::interval
                    AND status <> 'UNKNOWN'
                ORDER BY checked_at DESC LIMIT $4
            ) AS every
            -- What was told of is over and done with, whoever brings more of it.
            WHERE (last.happened_at IS NULL
                   OR minute > date_trunc('minute', last.happened_at, 'UTC'))
                AND NOT EXISTS (
                    SELECT FROM metadata.maintenance_windows AS w
                    WHERE (w.component IS NULL OR w.component = given.component)
                        AND w.starts_at < minute + interval '1 minute' AND w.ends_at > minute
                )
            GROUP BY minute
        ) AS minutes
        ORDER BY given.component, minutes.at
        """,
        list(firsts),
        list(firsts.values()),
        _LOOK_BACK,
        _MANY * alert_after + _MANY * len(results),
        PROBLEM,
    )
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(row["component"], []).append(row)
    events: list[Event] = []
    for component, its in found.items():
        minutes = [
            Minute(row["at"], row["is_bad"], row["checked_at"], row["detail"]) for row in its
        ]
        was_down = bool(its[0]["is_down"])
        events += find_events(
            component,
            minutes,
            alert_after=alert_after,
            is_down=was_down,
            since=its[0]["since"] if was_down else None,
        )
    return events


async def _write_events(connection: Connection, events: Sequence[Event]) -> None:
    # Those of one component in their order, which their ids keep.
    for each in events:
        await connection.execute(
            """
            INSERT INTO metadata.alert_events
                (kind, problem, severity, summary, detail, happened_at)
            VALUES ($1, $2, $3, $4, $5, $6)
            """,
            "health" if each.is_down else "recovery",
            PROBLEM + each.component,
            "error" if each.is_down else "info",
            _summarise(each)[:_SUMMARY_CHARACTERS],
            json.dumps(
                {
                    "component": each.component,
                    "detail": each.minute.detail,
                    "since": each.since.isoformat(),
                    "checks": each.checks,
                }
            ),
            each.minute.checked_at,
        )


def _summarise(event: Event) -> str:
    if event.is_down:
        said = f"since {event.since.astimezone(dt.UTC):%H:%M} UTC ({event.checks} checks)"
        return f"{event.component} is BAD {said}: {event.minute.detail}"
    minutes = max(1, round((event.minute.checked_at - event.since) / dt.timedelta(minutes=1)))
    unit = "minute" if minutes == 1 else "minutes"
    return f"{event.component} is GOOD again after {minutes:,} {unit}"
