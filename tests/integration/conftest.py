"""Loading files and looking at what came of it; sending to a broker and reading it back."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from infra.postgres.connection import Pool
from schemas.dataset import Spec
from schemas.datasets import DATASETS
from tasks.discover_files import discover_files
from tasks.load import Order, Report
from tasks.load_batch import BatchReport, load_batch
from tasks.load_file import load_found
from tasks.message_rows import make_rows
from tasks.messages import Batch, Span
from tasks.messages import Messages as StreamMessages
from tasks.offsets import Reader, claim_partition
from tasks.stream_session import StreamSession

Load = Callable[..., Awaitable[Report]]


@pytest.fixture
async def execution_id(pool: Pool) -> int:
    """A run for loads to belong to."""
    async with pool.acquire() as connection:
        identity: int = await connection.fetchval(
            "INSERT INTO metadata.pipeline_executions (pipeline_name) VALUES ('test') RETURNING id"
        )
    return identity


@pytest.fixture
def load(pool: Pool, execution_id: int) -> Load:
    """Load one file as the daily flow does, by the contract that its name asks for."""

    async def load_path(path: Path, *, force: bool = False) -> Report:
        specs = [each.spec for each in DATASETS]
        found, notes = discover_files(path.parent, specs)
        [one] = [each for each in found if each.path == path.absolute()] or [None]
        assert one is not None, notes
        order = Order(execution_id, str(one.path), one.table, one.spec)
        return await load_found(pool, one, order, force=force)

    return load_path


@dataclass(frozen=True)
class Messages:
    """What a plain client sends to and finds in a broker's topics."""

    bootstrap_servers: str

    @property
    def options(self) -> dict[str, str | int]:
        # A frozen broker is left for another after this long, not after 40 s.
        return {"bootstrap_servers": self.bootstrap_servers, "request_timeout_ms": 3000}

    async def create(self, topic: str, *, partitions: int = 1, replicas: int = 1) -> None:
        admin = AIOKafkaAdminClient(**self.options)
        await admin.start()
        try:
            answer = await admin.create_topics([NewTopic(topic, partitions, replicas)])
            assert [each[1] for each in answer.topic_errors] == [0]
        finally:
            await admin.close()

    async def send(self, topic: str, values: Iterable[bytes]) -> list[bytes]:
        """Return those that all in-sync replicas have."""
        producer = AIOKafkaProducer(**self.options, acks="all", enable_idempotence=True)
        await producer.start()
        try:
            sent = [(value, await producer.send(topic, value)) for value in values]
            for _, acknowledged in sent:
                await acknowledged
        finally:
            await producer.stop()
        return [value for value, _ in sent]

    async def read(self, topic: str) -> list[bytes]:
        """Return every value the topic holds, partition by partition."""
        consumer = AIOKafkaConsumer(topic, **self.options, auto_offset_reset="earliest")
        await consumer.start()
        try:
            partitions = sorted(consumer.assignment())
            ends = await consumer.end_offsets(partitions)
            found: dict[TopicPartition, list[bytes]] = {each: [] for each in partitions}
            for each in partitions:
                while await consumer.position(each) < ends[each]:
                    for partition, records in (await consumer.getmany(timeout_ms=200)).items():
                        found[partition] += [record.value for record in records]
        finally:
            await consumer.stop()
        return [value for each in partitions for value in found[each]]


@pytest.fixture
def messages() -> type[Messages]:
    """Called with a broker's address: a client of it."""
    return Messages


class Group:
    """A consumer group's side of the database: loads messages as its consumer would."""

    def __init__(self, pool: Pool, execution_id: int, specs: Mapping[str, Spec]) -> None:
        self.specs = specs
        self.reader = Reader("test_group", "data-stream")
        self._pool = pool
        self._execution_id = execution_id

    async def load(self, *values: bytes | None, partition: int = 0) -> BatchReport:
        """Load them as the partition's next messages."""
        async with StreamSession.open(self._pool) as session:
            claim = await claim_partition(session.connection, self.reader, partition, 0)
            first, count = claim.next_offset, len(values)
            messages = StreamMessages(
                topic=self.reader.topic,
                partitions=np.full(count, partition, dtype=np.int32),
                offsets=np.arange(first, first + count, dtype=np.int64),
                timestamps_ms=np.full(count, 1_790_000_000_000, dtype=np.int64),
                keys=[b"key"] * count,
                values=list(values),
            )
            span = Span(partition, claim.epoch, claim.generation, first, first + count, 0)
            return await load_batch(
                session,
                Batch(messages, (span,)),
                make_rows(messages, self.specs),
                self.reader,
                execution_id=self._execution_id,
            )


@pytest.fixture
def make_group(pool: Pool, execution_id: int) -> Callable[[Mapping[str, Spec]], Group]:
    """Called with contracts by table: a group that loads by them."""
    return lambda specs: Group(pool, execution_id, specs)
