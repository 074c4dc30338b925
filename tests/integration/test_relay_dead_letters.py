"""Dead letters on their way from the table to their topic: each at least once, none for nothing."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from pydantic import SecretStr
from structlog.testing import capture_logs

from infra.cell_encryption import KeyRing
from infra.cell_keys import make_key, read_key_ring
from infra.local.embedded_broker import EmbeddedBroker
from infra.local.kafka import ApacheKafka
from infra.postgres.connection import Pool
from infra.settings import Settings
from schemas.errors import TerminalError, TransientError
from tasks import relay_dead_letters as module
from tasks.relay_dead_letters import MAX_RELAY_ATTEMPTS, open_relay_producer, relay, relay_once
from tasks.sealing import DEAD_LETTERS, seal_message

DEADLINE_SECONDS = 60.0


@pytest.fixture(params=["embedded_broker", "apache_kafka"])
def broker(request: pytest.FixtureRequest) -> EmbeddedBroker | ApacheKafka:
    found: EmbeddedBroker | ApacheKafka = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def make_topic() -> Callable:
    """Make a topic for dead letters; the settings that name it."""

    async def make(bootstrap_servers: str, **configs: str) -> Settings:
        topic = f"dlq-{uuid.uuid4()}"
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(topic, 1, 1, topic_configs=configs)])
        finally:
            await admin.close()
        return Settings(kafka_bootstrap_servers=bootstrap_servers, kafka_dead_letter_topic=topic)

    return make


@pytest.fixture
def read_topic() -> Callable:
    async def read(settings: Settings) -> list[ConsumerRecord]:
        place = TopicPartition(settings.kafka_dead_letter_topic, 0)
        consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap_servers)
        await consumer.start()
        try:
            consumer.assign([place])
            await consumer.seek_to_beginning(place)
            end = (await consumer.end_offsets([place]))[place]
            records: list[ConsumerRecord] = []
            while await consumer.position(place) < end:
                records += (await consumer.getmany(timeout_ms=200)).get(place, [])
        finally:
            await consumer.stop()
        return records

    return read


@pytest.fixture
async def owner(database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.owner_url)
    yield connection
    await connection.close()


@pytest.fixture
def fetch(owner: asyncpg.Connection) -> Callable:
    return owner.fetch


@pytest.fixture
def bury_letters(fetch) -> Callable:
    async def bury(*values: bytes | None, source: str | None = "sales_data") -> None:
        await fetch(
            """
            INSERT INTO metadata.dead_letters
                (consumer_group, topic, partition, message_offset, source, reason, detail,
                 contract_version, message_value, attempts)
            SELECT 'group', 'data-stream', 1,
                g.place + (SELECT count(*) FROM metadata.dead_letters), $2::text, 'quantity: ge',
                'für 0', CASE WHEN $2 IS NULL THEN NULL ELSE 'v1' END, g.value, 2
            FROM unnest($1::bytea[]) WITH ORDINALITY AS g (value, place) ORDER BY g.place
            """,
            list(values),
            source,
        )

    return bury


@pytest.fixture
def bury_sealed(fetch) -> Callable:
    """Called with a key ring and messages: leaves them as letters that are encrypted with it."""

    async def bury(ring: KeyRing, *values: bytes | None) -> None:
        kept = [seal_message(ring, DEAD_LETTERS, b"key", each) for each in values]
        await fetch(
            """
            INSERT INTO metadata.dead_letters
                (consumer_group, topic, partition, message_offset, source, reason, detail,
                 message_key, message_value, is_sealed)
            SELECT 'group', 'data-stream', 1,
                g.place + (SELECT count(*) FROM metadata.dead_letters), 'customers',
                'email: str_matches', 'it is not', g.key, g.value, true
            FROM unnest($1::bytea[], $2::bytea[]) WITH ORDINALITY AS g (key, value, place)
            ORDER BY g.place
            """,
            [key for key, _, _ in kept],
            [value for _, value, _ in kept],
        )

    return bury


async def until_relayed(fetch) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while await waiting(fetch):  # noqa: ASYNC110 - no event tells of a row
            await asyncio.sleep(0.05)


async def waiting(fetch) -> list[int]:
    rows = await fetch(
        "SELECT message_offset FROM metadata.dead_letters WHERE relayed_at IS NULL ORDER BY id"
    )
    return [row["message_offset"] for row in rows]


async def test_letters_are_relayed_once_with_all_that_is_known_of_them(
    broker, pool: Pool, make_topic, read_topic, fetch, bury_letters
) -> None:
    settings = await make_topic(broker.bootstrap_servers)
    await bury_letters(b'{"a": 1}', None, b"")
    await bury_letters(b"\xff\x00", source=None)
    async with open_relay_producer(settings) as producer:
        assert await relay_once(pool, producer, settings) == 4
        assert await relay_once(pool, producer, settings) == 0
    records = await read_topic(settings)
    assert [(each.key, each.value) for each in records] == [
        (b"data-stream-1-1", b'{"a": 1}'),
        (b"data-stream-1-2", None),
        (b"data-stream-1-3", b""),
        (b"data-stream-1-4", b"\xff\x00"),
    ]
    assert dict(records[0].headers) == {
        "reason": b"quantity: ge",
        "detail": "für 0".encode(),
        "contract_version": b"v1",
        "topic": b"data-stream",
        "partition": b"1",
        "offset": b"1",
        "attempts": b"2",
        "source": b"sales_data",
    }
    assert {"source", "contract_version"}.isdisjoint(dict(records[3].headers))
    assert await waiting(fetch) == []


async def test_what_the_broker_refuses_is_given_up_and_holds_up_no_other(
    apache_kafka: ApacheKafka, pool: Pool, make_topic, read_topic, fetch, bury_letters
) -> None:
    settings = await make_topic(apache_kafka.bootstrap_servers, **{"max.message.bytes": "1500"})
    # Together the small ones are too large too: no reason to blame any of them.
    small = [uuid.uuid4().hex.encode() * 10 for _ in range(20)]
    large = b"".join(uuid.uuid4().bytes for _ in range(200))
    await bury_letters(small[0], large, *small[1:])
    async with open_relay_producer(settings) as producer:
        assert await relay_once(pool, producer, settings) == 20
        with capture_logs() as logs:
            for _ in range(MAX_RELAY_ATTEMPTS + 1):
                assert await relay_once(pool, producer, settings) == 0
    assert sorted(each.value for each in await read_topic(settings)) == sorted(small)
    [left] = await fetch(
        "SELECT message_value, relay_attempts FROM metadata.dead_letters WHERE relayed_at IS NULL"
    )
    assert (left["message_value"], left["relay_attempts"]) == (large, MAX_RELAY_ATTEMPTS)
    assert [each["log_level"] for each in logs] == ["error"]


async def test_an_encrypted_letter_is_relayed_as_the_message_that_it_was(
    embedded_broker: EmbeddedBroker, pool: Pool, make_topic, read_topic, fetch, bury_sealed
) -> None:
    settings = await make_topic(embedded_broker.bootstrap_servers)
    await bury_sealed(read_key_ring(settings), b'{"name": "Ada"}', None, b"")
    async with open_relay_producer(settings) as producer:
        assert await relay_once(pool, producer, settings) == 3
    assert [each.value for each in await read_topic(settings)] == [b'{"name": "Ada"}', None, b""]
    assert await waiting(fetch) == []


async def test_a_letter_without_its_key_waits_and_a_changed_one_is_given_up(
    embedded_broker: EmbeddedBroker,
    pool: Pool,
    make_topic,
    read_topic,
    fetch,
    bury_letters,
    bury_sealed,
) -> None:
    settings = await make_topic(embedded_broker.bootstrap_servers)
    new, old = make_key("new"), make_key("old")
    of_old, of_both, of_new, of_none = (
        settings.model_copy(update={"cell_keys": SecretStr(keys)})
        for keys in (old, f"{new},{old}", new, "")
    )
    of_none = of_none.model_copy(update={"index_keys": SecretStr("")})
    await bury_sealed(read_key_ring(of_old), b"old", None)
    await bury_sealed(read_key_ring(of_new), b"new", b"changed")
    await bury_letters(b"plain")
    await fetch(
        "UPDATE metadata.dead_letters SET message_value = message_key WHERE message_offset = 4"
    )
    async with open_relay_producer(of_none) as producer:
        assert await relay_once(pool, producer, of_none) == 1
    async with open_relay_producer(of_new) as producer:
        assert await relay_once(pool, producer, of_new) == 1
        with capture_logs() as logs:
            for _ in range(MAX_RELAY_ATTEMPTS):
                assert await relay_once(pool, producer, of_new) == 0
    assert [each["log_level"] for each in logs] == ["error"]
    assert "is not what was written there" in logs[0]["reason"]
    assert await waiting(fetch) == [1, 2, 4]
    async with open_relay_producer(of_both) as producer:
        assert await relay_once(pool, producer, of_both) == 2
    assert [each.value for each in await read_topic(settings)] == [b"plain", b"new", b"old", None]
    assert await waiting(fetch) == [4]


async def test_who_relays_is_told_of_letters_without_their_key(
    embedded_broker: EmbeddedBroker, pool: Pool, make_topic, bury_sealed, monkeypatch
) -> None:
    settings = await make_topic(embedded_broker.bootstrap_servers)
    other = settings.model_copy(update={"cell_keys": SecretStr(make_key("other"))})
    await bury_sealed(read_key_ring(other), b"a")
    monkeypatch.setattr(module, "_REST_SECONDS", 0.05)
    with capture_logs() as logs:
        running = asyncio.create_task(relay(pool, settings))
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not logs:  # noqa: ASYNC110 - no event tells of a line
                await asyncio.sleep(0.05)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert {(each["log_level"], each["reason"]) for each in logs} == {
        ("warning", "they are encrypted with a key that is not set")
    }


async def test_a_letter_larger_than_a_client_sends_by_default_is_relayed(
    apache_kafka: ApacheKafka, pool: Pool, make_topic, read_topic, bury_letters
) -> None:
    settings = await make_topic(apache_kafka.bootstrap_servers, **{"max.message.bytes": "5000000"})
    large = b"".join(uuid.uuid4().bytes for _ in range(200_000))
    await bury_letters(large)
    async with open_relay_producer(settings) as producer:
        assert await relay_once(pool, producer, settings) == 1
    assert [each.value for each in await read_topic(settings)] == [large]


async def test_several_consumers_do_not_relay_the_same_letters_at_once(
    embedded_broker: EmbeddedBroker, pool: Pool, make_topic, read_topic, fetch, bury_letters
) -> None:
    settings = await make_topic(embedded_broker.bootstrap_servers)
    await bury_letters(*(str(number).encode() for number in range(1200)))

    async def drain() -> int:
        count = 0
        async with open_relay_producer(settings) as producer:
            while relayed := await relay_once(pool, producer, settings):
                count += relayed
        return count

    counts = await asyncio.gather(drain(), drain(), drain())
    # Whoever found all that was left locked has gone; nobody has relayed one twice.
    while sum(counts) != 1200:
        counts = [*counts, await drain()]
    assert len(await read_topic(settings)) == 1200
    assert await waiting(fetch) == []


async def test_a_letter_counts_as_relayed_only_when_that_is_committed(
    embedded_broker: EmbeddedBroker, owner, pool: Pool, make_topic, read_topic, fetch, bury_letters
) -> None:
    settings = await make_topic(embedded_broker.bootstrap_servers)
    await bury_letters(b"once", b"twice")
    await owner.execute(
        """
        CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql
            AS 'BEGIN RAISE EXCEPTION ''the disk is full''; END';
        CREATE CONSTRAINT TRIGGER refuse AFTER UPDATE ON metadata.dead_letters
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.refuse();
        """
    )
    async with open_relay_producer(settings) as producer:
        with pytest.raises(Exception, match="the disk is full"):
            await relay_once(pool, producer, settings)
        assert await waiting(fetch) == [1, 2]
        await owner.execute("DROP TRIGGER refuse ON metadata.dead_letters")
        assert await relay_once(pool, producer, settings) == 2
    values = [each.value for each in await read_topic(settings)]
    assert values == [b"once", b"twice"] * 2


async def test_a_topic_that_is_missing_blames_no_letter(
    apache_kafka: ApacheKafka, pool: Pool, fetch, bury_letters
) -> None:
    await bury_letters(b"a")
    settings = Settings(
        kafka_bootstrap_servers=apache_kafka.bootstrap_servers,
        kafka_dead_letter_topic="not-there.dlq",
    )
    async with open_relay_producer(settings) as producer:
        with pytest.raises(TerminalError, match=r"has no topic 'not-there\.dlq'"):
            await relay_once(pool, producer, settings)
    [letter] = await fetch("SELECT relay_attempts FROM metadata.dead_letters")
    assert letter["relay_attempts"] == 0


async def test_a_kafka_that_is_away_is_a_sentence(pool: Pool, fetch, bury_letters) -> None:
    await bury_letters(b"a")
    settings = Settings(kafka_bootstrap_servers="127.0.0.1:9")
    async with open_relay_producer(settings) as producer:
        with pytest.raises(TransientError, match=r"Kafka at 127\.0\.0\.1:9 cannot be reached"):
            await relay_once(pool, producer, settings)
    assert await waiting(fetch) == [1]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REST_SECONDS", 0.05)
    monkeypatch.setattr(module, "_RETRY_SECONDS", (0.05,))


async def test_the_relay_goes_on_when_kafka_and_the_database_are_back(
    tmp_path, owner, pool: Pool, make_topic, read_topic, fetch, bury_letters, impatient
) -> None:
    with EmbeddedBroker(tmp_path / "broker") as broker:
        settings = await make_topic(broker.bootstrap_servers)
        with capture_logs() as logs:
            running = asyncio.create_task(relay(pool, settings))
            try:
                await bury_letters(b"first")
                await until_relayed(fetch)
                broker.stop()
                await bury_letters(b"second")
                while not [each for each in logs if each["log_level"] == "warning"]:
                    assert not running.done()
                    await asyncio.sleep(0.05)
                broker.start()
                await until_relayed(fetch)
                # Every connection of the pool, as a restart of the server would.
                await owner.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                await bury_letters(b"third")
                await until_relayed(fetch)
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
        values = [each.value for each in await read_topic(settings)]
    assert sorted(set(values)) == [b"first", b"second", b"third"]
    assert len([each for each in logs if each["log_level"] == "warning"]) == 1
