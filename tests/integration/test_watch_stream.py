"""What runs beside a consumer: it counts everything once, and waits out what it cannot reach."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import asyncpg
import pytest

from deployments.bootstrap import bootstrap
from infra.postgres.connection import Pool
from infra.settings import Settings
from schemas.dataset import Dataset, Role, column
from tasks import watch_stream
from tasks.consume import Consumer
from tasks.message_rows import make_rows
from tasks.record import Execution
from tasks.watch_stream import StreamWatch


class Notes(Dataset, table="notes", role=Role.STAGING):
    """What people wrote."""

    text: str = column(str_length={"max_value": 5})
    mood: str = column(missing="calm")


SPECS = {"notes": Notes.spec}
UNREACHABLE = "127.0.0.1:9"


def note(text: str | None, **others: object) -> bytes:
    payload = {"text": text, **others}
    envelope = {"source": "notes", "timestamp": "2026-11-20T12:00:00Z", "payload": payload}
    return json.dumps(envelope).encode()


@pytest.fixture
async def owner(database) -> AsyncIterator[asyncpg.Connection]:
    await bootstrap(database.owner_url, datasets=(Notes,))
    # Whoever waits longer than this is refused, as by a PostgreSQL that is away.
    await run_alone(
        database.owner_url, f"ALTER DATABASE {database.name} SET lock_timeout = '100ms'"
    )
    connection = await asyncpg.connect(database.owner_url)
    yield connection
    await connection.close()


async def run_alone(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


@pytest.fixture
async def own_pool(owner, database) -> AsyncIterator[Pool]:
    """A pool whose connections have the limit."""
    async with Pool(database.loader_url, size=3) as opened:
        yield opened


@pytest.fixture
def execution(execution_id: int) -> Execution:
    return Execution(execution_id, "test")


@pytest.fixture
def feed(owner, session, execution_id: int, make_feed) -> Any:
    return make_feed(session, execution_id, SPECS)


def settings_for(broker: str, topic: str = "data-stream") -> Settings:
    return Settings(kafka_bootstrap_servers=broker, kafka_group="watched", kafka_topic=topic)


async def results(owner: asyncpg.Connection) -> dict[tuple[str | None, str], tuple[int, int]]:
    """Return rows checked and failed by column and rule, over all that was written."""
    rows = await owner.fetch(
        """
        SELECT column_name, rule, sum(checked)::int AS checked, sum(failed)::int AS failed
        FROM metadata.quality_results GROUP BY 1, 2
        """
    )
    return {(row["column_name"], row["rule"]): (row["checked"], row["failed"]) for row in rows}


async def test_what_the_contracts_let_through_is_written_once(
    owner, own_pool: Pool, feed, execution: Execution
) -> None:
    settings = settings_for(UNREACHABLE)
    watch = StreamWatch(own_pool, settings, execution)
    consumer = Consumer(own_pool, settings, SPECS)

    async def load(*values: bytes) -> None:
        batch = await feed.take(*values)
        rows = make_rows(batch.messages, SPECS)
        watch.note(await feed.load(batch), rows)

    await load(note("a"), note("too long"), note(None))
    await load(note("b", mood="glad"), note("c"))
    consumer.progress.messages = 5
    await watch.write_end(consumer)
    expected = {
        ("text", "completeness"): (5, 1),
        ("text", "missing"): (5, 1),
        ("text", "str_length"): (5, 1),
        ("mood", "completeness"): (5, 4),
    }
    # A rule that nothing broke in a batch is not named for it.
    found = await results(owner)
    assert {name: failed for name, (_, failed) in found.items()} == {
        name: failed for name, (_, failed) in expected.items()
    }
    assert found["text", "completeness"] == (5, 1)
    written = "SELECT records_processed FROM metadata.pipeline_executions WHERE id = $1"
    assert await owner.fetchval(written, execution.id) == 5

    # What cannot be written is kept, and written with what comes meanwhile.
    await load(note("d"), note("e"))
    async with owner.transaction():
        await owner.execute("LOCK TABLE metadata.quality_results IN ACCESS EXCLUSIVE MODE")
        await watch.write_end(consumer)
    assert await results(owner) == found
    await load(note("f"), note("much too long"))
    await watch.write_end(consumer)
    await watch.write_end(consumer)
    after = await results(owner)
    assert after["text", "completeness"] == (9, 1)
    assert after["mood", "completeness"] == (9, 8)
    assert after["text", "str_length"][1] == 2
    assert watch.quality.tallies == {}
    await consumer.source.stop()


async def test_the_lag_is_measured_again_when_postgresql_and_kafka_are_back(
    owner, own_pool: Pool, embedded_broker, messages, execution: Execution, monkeypatch
) -> None:
    monkeypatch.setattr(watch_stream, "LAG_SECONDS", 0.05)
    monkeypatch.setattr(watch_stream, "REPORT_SECONDS", 0.05)
    topic = "watched"
    client = messages(embedded_broker.bootstrap_servers)
    await client.create(topic)
    await client.send(topic, [note("a"), note("b")])
    settings = settings_for(embedded_broker.bootstrap_servers, topic)
    watch = StreamWatch(own_pool, settings, execution)
    consumer = Consumer(own_pool, settings, SPECS, execution_id=execution.id, on_batch=watch.note)
    running = [
        asyncio.create_task(consumer.run()),
        asyncio.create_task(watch.run(consumer)),
    ]
    try:
        await until(owner, "SELECT count(*) > 0 FROM metadata.stream_lag WHERE lag_messages = 0")
        async with owner.transaction():
            await owner.execute("LOCK TABLE metadata.stream_lag IN ACCESS EXCLUSIVE MODE")
            await owner.execute("LOCK TABLE metadata.quality_results IN ACCESS EXCLUSIVE MODE")
            before = await owner.fetchval("SELECT max(measured_at) FROM metadata.stream_lag")
            await client.send(topic, [note("c")])
            await until(owner, "SELECT count(*) = 3 FROM staging.notes")
        await until(owner, "SELECT max(measured_at) > $1 FROM metadata.stream_lag", before)
        await until(
            owner,
            "SELECT sum(checked) = 3 FROM metadata.quality_results WHERE column_name = 'text'",
        )
        assert not any(each.done() for each in running)
    finally:
        for each in running:
            each.cancel()
        for each in running:
            with suppress(asyncio.CancelledError):
                await each
    lags = await owner.fetch(
        "SELECT DISTINCT consumer_group, topic, partition FROM metadata.stream_lag"
    )
    assert [tuple(row) for row in lags] == [("watched", topic, 0)]
    assert consumer.progress.messages == 3


async def until(owner: asyncpg.Connection, question: str, *given: object) -> None:
    """Return when PostgreSQL says yes."""
    async with asyncio.timeout(60):
        while not await owner.fetchval(question, *given):  # noqa: ASYNC110 - it rings no bell
            await asyncio.sleep(0.02)
