"""Producing to real brokers, and what they refuse."""

import asyncio
import itertools
import json
import os
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from infra.kafka.producer import Producer
from infra.local.kafka import ApacheKafka
from infra.local.ports import choose_port
from infra.settings import Settings
from schemas.errors import SettingError, TerminalError, TransientError
from tasks.produce import produce_many
from tasks.refusals import Message, Reason

PARTITIONS = 3
_serial = itertools.count(1)
CreateTopic = Callable[..., Awaitable[str]]
ReadTopic = Callable[[str, str], Awaitable[list[ConsumerRecord]]]


@pytest.fixture(params=["embedded_broker", "apache_kafka"])
def where(request: pytest.FixtureRequest) -> str:
    address: str = request.getfixturevalue(request.param).bootstrap_servers
    return address


@pytest.fixture
def create_topic() -> CreateTopic:
    """Make a topic of the test's own."""

    async def create(address: str, **configs: str) -> str:
        name = f"produce-{next(_serial)}-{os.urandom(3).hex()}"
        admin = AIOKafkaAdminClient(bootstrap_servers=address)
        await admin.start()
        try:
            answer = await admin.create_topics(
                [NewTopic(name, PARTITIONS, 1, topic_configs=configs)]
            )
            assert [each[1] for each in answer.topic_errors] == [0]
        finally:
            await admin.close()
        return name

    return create


@pytest.fixture
def read_topic() -> ReadTopic:
    """Return all that a topic holds."""

    async def read(address: str, topic: str) -> list[ConsumerRecord]:
        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=address, auto_offset_reset="earliest", group_id=None
        )
        await consumer.start()
        try:
            ends = await consumer.end_offsets(consumer.assignment())
            found: list[ConsumerRecord] = []
            while len(found) < sum(ends.values()):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found += records
        finally:
            await consumer.stop()
        return found

    return read


def settings_for(address: str) -> Settings:
    return Settings(kafka_bootstrap_servers=address)


def make_messages(count: int, *, size_bytes: int = 0, start: int = 0) -> list[Message]:
    return [
        (
            b"s:%d" % number,
            json.dumps({"n": number, "pad": os.urandom(size_bytes // 2).hex()}).encode(),
            None,
        )
        for number in range(start, start + count)
    ]


def said(records: list[ConsumerRecord]) -> list[tuple[bytes, bytes]]:
    return sorted((record.key, record.value) for record in records)


def pairs(messages: list[Message]) -> list[tuple[bytes, bytes]]:
    return sorted((key or b"", value) for key, value, _ in messages)


def batches_of(client: Any) -> list[Any]:
    """Return what the client holds; it tells nobody."""
    accumulator = client._message_accumulator  # noqa: SLF001 - see above
    waiting = [each for queue in accumulator._batches.values() for each in queue]  # noqa: SLF001 - see above
    return [*waiting, *accumulator._pending_batches]  # noqa: SLF001 - see above


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(3_000):
        if holds():
            return
        await asyncio.sleep(0.01)
    pytest.fail("It did not come about within 30 s.")


async def test_every_message_is_in_the_partition_of_its_key_once_and_in_order(
    where: str, create_topic: CreateTopic, read_topic: ReadTopic
) -> None:
    topic = await create_topic(where)
    messages = make_messages(20_000, size_bytes=60)
    acknowledged: list[Message] = []
    async with Producer(settings_for(where)) as producer:
        delivery = await produce_many(
            producer, topic, iter(messages), on_acknowledged=acknowledged.extend
        )
    assert (delivery.sent, delivery.refusals) == (20_000, [])
    found = await read_topic(where, topic)
    assert said(found) == pairs(messages) == pairs(acknowledged)
    plain = AIOKafkaProducer(bootstrap_servers=where)
    await plain.start()
    try:
        sent = [await plain.send_and_wait(topic, b"", key) for key, _, _ in messages[:30]]
    finally:
        await plain.stop()
    partitions = {record.key: record.partition for record in found}
    assert [each.partition for each in sent] == [partitions[key] for key, _, _ in messages[:30]]
    for partition in range(PARTITIONS):
        numbers = [json.loads(each.value)["n"] for each in found if each.partition == partition]
        assert numbers == sorted(numbers) != []


async def test_messages_carry_their_time_and_need_no_key(
    where: str, create_topic: CreateTopic, read_topic: ReadTopic
) -> None:
    topic = await create_topic(where)
    async with Producer(settings_for(where)) as producer:
        delivery = await produce_many(
            producer, topic, [(None, b"old", 1_000), (None, b"new", None), (b"", b"", 2_000)]
        )
        assert await produce_many(producer, topic, []) == type(delivery)()
    assert delivery.sent == 3
    found = {record.value: record for record in await read_topic(where, topic)}
    assert (found[b"old"].timestamp, found[b"old"].key) == (1_000, None)
    assert found[b"new"].timestamp > 1_700_000_000_000
    assert (found[b""].timestamp, found[b""].key) == (2_000, b"")


async def test_only_the_messages_that_a_topic_finds_too_large_are_refused(
    apache_kafka: ApacheKafka, create_topic: CreateTopic, read_topic: ReadTopic
) -> None:
    where = apache_kafka.bootstrap_servers
    topic = await create_topic(where, **{"max.message.bytes": "20000"})
    # Batches are larger than the topic allows, too, and no reason to refuse what is in them.
    small = make_messages(3_000, size_bytes=100)
    large = make_messages(6, size_bytes=100_000, start=3_000)
    messages = list(small)
    for place, each in enumerate(large):
        messages.insert(place * 500, each)
    async with Producer(settings_for(where)) as producer:
        delivery = await produce_many(producer, topic, messages)
        further = await produce_many(producer, topic, make_messages(10, start=4_000))
    assert (delivery.sent, further.sent) == (3_000, 10)
    assert pairs([each.message for each in delivery.refusals]) == pairs(large)
    assert {each.reason for each in delivery.refusals} == {Reason.TOO_LARGE}
    assert f"larger than topic '{topic}' allows" in delivery.refusals[0].detail
    found = await read_topic(where, topic)
    assert said(found) == pairs(small + make_messages(10, start=4_000))


async def test_calls_at_once_on_one_producer_do_not_spoil_one_another(
    apache_kafka: ApacheKafka, create_topic: CreateTopic, read_topic: ReadTopic
) -> None:
    where = apache_kafka.bootstrap_servers
    topic = await create_topic(where, **{"max.message.bytes": "20000"})
    parts = [make_messages(2_000, size_bytes=60, start=number * 10_000) for number in range(4)]
    for number, part in enumerate(parts[:2]):
        part[1_000] = (b"large:%d" % number, os.urandom(30_000), None)
    async with Producer(settings_for(where)) as producer:
        deliveries = await asyncio.gather(*(produce_many(producer, topic, each) for each in parts))
    assert [each.sent for each in deliveries] == [1_999, 1_999, 2_000, 2_000]
    refused = [each.message for delivery in deliveries for each in delivery.refusals]
    assert [key for key, _, _ in refused] == [b"large:0", b"large:1"]
    small = [each for part in parts for each in part if each not in refused]
    assert said(await read_topic(where, topic)) == pairs(small)


async def test_a_message_beyond_what_is_ever_sent_is_not_even_offered(
    where: str, create_topic: CreateTopic, read_topic: ReadTopic
) -> None:
    topic = await create_topic(where)
    large: Message = (b"s:1", b"x" * 1_000, None)
    async with Producer(settings_for(where), max_message_bytes=1_000) as producer:
        delivery = await produce_many(producer, topic, [large, (b"s", b"x" * 999, None)])
    assert delivery.sent == 1
    [refusal] = delivery.refusals
    assert (refusal.message, refusal.reason) == (large, Reason.TOO_LARGE)
    assert refusal.detail == "The message has 1,003 bytes; this producer sends 1,000."
    assert [record.key for record in await read_topic(where, topic)] == [b"s"]


@pytest.fixture
def frozen(apache_kafka: ApacheKafka) -> Iterator[ApacheKafka]:
    """The session's Kafka, which the test freezes; it goes on afterwards."""
    yield apache_kafka
    apache_kafka.thaw()
    apache_kafka.wait_until_ready()


async def test_what_a_frozen_broker_does_not_acknowledge_is_refused_and_the_next_call_works(
    frozen: ApacheKafka, create_topic: CreateTopic, read_topic: ReadTopic
) -> None:
    where = frozen.bootstrap_servers
    topic = await create_topic(where)
    timely, stuck, later = (make_messages(50, start=start) for start in (0, 100, 200))
    async with Producer(settings_for(where), delivery_seconds=1) as producer:
        assert (await produce_many(producer, topic, timely)).sent == 50
        frozen.freeze()
        delivery = await produce_many(producer, topic, stuck)
        assert delivery.sent == 0
        assert pairs([each.message for each in delivery.refusals]) == pairs(stuck)
        assert {(each.reason, each.detail) for each in delivery.refusals} == {
            (Reason.TIMED_OUT, "Kafka did not acknowledge it within 1 s.")
        }
        frozen.thaw()
        assert (await produce_many(producer, topic, later)).sent == 50
    found = said(await read_topic(where, topic))
    # Only the acknowledgement was missing: such a message can be in the topic all the same.
    assert {*pairs(timely), *pairs(later)} <= set(found)
    assert len(found) == len(set(found))


async def test_what_was_handed_over_when_a_run_is_cancelled_is_still_sent(
    frozen: ApacheKafka, create_topic: CreateTopic, read_topic: ReadTopic
) -> None:
    where = frozen.bootstrap_servers
    topic = await create_topic(where)
    messages = make_messages(100, size_bytes=60_000)
    async with Producer(settings_for(where)) as producer:
        client = await producer.open()
        await producer.find_partitions(client, topic)
        frozen.freeze()
        sending = asyncio.create_task(produce_many(producer, topic, messages))
        # Some are on their way, others wait for these, and for the rest there is no room yet.
        await until(lambda: {each.retry_count for each in batches_of(client)} == {0, 1})
        handed_over = sum(each.record_count for each in batches_of(client))
        sending.cancel()
        await asyncio.wait([sending])
        assert sending.cancelled()
        frozen.thaw()
    found = said(await read_topic(where, topic))
    assert len(found) == len(set(found)) == handed_over
    assert set(found) < set(pairs(messages))


async def test_a_request_whose_answer_was_lost_is_repeated_and_doubles_nothing(
    frozen: ApacheKafka, create_topic: CreateTopic, read_topic: ReadTopic
) -> None:
    where = frozen.bootstrap_servers
    topic = await create_topic(where)
    messages = make_messages(50)
    producer = Producer(settings_for(where))
    producer._options["request_timeout_ms"] = 500  # noqa: SLF001 - what a person waits for, a test does not
    async with producer:
        client = await producer.open()
        await producer.find_partitions(client, topic)
        frozen.freeze()
        sending = asyncio.create_task(produce_many(producer, topic, messages))
        # The broker gets the first request when it goes on, as well as its repetition.
        await until(lambda: any(each.retry_count > 1 for each in batches_of(client)))
        frozen.thaw()
        delivery = await sending
    assert (delivery.sent, delivery.refusals) == (50, [])
    assert said(await read_topic(where, topic)) == pairs(messages)


async def test_leaving_does_not_wait_for_ever_for_a_broker_that_hangs(
    frozen: ApacheKafka, create_topic: CreateTopic
) -> None:
    where = frozen.bootstrap_servers
    topic = await create_topic(where)
    before = asyncio.all_tasks()
    async with Producer(settings_for(where), flush_seconds=0.5) as producer:
        client = await producer.open()
        await producer.find_partitions(client, topic)
        frozen.freeze()
        # More than the sockets hold, so that closing them politely would have to wait.
        large = make_messages(1, size_bytes=15_000_000)
        sending = asyncio.create_task(produce_many(producer, topic, large))
        await until(lambda: len(batches_of(client)) == 1)
        sending.cancel()
        await asyncio.wait([sending])
    await until(lambda: not asyncio.all_tasks() - before)
    port = frozen.nodes[1].port
    links = psutil.Process().net_connections("tcp")
    assert not [each for each in links if each.raddr and each.raddr.port == port]


async def test_a_topic_that_is_not_there_is_a_sentence(where: str) -> None:
    async with Producer(settings_for(where)) as producer:
        with pytest.raises(TerminalError, match=f"Kafka at {where} has no topic 'no-such-topic'"):
            await produce_many(producer, "no-such-topic", make_messages(1))


async def test_a_kafka_that_is_away_is_an_error_that_may_pass() -> None:
    where = f"127.0.0.1:{choose_port()}"
    async with Producer(settings_for(where)) as producer:
        for _ in range(2):
            with pytest.raises(TransientError, match=f"Kafka at {where} cannot be reached"):
                await produce_many(producer, "data-stream", make_messages(1))


async def test_without_an_address_the_setting_is_named() -> None:
    with pytest.raises(SettingError, match="set SLUICEWAY_KAFKA_BOOTSTRAP_SERVERS"):
        Producer(settings_for(""))
