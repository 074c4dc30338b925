"""What lies in a topic: compressed, large, compacted, deleted by its key."""

import base64
import hashlib
import json
import os

from aiokafka import AIOKafkaConsumer, TopicPartition

COMPACTED = {
    "cleanup.policy": "compact",
    # Whatever comes begins a new segment, and the old one is compacted at once.
    "segment.ms": "100",
    "min.cleanable.dirty.ratio": "0.01",
    "max.compaction.lag.ms": "100",
}


async def test_whatever_the_codec_every_message_is_loaded(stream) -> None:
    await stream.create()
    for codec in (None, "gzip", "snappy", "lz4", "zstd"):
        await stream.send(60, compression_type=codec, linger_ms=20)
    await stream.load_all()
    await stream.require_exactly_once()


async def test_a_message_larger_than_a_fetch_is_loaded_and_holds_up_no_other(stream) -> None:
    await stream.create(1, **{"max.message.bytes": "20000000"})
    # It does not compress well: with or without a codec it is larger than a fetch.
    note = base64.b64encode(os.urandom(4_500_000)).decode()
    await stream.send(10, partitions=[0])
    for codec in (None, "zstd"):
        await stream.send(1, partitions=[0], compression_type=codec, note=note)
    await stream.send(10, partitions=[0])
    await stream.load_all()
    await stream.require_exactly_once()
    rows = await stream.fetch(
        "SELECT _line, md5(_extra ->> 'note') FROM staging.sales_data WHERE _extra IS NOT NULL"
    )
    said = hashlib.md5(note.encode(), usedforsecurity=False).hexdigest()
    assert sorted(map(tuple, rows)) == [(10, said), (11, said)]


async def read_offsets(stream) -> list[int]:
    """Return the offsets that the topic's only partition still has."""
    place = TopicPartition(stream.topic, 0)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=stream.settings.kafka_bootstrap_servers, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        consumer.assign([place])
        end = (await consumer.end_offsets([place]))[place]
        offsets: list[int] = []
        while await consumer.position(place) < end:
            found = await consumer.getmany(timeout_ms=200)
            offsets += [record.offset for records in found.values() for record in records]
    finally:
        await consumer.stop()
    return offsets


async def test_what_compaction_took_is_not_waited_for(stream, sale) -> None:
    await stream.create(1, **COMPACTED)
    keys = [b"sales_data:1", b"sales_data:2", b"sales_data:3"]
    for number in range(9):
        value = sale(number % 3 + 1, quantity=number + 1)
        await stream.send_value(value, key=keys[number % 3])
    first = await stream.load_all()
    assert first.progress.messages == 9
    # Of these, and of those loaded before, only the newest of each key is left.
    for number in range(9, 18):
        value = sale(number % 3 + 1, quantity=number + 1)
        await stream.send_value(value, key=keys[number % 3])
    await stream.send_value(None, key=keys[0])

    async def is_compacted() -> bool:
        await stream.send_value(None, key=b"another segment")
        return (await read_offsets(stream))[:3] == [16, 17, 18]

    await stream.until(is_compacted)
    second = await stream.load_all()
    staged = [(each.offset, each.quantity) for each in await stream.staged()]
    assert staged == [*((number, number + 1) for number in range(9)), (16, 17), (17, 18)]
    facts = await stream.fetch("SELECT quantity FROM warehouse.fact_sales_data ORDER BY order_id")
    assert [row[0] for row in facts] == [7, 17, 18]
    letters = await stream.fetch(
        "SELECT message_offset, message_value, reason FROM metadata.dead_letters ORDER BY id"
    )
    assert tuple(letters[0]) == (18, None, "tombstone")
    assert {each["reason"] for each in letters} == {"tombstone"}
    assert second.progress.dead == len(letters)
    assert second.progress.messages == 2 + len(letters)


async def test_messages_of_every_kind_end_in_a_row_or_a_dead_letter(stream, sale) -> None:
    await stream.create(1)
    bad = {
        b"": "empty",
        b"{": "invalid_json",
        b"\xff\xfe": "invalid_utf8",
        b"[]": "not_an_object",
        sale(900, quantity=0): "quantity: greater_than_or_equal_to",
        json.dumps({"source": "nobody", "payload": {}}).encode(): "no_timestamp",
    }
    await stream.send(10, partitions=[0])
    for value in bad:
        await stream.send_value(value)
    await stream.send_value(None, key=b"sales_data:1")
    await stream.send(10, partitions=[0])
    member = await stream.load_all()
    assert await stream.staged() == sorted(stream.sent)
    letters = await stream.fetch("SELECT reason FROM metadata.dead_letters ORDER BY message_offset")
    assert [each["reason"] for each in letters] == [*bad.values(), "tombstone"]
    progress = member.progress
    assert (progress.messages, progress.loaded, progress.dead) == (27, 20, 7)
