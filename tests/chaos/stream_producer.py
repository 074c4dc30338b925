"""The producer: so many events a second until it is told to end, and a record of each answer.

    python -m tests.chaos.stream_producer SERVERS TOPIC PARTITIONS RATE FOLDER

It is idempotent and waits for every replica in sync. `FOLDER/answers.csv` has a line for each
batch that was answered: `acknowledged` with the offset of its first event, or `doubtful` where the
answer was an error: those events may be in the topic, once. `FOLDER/positions` is shared memory.
"""

import asyncio
import csv
import datetime as dt
import logging
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from tests.chaos.stream_events import key_of, value_of

ANSWERS = "answers.csv"
POSITIONS = "positions"
NEXT_OFFSET, UNDER_WAY, ACKNOWLEDGED = range(3)
"""Columns of the positions, a row a partition: the offset after the last event that was
acknowledged; events that wait for an answer; events that were acknowledged."""

TICK_SECONDS = 0.05
BATCH_EVENTS = 2_000
BATCH_BYTES = 900_000


def open_positions(folder: Path, partitions: int, mode: str = "r") -> np.ndarray:
    """Return the positions, as the producer changes them; `w+` makes them."""
    return np.memmap(folder / POSITIONS, np.int64, mode, shape=(partitions, 3))  # type: ignore[call-overload] # mode is one of memmap's


def event_id(partition: int, place: int, partitions: int) -> int:
    """Return the number of a partition's event; places count from 0."""
    return place * partitions + partition + 1


class ChaosProducer:
    """Sends one batch after the other to each partition, however long an answer takes."""

    def __init__(self, servers: str, topic: str, partitions: int, rate: int, folder: Path) -> None:
        self._servers, self._topic, self._partitions = servers, topic, partitions
        self._rate = rate / partitions
        self.positions = open_positions(folder, partitions, "w+")
        self._file = (folder / ANSWERS).open("w", newline="", buffering=1)
        self._answers = csv.writer(self._file)
        self.stopping = False
        self._started = time.monotonic()
        self._client: AIOKafkaProducer | None = None
        self._opening = asyncio.Lock()

    async def run(self) -> None:
        """Send until `stopping`, and have an answer to all that was sent."""
        self._started = time.monotonic()
        await asyncio.gather(*(self._feed(each) for each in range(self._partitions)))
        if self._client is not None:
            await self._client.stop()
        self._file.close()

    async def _feed(self, partition: int) -> None:
        sent = 0
        while not self.stopping:
            due = int((time.monotonic() - self._started) * self._rate) - sent
            if due <= 0:
                await asyncio.sleep(TICK_SECONDS)
                continue
            count = min(due, BATCH_EVENTS)
            await self._send(partition, sent, count)
            sent += count
            if due <= BATCH_EVENTS:
                await asyncio.sleep(TICK_SECONDS)

    async def _send(self, partition: int, place: int, count: int) -> None:
        client = await self._open()
        batch = client.create_batch()
        timestamp = f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        for number in range(place, place + count):
            event = event_id(partition, number, self._partitions)
            taken = batch.append(
                key=key_of(event), value=value_of(event, timestamp), timestamp=None
            )
            assert taken is not None, "the batch is too small for its events"
        position = self.positions[partition]
        position[UNDER_WAY] = count
        try:
            answer = await (await client.send_batch(batch, self._topic, partition=partition))
        except KafkaError as error:
            self._answers.writerow(["doubtful", partition, -1, place, count, repr(error)])
            await self._replace(client)
        else:
            self._answers.writerow(["acknowledged", partition, answer.offset, place, count, ""])
            position[NEXT_OFFSET] = max(position[NEXT_OFFSET], answer.offset + count)
            position[ACKNOWLEDGED] += count
        finally:
            position[UNDER_WAY] = 0

    async def _open(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._client is None:
                client = AIOKafkaProducer(
                    bootstrap_servers=self._servers,
                    acks="all",
                    enable_idempotence=True,
                    compression_type="lz4",
                    max_batch_size=BATCH_BYTES,
                    request_timeout_ms=10_000,
                    retry_backoff_ms=100,
                    metadata_max_age_ms=10_000,
                )
                await client.start()
                self._client = client
            return self._client

    async def _replace(self, client: AIOKafkaProducer) -> None:
        """Go on with another client: this one's numbering of batches may have a gap now."""
        async with self._opening:
            if self._client is client:
                self._client = None
                await client.stop()


async def produce(make: Callable[[], Any]) -> None:
    """Produce until SIGTERM."""
    producer = make()

    def stop() -> None:
        producer.stopping = True

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    await producer.run()


def main() -> None:
    """Produce as the command line says."""
    servers, topic, partitions, rate, folder = sys.argv[1:]
    logging.basicConfig(level=logging.ERROR, format="%(asctime)s %(name)s %(message)s")
    asyncio.run(
        produce(lambda: ChaosProducer(servers, topic, int(partitions), int(rate), Path(folder)))
    )


if __name__ == "__main__":
    main()
