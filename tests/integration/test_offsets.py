"""Who owns a partition, and from where it is read on: told by PostgreSQL, whoever was frozen."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from deployments.bootstrap import bootstrap
from infra.postgres.connection import TRANSIENT, Pool
from schemas.dataset import Dataset, Role, column
from tasks import stream_session
from tasks.message_rows import make_rows
from tasks.messages import Span
from tasks.offsets import (
    FencedError,
    Reader,
    advance,
    begin_again,
    begin_new_group,
    claim_partition,
    find_known,
    is_committed,
    skip_deleted,
)
from tasks.stream_session import StreamSession

READER = Reader("group", "topic", "here:1")
OTHER = Reader("group", "topic", "there:2")


class Notes(Dataset, table="notes", role=Role.STAGING):
    """What people wrote."""

    text: str = column()


SPECS = {"notes": Notes.spec}


def note(text: str) -> bytes:
    envelope = {"source": "notes", "timestamp": "2026-11-20T12:00:00Z", "payload": {"text": text}}
    return json.dumps(envelope).encode()


def span(partition: int, epoch: int, first: int, after: int, generation: int = 0) -> Span:
    return Span(partition, epoch, generation, first, after, 1_790_000_000_000)


@pytest.fixture
async def connection(pool: Pool) -> AsyncIterator[Any]:
    async with pool.acquire() as acquired:
        yield acquired


@pytest.fixture
async def owner(database) -> AsyncIterator[asyncpg.Connection]:
    await bootstrap(database.owner_url, datasets=(Notes,))
    connected = await asyncpg.connect(database.owner_url)
    yield connected
    await connected.close()


@pytest.fixture
def feed(owner, session, execution_id: int, make_feed) -> Any:
    return make_feed(session, execution_id, SPECS)


async def stored(connection: Any) -> list[tuple[int, int, int]]:
    """Return partition, epoch and offset."""
    rows = await connection.fetch(
        "SELECT partition, epoch, next_offset FROM metadata.stream_offsets ORDER BY 1"
    )
    return [tuple(row) for row in rows]


async def test_a_claim_raises_the_epoch_and_keeps_the_offset(connection) -> None:
    assert await find_known(connection, READER) == set()
    first = await claim_partition(connection, READER, 3, 17)
    assert (first.partition, first.epoch, first.generation, first.next_offset) == (3, 1, 0, 17)
    assert first.last_timestamp_ms is None
    await advance(connection, READER, [span(3, 1, 17, 20)])
    # A group that has read begins where it stopped, whatever it is told.
    second = await claim_partition(connection, OTHER, 3, 99)
    assert (second.epoch, second.next_offset) == (2, 20)
    assert second.last_timestamp_ms == 1_790_000_000_000
    assert await find_known(connection, READER) == {3}
    assert await connection.fetchval("SELECT owner FROM metadata.stream_offsets") == "there:2"


async def test_groups_and_topics_do_not_know_of_each_other(connection) -> None:
    readers = [READER, Reader("other group", "topic"), Reader("group", "other topic")]
    for place, reader in enumerate(readers):
        claim = await claim_partition(connection, reader, 0, place)
        assert (claim.epoch, claim.next_offset) == (1, place)
    await advance(connection, READER, [span(0, 1, 0, 50)])
    offsets = await connection.fetch("SELECT next_offset FROM metadata.stream_offsets ORDER BY 1")
    assert [row["next_offset"] for row in offsets] == [1, 2, 50]


@pytest.mark.parametrize(
    ("epoch", "first"),
    [(1, 10), (3, 10), (2, 9), (2, 0), (2, 11)],
    ids=[
        "an older epoch",
        "an epoch of nobody",
        "a message read before",
        "from the start",
        "past a message",
    ],
)
async def test_what_is_not_ours_moves_nothing(connection, epoch: int, first: int) -> None:
    await claim_partition(connection, OTHER, 0, 10)
    await claim_partition(connection, READER, 0, 10)
    await claim_partition(connection, READER, 1, 0)
    before = await stored(connection)
    with pytest.raises(FencedError, match="belongs to another one"):
        async with connection.transaction():
            await advance(connection, READER, [span(1, 1, 0, 5), span(0, epoch, first, 20)])
    assert await stored(connection) == before


async def test_a_new_group_leaves_those_alone_that_have_begun(connection) -> None:
    await claim_partition(connection, READER, 1, 5)
    await begin_new_group(connection, OTHER, {2: 30, 1: 20, 0: 10})
    assert await stored(connection) == [(0, 0, 10), (1, 1, 5), (2, 0, 30)]
    claim = await claim_partition(connection, READER, 2, 99)
    assert (claim.epoch, claim.next_offset) == (1, 30)


async def test_a_log_that_lost_its_beginning_is_read_on_from_what_it_has(connection) -> None:
    claim = await claim_partition(connection, READER, 0, 10)
    await advance(connection, READER, [span(0, 1, 10, 20)])
    await skip_deleted(connection, READER, claim, 40)
    assert await stored(connection) == [(0, 1, 40)]
    again = await claim_partition(connection, OTHER, 0, 0)
    assert (again.next_offset, again.last_timestamp_ms) == (40, None)
    # By now that is for another to say.
    await skip_deleted(connection, READER, claim, 90)
    assert await stored(connection) == [(0, 2, 40)]


async def test_a_partition_that_nobody_claimed_is_not_advanced(connection) -> None:
    with pytest.raises(FencedError):
        await advance(connection, READER, [span(0, 1, 0, 1)])
    assert await stored(connection) == []


async def test_a_commit_whose_answer_was_lost_is_found_and_not_repeated(owner, feed) -> None:
    batch = await feed.take(note("one"), note("two"), b"{")
    connection = feed.session.connection
    assert not await is_committed(connection, feed.reader, batch.spans)
    await feed.load(batch)
    assert await is_committed(connection, feed.reader, batch.spans)
    with pytest.raises(FencedError):
        await feed.load(batch)
    assert await owner.fetchval("SELECT count(*) FROM staging.notes") == 2
    # What another consumer has claimed meanwhile is that one's to know of.
    await feed.claim(0)
    assert not await is_committed(connection, feed.reader, batch.spans)


async def test_a_group_that_begins_again_fences_whoever_reads(owner, feed) -> None:
    await feed.load(await feed.take(note("one"), b"{"))
    on_its_way = await feed.take(note("two"))
    await begin_again(owner, feed.reader, {0: 0, 5: 7})
    with pytest.raises(FencedError):
        await feed.load(on_its_way)
    claim = await feed.claim(0)
    assert (claim.next_offset, claim.generation, claim.last_timestamp_ms) == (0, 1, None)
    assert (await feed.claim(5)).next_offset == 7
    report = await feed.load(await feed.take(b"{", b"{"))
    assert report.dead == 2
    letters = await owner.fetch(
        "SELECT generation, message_offset FROM metadata.dead_letters ORDER BY 1, 2"
    )
    # The same offset of a topic that was made anew is another message.
    assert [tuple(row) for row in letters] == [(0, 1), (1, 0), (1, 1)]


async def test_a_claim_waits_for_the_batch_that_is_being_committed(owner, feed, pool) -> None:
    batch = await feed.take(note("one"), note("two"))
    rows = make_rows(batch.messages, SPECS)
    connection = feed.session.connection
    await feed.session.prepare([Notes.spec])
    async with pool.acquire() as other:
        async with connection.transaction():
            await feed.session.lock(rows)
            await advance(connection, feed.reader, batch.spans)
            await feed.session.load(rows, await feed.session.next_batch_id())
            claiming = asyncio.create_task(claim_partition(other, feed.reader, 0, 0))
            await until_waiting(owner)
            assert not claiming.done()
        claim = await asyncio.wait_for(claiming, 30)
    assert (claim.epoch, claim.next_offset) == (2, 2)


async def test_an_owner_that_is_frozen_is_ended_and_its_batch_undone(
    owner, pool, execution_id: int, make_feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorter = stream_session._SETTINGS.replace("'10s'", "'300ms'")  # noqa: SLF001 - not 10 s
    assert shorter != stream_session._SETTINGS  # noqa: SLF001
    monkeypatch.setattr(stream_session, "_SETTINGS", shorter)
    async with StreamSession.open(pool) as frozen:
        feed = make_feed(frozen, execution_id, SPECS)
        batch = await feed.take(note("one"))
        rows = make_rows(batch.messages, SPECS)
        await frozen.prepare([Notes.spec])
        transaction = frozen.connection.transaction()
        await transaction.start()
        await frozen.lock(rows)
        await advance(frozen.connection, feed.reader, batch.spans)
        await frozen.load(rows, await frozen.next_batch_id())
        async with pool.acquire() as other:
            claim = await asyncio.wait_for(claim_partition(other, feed.reader, 0, 0), 30)
        assert (claim.epoch, claim.next_offset) == (2, 0)
        with pytest.raises((asyncpg.PostgresError, *TRANSIENT)):
            await transaction.commit()
    assert await owner.fetchval("SELECT count(*) FROM staging.notes") == 0


async def until_waiting(owner: asyncpg.Connection) -> None:
    """Return when somebody waits for a lock in this database."""
    waiting = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(30):
        while not await owner.fetchval(waiting):  # noqa: ASYNC110 - PostgreSQL rings no bell
            await asyncio.sleep(0.01)
