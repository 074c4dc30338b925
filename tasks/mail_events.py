"""What mails tell about alert events, read from PostgreSQL; every answer is bounded."""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from infra.postgres.connection import Connection

MAX_REASONS = 5
_LAST_EVENTS = 20


@dataclass(frozen=True, slots=True)
class Event:
    """One row of metadata.alert_events."""

    kind: str
    severity: str
    summary: str
    execution_id: int | None
    detail: Mapping[str, Any]
    happened_at: dt.datetime


def since_of(event: Event) -> dt.datetime | None:
    """Return when what the event is about began, where it says so."""
    try:
        since = dt.datetime.fromisoformat(str(event.detail.get("since", "")))
    except ValueError:
        return None
    return since if since.tzinfo is not None else since.replace(tzinfo=dt.UTC)


async def find_event(connection: Connection, event_id: int) -> Event:
    """Return the event of that id."""
    row = await connection.fetchrow(
        "SELECT kind, severity, summary, execution_id, detail, happened_at"
        " FROM metadata.alert_events WHERE id = $1",
        event_id,
    )
    if row is None:
        raise LookupError(f"There is no alert event {event_id}.")
    return _event(row)


async def find_last_events(
    connection: Connection, problem: str, kinds: Sequence[str]
) -> list[Event]:
    """Return the newest twenty events of the problem that are in no mail yet, newest first."""
    rows = await connection.fetch(
        "SELECT kind, severity, summary, execution_id, detail, happened_at"
        " FROM metadata.alert_events"
        " WHERE problem = $1 AND handled_at IS NULL AND kind = ANY($2)"
        " ORDER BY id DESC LIMIT $3",
        problem,
        kinds,
        _LAST_EVENTS,
    )
    return [_event(row) for row in rows]


def _event(row: asyncpg.Record) -> Event:
    detail = json.loads(row["detail"])
    return Event(**{**dict(row), "detail": detail if isinstance(detail, dict) else {}})


async def count_of_day(connection: Connection, problems: Sequence[str]) -> dict[str, int]:
    """Return by problem how often it was told of trouble in the last 24 hours, mailed or not."""
    rows = await connection.fetch(
        """
        SELECT problem, count(*) AS events FROM metadata.alert_events
        WHERE problem = ANY($1) AND happened_at > clock_timestamp() - interval '24 hours'
            AND kind IN ('failure', 'anomaly', 'health') AND severity <> 'info'
        GROUP BY problem
        """,
        problems,
    )
    return {row["problem"]: row["events"] for row in rows}


async def find_reasons(connection: Connection, problem: str) -> list[tuple[str, int]]:
    """Return the commonest sentences among the trouble that is in no mail yet, and how often."""
    rows = await connection.fetch(
        """
        SELECT summary, count(*) AS events FROM metadata.alert_events
        WHERE problem = $1 AND handled_at IS NULL
            AND kind IN ('failure', 'anomaly', 'health') AND severity <> 'info'
        GROUP BY summary ORDER BY events DESC, max(id) DESC LIMIT $2
        """,
        problem,
        MAX_REASONS,
    )
    return [(row["summary"], row["events"]) for row in rows]


async def find_breakdown(connection: Connection, problem: str) -> tuple[dt.datetime | None, int]:
    """Return since when the problem was there before it was over, and how often it was told of."""
    row = await connection.fetchrow(
        """
        SELECT min(happened_at) AS since, count(*) AS events FROM metadata.alert_events
        WHERE problem = $1 AND kind IN ('failure', 'health') AND severity <> 'info'
            AND id > coalesce((
                SELECT max(id) FROM metadata.alert_events
                WHERE problem = $1 AND handled_at IS NOT NULL
                    AND (kind = 'recovery' OR (kind = 'health' AND severity = 'info'))
            ), 0)
        """,
        problem,
    )
    return (None, 0) if row is None else (row["since"], row["events"])


async def find_sentences(connection: Connection, event_ids: Sequence[int]) -> dict[int, str]:
    """Return the sentences of the events of these ids."""
    rows = await connection.fetch(
        "SELECT id, summary FROM metadata.alert_events WHERE id = ANY($1)", event_ids
    )
    return {row["id"]: row["summary"] for row in rows}
