"""One of our lanes in a process of its own: a bare `getmany`, an insert, an upsert, or a watch.

It takes a JSON object on standard input, and answers with one. The clock runs from the first fetch
request to the last COMMIT: interpreter, imports and joining the group are left out.
"""

import asyncio
import gc
import json
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, replace
from time import perf_counter, process_time, time
from typing import Any

import numpy as np
from aiokafka import TopicPartition

from infra.postgres.connection import Pool
from infra.settings import Settings
from schemas.dataset import Role, Spec, freeze
from schemas.datasets import DATASETS
from tasks.consume import COLLECT_OBJECTS, Consumer
from tasks.load_batch import BatchReport
from tasks.message_rows import MessageRows
from tasks.offsets import Reader
from tasks.stream_source import StreamSource
from tests.bench.first_fetch import FirstFetch
from tests.bench.one_load import read_peak_bytes
from tests.bench.stream_messages import PARTITIONS, SOURCE

READY = "ready"


def list_specs(*, merged: bool) -> dict[str, Spec]:
    """Return the contracts by source; without merging, that of the sales goes to staging alone."""
    specs = {each.spec.table: each.spec for each in DATASETS}
    if not merged:
        specs[SOURCE] = freeze(replace(specs[SOURCE], role=Role.STAGING, key=()))
    return specs


async def read_bare(settings: Settings, total: int) -> dict[str, Any]:
    """Fetch every message by the consumer of our lanes, and do nothing with it."""
    reader = Reader(settings.kafka_group, settings.kafka_topic)
    consumer = StreamSource(Pool(""), settings, reader, lambda: None).consumer
    await consumer.start()
    places = [TopicPartition(reader.topic, each) for each in range(PARTITIONS)]
    first = FirstFetch()
    consumer.assign(places)
    await consumer.seek_to_beginning()
    messages = 0
    while messages < total:
        found = await consumer.getmany(timeout_ms=200, max_records=settings.stream_batch_messages)
        messages += sum(map(len, found.values()))
    answer = {
        "seconds": perf_counter() - first.seconds,
        "cpu_seconds": process_time() - first.cpu_seconds,
    }
    await consumer.stop()
    return answer | {"messages": messages}


class Notes:
    """What is noted of each batch, right after its COMMIT."""

    def __init__(self, first: FirstFetch, *, timed: bool) -> None:
        self.first = first
        self.timed = timed
        self.seconds = self.cpu_seconds = 0.0
        self.ledger = Counter[str]()
        self.stamps: list[np.ndarray] = []
        self.latencies: list[np.ndarray] = []

    def add(self, report: BatchReport, rows: MessageRows) -> None:
        """Take note of a batch."""
        self.seconds = perf_counter() - self.first.seconds
        self.cpu_seconds = process_time() - self.first.cpu_seconds
        if self.timed:
            now_ms = time() * 1000
            stamps = np.fromiter(rows.messages.timestamps_ms, np.float64, len(rows.messages))
            self.stamps.append(stamps)
            self.latencies.append(now_ms - stamps)
        for each in report.ledgers.values():
            self.ledger.update(asdict(each))

    def answer(self, consumer: Consumer) -> dict[str, Any]:
        """Return what was done."""
        return {
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "messages": consumer.progress.messages,
            "batches": consumer.progress.batches,
            "dead": consumer.progress.dead,
            "ledger": dict(self.ledger),
        }


async def consume(order: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """Load the topic until all of it is loaded, or, to watch, as many as it is told."""
    specs = list_specs(merged=order["lane"] == "upsert" or order.get("merged", False))
    async with Pool(order["url"]) as pool:
        async with pool.acquire() as connection:
            execution_id = await connection.fetchval(
                "INSERT INTO metadata.pipeline_executions (pipeline_name) VALUES ('bench') "
                "RETURNING id"
            )
        notes = Notes(FirstFetch(), timed=order["lane"] == "watch")
        consumer = Consumer(pool, settings, specs, execution_id=execution_id, on_batch=notes.add)
        if order["lane"] != "watch":
            await consumer.run(until_caught_up=True)
            return notes.answer(consumer)
        run = asyncio.create_task(consumer.run())
        while not consumer.source.assignment.owned and not run.done():  # noqa: ASYNC110 - a moment
            await asyncio.sleep(0.05)
        say(READY)
        sent = int(await asyncio.to_thread(sys.stdin.readline))
        while consumer.progress.messages < sent and not run.done():  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0.05)
        run.cancel()
        with suppress(asyncio.CancelledError):
            await run
        np.save(order["file"], [np.concatenate(notes.stamps), np.concatenate(notes.latencies)])
        return notes.answer(consumer)


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def main() -> None:
    """Do what the order says, and answer."""
    order = json.loads(sys.stdin.readline())
    settings = Settings(
        kafka_bootstrap_servers=order["bootstrap"],
        kafka_topic=order["topic"],
        kafka_group=order["group"],
    )
    if order["lane"] == "getmany_gc":
        gc.set_threshold(COLLECT_OBJECTS, *gc.get_threshold()[1:])
    if order["lane"].startswith("getmany"):
        answer = await read_bare(settings, order["messages"])
    else:
        answer = await consume(order, settings)
    say(json.dumps(answer | {"peak_bytes": read_peak_bytes()}))


if __name__ == "__main__":
    asyncio.run(main())
