"""Loading files and looking at what came of it; sending to a broker and reading it back."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from tasks.offsets import Claim, Reader, claim_partition
from tasks.sealing import Sealing
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
                sealing=Sealing(self.specs),
                execution_id=self._execution_id,
            )


@pytest.fixture
def make_group(pool: Pool, execution_id: int) -> Callable[[Mapping[str, Spec]], Group]:
    """Called with contracts by table: a group that loads by them."""
    return lambda specs: Group(pool, execution_id, specs)


class Feed:
    """A group's side of the database that keeps its claims, its session and what it has read."""

    def __init__(
        self, session: StreamSession, execution_id: int, specs: Mapping[str, Spec]
    ) -> None:
        self.session = session
        self.execution_id = execution_id
        self.specs = specs
        self.reader = Reader("feed", "data-stream", "a test")
        self.claims: dict[int, Claim] = {}

    async def claim(self, partition: int) -> Claim:
        connection = self.session.connection
        claim = await claim_partition(connection, self.reader, partition, 0)
        self.claims[partition] = claim
        return claim

    async def take(
        self,
        *values: bytes | None,
        partition: int = 0,
        offsets: Sequence[int] = (),
        timestamps_ms: Sequence[int] = (),
    ) -> Batch:
        """Fetch them as the partition's next messages, or from these offsets on."""
        claim = self.claims.get(partition) or await self.claim(partition)
        count = len(values)
        places = np.array(offsets or range(claim.next_offset, claim.next_offset + count), np.int64)
        times = np.array(timestamps_ms or [1_790_000_000_000] * count, np.int64)
        # What lies between the offset that is due and the first message was compacted away.
        first, after = min(int(places[0]), claim.next_offset), int(places[-1]) + 1
        self.claims[partition] = replace(claim, next_offset=max(after, claim.next_offset))
        messages = StreamMessages(
            topic=self.reader.topic,
            partitions=np.full(count, partition, dtype=np.int32),
            offsets=places,
            timestamps_ms=times,
            keys=[b"key"] * count,
            values=list(values),
        )
        span = Span(partition, claim.epoch, claim.generation, first, after, int(times[-1]))
        return Batch(messages, (span,))

    async def load(self, *parts: Batch, is_replay: bool = False) -> BatchReport:
        """Load them as one batch."""
        batch = join(parts)
        return await load_batch(
            self.session,
            batch,
            make_rows(batch.messages, self.specs),
            self.reader,
            sealing=Sealing(self.specs),
            execution_id=self.execution_id,
            is_replay=is_replay,
        )


def join(parts: Sequence[Batch]) -> Batch:
    """Make one batch of what was fetched from several partitions."""
    every = [each.messages for each in parts]
    messages = StreamMessages(
        topic=every[0].topic,
        partitions=np.concatenate([each.partitions for each in every]),
        offsets=np.concatenate([each.offsets for each in every]),
        timestamps_ms=np.concatenate([each.timestamps_ms for each in every]),
        keys=[key for each in every for key in each.keys],
        values=[value for each in every for value in each.values],
    )
    return Batch(messages, tuple(span for each in parts for span in each.spans))


@pytest.fixture
async def session(pool: Pool) -> AsyncIterator[StreamSession]:
    """A session to load micro-batches on."""
    async with StreamSession.open(pool) as opened:
        yield opened


@pytest.fixture
def make_feed() -> type[Feed]:
    """Called with a session, a run's id and contracts by table: one that reads and loads."""
    return Feed
