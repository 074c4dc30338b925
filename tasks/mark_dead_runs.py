"""Runs whose process is gone end as FAILED, with what is known of them.

A run is dead when nobody holds its advisory lock (tasks/run_lock.py), and its process is gone, as
far as it can be seen from here. Where it cannot be seen, as on another machine or in another
container, a free lock may also mean that PostgreSQL was restarted or the network was cut: a run
that lives takes its lock again, so the lock has to be free still after some patience. Should a run
be buried alive all the same, it says itself that it is RUNNING, and writes its own end.
"""

import asyncio
import datetime as dt
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import structlog

from infra.postgres.connection import Connection
from infra.redaction import redact
from tasks.process_identity import Sight, see_process
from tasks.run_lock import LOCK_BASE

log = structlog.get_logger("sluiceway.mark_dead_runs")

PATIENCE_SECONDS = 20.0
"""How long the lock of a run whose process cannot be seen has to be free.

A run that lost its connection has another about a second after PostgreSQL gives one.
"""
_LONGEST_LINE = 300


@dataclass(frozen=True, slots=True)
class DeadRun:
    """A run that was marked just now."""

    id: int
    pipeline_name: str
    flow_run_id: UUID | None
    reason: str


@dataclass(frozen=True, slots=True)
class Death:
    """What is known of a run that did not write its own end."""

    host: str
    process_id: int | None
    was_seen: bool
    """Whether its process is known to be gone, or has only let go of PostgreSQL."""
    last_line_at: dt.datetime | None
    last_line: str | None
    sources: int
    rows: int
    messages: int

    def __str__(self) -> str:
        """Return it as sentences for a person."""
        process = f"its process {self.process_id or '(number unknown)'} on {self.host or '?'}"
        first = (
            f"The run was killed: {process} ended without a word."
            if self.was_seen
            else f"The run is lost: {process} has no connection to PostgreSQL any more. It was "
            "killed, or its machine or network is gone."
        )
        return f"{first} {self._say_last_line()} {self._say_committed()}"

    def _say_last_line(self) -> str:
        if self.last_line is None or self.last_line_at is None:
            return "It had logged nothing."
        line = self.last_line.strip()
        if len(line) > _LONGEST_LINE:
            line = f"{line[:_LONGEST_LINE]}…"
        return f"Last heard of at {self.last_line_at:%Y-%m-%d %H:%M:%S} UTC: “{line}”."

    def _say_committed(self) -> str:
        if self.messages:
            return (
                f"It had committed {self.messages:,} messages, which stay; the next run goes on "
                "from there."
            )
        if self.sources:
            noun = "source" if self.sources == 1 else "sources"
            return (
                f"It had committed {self.sources:,} {noun} with {self.rows:,} rows, which stay; "
                "the next run does the rest."
            )
        return "It had committed no rows; the next run does its work."


async def mark_dead_runs(
    connection: Connection,
    *,
    pipeline_name: str | None = None,
    but: int | None = None,
    patience_seconds: float = 0.0,
) -> list[DeadRun]:
    """Leave no RUNNING row that nobody lives behind; returns those that were marked now.

    pipeline_name: only its runs; by default those of all. but: the run that asks.
    patience_seconds: after which the lock of a run whose process cannot be seen is looked at again.
    A row and its line in metadata.janitor_acts are written in one transaction. Any number may look
    at the same time: each run is marked once, and one that wrote its own end is left alone.
    """
    running = await connection.fetch(
        """
        SELECT id, pipeline_name, host, process_id, process_identity, flow_run_id
        FROM metadata.pipeline_executions
        WHERE status = 'RUNNING' AND ($1::text IS NULL OR pipeline_name = $1)
            AND id IS DISTINCT FROM $2
        ORDER BY id
        """,
        pipeline_name,
        but,
    )
    dead: list[DeadRun] = []
    unseen: list[asyncpg.Record] = []
    for row in running:
        sight = see_process(row["process_identity"])
        if sight is Sight.GONE:
            dead += await _mark(connection, row, was_seen=True)
        elif sight is Sight.UNSEEN and await _is_let_go(connection, row["id"]):
            unseen.append(row)
        # One that lives without its lock has lost its connection, and writes its own end.
    if unseen and patience_seconds:
        await asyncio.sleep(patience_seconds)
    for row in unseen:
        dead += await _mark(connection, row, was_seen=False)
    return dead


async def _is_let_go(connection: Connection, execution_id: int) -> bool:
    """Tell whether nobody holds the run's lock at this moment."""
    async with connection.transaction():
        return await _try_lock(connection, execution_id)


async def _try_lock(connection: Connection, execution_id: int) -> bool:
    taken: bool = await connection.fetchval(
        "SELECT pg_try_advisory_xact_lock($1)", LOCK_BASE + execution_id
    )
    return taken


async def _mark(connection: Connection, row: asyncpg.Record, *, was_seen: bool) -> list[DeadRun]:
    """Mark the run where nobody holds its lock and nobody has written its end."""
    async with connection.transaction():
        if not await _try_lock(connection, row["id"]):
            return []
        death = await _look_back(connection, row, was_seen=was_seen)
        reason = redact(str(death))
        marked = await connection.fetchval(
            """
            UPDATE metadata.pipeline_executions
            SET status = 'FAILED', end_time = clock_timestamp(), error_message = $2,
                records_processed = greatest(records_processed, $3)
            WHERE id = $1 AND status = 'RUNNING' RETURNING true
            """,
            row["id"],
            reason,
            max(death.rows, death.messages),
        )
        if not marked:
            return []
        await connection.execute(
            """
            INSERT INTO metadata.janitor_acts
                (act, execution_id, flow_run_id, pipeline_name, reason)
            VALUES ('marked dead', $1, $2, $3, $4)
            """,
            row["id"],
            row["flow_run_id"],
            row["pipeline_name"],
            reason,
        )
    log.warning(
        "a run is dead, and said to be FAILED now",
        execution_id=row["id"],
        pipeline_name=row["pipeline_name"],
        reason=reason,
    )
    return [DeadRun(row["id"], row["pipeline_name"], row["flow_run_id"], reason)]


async def _look_back(connection: Connection, row: asyncpg.Record, *, was_seen: bool) -> Death:
    line = await connection.fetchrow(
        """
        SELECT logged_at, concat_ws(' ', event, coalesce(fields ->> 'source', dataset)) AS event
        FROM metadata.pipeline_logs
        WHERE execution_id = $1 ORDER BY logged_at DESC, id DESC LIMIT 1
        """,
        row["id"],
    )
    [done] = await connection.fetch(
        """
        SELECT
            (SELECT count(*) FROM metadata.source_files
             WHERE execution_id = $1 AND status = 'LOADED') AS sources,
            (SELECT coalesce(sum(read), 0)::bigint FROM metadata.dataset_counts
             WHERE execution_id = $1) AS rows,
            (SELECT coalesce(sum(messages), 0)::bigint FROM metadata.stream_batches
             WHERE execution_id = $1) AS messages
        """,
        row["id"],
    )
    return Death(
        host=row["host"],
        process_id=row["process_id"],
        was_seen=was_seen,
        last_line_at=line["logged_at"] if line else None,
        last_line=line["event"] if line else None,
        sources=done["sources"],
        rows=done["rows"],
        messages=done["messages"],
    )
