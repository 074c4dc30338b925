"""How far a group is behind, by a broker's word: in messages, and in the age of the oldest."""

import datetime as dt
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from infra.postgres.connection import Pool
from infra.settings import Settings
from tasks.offsets import Reader
from tasks.stream_lag import KEPT_DAYS, Lag, LagProbe, prune_lag, write_lag

SERIAL = itertools.count(1)
MINUTE_MS = 60_000


def now_ms() -> int:
    return int(dt.datetime.now(dt.UTC).timestamp() * 1000)


@pytest.fixture
async def topic(embedded_broker, messages) -> str:
    """A topic of three partitions."""
    name = f"lag-{next(SERIAL)}"
    await messages(embedded_broker.bootstrap_servers).create(name, partitions=3)
    return name


@pytest.fixture
async def send(embedded_broker, topic: str) -> AsyncIterator[Callable[..., Any]]:
    """Called with a partition and ages in minutes: sends a message of each age."""
    producer = AIOKafkaProducer(bootstrap_servers=embedded_broker.bootstrap_servers)
    await producer.start()

    async def send_aged(partition: int, *minutes: float) -> None:
        for age in minutes:
            await producer.send_and_wait(
                topic,
                b"value" * 100,
                partition=partition,
                timestamp_ms=now_ms() - int(age * MINUTE_MS),
            )

    yield send_aged
    await producer.stop()


@pytest.fixture
async def probe(embedded_broker, topic: str) -> AsyncIterator[LagProbe]:
    settings = Settings(
        database_url="postgresql://nobody@localhost/none",
        kafka_bootstrap_servers=embedded_broker.bootstrap_servers,
    )
    async with LagProbe(settings, Reader("lag", topic)) as opened:
        yield opened


def measured(lags: list[Lag]) -> dict[int, tuple[int, int]]:
    """Return messages and whole minutes by partition."""
    return {each.partition: (each.messages, int(each.seconds // 60)) for each in lags}


async def test_the_oldest_unread_message_gives_the_age(probe: LagProbe, send) -> None:
    await send(0, 50, 40, 30)
    await send(1, 20, 10)
    assert measured(await probe.measure({0: 0, 1: 0, 2: 0})) == {0: (3, 50), 1: (2, 20), 2: (0, 0)}
    # Partitions are read on, each by its own.
    assert measured(await probe.measure({0: 2, 1: 1, 2: 0})) == {0: (1, 30), 1: (1, 10), 2: (0, 0)}
    assert measured(await probe.measure({0: 3, 1: 2})) == {0: (0, 0), 1: (0, 0)}


async def test_a_topic_that_was_read_to_its_end_is_not_behind(probe: LagProbe, send) -> None:
    await send(0, 90)
    for _ in range(2):
        [lag] = await probe.measure({0: 1})
        assert lag == Lag(0, 0, 0.0)
    await send(0, 5)
    assert measured(await probe.measure({0: 1})) == {0: (1, 5)}


async def test_a_message_of_the_future_is_no_negative_age(probe: LagProbe, send) -> None:
    await send(0, -60)
    assert await probe.measure({0: 0}) == [Lag(0, 1, 0.0)]


async def test_an_offset_beyond_the_log_is_not_behind(probe: LagProbe, send) -> None:
    await send(0, 5)
    assert await probe.measure({0: 40}) == [Lag(0, 0, 0.0)]


async def test_a_consumer_without_partitions_asks_nothing(probe: LagProbe) -> None:
    assert await probe.measure({}) == []


async def test_what_was_measured_is_kept_for_a_week(pool: Pool) -> None:
    reader, other = Reader("group", "topic"), Reader("other", "topic")
    async with pool.acquire() as connection:
        await write_lag(connection, reader, [Lag(0, 5, 1.5), Lag(1, 0, 0.0)])
        await write_lag(connection, other, [Lag(0, 7, 2.5)])
        await connection.executemany(
            "INSERT INTO metadata.stream_lag VALUES ($1, 'topic', $2, now() - $3::interval, 1, 1)",
            [
                ("group", 0, dt.timedelta(days=KEPT_DAYS, minutes=1)),
                ("group", 1, dt.timedelta(days=KEPT_DAYS, minutes=-1)),
                ("other", 0, dt.timedelta(days=KEPT_DAYS, minutes=1)),
            ],
        )
        await prune_lag(connection, reader)
        rows = await connection.fetch(
            "SELECT consumer_group, partition, lag_messages, lag_seconds FROM metadata.stream_lag"
            " ORDER BY 1, 2, measured_at DESC"
        )
    assert [tuple(row) for row in rows] == [
        ("group", 0, 5, 1.5),
        ("group", 1, 0, 0.0),
        ("group", 1, 1, 1.0),
        ("other", 0, 7, 2.5),
        ("other", 0, 1, 1.0),
    ]
