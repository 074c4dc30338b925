"""Sends messages to a topic until Kafka has acknowledged each, or has said why it refuses it."""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import aiokafka.errors as kafka_errors
from aiokafka import AIOKafkaProducer

from infra.kafka.partitioning import find_partitions
from infra.kafka.producer import Producer
from tasks.refusals import NOT_TAKEN, TOO_LARGE, Message, Reason, Refusal, judge

Acknowledged = Callable[[Sequence[Message]], None]
"""Told which messages Kafka has just acknowledged."""

_CHUNK_MESSAGES = 5_000
_TRIES = 10
_GRACE_SECONDS = 1.0
"""Time to hear of what was acknowledged while the loop was busy with something else."""
_NO_KEY = -1


@dataclass(slots=True)
class Delivery:
    """What became of some messages; each is counted once."""

    sent: int = 0
    """Acknowledged by every replica that is in sync."""
    refusals: list[Refusal] = field(default_factory=list)


async def produce_many(
    producer: Producer,
    topic: str,
    messages: Iterable[Message],
    *,
    on_acknowledged: Acknowledged | None = None,
) -> Delivery:
    """Leave the messages in the topic, each in the partition of its key, and each acknowledged.

    Messages are packed into batches here, which costs a tenth of aiokafka's `send` for each.
    Memory stays bounded: two batches a partition are under way. Messages of one key keep their
    order as long as nothing is refused. What a broker refuses is in the result. Any number of
    calls may run at once on one producer.

    Raises TransientError when Kafka cannot be reached, TerminalError when there is no such topic:
    some messages may then be in the topic, and sending all of them again is the remedy.
    """
    errand = _Errand(producer, topic, on_acknowledged)
    filling: dict[int, _Batch] = {}
    for chunk in _chunks(messages):
        for message, number in zip(chunk, await errand.number(chunk), strict=True):
            if errand.refuse_oversized(message):
                continue
            batch = filling.get(number)
            if batch is None or not batch.add(message):
                if batch is not None:
                    await errand.send(batch)
                batch = filling[number] = errand.begin(number)
                batch.add(message)
    for batch in filling.values():
        await errand.send(batch)
    await errand.finish()
    return errand.delivery


class _Batch:
    """Messages of one partition that go together."""

    def __init__(self, partition: int, builder: Any) -> None:
        self.partition = partition
        self.builder = builder
        self.messages: list[Message] = []
        self.client: AIOKafkaProducer | None = None
        self.deadline = 0.0
        self.tries = 0

    def add(self, message: Message) -> bool:
        """Tell whether there was room; there always is for the first."""
        key, value, timestamp_ms = message
        if self.builder.append(timestamp=timestamp_ms, key=key, value=value) is None:
            return False
        self.messages.append(message)
        return True


class _Errand:
    """One call's batches: those under way, those to send again, and what became of the others."""

    def __init__(
        self, producer: Producer, topic: str, on_acknowledged: Acknowledged | None
    ) -> None:
        self.delivery = Delivery()
        self._producer = producer
        self._topic = topic
        self._on_acknowledged = on_acknowledged
        self._client: AIOKafkaProducer
        self._partitions: list[int] = []
        self._under_way: dict[asyncio.Future[Any], _Batch] = {}
        self._again: deque[_Batch] = deque()
        self._spoiled: AIOKafkaProducer | None = None
        self._timeouts = 0

    async def number(self, chunk: Sequence[Message]) -> list[int]:
        """Return the messages' partitions; messages without a key go together, anywhere."""
        self._client = await self._producer.open()
        self._partitions = await self._producer.find_partitions(self._client, self._topic)
        numbers = find_partitions([key or b"" for key, _, _ in chunk], len(self._partitions))
        return [
            _NO_KEY if key is None else number
            for (key, _, _), number in zip(chunk, numbers, strict=True)
        ]

    def begin(self, number: int) -> _Batch:
        """Return an empty batch for that partition."""
        if number == _NO_KEY:
            number = random.randrange(len(self._partitions))  # noqa: S311 - spreads load, no secret
        return _Batch(self._partitions[number], self._client.create_batch())

    def refuse_oversized(self, message: Message) -> bool:
        """Tell whether the message is too large to be offered at all, and note it if so."""
        key, value, _ = message
        size_bytes, limit_bytes = len(value) + len(key or b""), self._producer.max_message_bytes
        if size_bytes <= limit_bytes:
            return False
        detail = f"The message has {size_bytes:,} bytes; this producer sends {limit_bytes:,}."
        self.delivery.refusals.append(Refusal(message, Reason.TOO_LARGE, detail))
        return True

    async def send(self, batch: _Batch) -> None:
        """Return once the batch is under way; it waits while two of its partition are."""
        await self._hand_in(batch)
        if self._spoiled is not None:
            await self.finish()

    async def finish(self) -> None:
        """Return once nothing is under way any more, and nothing is left to be sent again."""
        while True:
            await self._wait()
            if self._spoiled is not None:
                self._producer.retire(self._spoiled)
                self._spoiled = None
            if not self._again:
                return
            # One at a time: what is sent behind a batch that is refused is refused with it.
            await self._hand_in(self._again.popleft())

    async def _hand_in(self, batch: _Batch) -> None:
        self._settle()
        self._client = batch.client = await self._producer.open()
        batch.builder.close()
        now = asyncio.get_running_loop().time()
        batch.deadline = now + self._producer.delivery_seconds
        first = min((each.deadline for each in self._under_way.values()), default=batch.deadline)
        try:
            async with asyncio.timeout_at(max(first, now + _GRACE_SECONDS)):
                future = await self._queue(batch)
        except TimeoutError:
            self._give_up(batch)
        except kafka_errors.UnknownTopicOrPartitionError:
            # It was deleted meanwhile, or Kafka went away: this finds out which.
            await self._producer.find_partitions(self._client, self._topic)
            self._again.append(self._refill(batch, batch.messages))
        except kafka_errors.KafkaError as error:
            # The client died, or was retired on another's behalf; the batch is not with it.
            self._spoiled = batch.client
            self._try_again(batch, error)
        else:
            future.add_done_callback(_hear)
            self._under_way[future] = batch

    async def _queue(self, batch: _Batch) -> asyncio.Future[Any]:
        while True:
            try:
                future: asyncio.Future[Any] = await self._client.send_batch(
                    batch.builder, self._topic, partition=batch.partition
                )
            except kafka_errors.KafkaTimeoutError:
                continue  # it stands behind another, whose time is not over yet
            return future

    async def _wait(self) -> None:
        if not self._under_way:
            return
        last = max(each.deadline for each in self._under_way.values())
        left_seconds = last - asyncio.get_running_loop().time()
        await asyncio.wait(self._under_way, timeout=max(left_seconds, _GRACE_SECONDS))
        self._settle()
        if self._under_way:
            self._give_up()

    def _settle(self) -> None:
        """Look at what has ended meanwhile."""
        for future in [each for each in self._under_way if each.done()]:
            batch = self._under_way.pop(future)
            error = future.exception()
            if error is None:
                self.delivery.sent += len(batch.messages)
                if self._on_acknowledged is not None:
                    self._on_acknowledged(batch.messages)
            else:
                self._spoiled = batch.client
                self._take_back(batch, error)

    def _take_back(self, batch: _Batch, error: BaseException) -> None:
        count = len(batch.messages)
        if isinstance(error, NOT_TAKEN):
            self._try_again(batch, error)
        elif isinstance(error, TOO_LARGE) and count > 1:
            # The limit is one of batches: perhaps no message alone breaks it.
            for part in (batch.messages[: count // 2], batch.messages[count // 2 :]):
                self._again.append(self._refill(batch, part))
        else:
            self._refuse(batch, *judge(error, self._topic))

    def _try_again(self, batch: _Batch, error: BaseException) -> None:
        batch.tries += 1
        if batch.tries < _TRIES:
            self._again.append(self._refill(batch, batch.messages))
        else:
            self._refuse(batch, *judge(error, self._topic))

    def _refill(self, batch: _Batch, messages: Sequence[Message]) -> _Batch:
        fresh = _Batch(batch.partition, self._client.create_batch())
        fresh.tries = batch.tries
        for each in messages:
            fresh.add(each)
        return fresh

    def _give_up(self, *further: _Batch) -> None:
        """Refuse what is under way: its time is over, and its client would try for ever."""
        detail = f"Kafka did not acknowledge it within {self._producer.delivery_seconds:g} s."
        for batch in (*self._under_way.values(), *further):
            self._refuse(batch, Reason.TIMED_OUT, detail)
            if batch.client is not None:
                self._producer.discard(batch.client)
        self._under_way.clear()
        self._timeouts += 1
        if self._timeouts > 1 and not self.delivery.sent:
            raise self._producer.unreachable("it acknowledges nothing")

    def _refuse(self, batch: _Batch, reason: Reason, detail: str) -> None:
        self.delivery.refusals += [Refusal(each, reason, detail) for each in batch.messages]


def _chunks(messages: Iterable[Message]) -> Iterator[list[Message]]:
    rest = iter(messages)
    while chunk := list(islice(rest, _CHUNK_MESSAGES)):
        yield chunk


def _hear(future: asyncio.Future[Any]) -> None:
    """Ask for the outcome: asyncio complains of an error that nobody asked for."""
    if not future.cancelled():
        future.exception()
