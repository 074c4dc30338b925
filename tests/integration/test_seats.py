"""A seat is one run's, for as long as it lives and no longer; against a real PostgreSQL."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from tasks.seats import SeatTakenError, find_sitters, hold_seat, try_lock

GROUP = "readers"


@pytest.fixture
async def connection(database) -> AsyncIterator[asyncpg.Connection]:
    opened = await asyncpg.connect(database.loader_url)
    yield opened
    await opened.close()


async def sit(url: str, *, entered: asyncio.Event, number: int = 1, flow_run_id=None) -> None:
    async with hold_seat(url, GROUP, number, flow_run_id):
        entered.set()
        await asyncio.Event().wait()


async def until(ask: Callable[[], Awaitable[Any]]) -> Any:
    """Return the first answer that is not empty."""
    for _ in range(1_500):
        if answer := await ask():
            return answer
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come true within 30 s")


async def test_a_seat_is_one_runs_and_free_after_it(database, connection) -> None:
    url, mine = database.loader_url, uuid4()
    async with hold_seat(url, GROUP, 1, mine):
        sitters = await find_sitters(connection, GROUP)
        assert {number: each.flow_run_id for number, each in sitters.items()} == {1: mine}
        with pytest.raises(SeatTakenError, match="Consumer 1 of readers is alive in another run"):
            async with hold_seat(url, GROUP, 1, uuid4()):
                raise AssertionError("two runs in one seat")
        async with hold_seat(url, GROUP, 2), hold_seat(url, "others", 1):
            assert set(await find_sitters(connection, GROUP)) == {1, 2}
            assert set(await find_sitters(connection, "others")) == {1}
    assert await find_sitters(connection, GROUP) == {}
    async with hold_seat(url, GROUP, 1):
        [sitter] = (await find_sitters(connection, GROUP)).values()
        assert sitter.flow_run_id is None


async def test_a_seat_of_another_database_is_another(database, embedded_server) -> None:
    other = await embedded_server.create()
    try:
        async with hold_seat(database.loader_url, GROUP, 1), hold_seat(other.loader_url, GROUP, 1):
            elsewhere = await asyncpg.connect(other.loader_url)
            assert len(await find_sitters(elsewhere, GROUP)) == 1
            await elsewhere.close()
    finally:
        await embedded_server.drop(other)


async def test_a_seat_that_was_lost_with_its_connection_is_taken_again(
    database, connection
) -> None:
    mine = uuid4()
    async with hold_seat(database.loader_url, GROUP, 1, mine):
        [before] = (await find_sitters(connection, GROUP)).values()
        await connection.execute("SELECT pg_terminate_backend($1, 5000)", before.backend)
        sitters = await until(lambda: find_sitters(connection, GROUP))
        assert sitters[1].flow_run_id == mine
        assert sitters[1].backend != before.backend


async def test_a_run_that_lost_its_seat_to_another_is_cancelled_and_told(
    database, connection
) -> None:
    entered = asyncio.Event()
    sitting = asyncio.create_task(sit(database.loader_url, entered=entered))
    await entered.wait()
    [sitter] = (await find_sitters(connection, GROUP)).values()
    # The rival waits in the lock's queue, and is the first to have it.
    rival = await asyncpg.connect(database.loader_url)
    try:
        lock = "SELECT pg_advisory_lock(classid::bigint::bit(32)::int, objid::int) FROM pg_locks"
        waiting = asyncio.create_task(
            rival.execute(f"{lock} WHERE pid = $1 AND locktype = 'advisory'", sitter.backend)
        )
        waits = "SELECT 1 FROM pg_locks WHERE pid = $1 AND NOT granted"
        await until(lambda: connection.fetchval(waits, rival.get_server_pid()))
        await connection.execute("SELECT pg_terminate_backend($1)", sitter.backend)
        await waiting
        with pytest.raises(SeatTakenError):
            await asyncio.wait_for(sitting, 30)
    finally:
        await rival.close()


async def test_the_seat_is_taken_from_ones_own_lost_connection(
    database, connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "token_hex", lambda _: "0badcafe")
    await connection.execute("SET application_name = 'sluiceway seat - 0badcafe'")
    assert await try_lock(connection, GROUP, 1)
    async with hold_seat(database.loader_url, GROUP, 1):
        assert connection.is_closed()


async def test_the_same_run_in_two_processes_sits_once(database) -> None:
    run = uuid4()
    async with hold_seat(database.loader_url, GROUP, 1, run):
        with pytest.raises(SeatTakenError):
            await sit(database.loader_url, entered=asyncio.Event(), flow_run_id=run)


async def test_a_cancelled_run_gives_its_seat_back(database, connection) -> None:
    entered = asyncio.Event()
    sitting = asyncio.create_task(sit(database.loader_url, entered=entered))
    await entered.wait()
    sitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sitting
    assert await find_sitters(connection, GROUP) == {}
