"""Fills a topic, or feeds it at a steady rate, in a process of its own and with our own producer.

It takes a JSON object on standard input, and answers with one.
"""

import asyncio
import json
import sys
from collections.abc import Iterator
from itertools import islice
from time import perf_counter, time
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from infra.kafka.client import connection_options
from infra.kafka.producer import Producer
from infra.settings import Settings
from schemas.errors import TransientError
from tasks.produce import Delivery, produce_many
from tasks.refusals import Message
from tests.bench.stream_messages import (
    PARTITIONS,
    Chooser,
    choose_changed,
    choose_mixed,
    choose_new,
    list_messages,
)

TICK_SECONDS = 0.01
LATER_MICROSECONDS = 10**10
"""Newer than all that `new` says."""


def choose_chooser(name: str, total: int) -> Chooser:
    """Return what says which keys the messages have."""
    choosers = {"new": choose_new, "changed": choose_changed(total), "mixed": choose_mixed}
    return choosers[name]


async def make_topic(settings: Settings) -> None:
    """Leave a new topic of three partitions."""
    admin = AIOKafkaAdminClient(**connection_options(settings))
    await admin.start()
    try:
        await admin.create_topics([NewTopic(settings.kafka_topic, PARTITIONS, 1)])
    finally:
        await admin.close()


async def fill(settings: Settings, kind: str, total: int) -> dict[str, Any]:
    """Send so many messages, as fast as it goes."""
    later = 0 if kind == "new" else LATER_MICROSECONDS
    messages = list_messages(choose_chooser(kind, total), 0, total, later=later)
    start = perf_counter()
    async with Producer(settings) as producer:
        delivery = await produce_many(producer, settings.kafka_topic, messages)
    return {"sent": delivery.sent, "seconds": perf_counter() - start}


async def feed(settings: Settings, kind: str, rate: int, seconds: float) -> dict[str, Any]:
    """Send `rate` messages a second, stamped with when each was due, whatever holds it up."""
    total = int(rate * seconds)
    later = 0 if kind == "new" else LATER_MICROSECONDS
    messages = list_messages(
        choose_chooser(kind, total), 0, total, later=later, flawed=kind == "mixed"
    )
    ahead = _read_ahead(messages, round(rate * TICK_SECONDS))
    sent, tick, latest = 0, 0, 0.0
    async with Producer(settings) as producer:
        await producer.open()
        part: list[Message] = await anext(ahead)
        start, started_ms = perf_counter(), time() * 1000
        while part:
            wait_seconds = start + tick * TICK_SECONDS - perf_counter()
            latest = max(latest, -wait_seconds)
            await asyncio.sleep(max(0.0, wait_seconds))
            due: list[Message] = []
            # What came due while the last ones were being acknowledged goes together.
            while part and start + tick * TICK_SECONDS <= perf_counter():
                due_ms = int(started_ms + tick * TICK_SECONDS * 1000)
                due += [(key, value, due_ms) for key, value, _ in part]
                tick += 1
                part = await anext(ahead, [])
            sent += (await _send(producer, settings.kafka_topic, due)).sent
    return {"sent": sent, "started_ms": started_ms, "latest_ms": latest * 1000}


async def _send(producer: Producer, topic: str, part: list[Message]) -> Delivery:
    """Send the messages, all of them once more where a client fell over: some may come twice."""
    while True:
        try:
            return await produce_many(producer, topic, part)
        except TransientError as error:
            sys.stderr.write(f"{error}\n")
            await asyncio.sleep(1)


async def _read_ahead(messages: Iterator[Message], share: int) -> Any:
    """Yield so many messages at a time, made beforehand in a thread."""
    rest: asyncio.Queue[list[Message]] = asyncio.Queue(200)

    async def read() -> None:
        while part := await asyncio.to_thread(lambda: list(islice(messages, share))):
            await rest.put(part)
        await rest.put([])

    reading = asyncio.create_task(read())
    while part := await rest.get():
        yield part
    await reading


async def main() -> None:
    """Do what the order says, and answer."""
    order = json.load(sys.stdin)
    settings = Settings(kafka_bootstrap_servers=order["bootstrap"], kafka_topic=order["topic"])
    if order["make"]:
        await make_topic(settings)
    if "rate" in order:
        answer = await feed(settings, order["kind"], order["rate"], order["seconds"])
    else:
        answer = await fill(settings, order["kind"], order["messages"])
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
