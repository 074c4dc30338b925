"""Run history: true from a run's first instant, whatever ends it."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from infra.local.postgres import Postgres
from infra.postgres.connection import Pool
from schemas.errors import RefusedError
from tasks.record import record_execution

ROOT = Path(__file__).parents[2]
RUN_FOR_EVER = """
import asyncio, sys
from infra.postgres.connection import Pool
from tasks.record import record_execution

async def run():
    async with Pool(sys.argv[1]) as pool, record_execution(pool, sys.argv[2]) as execution:
        print(execution.id, flush=True)
        await asyncio.sleep(600)

asyncio.run(run())
"""


async def test_a_run_is_seen_running_from_its_first_instant_and_holds_its_lock(
    database, pool: Pool
) -> None:
    other = await asyncpg.connect(database.owner_url)
    try:
        async with record_execution(pool, "p", parameters={"folder": Path("/data")}) as run:
            row = await other.fetchrow("SELECT * FROM metadata.pipeline_executions")
            lock = await other.fetchrow(
                "SELECT granted, (classid::bigint << 32) + objid::bigint AS key FROM pg_locks"
                " WHERE locktype = 'advisory' AND objsubid = 1"
            )
            taken = await other.fetchval("SELECT pg_try_advisory_lock($1)", lock["key"])
        after = await other.fetchval(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1"
        )
    finally:
        await other.close()
    assert (row["id"], row["status"], row["end_time"]) == (run.id, "RUNNING", None)
    assert (row["process_id"], row["parameters"]) == (os.getpid(), '{"folder": "/data"}')
    assert lock["granted"]
    assert lock["key"] & 0xFFFF_FFFF == run.id
    assert not taken
    assert after == 0


async def test_a_run_that_ends_well_keeps_its_counts_and_warnings(pool: Pool) -> None:
    async with record_execution(pool, "p") as run:
        run.records_processed = 7
        run.warnings.append("the API is down")
    row = await ended(pool, run.id)
    assert (row["status"], row["records_processed"], row["warnings"], row["error_message"]) == (
        "SUCCESS",
        7,
        ["the API is down"],
        None,
    )
    assert row["end_time"] >= row["start_time"]


async def test_a_run_that_fails_keeps_the_sentence_and_beside_it_where_it_came_from(
    pool: Pool,
) -> None:
    with pytest.raises(RefusedError):
        async with record_execution(pool, "p") as run:
            raise RefusedError("The file is empty.")
    row = await ended(pool, run.id)
    assert (row["status"], row["error_message"]) == ("FAILED", "The file is empty.")
    assert "test_record.py" in row["error_traceback"]


async def test_a_cancelled_run_is_recorded_as_such(pool: Pool) -> None:
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def run_for_ever() -> None:
        async with record_execution(pool, "p") as run:
            started.set_result(run.id)
            await asyncio.sleep(600)

    task = asyncio.create_task(run_for_ever())
    run_id = await started
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    row = await ended(pool, run_id)
    assert (row["status"], row["error_message"]) == ("FAILED", "The run was cancelled.")


async def test_a_run_that_is_told_to_exit_says_so_in_a_sentence(pool: Pool) -> None:
    with pytest.raises(SystemExit):
        async with record_execution(pool, "p") as run:
            sys.exit(3)
    told = (await ended(pool, run.id))["error_message"]
    with pytest.raises(SystemExit):
        async with record_execution(pool, "p") as run:
            print_for_nobody()
    broken = (await ended(pool, run.id))["error_message"]
    assert told == "The run's process was told to exit (code 3)."
    assert (
        broken == "The worker that printed the run's lines was killed, and the run ended with it."
    )


async def test_a_run_that_goes_on_for_ever_ends_well_when_it_is_told_to(pool: Pool) -> None:
    started: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def go_on() -> None:
        async with record_execution(pool, "stream", ends_when_told=True) as run:
            started.set_result(run.id)
            await asyncio.sleep(600)

    task = asyncio.create_task(go_on())
    run_id = await started
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    row = await ended(pool, run_id)
    assert (row["status"], row["error_message"]) == ("SUCCESS", None)


async def test_a_killed_run_is_marked_by_the_next_of_its_pipeline_and_by_no_other(
    database, pool: Pool
) -> None:
    killed, killed_id = start_run(database.loader_url, "p")
    alive, alive_id = start_run(database.loader_url, "p")
    try:
        killed.send_signal(signal.SIGKILL)
        killed.wait(timeout=30)
        await gone(pool, killed.pid)
        async with record_execution(pool, "another"):
            pass
        assert (await ended(pool, killed_id))["status"] == "RUNNING"
        async with record_execution(pool, "p") as run:
            marked = await ended(pool, killed_id)
            living = await ended(pool, alive_id)
            own = await ended(pool, run.id)
        assert marked["status"] == "FAILED"
        assert "was killed" in marked["error_message"]
        assert marked["end_time"] is not None
        assert (living["status"], own["status"]) == ("RUNNING", "RUNNING")
    finally:
        for process in (killed, alive):
            process.kill()
            process.wait(timeout=30)
            process.stdout.close()


async def test_the_end_is_recorded_though_postgresql_was_restarted_in_mid_run(
    tmp_path: Path,
) -> None:
    with Postgres(tmp_path / "data", settings={"fsync": "off"}) as server:
        await make_history(server)
        async with Pool(server.url("postgres")) as pool:

            async def run_and_restart() -> asyncio.Future[None]:
                async with record_execution(pool, "p"):
                    server.stop()
                    # Still down when the run ends, and back a moment later.
                    return asyncio.get_running_loop().run_in_executor(None, server.start)

            await (await run_and_restart())
            row = await ended(pool, 1)
    assert (row["status"], row["error_message"]) == ("SUCCESS", None)


def print_for_nobody() -> None:
    """End as a console does whose lines nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        os.write(writing, b"a line")
    except BrokenPipeError:
        sys.exit(1)
    finally:
        os.close(writing)


async def make_history(server: Postgres) -> None:
    connection = await asyncpg.connect(server.url("postgres"))
    try:
        await connection.execute(
            """
            CREATE SCHEMA metadata;
            CREATE TABLE metadata.pipeline_executions (
                id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, pipeline_name text,
                status text DEFAULT 'RUNNING', records_processed bigint, error_message text,
                start_time timestamptz DEFAULT clock_timestamp(), end_time timestamptz,
                error_traceback text, warnings text[], flow_run_id uuid, parameters jsonb,
                host text, process_id integer, process_identity text)
            """
        )
    finally:
        await connection.close()


def start_run(url: str, pipeline: str) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-c", RUN_FOR_EVER, url, pipeline],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


async def gone(pool: Pool, process_id: int) -> None:
    """Wait until PostgreSQL noticed that a process's connections are closed."""
    query = """
        SELECT count(*) FROM pg_locks AS l, metadata.pipeline_executions AS e
        WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.objid::bigint = e.id
            AND e.process_id = $1
        """
    async with pool.acquire() as connection:
        for _ in range(1000):
            if not await connection.fetchval(query, process_id):
                return
            await asyncio.sleep(0.02)
    pytest.fail("PostgreSQL still holds the lock of a process that is gone")


async def ended(pool: Pool, run_id: int) -> asyncpg.Record:
    async with pool.acquire() as connection:
        return await connection.fetchrow(
            "SELECT * FROM metadata.pipeline_executions WHERE id = $1", run_id
        )
