"""How far a group is behind, by partition, in messages and in seconds; written to PostgreSQL."""

import asyncio
import contextlib
import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaConsumer, TopicPartition

from infra.kafka.client import connection_options
from infra.postgres.connection import Connection
from infra.settings import Settings
from tasks.offsets import Reader

_PROBE_SECONDS = 2.0
KEPT_DAYS = 7


@dataclass(frozen=True, slots=True)
class Lag:
    """What a group has not read yet of a partition."""

    partition: int
    messages: int
    seconds: float
    """Age of the oldest unread message; 0 where there is none."""


class LagProbe:
    """A consumer of no group that looks at the oldest unread message of each partition."""

    def __init__(self, settings: Settings, reader: Reader) -> None:
        """Connect nowhere yet."""
        self._reader = reader
        self._consumer = AIOKafkaConsumer(
            **connection_options(settings),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            # One message is enough: the least that a broker sends.
            max_partition_fetch_bytes=1,
            fetch_max_wait_ms=50,
        )

    async def __aenter__(self) -> Self:
        """Connect."""
        try:
            await self._consumer.start()
        except BaseException:
            # What it has opened by then, nobody else closes.
            await self._consumer.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disconnect."""
        await self._consumer.stop()

    async def measure(self, next_offsets: dict[int, int]) -> list[Lag]:
        """Return how far behind those offsets are; raises KafkaError when Kafka does not answer.

        next_offsets: by partition, the first message that was not loaded.
        """
        places = [TopicPartition(self._reader.topic, each) for each in sorted(next_offsets)]
        if not places:
            return []
        ends = await self._consumer.end_offsets(places)
        behind = [each for each in places if ends[each] > next_offsets[each.partition]]
        ages = await self._ages(behind, next_offsets) if behind else {}
        lags = []
        for each in places:
            seconds = ages.get(each.partition)
            # A log may end in marks of transactions: they are no messages, and nobody reads them.
            unread = ends[each] - next_offsets[each.partition] if seconds is not None else 0
            lags.append(Lag(each.partition, max(0, unread), seconds or 0.0))
        return lags

    async def _ages(
        self, places: Sequence[TopicPartition], next_offsets: dict[int, int]
    ) -> dict[int, float]:
        self._consumer.assign(list(places))
        for each in places:
            self._consumer.seek(each, next_offsets[each.partition])
        ages: dict[int, float] = {}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PROBE_SECONDS):
                while len(ages) < len(places):
                    left = [each for each in places if each.partition not in ages]
                    found = await self._consumer.getmany(*left, timeout_ms=200, max_records=1)
                    now_ms = dt.datetime.now(dt.UTC).timestamp() * 1000
                    for place, records in found.items():
                        ages[place.partition] = max(0.0, (now_ms - records[0].timestamp) / 1000)
        return ages


async def write_lag(connection: Connection, reader: Reader, lags: Iterable[Lag]) -> None:
    """Write the lags down, as of now."""
    await connection.executemany(
        """
        INSERT INTO metadata.stream_lag
            (consumer_group, topic, partition, measured_at, lag_messages, lag_seconds)
        VALUES ($1, $2, $3, clock_timestamp(), $4, $5)
        """,
        [
            (reader.group, reader.topic, each.partition, each.messages, each.seconds)
            for each in lags
        ],
    )


async def prune_lag(connection: Connection, reader: Reader) -> None:
    """Delete what was measured more than a week ago."""
    await connection.execute(
        """
        DELETE FROM metadata.stream_lag
        WHERE consumer_group = $1 AND topic = $2 AND measured_at < now() - make_interval(days => $3)
        """,
        reader.group,
        reader.topic,
        KEPT_DAYS,
    )
