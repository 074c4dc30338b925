"""The way into Kafka for whoever produces: opened when first needed, replaced when it is spoiled.

An idempotent client numbers its batches. One that was refused leaves a gap, and from there on the
broker takes nothing more of that client for that partition: a new client has to go on.
"""

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, ProducerClosed

from infra.kafka.client import UNREACHABLE, connection_options
from infra.settings import Settings
from schemas.errors import TerminalError, TransientError

CONNECT_SECONDS = 20.0
DELIVERY_SECONDS = 60.0
FLUSH_SECONDS = 10.0
DISCARD_SECONDS = 1.0
TOPIC_WAITS_SECONDS = (0.2, 0.5, 1.0)
"""A topic that was just made is not known to every broker at once."""
BATCH_BYTES = 256 * 1024
"""Before compression: well below what a broker takes by default, whatever compression brings."""
MAX_MESSAGE_BYTES = 16 * 1024 * 1024

_OPTIONS: dict[str, Any] = {
    "acks": "all",
    # The client's own repetitions then never double a message.
    "enable_idempotence": True,
    # 200-byte JSON, per message: zstd 0.43 us and 24 bytes, lz4 2.6 us and 34 bytes.
    "compression_type": "zstd",
    "max_batch_size": BATCH_BYTES,
}


class Producer:
    """One aiokafka producer at a time, for the loop it is used in."""

    def __init__(
        self,
        settings: Settings,
        *,
        delivery_seconds: float = DELIVERY_SECONDS,
        flush_seconds: float = FLUSH_SECONDS,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        **options: Any,
    ) -> None:
        """Remember where Kafka is; raises SettingError when no setting says so.

        delivery_seconds: how long a message may wait for its acknowledgement.
        flush_seconds: how long the end waits for what is under way.
        max_message_bytes: larger messages are not even offered to a broker.
        options: of AIOKafkaProducer, over the ones that all producers share.
        """
        self.where = settings.kafka_bootstrap_servers
        self.delivery_seconds = delivery_seconds
        self.max_message_bytes = max_message_bytes
        self._flush_seconds = flush_seconds
        self._options = connection_options(settings) | _OPTIONS | options
        self._client: AIOKafkaProducer | None = None
        self._opening = asyncio.Lock()
        self._ends: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Open nothing yet: a Kafka that is away is the business of who first sends."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Flush what is under way, for a bounded time, and leave no connection."""
        if self._client is not None:
            self.retire(self._client)
        if self._ends:
            # A run that is cancelled once more still flushes.
            await asyncio.shield(asyncio.gather(*self._ends))

    async def open(self) -> AIOKafkaProducer:
        """Return the client that is to be used now.

        Raises TransientError when Kafka cannot be reached, TerminalError when it says no.
        """
        async with self._opening:
            if self._client is None:
                self._client = await self._connect()
            return self._client

    def retire(self, client: AIOKafkaProducer) -> None:
        """Let nobody use the client from now on; what it has under way is flushed."""
        self._leave(client, _stop(client, self._flush_seconds))

    def discard(self, client: AIOKafkaProducer) -> None:
        """Drop the client with all that it still holds."""
        self._leave(client, _discard(client))

    async def find_partitions(self, client: AIOKafkaProducer, topic: str) -> list[int]:
        """Return the topic's partitions, in order.

        Raises TerminalError when there is no such topic, TransientError when Kafka is away.
        """
        if client.client.cluster.partitions_for_topic(topic) is None:
            await self._require_topic(client, topic)
        try:
            return sorted(await client.partitions_for(topic))
        except KafkaError as error:
            raise self.unreachable(f"it says nothing of topic '{topic}'") from error

    def unreachable(self, reason: str) -> TransientError:
        """Return what to raise when Kafka does not answer."""
        return TransientError(
            f"Kafka at {self.where} cannot be reached ({reason}): is it running? What it has not "
            "acknowledged is sent again by the next run."
        )

    def _leave(self, client: AIOKafkaProducer, end: Any) -> None:
        if self._client is not client:
            # Somebody else who used it was faster.
            end.close()
            return
        self._client = None
        task = asyncio.create_task(end)
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)

    async def _require_topic(self, client: AIOKafkaProducer, topic: str) -> None:
        # aiokafka would ask for a topic by its name, for as long as a request may take, and where
        # the broker makes topics by itself it would make one that nobody planned.
        for wait_seconds in (*TOPIC_WAITS_SECONDS, 0):
            try:
                known = await client.client.fetch_all_metadata()
            except KafkaError as error:
                raise self.unreachable("no broker answers") from error
            if topic in known.topics():
                return
            await asyncio.sleep(wait_seconds)
        raise TerminalError(
            f"Kafka at {self.where} has no topic '{topic}' that this login may see: create it, or "
            "set SLUICEWAY_KAFKA_TOPIC to one that is there."
        )

    async def _connect(self) -> AIOKafkaProducer:
        client = AIOKafkaProducer(**self._options)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await client.start()
        except UNREACHABLE as error:
            await _discard(client)
            raise self.unreachable("no broker answers") from error
        except KafkaError as error:
            await _discard(client)
            raise TerminalError(
                f"Kafka at {self.where} refused to be produced to ({error}): check its version and "
                "what this login may do."
            ) from error
        except BaseException:
            await _discard(client)
            raise
        return client


async def _stop(client: AIOKafkaProducer, flush_seconds: float) -> None:
    """Close the client once all that it holds is acknowledged, or the time is over."""
    try:
        async with asyncio.timeout(flush_seconds):
            await client.stop()
    except (TimeoutError, KafkaError):
        await _discard(client)


async def _discard(client: Any) -> None:
    """Close the client at once; whoever waits for one of its batches hears ProducerClosed.

    aiokafka has no public way to do that: its idempotent producer tries for ever, and stop()
    waits for it.
    """
    client._closed = True  # noqa: SLF001 - see above
    network, accumulator = client.client, client._message_accumulator  # noqa: SLF001 - see above
    accumulator._closed = True  # noqa: SLF001 - see above
    accumulator.reenqueue = lambda batch: None  # noqa: ARG005 - a request that fails from now on is over
    waiting = [each for queue in accumulator._batches.values() for each in queue]  # noqa: SLF001 - see above
    for batch in [*waiting, *accumulator._pending_batches]:  # noqa: SLF001 - see above
        batch.failure(ProducerClosed())
        for future in (batch.future, batch._drain_waiter):  # noqa: SLF001 - see above
            if future.done() and not future.cancelled():
                future.exception()  # nobody else may ask, and asyncio would complain
    for connection in network._conns.values():  # noqa: SLF001 - see above
        if connection._writer is not None:  # noqa: SLF001 - see above
            # A broker that hangs would keep a connection open that is closed politely.
            connection._writer.transport.abort()  # noqa: SLF001 - see above
    with suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_SECONDS):
            await network.close()
    update = network._md_update_fut  # noqa: SLF001 - see above
    if update is not None and not update.done():
        update.set_result(False)  # nobody makes it any more, and requests under way wait for it
    sender = client._sender.sender_task  # noqa: SLF001 - see above
    while sender is not None and not sender.done():
        # Its first answer to being cancelled is to wait for requests under way, one by one.
        sender.cancel()
        await asyncio.wait([sender], timeout=DISCARD_SECONDS)
