"""What mails tell about a run, read from PostgreSQL; every answer is bounded."""

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import asyncpg

from infra.postgres.connection import Connection
from tasks.ledger import Ledger

LOG_LINES = 20
MAX_SOURCES = 40
_LAST_BATCHES = 1000
_NOT_SHOWN = frozenset({"logger", "exception", "flow_run_id", "task_run_id"})
TERMS = ("inserted", "updated", "unchanged", "superseded", "duplicates", "quarantined")
"""The terms of a ledger, which add up to what was read."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file or an API's answer that a run looked at."""

    path: str
    dataset: str
    status: Literal["LOADED", "UNCHANGED", "REFUSED"]
    message: str
    ledger: Ledger | None


@dataclass(frozen=True, slots=True)
class Run:
    """A run, and what it did."""

    id: int
    pipeline_name: str
    status: str
    start_time: dt.datetime
    end_time: dt.datetime | None
    records_processed: int
    error_message: str
    error_traceback: str
    warnings: tuple[str, ...]
    host: str
    flow_run_id: UUID | None
    sources: tuple[Source, ...]
    """At most MAX_SOURCES: those that were refused, then those that were loaded."""
    source_counts: Mapping[str, int]
    """By status: all of them."""
    streamed: Mapping[str, Ledger]
    """By dataset, of its last 1,000 ledgers: what came from no file."""
    missed: tuple[str, ...]
    """Of a run that failed: sources that the last good run looked at, and it did not."""
    lines: tuple[str, ...]
    """Its last log lines, the oldest first."""


async def find_run(connection: Connection, execution_id: int | None) -> Run | None:
    """Return the run; None where there is no such row."""
    row = await connection.fetchrow(
        """
        SELECT id, pipeline_name, status, start_time, end_time, records_processed,
            coalesce(error_message, '') AS error_message,
            coalesce(error_traceback, '') AS error_traceback, warnings, host, flow_run_id,
            parameters
        FROM metadata.pipeline_executions WHERE id = $1
        """,
        execution_id,
    )
    if row is None:
        return None
    counts = await connection.fetch(
        "SELECT status, count(*) AS sources FROM metadata.source_files"
        " WHERE execution_id = $1 GROUP BY status",
        execution_id,
    )
    facts = {name: value for name, value in row.items() if name != "parameters"}
    return Run(
        **{**facts, "warnings": tuple(row["warnings"])},
        sources=await _find_sources(connection, row["id"]),
        source_counts={each["status"]: each["sources"] for each in counts},
        streamed=await _find_streamed(connection, row["id"]),
        missed=await _find_missed(connection, row) if row["status"] == "FAILED" else (),
        lines=await _find_lines(connection, row["id"]),
    )


async def _find_sources(connection: Connection, execution_id: int) -> tuple[Source, ...]:
    rows = await connection.fetch(
        """
        SELECT f.path, f.dataset, f.status, coalesce(f.message, '') AS message, c.read, c.inserted,
            c.updated, c.unchanged, c.superseded, c.duplicates, c.quarantined
        FROM metadata.source_files AS f
        LEFT JOIN metadata.dataset_counts AS c ON c.batch_id = f.id AND c.dataset = f.dataset
        WHERE f.execution_id = $1 AND f.status <> 'UNCHANGED'
        ORDER BY f.status DESC, f.id LIMIT $2
        """,
        execution_id,
        MAX_SOURCES,
    )
    return tuple(
        Source(row["path"], row["dataset"], row["status"], row["message"], _ledger_of(row))
        for row in rows
    )


async def _find_missed(connection: Connection, run: asyncpg.Record) -> tuple[str, ...]:
    rows = await connection.fetch(
        """
        SELECT f.path FROM metadata.source_files AS f
        WHERE f.execution_id = (
            SELECT max(id) FROM metadata.pipeline_executions
            WHERE pipeline_name = $2 AND id < $1 AND status = 'SUCCESS'
                -- A run over another folder has other sources.
                AND parameters - 'force' - 'accept_anomalies' = $4::jsonb - 'force'
                    - 'accept_anomalies'
        ) AND NOT EXISTS (
            SELECT FROM metadata.source_files AS g
            WHERE g.execution_id = $1 AND g.path = f.path
        )
        ORDER BY f.id LIMIT $3
        """,
        run["id"],
        run["pipeline_name"],
        MAX_SOURCES,
        run["parameters"],
    )
    return tuple(row["path"] for row in rows)


async def _find_streamed(connection: Connection, execution_id: int) -> dict[str, Ledger]:
    rows = await connection.fetch(
        """
        SELECT c.dataset, sum(c.read)::bigint AS read, sum(c.inserted)::bigint AS inserted,
            sum(c.updated)::bigint AS updated, sum(c.unchanged)::bigint AS unchanged,
            sum(c.superseded)::bigint AS superseded, sum(c.duplicates)::bigint AS duplicates,
            sum(c.quarantined)::bigint AS quarantined
        FROM (
            SELECT * FROM metadata.dataset_counts WHERE execution_id = $1 ORDER BY id DESC LIMIT $2
        ) AS c
        WHERE NOT EXISTS (SELECT FROM metadata.source_files AS f WHERE f.id = c.batch_id)
        GROUP BY c.dataset ORDER BY c.dataset
        """,
        execution_id,
        _LAST_BATCHES,
    )
    return {row["dataset"]: ledger for row in rows if (ledger := _ledger_of(row)) is not None}


def _ledger_of(row: asyncpg.Record) -> Ledger | None:
    if row["read"] is None:
        return None
    return Ledger(read=row["read"], **{term: row[term] for term in TERMS})


async def _find_lines(connection: Connection, execution_id: int) -> tuple[str, ...]:
    rows = await connection.fetch(
        """
        SELECT logged_at, level, dataset, left(event, 500) AS event, fields
        FROM metadata.pipeline_logs WHERE execution_id = $1
        ORDER BY logged_at DESC, id DESC LIMIT $2
        """,
        execution_id,
        LOG_LINES,
    )
    return tuple(_line(row) for row in reversed(rows))


def _line(row: asyncpg.Record) -> str:
    fields = json.loads(row["fields"])
    shown = {"dataset": row["dataset"]} if row["dataset"] else {}
    shown |= {name: value for name, value in fields.items() if name not in _NOT_SHOWN}
    tail = " ".join(f"{name}={value}" for name, value in shown.items())
    text = " ".join(f"{row['event']} {tail}".split())
    return f"{row['logged_at']:%H:%M:%S} {row['level']} {text[:400]}"
