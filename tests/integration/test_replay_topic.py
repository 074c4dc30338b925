"""A topic, read again beside its consumers: what is missing comes back, nothing is doubled."""

import asyncio
import datetime as dt
import json
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from deployments.bootstrap import bootstrap
from infra.local.embedded_broker import EmbeddedBroker
from infra.local.kafka import ApacheKafka
from infra.postgres.connection import Pool
from infra.settings import Settings
from schemas.dataset import Dataset, Role, column
from schemas.errors import TerminalError, TransientError
from tasks.consume import Consumer
from tasks.replay_topic import TopicReplay, replay_topic
from tasks.topic_range import Section

NOON = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)
EVERYTHING = Section(from_offset=0)


class Readings(Dataset, table="readings", role=Role.FACT, key=("reading_id",)):
    """What a sensor measured."""

    reading_id: int = column(ge=1)
    value: int = column(ge=0)


class Notes(Dataset, table="notes", role=Role.STAGING):
    """What people wrote; without a key."""

    text: str = column(str_length={"min_value": 1, "max_value": 20})


class MendedReadings(Dataset, table="readings", role=Role.FACT, key=("reading_id",)):
    """What a sensor measured, below zero too."""

    reading_id: int = column(ge=1)
    value: int = column(ge=-100)


STRICT = {"readings": Readings.spec, "notes": Notes.spec}
MENDED = {"readings": MendedReadings.spec, "notes": Notes.spec}


def reading(number: int, value: int, minute: int = 0) -> bytes:
    return _envelope("readings", minute, {"reading_id": number, "value": value})


def note(text: str) -> bytes:
    return _envelope("notes", 0, {"text": text})


def _envelope(source: str, minute: int, payload: dict[str, object]) -> bytes:
    time = (NOON + dt.timedelta(minutes=minute)).isoformat()
    return json.dumps({"source": source, "timestamp": time, "payload": payload}).encode()


@dataclass
class Topic:
    """A topic of three partitions, and a group that reads it."""

    settings: Settings

    @property
    def name(self) -> str:
        return self.settings.kafka_topic

    async def send(
        self, *values: bytes | None, partition: int = 0, minute: int = 0, transaction: bool = False
    ) -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=self.settings.kafka_bootstrap_servers,
            transactional_id=str(uuid.uuid4()) if transaction else None,
        )
        await producer.start()
        time_ms = int((NOON + dt.timedelta(minutes=minute)).timestamp() * 1000)
        try:
            if transaction:
                await producer.begin_transaction()
            for value in values:
                await producer.send(self.name, value, b"key", partition, time_ms)
            await producer.flush()
            if transaction:
                await producer.commit_transaction()
        finally:
            await producer.stop()

    async def create(self) -> None:
        await self._administer(lambda admin: admin.create_topics([NewTopic(self.name, 3, 1)]))

    async def delete_before(self, offset: int, partition: int) -> None:
        place = TopicPartition(self.name, partition)
        await self._administer(
            lambda admin: admin.delete_records({place: RecordsToDelete(before_offset=offset)})
        )

    async def committed(self) -> dict[int, int | None]:
        """Return what Kafka believes of the group."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.settings.kafka_bootstrap_servers,
            group_id=self.settings.kafka_group,
            enable_auto_commit=False,
        )
        await consumer.start()
        try:
            return {n: await consumer.committed(TopicPartition(self.name, n)) for n in range(3)}
        finally:
            await consumer.stop()

    async def _administer(self, act: Callable) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.settings.kafka_bootstrap_servers)
        await admin.start()
        try:
            await act(admin)
        finally:
            await admin.close()


@pytest.fixture
async def make_topic() -> Callable:
    async def make(broker: EmbeddedBroker | ApacheKafka) -> Topic:
        name = f"data-{uuid.uuid4()}"
        topic = Topic(
            Settings(
                kafka_bootstrap_servers=broker.bootstrap_servers,
                kafka_topic=name,
                kafka_group=f"group-{name}",
                kafka_session_timeout_seconds=6,
                stream_batch_messages=50,
                stream_batch_seconds=0.05,
            )
        )
        await topic.create()
        return topic

    return make


@pytest.fixture
async def topic(embedded_broker: EmbeddedBroker, make_topic) -> Topic:
    made: Topic = await make_topic(embedded_broker)
    return made


@pytest.fixture
async def owner(database) -> AsyncIterator[asyncpg.Connection]:
    await bootstrap(database.owner_url, datasets=(Readings, Notes))
    connection = await asyncpg.connect(database.owner_url)
    yield connection
    await connection.close()


@pytest.fixture
def consume(pool: Pool, owner) -> Callable:
    """Load what there is, as the group's live consumer does."""

    async def run(topic: Topic, *, until_caught_up: bool = True) -> None:
        await Consumer(pool, topic.settings, STRICT).run(until_caught_up=until_caught_up)

    return run


@pytest.fixture
def replay(pool: Pool, execution_id: int, owner) -> Callable:
    async def run(
        topic: Topic, section: Section = EVERYTHING, *, specs=STRICT, name: str | None = None
    ) -> TopicReplay:
        return await replay_topic(
            pool, topic.settings, specs, section, topic=name, execution_id=execution_id
        )

    return run


@pytest.fixture
def read(owner: asyncpg.Connection) -> Callable:
    async def rows(query: str) -> list[tuple]:
        return [tuple(row) for row in await owner.fetch(query)]

    return rows


TABLES = (
    "warehouse.fact_readings",
    "staging.readings",
    "staging.notes",
    "metadata.dead_letters",
    "metadata.stream_offsets",
)


@pytest.fixture
def snapshot(read) -> Callable:
    """Return every row of every table that a replay could touch, as text."""

    async def take() -> dict[str, list[str]]:
        return {
            table: [text for (text,) in await read(f"SELECT t::text FROM {table} AS t ORDER BY 1")]  # noqa: S608 - named above
            for table in TABLES
        }

    return take


READINGS = "SELECT reading_id, value FROM warehouse.fact_readings ORDER BY 1"


async def fill(topic: Topic) -> None:
    """Send what there is in real life: corrections, repetitions, late ones, rubbish."""
    for partition in range(3):
        numbers = range(partition * 100 + 1, partition * 100 + 71)
        await topic.send(
            *(reading(number, number) for number in numbers),
            *(reading(number, number + 1, minute=2) for number in numbers),
            *(reading(number, number + 2, minute=1) for number in numbers),
            *(reading(number, number + 1, minute=3) for number in numbers[:20]),
            *(note(f"note {number % 7}") for number in numbers),
            *(b"{", reading(1000 + partition, -1), None, note("x" * 50)),
            partition=partition,
        )


@pytest.mark.parametrize("name", ["embedded_broker", "apache_kafka"])
async def test_a_replay_of_everything_changes_nothing(
    name: str, request: pytest.FixtureRequest, make_topic, consume, replay, snapshot, read
) -> None:
    topic = await make_topic(request.getfixturevalue(name))
    await fill(topic)
    await consume(topic)
    before, committed = await snapshot(), await topic.committed()
    done = await replay(topic)
    assert await snapshot() == before
    assert await topic.committed() == committed
    assert len(before["staging.notes"]) == 210
    assert len(before["metadata.dead_letters"]) == 12
    assert (done.messages, done.dead) == (3 * 304, 0)
    assert done.messages == done.loaded + done.skipped
    assert await read(
        "SELECT sum(messages), sum(loaded), sum(dead), sum(skipped)"
        " FROM metadata.stream_batches WHERE is_replay"
    ) == [(done.messages, done.loaded, 0, done.skipped)]


async def test_a_live_consumer_goes_on_meanwhile(
    topic: Topic, consume, replay, snapshot, read
) -> None:
    await fill(topic)
    await consume(topic)
    before = await snapshot()
    live = asyncio.create_task(consume(topic, until_caught_up=False))
    try:
        feeding = asyncio.gather(
            *(
                topic.send(
                    *(reading(number, 0) for number in range(start, start + 100)),
                    *(note("later") for _ in range(100)),
                    partition=start % 3,
                )
                for start in (2000, 2100, 2200)
            )
        )
        await asyncio.gather(*(replay(topic) for _ in range(3)))
        await feeding
        await replay(topic)
        async with asyncio.timeout(60):
            while await read("SELECT sum(next_offset) FROM metadata.stream_offsets") != [
                (3 * 304 + 600,)
            ]:
                assert not live.done()
                await asyncio.sleep(0.05)
    finally:
        live.cancel()
        await asyncio.gather(live, return_exceptions=True)
    await replay(topic)
    after = await snapshot()
    assert after["metadata.dead_letters"] == before["metadata.dead_letters"]
    for table, count in (
        ("warehouse.fact_readings", 300),
        ("staging.readings", 300),
        ("staging.notes", 300),
    ):
        assert set(before[table]) <= set(after[table])
        assert len(after[table]) == len(before[table]) + count


async def test_what_was_lost_comes_back(topic: Topic, consume, replay, read, owner) -> None:
    await topic.send(reading(1, 1), reading(2, 2), reading(2, 3, minute=1), note("a"), note("b"))
    await consume(topic)
    await owner.execute("DELETE FROM warehouse.fact_readings WHERE reading_id = 2")
    await owner.execute("DELETE FROM staging.notes WHERE text = 'b'")
    done = await replay(topic)
    assert await read(READINGS) == [(1, 1), (2, 3)]
    assert await read("SELECT text FROM staging.notes ORDER BY 1") == [("a",), ("b",)]
    assert done.ledgers["notes"].inserted == 1
    assert str(done) == (
        f"Of 5 messages of {topic.name} 2 brought new rows, 0 changed one, 2 said what is there "
        "already, 1 came too late or were dead letters before, 0 are dead letters now."
    )


async def test_replays_at_once_stage_what_is_missing_once(
    topic: Topic, consume, replay, read, owner
) -> None:
    await topic.send(*(note(f"note {number}") for number in range(300)))
    await consume(topic)
    await owner.execute("DELETE FROM staging.notes")
    done = await asyncio.gather(*(replay(topic) for _ in range(4)))
    assert await read("SELECT count(*), count(DISTINCT text) FROM staging.notes") == [(300, 300)]
    assert sum(each.ledgers["notes"].inserted for each in done) == 300


async def test_dead_letters_that_are_loaded_now_are_marked_so(
    topic: Topic, consume, replay, read
) -> None:
    await topic.send(
        *(reading(1, -1), reading(2, -2, minute=1), reading(2, 2, minute=2)),
        *(reading(3, -500), b"{"),
    )
    await consume(topic)
    await replay(topic, specs=MENDED)
    assert await read(READINGS) == [(1, -1), (2, 2)]
    assert await read(
        "SELECT message_offset, outcome, attempts FROM metadata.dead_letters ORDER BY 1"
    ) == [(0, "loaded", 0), (1, "superseded", 0), (3, None, 0), (4, None, 0)]


async def test_what_the_group_has_not_read_is_left_to_it(
    topic: Topic, consume, replay, read, snapshot
) -> None:
    await topic.send(reading(1, 1), note("a"))
    # Nobody has read it: the group will begin at the beginning.
    done = await replay(topic)
    assert (done.messages, await read(READINGS)) == (0, [])
    assert str(done) == (
        f"2 messages of {topic.name} that the group {topic.settings.kafka_group} has not read yet "
        "are left to it."
    )
    await consume(topic)
    await topic.send(note("b"), note("c"))
    done = await replay(topic)
    assert done.messages == 2
    await consume(topic)
    assert await read("SELECT text FROM staging.notes ORDER BY 1") == [("a",), ("b",), ("c",)]


async def test_a_topic_that_the_group_does_not_read_is_loaded_once(
    topic: Topic, make_topic, embedded_broker, replay, read
) -> None:
    archive = await make_topic(embedded_broker)
    await archive.send(reading(1, 1), note("a"), b"{")
    for _ in range(2):
        assert (await replay(topic, name=archive.name)).messages == 3
    assert await read(READINGS) == [(1, 1)]
    assert await read("SELECT text FROM staging.notes") == [("a",)]
    assert await read("SELECT topic FROM metadata.dead_letters") == [(archive.name,)]
    assert await read("SELECT * FROM metadata.stream_offsets") == []


def at(minute: float) -> dt.datetime:
    return NOON + dt.timedelta(minutes=minute)


@pytest.mark.parametrize(
    ("section", "numbers"),
    [
        (Section(from_offset=0), [1, 2, 3, 4, 5, 6]),
        (Section(from_offset=1), [2, 3, 4, 6]),
        (Section(from_offset=1, until_offset=3), [2, 3, 6]),
        (Section(from_offset=3), [4]),
        (Section(from_offset=4), []),
        (Section(from_offset=0, until_offset=99), [1, 2, 3, 4, 5, 6]),
        (Section(from_offset=0, partitions=(1,)), [5, 6]),
        (Section(from_time=at(-60)), [1, 2, 3, 4, 5, 6]),
        (Section(from_time=at(10)), [2, 3, 4, 6]),
        (Section(from_time=at(10.0001)), [3, 4, 6]),
        (Section(from_time=at(10), until_time=at(30)), [2, 3, 6]),
        (Section(from_time=at(10), until_offset=2), [2, 6]),
        (Section(from_time=at(31)), []),
        (Section(from_offset=2, until_time=at(5)), []),
    ],
)
async def test_a_section_is_read_from_its_first_message_to_before_its_end(
    section: Section, numbers: list[int], topic: Topic, consume, replay, read, owner
) -> None:
    for number, minute in ((1, 0), (2, 10), (3, 20), (4, 30)):
        await topic.send(reading(number, 0), minute=minute)
    for number, minute in ((5, 0), (6, 20)):
        await topic.send(reading(number, 0), partition=1, minute=minute)
    await consume(topic)
    await owner.execute("DELETE FROM warehouse.fact_readings")
    done = await replay(topic, section)
    assert [number for number, _ in await read(READINGS)] == numbers
    assert done.messages == len(numbers)
    assert bool(done.notes) == (not numbers)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "Say where the replay begins"),
        ({"from_offset": 0, "from_time": NOON}, "Say where the replay begins"),
        ({"from_offset": 0, "until_offset": 3, "until_time": NOON}, "Say where the replay ends"),
        ({"from_offset": -1}, "numbers from 0 on"),
        ({"from_offset": 3, "until_offset": 3}, "ends before it begins"),
        ({"from_time": NOON, "until_time": NOON}, "ends before it begins"),
    ],
)
def test_what_is_no_section_is_refused(given: dict, sentence: str) -> None:
    with pytest.raises(TerminalError, match=sentence):
        Section(**given)


async def test_what_does_not_exist_is_refused_with_a_sentence(
    topic: Topic, consume, replay, owner
) -> None:
    await topic.send(reading(1, 1))
    await consume(topic)
    for section, name, sentence in (
        (EVERYTHING, "no-such-topic", "has no topic 'no-such-topic'"),
        (Section(from_offset=0, partitions=(7,)), None, "has no partition 7: its partitions are"),
        (Section(from_offset=2), None, "Offset 2 is past the end of .*: 0 at 1, 1 at 0, 2 at 0"),
    ):
        with pytest.raises(TerminalError, match=sentence):
            await replay(topic, section, name=name)
    await owner.execute("UPDATE metadata.stream_offsets SET next_offset = 9 WHERE partition = 0")
    with pytest.raises(TerminalError, match="was made anew, or lost messages"):
        await replay(topic)


async def test_a_kafka_that_is_away_is_a_sentence(replay) -> None:
    away = Topic(Settings(kafka_bootstrap_servers="127.0.0.1:9"))
    with pytest.raises(TransientError, match=r"Kafka at 127\.0\.0\.1:9 cannot be read from"):
        await replay(away)


async def test_marks_of_transactions_and_deleted_messages_hold_nothing_up(
    apache_kafka: ApacheKafka, make_topic, consume, replay, read, owner
) -> None:
    topic = await make_topic(apache_kafka)
    await topic.send(reading(1, 1), reading(2, 2), reading(3, 3))
    # The last offset of the partition is the mark of this transaction's end.
    await topic.send(reading(4, 4), transaction=True)
    live = asyncio.create_task(consume(topic, until_caught_up=False))
    async with asyncio.timeout(60):
        while len(await read(READINGS)) < 4:
            assert not live.done()
            await asyncio.sleep(0.05)
    live.cancel()
    await asyncio.gather(live, return_exceptions=True)
    await owner.execute("DELETE FROM warehouse.fact_readings")
    await topic.delete_before(2, partition=0)
    done = await replay(topic)
    assert await read(READINGS) == [(3, 3), (4, 4)]
    assert done.messages == 2


async def test_a_replay_rides_out_connections_that_break(
    topic: Topic, consume, replay, read, owner
) -> None:
    await topic.send(*(reading(number, 0) for number in range(1, 1001)), *[note("a")] * 50)
    await consume(topic)
    await owner.execute("DELETE FROM warehouse.fact_readings")
    running = asyncio.create_task(replay(topic))
    async with asyncio.timeout(60):
        for goal in (50, 400):
            while await owner.fetchval("SELECT count(*) FROM warehouse.fact_readings") < goal:  # noqa: ASYNC110 - no event tells of a row
                await asyncio.sleep(0.01)
            await owner.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
    assert (await running).messages == 1050
    assert await read("SELECT count(*) FROM warehouse.fact_readings") == [(1000,)]
    assert await read("SELECT count(*) FROM staging.notes") == [(50,)]
