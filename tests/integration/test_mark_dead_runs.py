"""Runs whose process is gone end as FAILED with what is known, once, and no living one does."""

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from infra.postgres.connection import Pool
from tasks import mark_dead_runs as module
from tasks import run_lock
from tasks.mark_dead_runs import Death, mark_dead_runs
from tasks.process_identity import identify_process
from tasks.record import record_execution
from tasks.run_lock import BURIED_ALIVE, LOCK_BASE

ELSEWHERE = "another boot/4026531836/17/4711"


@pytest.fixture
async def janitor(database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.loader_url)
    yield connection
    await connection.close()


@pytest.fixture
def gone() -> str:
    """The identity of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        identity = identify_process(process.pid)
        process.kill()
    assert identity is not None
    return identity


async def begin(connection: asyncpg.Connection, identity: str | None, pipeline: str = "p") -> int:
    """Leave a row as of a run whose lock nobody holds."""
    made: int = await connection.fetchval(
        "INSERT INTO metadata.pipeline_executions"
        " (pipeline_name, host, process_id, process_identity, flow_run_id)"
        " VALUES ($1, 'web-1', 4711, $2, $3) RETURNING id",
        pipeline,
        identity,
        uuid4(),
    )
    return made


async def read(connection: asyncpg.Connection, run_id: int) -> asyncpg.Record:
    return await connection.fetchrow(
        "SELECT * FROM metadata.pipeline_executions WHERE id = $1", run_id
    )


async def read_acts(connection: asyncpg.Connection) -> list[tuple[object, ...]]:
    return [
        tuple(row)
        for row in await connection.fetch(
            "SELECT act, execution_id, pipeline_name FROM metadata.janitor_acts ORDER BY id"
        )
    ]


async def test_a_killed_run_fails_with_what_is_known_and_every_other_stays(
    janitor: asyncpg.Connection, gone: str
) -> None:
    dead = await begin(janitor, gone)
    ended = await begin(janitor, gone)
    await janitor.execute(
        "UPDATE metadata.pipeline_executions SET status = 'SUCCESS', end_time = now()"
        " WHERE id = $1",
        ended,
    )
    await janitor.execute(
        """
        INSERT INTO metadata.pipeline_logs
            (logged_at, level, pipeline_name, execution_id, event, fields)
        VALUES ('2026-01-02 03:04:05+00', 'INFO', 'p', $1, 'loaded', '{"source": "customers.csv"}'),
               ('2026-01-02 03:04:04+00', 'INFO', 'p', $1, 'an earlier line', '{}'),
               ('2026-01-02 03:04:06+00', 'INFO', 'p', $2, 'of another run', '{}')
        """,
        dead,
        ended,
    )
    for status, rows in (("LOADED", 1500), ("UNCHANGED", None)):
        batch = await janitor.fetchval(
            """
            INSERT INTO metadata.source_files
                (execution_id, load_id, dataset, path, status, contracted, rows)
            VALUES ($1, gen_random_uuid(), 'customers', '/raw/x.csv', $2, true, $3) RETURNING id
            """,
            dead,
            status,
            rows,
        )
        if rows:
            await janitor.execute(
                """
                INSERT INTO metadata.dataset_counts (execution_id, batch_id, dataset, source, read,
                    inserted, updated, unchanged, superseded, duplicates, quarantined)
                VALUES ($1, $2, 'customers', 'x.csv', $3, $3, 0, 0, 0, 0, 0)
                """,
                dead,
                batch,
                rows,
            )
    [marked] = await mark_dead_runs(janitor)
    row = await read(janitor, dead)
    assert (marked.id, marked.flow_run_id) == (dead, row["flow_run_id"])
    assert (row["status"], row["records_processed"]) == ("FAILED", 1500)
    assert row["end_time"] >= row["start_time"]
    assert row["error_message"] == (
        "The run was killed: its process 4711 on web-1 ended without a word. Last heard of at "
        "2026-01-02 03:04:05 UTC: “loaded customers.csv”. It had committed 1 source with 1,500 "
        "rows, which stay; the next run does the rest."
    )
    assert (await read(janitor, ended))["status"] == "SUCCESS"
    assert await read_acts(janitor) == [("marked dead", dead, "p")]
    told = await janitor.fetch("SELECT kind, summary FROM metadata.alert_events ORDER BY id")
    assert [each["kind"] for each in told] == ["success", "failure"]
    assert "was killed" in told[1]["summary"]


async def test_janitors_side_by_side_mark_each_run_once(database, pool: Pool, gone: str) -> None:
    async with pool.acquire() as connection:
        dead = [await begin(connection, gone) for _ in range(20)]

    async def mark() -> list[int]:
        async with pool.acquire() as another:
            return [each.id for each in await mark_dead_runs(another)]

    marked = await asyncio.gather(*(mark() for _ in range(4)))
    assert sorted(itertools.chain.from_iterable(marked)) == dead
    async with pool.acquire() as connection:
        assert sorted(await read_acts(connection)) == [("marked dead", each, "p") for each in dead]
        held = await connection.fetchval(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        )
    assert held == 0


@pytest.mark.parametrize("meanwhile", ["taken again", "ended", "nothing"])
async def test_a_run_that_cannot_be_seen_is_looked_at_twice(
    database, janitor: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    run = await begin(janitor, ELSEWHERE)
    owner = await asyncpg.connect(database.loader_url)
    waits = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)
        if meanwhile == "taken again":
            await owner.execute("SELECT pg_advisory_lock($1)", LOCK_BASE + run)
        elif meanwhile == "ended":
            await owner.execute(
                "UPDATE metadata.pipeline_executions SET status = 'SUCCESS', end_time = now()"
            )

    monkeypatch.setattr(module, "asyncio", SimpleNamespace(sleep=wait))
    marked = await mark_dead_runs(janitor, patience_seconds=20)
    await owner.close()
    row = await read(janitor, run)
    assert waits == [20]
    assert [each.id for each in marked] == ([run] if meanwhile == "nothing" else [])
    assert (
        row["status"]
        == {"taken again": "RUNNING", "ended": "SUCCESS", "nothing": "FAILED"}[meanwhile]
    )
    if meanwhile == "nothing":
        assert row["error_message"].startswith(
            "The run is lost: its process 4711 on web-1 has no connection to PostgreSQL any more."
        )
        assert row["error_message"].endswith(
            "It had logged nothing. It had committed no rows; the next run does its work."
        )


async def test_a_run_that_has_lost_its_lock_is_left_alone_while_its_process_is_seen_to_live(
    janitor: asyncpg.Connection, gone: str
) -> None:
    alive = await begin(janitor, identify_process(os.getpid()))
    dead = await begin(janitor, gone)
    assert [each.id for each in await mark_dead_runs(janitor)] == [dead]
    assert await is_running(janitor, alive)


async def test_a_run_takes_its_lock_again_when_its_connection_is_lost(
    janitor: asyncpg.Connection, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "_RETRY_SECONDS", 0)
    async with record_execution(pool, "p") as run:
        before = await find_holder(janitor, run.id)
        await janitor.execute("SELECT pg_terminate_backend($1, 5000)", before)
        # Its process lives, and is seen to.
        assert await mark_dead_runs(janitor) == []
        after = await until_held_by_another(janitor, run.id, before)
        await janitor.execute("SELECT pg_terminate_backend($1, 5000)", after)
        await until_held_by_another(janitor, run.id, after)
    row = await read(janitor, run.id)
    assert (row["status"], row["warnings"]) == ("SUCCESS", [])


async def test_a_network_that_swallows_everything_is_noticed_and_the_lock_taken_again(
    database, janitor: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "_RETRY_SECONDS", 0)
    monkeypatch.setattr(run_lock, "_CHECK_SECONDS", 0.2)
    async with swallow(database.loader_url) as (url, network), Pool(url) as pool:
        async with record_execution(pool, "p") as run:
            before = await find_holder(janitor, run.id)
            network.swallows = True
            # PostgreSQL has not noticed: the run stands in the queue behind itself.
            assert await find_holder(janitor, run.id, waiting_too=True) == before
            await janitor.execute("SELECT pg_terminate_backend($1, 5000)", before)
            await until_held_by_another(janitor, run.id, before)
        assert (await read(janitor, run.id))["status"] == "SUCCESS"


@dataclass
class Network:
    """A way to PostgreSQL that can be cut without a word: what is sent is lost."""

    swallows: bool = False
    links: int = 0


@asynccontextmanager
async def swallow(url: str) -> AsyncIterator[tuple[str, Network]]:
    """Stand between a client and PostgreSQL; the first link is the one that is cut."""
    parts = urlsplit(url)
    network = Network()
    tasks: set[asyncio.Task[None]] = set()

    async def link(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        network.links += 1
        is_first = network.links == 1
        inner_reader, inner_writer = await asyncio.open_connection(parts.hostname, parts.port)

        async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65_536):
                if not (is_first and network.swallows):
                    sink.write(data)
            if not is_first:
                sink.close()

        try:
            await asyncio.gather(carry(reader, inner_writer), carry(inner_reader, writer))
        finally:
            for each in (writer, inner_writer):
                each.transport.abort()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(link(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    location = parts.netloc.rsplit(":", 1)[0] + f":{port}"
    async with server:
        yield urlunsplit(parts._replace(netloc=location)), network
        for each in list(tasks):
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_run_that_was_buried_alive_is_running_again_and_writes_its_own_end(
    database, janitor: asyncpg.Connection, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_lock, "_RETRY_SECONDS", 0)
    other = await asyncpg.connect(database.loader_url)
    async with record_execution(pool, "p") as run:
        await janitor.execute(
            "UPDATE metadata.pipeline_executions SET process_identity = $1", ELSEWHERE
        )
        # The janitor stands in the queue for the lock before the run is cut off.
        waiting = asyncio.create_task(
            janitor.execute("SELECT pg_advisory_lock($1)", LOCK_BASE + run.id)
        )
        before = await find_holder(other, run.id, waiting_too=True)
        await other.execute("SELECT pg_terminate_backend($1, 5000)", before)
        await waiting
        assert [each.id for each in await mark_dead_runs(janitor)] == [run.id]
        assert (await read(other, run.id))["status"] == "FAILED"
        await janitor.execute("SELECT pg_advisory_unlock_all()")
        await until(lambda: is_running(other, run.id))
        assert (await read(other, run.id))["error_message"] is None
    row = await read(other, run.id)
    kinds = [
        each["kind"]
        for each in await other.fetch("SELECT kind FROM metadata.alert_events ORDER BY id")
    ]
    await other.close()
    assert (row["status"], row["warnings"]) == ("SUCCESS", [BURIED_ALIVE])
    assert kinds == ["failure", "recovery", "success"]


async def test_a_run_that_has_failed_by_itself_is_not_brought_back(
    janitor: asyncpg.Connection, pool: Pool
) -> None:
    with pytest.raises(ValueError, match="broken"):
        async with record_execution(pool, "p") as run:
            raise ValueError("broken")
    lock = run_lock.RunLock(pool)
    await lock._take_again(run.id, run.warnings)  # noqa: SLF001 - as a keeper that was late would
    await lock.leave()
    assert (await read(janitor, run.id))["status"] == "FAILED"
    assert run.warnings == []


def test_a_long_line_is_cut_and_messages_are_named_as_such() -> None:
    death = Death(
        host="",
        process_id=None,
        was_seen=True,
        last_line_at=None,
        last_line=None,
        sources=0,
        rows=3,
        messages=20_000,
    )
    assert str(death) == (
        "The run was killed: its process (number unknown) on ? ended without a word. It had logged "
        "nothing. It had committed 20,000 messages, which stay; the next run goes on from there."
    )


async def find_holder(
    connection: asyncpg.Connection, run_id: int, *, waiting_too: bool = False
) -> int:
    """Return PostgreSQL's process that holds the run's lock, once as many want it as should."""
    query = """
        SELECT l.pid, count(*) FILTER (WHERE granted) OVER () AS held, count(*) OVER () AS every
        FROM pg_locks AS l
        WHERE locktype = 'advisory' AND objsubid = 1 AND objid::bigint = $1
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        ORDER BY granted DESC
        """
    for _ in range(1_000):
        rows = await connection.fetch(query, run_id)
        if rows and rows[0]["held"] and rows[0]["every"] == 1 + waiting_too:
            holder: int = rows[0]["pid"]
            return holder
        await asyncio.sleep(0.01)
    raise AssertionError("nobody holds the lock")


async def until_held_by_another(connection: asyncpg.Connection, run_id: int, before: int) -> int:
    async def is_held() -> bool:
        return await find_holder(connection, run_id) != before

    await until(is_held)
    return await find_holder(connection, run_id)


async def is_running(connection: asyncpg.Connection, run_id: int) -> bool:
    return bool((await read(connection, run_id))["status"] == "RUNNING")


async def until(ask) -> None:
    for _ in range(1_000):
        if await ask():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come true within ten seconds")
