"""The long-running consumer: fetching, checking and committing overlap, three batches at a time.

    fetch -> check (in a thread) -> commit

Each stage waits for the next, so that memory is bounded; when PostgreSQL is away the partitions
are paused, and nothing is lost or read twice when it is back.
"""

import asyncio
import gc
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from time import monotonic

import anyio
import asyncpg
import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from infra.postgres.connection import TRANSIENT, Pool
from infra.settings import Settings
from schemas.dataset import Spec
from schemas.errors import TransientError
from tasks.load_batch import BatchReport, find_report, load_batch
from tasks.message_rows import MessageRows, make_rows
from tasks.messages import Batch
from tasks.offsets import FencedError, Reader, is_committed
from tasks.sealing import Sealing
from tasks.stream_session import StreamSession
from tasks.stream_source import StreamSource

log = structlog.get_logger("sluiceway.stream")

_RETRIED = (
    TransientError,
    *TRANSIENT,
    # A statement or an idle transaction that took too long, a server that is full or shut down:
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ObjectInUseError,
    asyncpg.ReadOnlySQLTransactionError,
)
"""What PostgreSQL says that may be otherwise later; a batch waits for it."""
_DRAIN_SECONDS = 6.0
"""What a batch under way is given to be committed when the run is told to end."""
_TELL_SECONDS = 1.0
_RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_KAFKA_COMMIT_SECONDS = 1.0
_NAG_SECONDS = 30.0
COLLECT_OBJECTS = 20_000
"""After so many new objects Python looks for garbage. By default that is 700, and a quarter of the
consumer's time: messages come by the ten thousand, and none of them is in a cycle."""


@dataclass(slots=True)
class Progress:
    """What a consumer has done since it began."""

    batches: int = 0
    messages: int = 0
    loaded: int = 0
    dead: int = 0
    skipped: int = 0
    fenced: int = 0
    """Batches that were left to another consumer."""
    waits: int = 0
    """Times that a commit had to be tried again."""
    last_commit: float | None = None
    """Of the monotonic clock."""
    next_offsets: dict[int, int] = field(default_factory=dict)
    """By partition: what is committed."""


OnBatch = Callable[[BatchReport, MessageRows], None]


class Consumer:
    """One member of a group, from joining it to leaving it."""

    def __init__(
        self,
        pool: Pool,
        settings: Settings,
        specs: Mapping[str, Spec],
        *,
        execution_id: int | None = None,
        on_batch: OnBatch | None = None,
        seat: int = 0,
    ) -> None:
        """Join nothing yet.

        specs: the contracts by the name that a message's `source` gives.
        seat: which of the wanted consumers this is; 0 is none of them.
        Raises SettingError where a contract has personal columns and no keys are set.
        """
        self._sealing = Sealing(specs)
        self._pool = pool
        self._specs = specs
        self._execution_id = execution_id
        self._on_batch = on_batch
        self.progress = Progress()
        self.reader = Reader(
            settings.kafka_group, settings.kafka_topic, f"{socket.gethostname()}:{os.getpid()}"
        )
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False
        self._checked: asyncio.Queue[tuple[Batch, MessageRows]] = asyncio.Queue(1)
        self._fetched: asyncio.Queue[Batch] = asyncio.Queue(1)
        self._room = asyncio.Event()
        # To a commit in mid-rebalance the embedded broker says that the generation is wrong;
        # aiokafka then joins as a new member, and the group waits for the old one for good.
        is_embedded = settings.kafka_idle_pause_seconds > 0
        self._tells_kafka = not is_embedded
        instance = f"{self.reader.group}-{seat}" if seat and is_embedded else None
        self.source = StreamSource(pool, settings, self.reader, self._idle.wait, instance=instance)
        self._stack = AsyncExitStack()
        self._session: StreamSession | None = None
        self._nagged = -_NAG_SECONDS

    async def run(
        self, *, until_caught_up: bool = False, on_leaving: Callable[[], None] | None = None
    ) -> Progress:
        """Load what comes until the run is cancelled, or has caught up with what was there.

        on_leaving: called once, when the run begins to end.
        Cancelled, it commits the batch under way and leaves the group, within ten seconds.
        Raises TerminalError when a topic is not what it was.
        """
        thresholds = gc.get_threshold()
        gc.set_threshold(COLLECT_OBJECTS, *thresholds[1:])
        await self.source.start()
        stages = [
            asyncio.create_task(self._fetch(), name="fetch"),
            asyncio.create_task(self._check(), name="check"),
            asyncio.create_task(self._tell_kafka(), name="tell Kafka"),
        ]
        commit = asyncio.create_task(self._commit(), name="commit")
        watched = {*stages, commit}
        done: set[asyncio.Task[None]] = set()
        if until_caught_up:
            watched.add(asyncio.create_task(self._catch_up(), name="catch up"))
        try:
            done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            if on_leaving is not None:
                on_leaving()
            drain = self._drain(watched - done - {commit}, {commit} - done)
            await _finish(asyncio.create_task(drain, name="drain"))
            gc.set_threshold(*thresholds)
        return self.progress

    async def _fetch(self) -> None:
        while True:
            batch = await self.source.next_batch()
            while self._fetched.full():
                await self.source.hold(lambda: not self._fetched.full(), self._wait_for_room)
            self._fetched.put_nowait(batch)

    async def _wait_for_room(self, seconds: float) -> None:
        self._room.clear()
        if self._fetched.full():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._room.wait(), seconds)

    async def _check(self) -> None:
        while True:
            batch = await self._fetched.get()
            self._room.set()
            if not self.source.assignment.holds(batch):
                self.source.assignment.give_back(batch)
                continue
            rows = await asyncio.to_thread(make_rows, batch.messages, self._specs)
            await self._checked.put((batch, rows))

    async def _commit(self) -> None:
        while not self._stopping:
            batch, rows = await self._checked.get()
            if self._stopping or not self.source.assignment.holds(batch):
                self.source.assignment.give_back(batch)
                continue
            self._idle.clear()
            try:
                await self._flush(batch, rows)
            finally:
                self._idle.set()

    async def _flush(self, batch: Batch, rows: MessageRows) -> None:
        """Commit the batch, as often as it takes; leave it where it is not ours any more."""
        attempt = 0
        while True:
            try:
                session = await self._find_session()
                if attempt and await is_committed(session.connection, self.reader, batch.spans):
                    # The answer to an earlier try was lost, not its COMMIT.
                    self._advance(batch)
                    report = await find_report(session.connection, self.reader, batch)
                    if report is not None:
                        self._count(report, rows)
                    return
                report = await load_batch(
                    session,
                    batch,
                    rows,
                    self.reader,
                    sealing=self._sealing,
                    execution_id=self._execution_id,
                )
            except FencedError:
                self.progress.fenced += 1
                log.warning("a batch is left to another consumer", messages=len(batch.messages))
                # Kafka will tell us so too. If it does not, they are ours after all.
                self.source.assignment.give_back(batch, for_seconds=self.source.session_seconds)
                return
            except _RETRIED as error:
                await self._close_session()
                self.progress.waits += 1
                self._nag(error)
                await asyncio.sleep(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])
                attempt += 1
                if self._stopping or not self.source.assignment.holds(batch):
                    self.source.assignment.give_back(batch)
                    return
            else:
                self._advance(batch)
                self._count(report, rows)
                return

    def _advance(self, batch: Batch) -> None:
        self.progress.last_commit = monotonic()
        self.progress.batches += 1
        self.progress.messages += len(batch.messages)
        for each in batch.spans:
            self.progress.next_offsets[each.partition] = each.next

    def _count(self, report: BatchReport, rows: MessageRows) -> None:
        self.progress.loaded += report.loaded
        self.progress.dead += report.dead
        self.progress.skipped += report.skipped
        if self._on_batch is not None:
            self._on_batch(report, rows)

    async def _find_session(self) -> StreamSession:
        if self._session is None:
            self._session = await self._stack.enter_async_context(StreamSession.open(self._pool))
        return self._session

    async def _close_session(self) -> None:
        self._session = None
        await self._stack.aclose()
        self._stack = AsyncExitStack()

    async def _tell_kafka(self) -> None:
        """Commit to Kafka what PostgreSQL has: tools that show lag look there."""
        told: dict[int, int] = {}
        while True:
            await asyncio.sleep(_KAFKA_COMMIT_SECONDS)
            told = await self._commit_to_kafka(told)

    async def _commit_to_kafka(self, told: dict[int, int]) -> dict[int, int]:
        owned = self.source.assignment.owned
        offsets = {
            partition: offset
            for partition, offset in self.progress.next_offsets.items()
            if partition in owned and told.get(partition) != offset
        }
        if offsets and self._tells_kafka:
            topic = self.reader.topic
            try:
                await self.source.consumer.commit(
                    {TopicPartition(topic, each): offset for each, offset in offsets.items()}
                )
            except (KafkaError, OSError) as error:
                log.debug("Kafka was not told the offsets", reason=str(error))
                return told
        return {**told, **offsets}

    async def _catch_up(self) -> None:
        """Return when everything is committed that was in the topic at the start."""
        while not self.source.assignment.owned:  # noqa: ASYNC110 - a moment, once
            await asyncio.sleep(0.05)
        places = list(self.source.consumer.assignment())
        ends = await self.source.consumer.end_offsets(places)
        while True:
            behind = [place for place, end in ends.items() if await self._is_behind(place, end)]
            if not behind and self._idle.is_set():
                return
            await asyncio.sleep(0.05)

    async def _is_behind(self, place: TopicPartition, end: int) -> bool:
        """Tell whether the partition is ours, and has messages before `end` that are not loaded."""
        owned = self.source.assignment.owned.get(place.partition)
        if owned is None:  # not claimed yet, or another's
            return place in self.source.consumer.assignment()
        loaded = max(self.progress.next_offsets.get(place.partition, 0), owned.claim.next_offset)
        if loaded >= end:
            return False
        # A log may end in marks of transactions, or in messages that compaction took away.
        return owned.next_offset > loaded or await self.source.consumer.position(place) < end

    async def _drain(
        self, others: set[asyncio.Task[None]], commit: set[asyncio.Task[None]]
    ) -> None:
        """Let the batch under way get there, then leave."""
        self._stopping = True
        await _end(others)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), _DRAIN_SECONDS)
        await _end(commit)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._commit_to_kafka({}), _TELL_SECONDS)
        await self.source.stop()
        await self._close_session()

    def _nag(self, error: BaseException) -> None:
        if monotonic() - self._nagged >= _NAG_SECONDS:
            self._nagged = monotonic()
            reason = (str(error) or type(error).__name__).splitlines()[0]
            log.warning("PostgreSQL is away; the batch is tried again", reason=reason)


async def _finish(task: asyncio.Task[None]) -> None:
    """Return once the task is done, however often whoever waits for it is cancelled meanwhile.

    A second SIGTERM, or a supervisor that signals twice, must not cut a drain short: what it leaves
    open would take longer than the drain.
    """
    again: asyncio.CancelledError | None = None
    # What Prefect cancels it cancels again at the next await, unless it is shielded.
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.shield(task)
            except asyncio.CancelledError as error:
                again = error
    task.result()
    if again is not None:
        raise again


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    """Leave none of the tasks; one that failed has not been raised, and is told here."""
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            log.warning("a stage failed while the consumer ended", reason=str(result))
