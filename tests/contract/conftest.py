"""A topic, a group and its consumers, on either broker; and what PostgreSQL has to hold of them."""

import asyncio
import itertools
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.errors import NoError, TopicAlreadyExistsError, for_code

from infra.kafka.client import connection_options
from infra.local.embedded_broker import EmbeddedBroker
from infra.local.kafka import ApacheKafka
from infra.postgres.connection import Pool
from infra.settings import Settings
from schemas.datasets import DATASETS
from tasks import stream_source
from tasks.begin_again import begin_topic_again
from tasks.consume import Consumer, Progress

Broker = EmbeddedBroker | ApacheKafka
BROKERS = ("embedded_broker", "apache_kafka")
DEADLINE_SECONDS = 60.0
POLL_SECONDS = 0.02
SPECS = {each.spec.table: each.spec for each in DATASETS}
_BLOCKED = "SELECT pg_advisory_lock(CAST(x'51C3' AS integer), hashtext('sales_data'))"
_UNBLOCKED = _BLOCKED.replace("pg_advisory_lock", "pg_advisory_unlock")


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest) -> Broker:
    """Either broker, left running."""
    found: Broker = request.getfixturevalue(request.param)
    return found


@dataclass(frozen=True, order=True)
class Sale:
    """A message: where it is in its topic, and what it says."""

    partition: int
    offset: int
    order_id: int
    quantity: int


def sale_envelope(order_id: int, quantity: int = 1, **more: object) -> bytes:
    """Return an order line's message; `more` are columns that the contract does not know."""
    payload = {
        "order_id": order_id,
        "customer_id": 1 + order_id % 5,
        "product_id": 1,
        "order_date": "2026-11-23",
        "quantity": quantity,
        "unit_price": "9.90",
        "discount": 0.0,
        "channel": "web",
        **more,
    }
    return json.dumps(
        {"source": "sales_data", "timestamp": "2026-11-23T07:51:28.123456Z", "payload": payload}
    ).encode()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let members see a new topic or partition within a second, not within half a minute."""

    def hurry(settings: Settings) -> dict[str, object]:
        # The embedded broker forgets a member that joins while another leaves, once in a while:
        # only a request that timed out is repeated.
        return connection_options(settings) | {
            "metadata_max_age_ms": 500,
            "request_timeout_ms": 5000,
        }

    monkeypatch.setattr(stream_source, "connection_options", hurry)


class Member:
    """A consumer that runs as a task of this process."""

    def __init__(self, consumer: Consumer, *, until_caught_up: bool) -> None:
        # A rebalance waits until every member's heartbeat has told it of it: here not for long.
        consumer.source.consumer._heartbeat_interval_ms = 200  # noqa: SLF001 - a setting for tests alone would be too much
        self.consumer = consumer
        self.task = asyncio.create_task(consumer.run(until_caught_up=until_caught_up))

    @property
    def progress(self) -> Progress:
        return self.consumer.progress

    @property
    def partitions(self) -> set[int]:
        """Those it has claimed."""
        return set(self.consumer.source.assignment.owned)

    @property
    def paused(self) -> set[int]:
        return {each.partition for each in self.consumer.source.consumer.paused()}

    @property
    def is_stopping(self) -> bool:
        return self.consumer._stopping  # noqa: SLF001 - nobody else asks

    async def die(self) -> None:
        """End without a word to the group."""

        async def say_nothing() -> None:
            return

        self.consumer.source.consumer._coordinator._maybe_leave_group = say_nothing  # noqa: SLF001 - only a killed process says as little
        await self.leave()

    async def leave(self) -> None:
        """Cancel it, as SIGTERM does, and wait for it."""
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


@dataclass
class Stream:
    """One case's topic and group."""

    settings: Settings
    pool: Pool
    sent: list[Sale] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _producers: dict[tuple, AIOKafkaProducer] = field(default_factory=dict)
    _orders: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def topic(self) -> str:
        return self.settings.kafka_topic

    def change(self, **changes: object) -> None:
        """Give members that join from now on other settings."""
        self.settings = self.settings.model_copy(update=changes)

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.settings.kafka_bootstrap_servers)
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()

    async def create(self, partitions: int = 3, **configs: str) -> None:
        async with self.admin() as admin:
            await self._create(admin, partitions, configs)

    async def _create(
        self,
        admin: AIOKafkaAdminClient,
        partitions: int,
        configs: dict[str, str],
        *,
        may_exist: bool = False,
    ) -> None:
        topic = NewTopic(self.topic, partitions, 1, topic_configs=configs)
        answer = await admin.create_topics([topic])
        [error] = [for_code(each[1]) for each in answer.topic_errors]
        assert error is NoError or (may_exist and error is TopicAlreadyExistsError)

    async def create_anew(self, partitions: int = 3) -> None:
        """Delete the topic and make one of the same name; what was sent before is forgotten."""
        async with self.admin() as admin:
            await admin.delete_topics([self.topic])
            # The embedded broker may have made it by then, for a consumer that asked after it.
            await self._create(admin, partitions, {}, may_exist=True)
        for producer in self._producers.values():
            await producer.stop()
        self._producers.clear()

    async def add_partitions(self, count: int) -> None:
        async with self.admin() as admin:
            await admin.create_partitions({self.topic: NewPartitions(count)})

    async def delete_before(self, offset: int, *, partition: int = 0) -> None:
        """Delete messages from the log's beginning, as retention does."""
        place = TopicPartition(self.topic, partition)
        async with self.admin() as admin:
            await admin.delete_records({place: RecordsToDelete(before_offset=offset)})

    async def producer(self, **options: object) -> AIOKafkaProducer:
        """Return a producer of these options, which lives as long as the case."""
        place = tuple(sorted(options.items()))
        if place not in self._producers:
            made = AIOKafkaProducer(
                bootstrap_servers=self.settings.kafka_bootstrap_servers,
                max_request_size=32 << 20,
                metadata_max_age_ms=1000,
                **options,
            )
            await made.start()
            self._producers[place] = made
        return self._producers[place]

    async def send(
        self,
        count: int = 1,
        *,
        partitions: Sequence[int] = (0, 1, 2),
        quantity: int = 1,
        note: str | None = None,
        **options: object,
    ) -> list[Sale]:
        """Send so many order lines, each of a number of its own; returns those acknowledged.

        options: of the producer. note: a column that the contract does not know.
        """
        more = {} if note is None else {"note": note}
        producer = await self.producer(**options)
        waiting = []
        for order_id in itertools.islice(self._orders, count):
            partition = partitions[order_id % len(partitions)]
            value = sale_envelope(order_id, quantity, **more)
            key = f"sales_data:{order_id}".encode()
            future = await producer.send(self.topic, value, key=key, partition=partition)
            waiting.append((order_id, future))
        acknowledged = [
            Sale(record.partition, record.offset, order_id, quantity)
            for order_id, future in waiting
            for record in [await future]
        ]
        self.sent += acknowledged
        return acknowledged

    async def send_value(
        self, value: bytes | None, *, partition: int = 0, key: bytes | None = None
    ) -> int:
        """Send one message as it is; returns its offset."""
        producer = await self.producer()
        record = await producer.send_and_wait(self.topic, value, key=key, partition=partition)
        offset: int = record.offset
        return offset

    def join(self, *, until_caught_up: bool = False, seat: int = 0) -> Member:
        """Start a member of the group; it is cancelled when the case ends."""
        consumer = Consumer(self.pool, self.settings, SPECS, seat=seat)
        member = Member(consumer, until_caught_up=until_caught_up)
        self.members.append(member)
        return member

    async def load_all(self) -> Member:
        """Run a member until it has loaded what is there."""
        member = self.join(until_caught_up=True)
        async with asyncio.timeout(DEADLINE_SECONDS):
            await member.task
        return member

    async def begin_again(self, where: str) -> str:
        return await begin_topic_again(self.settings, where)

    async def close(self) -> None:
        await asyncio.gather(*(each.leave() for each in self.members))
        for each in self._producers.values():
            await each.stop()

    async def until(self, condition: Callable[[], object | Awaitable[object]]) -> None:
        """Return once it holds; fails where it never does, or a member ends before."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                holds = condition()
                if isinstance(holds, Awaitable):
                    holds = await holds
                if holds:
                    return
                for each in self.members:
                    if each.task.done() and not each.task.cancelled():
                        each.task.result()
                await asyncio.sleep(POLL_SECONDS)

    async def until_waiting(self, blockade: "Blockade", batches: int = 1) -> None:
        """Return once so many batches wait to be committed."""

        async def are_waiting() -> bool:
            return await blockade.waiting() == batches

        await self.until(are_waiting)

    async def until_loaded(self) -> None:
        """Return once as many rows are staged as were sent."""
        await self.until(self._is_loaded)

    async def _is_loaded(self) -> bool:
        return len(await self.staged()) >= len(self.sent)

    async def until_shared(self, *members: Member, partitions: int = 3) -> None:
        """Return once these members, and nobody else, have all partitions."""
        await self.until(
            lambda: (
                sorted(part for each in members for part in each.partitions)
                == list(range(partitions))
                and all(each.partitions for each in members)
            )
        )

    async def fetch(self, query: str, *given: object) -> list[asyncpg.Record]:
        async with self.pool.acquire() as connection:
            return await connection.fetch(query, *given)

    async def staged(self) -> list[Sale]:
        """Return every row of staging, by its place in the topic."""
        rows = await self.fetch(
            "SELECT split_part(_source, '/', 2)::int AS partition, _line, order_id, quantity"
            " FROM staging.sales_data"
        )
        return sorted(Sale(*row) for row in rows)

    async def offsets(self) -> dict[int, int]:
        """Return how far the group has got, by partition."""
        rows = await self.fetch(
            "SELECT partition, next_offset FROM metadata.stream_offsets WHERE consumer_group = $1",
            self.settings.kafka_group,
        )
        return dict(map(tuple, rows))

    async def epochs(self) -> dict[int, int]:
        """Return how often each partition was claimed."""
        rows = await self.fetch(
            "SELECT partition, epoch FROM metadata.stream_offsets WHERE consumer_group = $1",
            self.settings.kafka_group,
        )
        return dict(map(tuple, rows))

    async def require_exactly_once(self, sent: Iterable[Sale] | None = None) -> None:
        """Compare staging, warehouse and ledger with what the broker acknowledged, row by row."""
        expected = sorted(self.sent if sent is None else sent)
        assert await self.staged() == expected
        facts = await self.fetch(
            "SELECT order_id, quantity FROM warehouse.fact_sales_data ORDER BY order_id"
        )
        newest = {each.order_id: each.quantity for each in expected}
        assert [tuple(row) for row in facts] == sorted(newest.items())
        [ledger] = await self.fetch(
            "SELECT coalesce(sum(messages), 0)::int AS messages,"
            " coalesce(sum(loaded), 0)::int AS loaded FROM metadata.stream_batches"
        )
        assert ledger["messages"] == len(expected)


@pytest.fixture
def make_stream(pool: Pool, database) -> Iterator[Callable[[Broker], Stream]]:
    """Called with a broker: a topic's and a group's names, and settings that suit the broker."""

    def make(broker: Broker, **settings: object) -> Stream:
        name = uuid.uuid4().hex[:12]
        is_embedded = isinstance(broker, EmbeddedBroker)
        return Stream(
            Settings(
                kafka_bootstrap_servers=broker.bootstrap_servers,
                kafka_topic=f"stream-{name}",
                kafka_group=f"group-{name}",
                kafka_session_timeout_seconds=6,
                kafka_idle_pause_seconds=0.02 if is_embedded else 0,
                stream_batch_seconds=0.05,
                database_url=database.loader_url,
                **settings,
            ),
            pool,
        )

    return make


@pytest.fixture
async def stream(broker: Broker, make_stream) -> AsyncIterator[Stream]:
    made: Stream = make_stream(broker)
    yield made
    await made.close()


@pytest.fixture
def sale() -> Callable[..., bytes]:
    """Called with an order's number: its message."""
    return sale_envelope


@dataclass
class Blockade:
    """Holds the lock of a dataset: no batch of it is committed meanwhile, no offset is locked."""

    connection: asyncpg.Connection
    is_held: bool = False

    async def begin(self) -> None:
        await self.connection.execute(_BLOCKED)
        self.is_held = True

    async def end(self) -> None:
        await self.connection.execute(_UNBLOCKED)
        self.is_held = False

    async def waiting(self) -> int:
        """Return how many batches wait for it."""
        count: int = await self.connection.fetchval(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        return count


@pytest.fixture
async def blockade(database) -> AsyncIterator[Blockade]:
    connection = await asyncpg.connect(database.owner_url)
    yield Blockade(connection)
    await connection.close()
