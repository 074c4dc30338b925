"""Run history: a row in metadata.pipeline_executions from the first instant, true at the end."""

import asyncio
import json
import os
import socket
import traceback
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import asyncpg

from infra.logs import lines_of_run
from infra.postgres.connection import TRANSIENT, Connection, Pool
from infra.redaction import redact
from infra.shown_errors import hiding_in_errors
from schemas.errors import TransientError
from tasks.mark_dead_runs import mark_dead_runs
from tasks.process_identity import identify_process
from tasks.run_lock import LOCK_BASE, RunLock

_END_WAITS_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""How long a PostgreSQL that is restarting is waited for; after that the janitor marks the row."""


@dataclass(slots=True)
class Execution:
    """One run of a pipeline while it is under way."""

    id: int
    pipeline_name: str
    records_processed: int = 0
    warnings: list[str] = field(default_factory=list)
    ends_when_told: bool = False
    """Whether it runs for ever: being cancelled is then how it ends well."""


@asynccontextmanager
async def record_execution(
    pool: Pool,
    pipeline_name: str,
    *,
    flow_run_id: uuid.UUID | None = None,
    parameters: dict[str, object] | None = None,
    ends_when_told: bool = False,
) -> AsyncIterator[Execution]:
    """Yield a run that is RUNNING; it ends as SUCCESS, or as FAILED with the error that left.

    ends_when_told: for a run that goes on for ever; to be cancelled is no failure of it.
    That error shows no secret any more as it leaves (infra/shown_errors.py).
    First, runs of this pipeline whose process is gone are marked FAILED. A run is alive while
    it holds an advisory lock over a connection of its own: PostgreSQL releases it when the process
    dies, however it does, and on whatever host.
    """
    lock = RunLock(pool)
    try:
        # Prefect shows the error's text as it is.
        with hiding_in_errors():
            connection = await lock.connect()
            execution = await _start(connection, pipeline_name, flow_run_id, parameters or {})
            execution.ends_when_told = ends_when_told
            await mark_dead_runs(connection, pipeline_name=pipeline_name, but=execution.id)
            async with lines_of_run(execution_id=execution.id, pipeline_name=pipeline_name):
                try:
                    async with _kept(lock, execution):
                        yield execution
                except BaseException as error:
                    # A cancelled run too must not stay RUNNING: its end is written before it goes.
                    await asyncio.shield(_end(pool, lock, execution, error))
                    raise
                await _end(pool, lock, execution, None)
    finally:
        await lock.leave()


@asynccontextmanager
async def _kept(lock: RunLock, execution: Execution) -> AsyncIterator[None]:
    """Have the lock taken again while the block is under way, should it be lost."""
    keeping = asyncio.create_task(lock.keep(execution.id, execution.warnings))
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})


async def hold_execution(connection: Connection, execution: Execution) -> None:
    """Write how far a long run is, and that it lives, should others have taken it for dead.

    They can when PostgreSQL was restarted and with it the connection that shows that it lives.
    """
    await connection.execute(
        """
        UPDATE metadata.pipeline_executions
        SET records_processed = $2, status = 'RUNNING', end_time = NULL, error_message = NULL
        WHERE id = $1
        """,
        execution.id,
        execution.records_processed,
    )


async def fold_counts(connection: Connection) -> None:
    """Add what was counted since the last time to the rollups by day.

    Returns at once where another does it at the moment.
    """
    await connection.execute("SELECT metadata.fold_counts()")


async def _start(
    connection: Connection,
    pipeline_name: str,
    flow_run_id: uuid.UUID | None,
    parameters: dict[str, object],
) -> Execution:
    # The lock is taken in the statement that makes the row: nobody sees the one without the other.
    execution_id = await connection.fetchval(
        """
        WITH started AS (
            INSERT INTO metadata.pipeline_executions
                (pipeline_name, flow_run_id, parameters, host, process_id, process_identity)
            VALUES ($1, $2, $3, $4, $5, $6) RETURNING id
        )
        SELECT id FROM started, LATERAL (SELECT pg_advisory_lock($7 + started.id)) AS held
        """,
        pipeline_name,
        flow_run_id,
        json.dumps(parameters, default=str),
        socket.gethostname(),
        os.getpid(),
        identify_process(os.getpid()),
        LOCK_BASE,
    )
    return Execution(execution_id, pipeline_name)


async def _end(
    pool: Pool, lock: RunLock, execution: Execution, error: BaseException | None
) -> None:
    connection = lock.connection
    if connection is None:
        await _end_elsewhere(pool, execution, error)
        return
    try:
        await _write_end(connection, execution, error)
    except TRANSIENT:
        # The run's own connection broke meanwhile, as when PostgreSQL was restarted.
        await _end_elsewhere(pool, execution, error)
    else:
        # What is not folded counts too, and the next run folds it: no reason for a run to fail.
        with suppress(asyncpg.PostgresError, *TRANSIENT):
            await fold_counts(connection)


async def _end_elsewhere(pool: Pool, execution: Execution, error: BaseException | None) -> None:
    """Write the end over another connection, as soon as PostgreSQL gives one."""
    for wait_seconds in _END_WAITS_SECONDS:
        try:
            async with pool.acquire() as another:
                await _write_end(another, execution, error)
        except (TransientError, *TRANSIENT):
            await asyncio.sleep(wait_seconds)
        else:
            return
    async with pool.acquire() as another:
        await _write_end(another, execution, error)


async def _write_end(
    connection: Connection, execution: Execution, error: BaseException | None
) -> None:
    if execution.ends_when_told and isinstance(error, asyncio.CancelledError):
        error = None
    await connection.execute(
        """
        UPDATE metadata.pipeline_executions
        SET status = $2, end_time = clock_timestamp(), records_processed = $3, warnings = $4,
            error_message = $5, error_traceback = $6
        WHERE id = $1
        """,
        execution.id,
        "SUCCESS" if error is None else "FAILED",
        execution.records_processed,
        [redact(each) for each in execution.warnings],
        None if error is None else redact(describe(error)),
        None if error is None else redact("".join(traceback.format_exception(error))),
    )


def describe(error: BaseException) -> str:
    """Return the error as one line for a person."""
    if isinstance(error, asyncio.CancelledError):
        return "The run was cancelled."
    if isinstance(error, SystemExit):
        # What Prefect's console does when nobody reads its lines any more.
        if isinstance(error.__context__, BrokenPipeError):
            return "The worker that printed the run's lines was killed, and the run ended with it."
        return f"The run's process was told to exit (code {error.code})."
    return str(error) or type(error).__name__
