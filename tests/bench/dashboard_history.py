"""A year of history in an empty database, made by the database itself."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from time import perf_counter
from typing import Self

import asyncpg

from deployments.rebuild_rollups import rebuild_rollups

_SQL = Path(__file__).with_name("dashboard_history.sql")
_FULL = 1_000_000
_LAG_HOURS = 7 * 24
LARGE = (
    "pipeline_executions",
    "health_checks",
    "pipeline_logs",
    "quality_results",
    "dataset_counts",
    "stream_lag",
    "stream_batches",
    "quarantine",
    "source_files",
    "dead_letters",
    "alert_events",
    "load_profiles",
    "mail_outbox",
)
"""Tables of the metadata schema that grow for as long as the platform runs."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything."""

    runs: int
    health_minutes: int
    """Of each of five components."""
    lines: int
    batches: int
    letters: int
    lag_hours: int
    table_rows: int
    profiles: int
    """Of loads, over 400 days."""
    mails: int
    alerts: int
    """The newest runs, whose end somebody might have been told of."""

    @classmethod
    def of(cls, runs: int) -> Self:
        """Return what belongs to so many runs, in the proportions of a million."""
        return cls(
            runs=runs,
            health_minutes=max(60, runs * 26 // 100),
            lines=runs,
            batches=max(100, runs * 3 // 10),
            letters=max(100, runs // 20),
            lag_hours=max(1, _LAG_HOURS * runs // _FULL),
            table_rows=max(1000, runs // 5),
            profiles=max(400, runs // 50),
            mails=max(100, runs * 6 // 1000),
            alerts=runs,
        )

    @property
    def always_on(self) -> int:
        """The run of the consumer that has been up for twenty days."""
        return self.runs * 345 // 365


async def fill(owner_url: str, size: Size, *, until: dt.datetime) -> dict[str, float]:
    """Leave a history up to `until`, its rollups and statistics; returns seconds by statement."""
    seconds: dict[str, float] = {}
    connection = await asyncpg.connect(
        owner_url,
        # Triggers would do row by row what the rollups' own command does at once afterwards.
        server_settings={
            "session_replication_role": "replica",
            "work_mem": "256MB",
            "maintenance_work_mem": "256MB",
            "synchronous_commit": "off",
            "jit": "off",
        },
    )
    try:
        given = {**dict(zip((f.name for f in fields(size)), astuple(size), strict=True))}
        names = [*given, "always_on"]
        await connection.execute(
            f"CREATE TEMP TABLE given ({', '.join(f'{name} bigint' for name in names)}, "
            "until timestamptz)"
        )
        places = ", ".join(f"${place}" for place in range(1, len(names) + 2))
        await connection.execute(
            f"INSERT INTO given VALUES ({places})",  # noqa: S608 - places of values, counted above
            *given.values(),
            size.always_on,
            until,
        )
        for name, statement in _read_statements():
            start = perf_counter()
            await connection.execute(statement, timeout=None)
            seconds[name] = perf_counter() - start
    finally:
        await connection.close()
    start = perf_counter()
    await rebuild_rollups(owner_url)
    seconds["rollups"] = perf_counter() - start
    start = perf_counter()
    await _vacuum(owner_url)
    seconds["vacuum"] = perf_counter() - start
    return seconds


async def count_rows(owner_url: str) -> dict[str, int]:
    """Return how many rows each of the large tables has."""
    connection = await asyncpg.connect(owner_url)
    try:
        return {
            table: await connection.fetchval(f"SELECT count(*) FROM metadata.{table}")  # noqa: S608 - a constant
            for table in LARGE
        }
    finally:
        await connection.close()


async def find_runs(url: str, size: Size) -> tuple[int, ...]:
    """Return runs of every pipeline and status, the one that is always on, and one of long ago."""
    connection = await asyncpg.connect(url)
    try:
        found = await connection.fetch(
            """
            SELECT id FROM (
                SELECT id, row_number() OVER (PARTITION BY pipeline_name, status ORDER BY id DESC)
                    AS place
                FROM metadata.pipeline_executions WHERE id > $1
            ) AS ranked WHERE place <= 2 ORDER BY id
            """,
            size.runs - min(size.runs, 50_000),
        )
    finally:
        await connection.close()
    return (1, size.always_on, *(row["id"] for row in found))


async def _vacuum(owner_url: str) -> None:
    connection = await asyncpg.connect(owner_url)
    try:
        await connection.execute("VACUUM (ANALYZE)", timeout=None)
    finally:
        await connection.close()


def _read_statements() -> Iterator[tuple[str, str]]:
    for block in _SQL.read_text(encoding="utf-8").split("\n\n"):
        lines = block.splitlines()
        if all(line.startswith("--") for line in lines):
            continue
        yield lines[0].removeprefix("-- ").split(":", maxsplit=1)[0], block
