"""What the stream survives: kills, a partition that is lost alone, an owner that is frozen."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer

from infra.local.kafka import ApacheKafka
from infra.postgres.connection import Pool
from infra.settings import Settings
from schemas.datasets import DATASETS
from tasks.consume import Consumer
from tests.chaos.stream_drill import Plan, run_drill
from tests.chaos.stream_faults import Kind
from tests.chaos.stream_stage import Servers, Stage
from tests.chaos.stream_verdict import compare

SPECS = {each.spec.table: each.spec for each in DATASETS}


@dataclass
class Stream:
    """A topic of the test's own, and what a group has made of it."""

    kafka: ApacheKafka
    pool: Pool
    execution_id: int
    topic: str
    producer: AIOKafkaProducer

    async def send(self, partition: int, customers: Iterable[int]) -> None:
        """Send rows of customers to one partition."""
        for each in customers:
            value = (
                '{"source": "customers", "timestamp": "2026-11-22T07:00:00Z", "payload": '
                f'{{"customer_id": {each}, "name": "Ada", "country": "NO", '
                '"signup_date": "2026-01-05"}}'
            ).encode()
            await self.producer.send(self.topic, value, partition=partition)
        await self.producer.flush()

    async def loaded(self) -> list[int]:
        """Return the customers in the warehouse."""
        async with self.pool.acquire() as connection:
            rows = await connection.fetch(
                "SELECT customer_id FROM warehouse.dim_customers ORDER BY 1"
            )
        return [row["customer_id"] for row in rows]

    async def wait_for(self, condition: Callable[[], Awaitable[bool] | bool]) -> None:
        """Return once the condition holds."""
        deadline = monotonic() + 60
        while not (found if isinstance(found := condition(), bool) else await found):
            assert monotonic() < deadline, "it did not happen within 60 s"
            await asyncio.sleep(0.02)

    @asynccontextmanager
    async def consume(self) -> AsyncIterator[Consumer]:
        """Let a consumer run."""
        settings = Settings(
            kafka_bootstrap_servers=self.kafka.bootstrap_servers,
            kafka_topic=self.topic,
            kafka_group=self.topic,
            kafka_session_timeout_seconds=6,
            stream_batch_seconds=0.1,
        )
        consumer = Consumer(self.pool, settings, SPECS, execution_id=self.execution_id)
        run = asyncio.create_task(consumer.run())
        try:
            yield consumer
        finally:
            run.cancel()
            with suppress(asyncio.CancelledError):
                await run


@pytest.fixture
async def stream(
    apache_kafka: ApacheKafka,
    pool: Pool,
    execution_id: int,
    messages,
    request: pytest.FixtureRequest,
) -> AsyncIterator[Stream]:
    topic = request.node.name
    await messages(apache_kafka.bootstrap_servers).create(topic, partitions=2)
    producer = AIOKafkaProducer(bootstrap_servers=apache_kafka.bootstrap_servers, acks="all")
    await producer.start()
    yield Stream(apache_kafka, pool, execution_id, topic, producer)
    await producer.stop()


async def test_one_partition_that_is_lost_costs_the_others_no_row(stream: Stream) -> None:
    async with stream.consume() as consumer:
        await stream.send(0, [1])
        await stream.send(1, [2])

        async def both_begun() -> bool:
            return await stream.loaded() == [1, 2]

        await stream.wait_for(both_begun)
        async with stream.pool.acquire() as other, other.transaction():
            # Another consumer's claim, which the batch under way has to wait for.
            await other.execute(
                "UPDATE metadata.stream_offsets SET epoch = epoch + 1 WHERE partition = 0"
            )
            await stream.send(0, [3])
            await stream.wait_for(lambda: not consumer._idle.is_set())  # noqa: SLF001 - nothing else tells
            # The next batch has rows of both, and can be kept of neither.
            await stream.send(0, [4])
            await stream.send(1, [5])
            await stream.wait_for(consumer._checked.full)  # noqa: SLF001 - likewise
        await stream.wait_for(lambda: consumer.progress.fenced == 1)
        await stream.send(1, [6])

        async def all_there() -> bool:
            return await stream.loaded() == [1, 2, 3, 4, 5, 6]

        await stream.wait_for(all_there)


async def test_an_owner_that_is_frozen_in_mid_copy_does_not_keep_its_partitions(
    stream: Stream, database
) -> None:
    async def the_rest_never_comes() -> AsyncIterator[bytes]:
        yield b"1\n"
        await asyncio.Event().wait()

    await stream.send(0, [1])
    async with stream.consume():
        await stream.wait_for(lambda: _is(stream.loaded, [1]))
    frozen = await asyncpg.connect(database.loader_url)

    async def hold() -> None:
        async with frozen.transaction():
            await frozen.execute("CREATE TEMPORARY TABLE rest (a int) ON COMMIT DROP")
            await frozen.execute("SET LOCAL statement_timeout = '1s'")
            await frozen.execute("UPDATE metadata.stream_offsets SET next_offset = next_offset + 1")
            await frozen.copy_to_table("rest", source=the_rest_never_comes())

    holding = asyncio.create_task(hold())
    async with stream.pool.acquire() as connection:

        async def held() -> bool:
            return bool(
                await connection.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%rest%'"
                    " AND wait_event = 'ClientRead'"
                )
            )

        await stream.wait_for(held)
    await stream.send(0, [2])
    async with stream.consume():
        await stream.wait_for(lambda: _is(stream.loaded, [1, 2]))
    holding.cancel()
    with suppress(asyncio.CancelledError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        await holding
    frozen.terminate()


async def _is(look: Callable[[], Awaitable[list[int]]], wanted: list[int]) -> bool:
    return await look() == wanted


async def test_three_kills_in_mid_batch_lose_nothing_and_double_nothing(
    apache_kafka: ApacheKafka, database, tmp_path: Path
) -> None:
    servers = Servers(
        apache_kafka, database.server, database.name, tmp_path, partitions=6, replicas=1
    )
    plan = Plan(
        {Kind.CONSUMER: 3}, events_per_second=2_000, least_events=20_000, seed=1, overlap=1.0
    )
    course, verdict = await run_drill(servers, plan, print)
    assert len(course.faults) == 3
    assert course.complaints == []
    assert verdict.flaws == []
    assert (verdict.lost, verdict.duplicated) == (0, 0)
    assert verdict.sent == verdict.loaded + verdict.dead >= 20_000
    assert verdict.dead > 0

    # The verdict itself is held to what it must see.
    database.server.execute(
        """
        DELETE FROM staging.chaos_events WHERE event_id = 101;
        INSERT INTO staging.chaos_events SELECT * FROM staging.chaos_events WHERE event_id = 102;
        UPDATE staging.chaos_events SET event_id = 107 WHERE event_id = 103;
        """,
        database=database.name,
    )
    stage = Stage(servers)
    tampered = await compare(stage)
    await stage.clear()
    assert (tampered.lost, tampered.duplicated) == (2, 2)
    first = [each.partition(":")[0] for each in tampered.flaws]
    assert first == [
        "1 rows say something else than their events",
        "duplicated",
        "lost",
        "1 events were found elsewhere than the broker had put them",
    ]
