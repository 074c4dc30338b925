"""Takes micro-batches from a topic, from where PostgreSQL says that its group has got to.

Kafka says which partitions are ours, PostgreSQL where to read them from. A partition that is
newly assigned is paused until it is claimed: nothing is read from anywhere else. One coroutine
claims, seeks and fetches, so that no fetch straddles a claim.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import (
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)

from infra.kafka.client import UNREACHABLE, connection_options
from infra.postgres.connection import TRANSIENT, Connection, Pool
from infra.settings import Settings
from schemas.errors import TerminalError, TransientError
from tasks.messages import Batch, Gathering
from tasks.offsets import (
    Claim,
    Reader,
    begin_new_group,
    claim_partition,
    find_known,
    skip_deleted,
)

log = structlog.get_logger("sluiceway.stream")

MAX_BATCH_BYTES = 32 << 20
"""A batch of large messages is full long before it has its number of them."""
SHORT_LOG_SECONDS = 10.0
"""How long a log may end before what was loaded of it, before that is taken for true."""
_IDLE_SECONDS = 0.2
_RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
_REVOKE_SECONDS = 5.0
"""How long a rebalance waits for the batch that is being committed; then its epoch decides."""
_NAG_SECONDS = 30.0
_LEAVE_SECONDS = 2.0
_CLOSE_SECONDS = 0.3


@dataclass(slots=True)
class _Owned:
    """A partition that was claimed."""

    claim: Claim
    next_offset: int
    """The first message that is wanted."""
    last_timestamp_ms: int | None
    """Of the message before it; None where there is none."""
    is_proven: bool = False
    """Whether that message was seen there: a topic that was made anew holds another one."""


@dataclass(slots=True)
class Assignment(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka is untyped
    """Which partitions Kafka has given us, and which of them are claimed."""

    consumer: AIOKafkaConsumer
    wait_for_flush: Callable[[], Any]
    owned: dict[int, _Owned] = field(default_factory=dict)
    unclaimed: dict[int, float] = field(default_factory=dict)
    """Partition to the time (monotonic) from which it may be claimed."""
    serial: int = 0
    """Counts assignments: what was gathered under an older one is dropped."""

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Forget every partition, and let the batch that is being committed get there."""
        self.serial += 1
        self.owned.clear()
        self.unclaimed.clear()
        if list(revoked):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.wait_for_flush(), _REVOKE_SECONDS)

    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Leave the partitions paused until they are claimed."""
        self.serial += 1
        self.owned.clear()
        for each in assigned:
            self.consumer.pause(each)
            self.unclaimed[each.partition] = 0.0

    def lose(self, partition: int, *, for_seconds: float = 0.0) -> None:
        """Give up a partition; it is claimed anew then, unless Kafka has given it to another."""
        if self.owned.pop(partition, None) is not None:
            self.unclaimed[partition] = monotonic() + for_seconds

    def give_back(self, batch: Batch, *, for_seconds: float = 0.0) -> None:
        """Let what was fetched for a batch that will not be loaded be fetched again.

        A partition of it may still be ours, and has been read past the batch. One that was claimed
        anew since has not.
        """
        for each in batch.spans:
            owned = self.owned.get(each.partition)
            if owned is not None and owned.claim.epoch == each.epoch:
                self.lose(each.partition, for_seconds=for_seconds)

    def holds(self, batch: Batch) -> bool:
        """Tell whether the batch's partitions are still ours, as far as we know."""
        return all(
            (owned := self.owned.get(each.partition)) is not None
            and owned.claim.epoch == each.epoch
            for each in batch.spans
        )


class StreamSource:
    """A member of a consumer group that reads from the offsets in PostgreSQL."""

    def __init__(
        self,
        pool: Pool,
        settings: Settings,
        reader: Reader,
        wait_for_flush: Callable[[], Any],
        *,
        instance: str | None = None,
    ) -> None:
        """Join nothing yet; `start` does.

        wait_for_flush: awaited before partitions are left.
        instance: the name under which whoever was killed before is replaced in the group (static
            membership), which the embedded broker needs: it never gives up a member by itself.
        """
        self._pool = pool
        self._settings = settings
        self.reader = reader
        self.consumer = AIOKafkaConsumer(
            **connection_options(settings),
            group_id=reader.group,
            group_instance_id=instance,
            enable_auto_commit=False,
            # Where to begin is for PostgreSQL to say; a position that is out of range is an error.
            auto_offset_reset="none",
            isolation_level="read_committed",
            session_timeout_ms=int(settings.kafka_session_timeout_seconds * 1000),
            heartbeat_interval_ms=int(settings.kafka_session_timeout_seconds * 1000 / 4),
            rebalance_timeout_ms=20_000,
            max_poll_interval_ms=600_000,
            fetch_max_wait_ms=250,
            max_partition_fetch_bytes=4 << 20,
        )
        self.session_seconds = settings.kafka_session_timeout_seconds
        self.assignment = Assignment(self.consumer, wait_for_flush)
        self.notes: list[str] = []
        """What a person has to know of this run."""
        self._short_since: dict[int, float] = {}
        self._failures = 0
        self._nagged = -_NAG_SECONDS
        self.gathering: Gathering | None = None
        """What is being fetched."""

    async def start(self) -> None:
        """Join the group; waits for a Kafka that cannot be reached yet.

        Raises TerminalError when Kafka says no.
        """
        try:
            for attempt in range(1_000_000):
                try:
                    await self.consumer.start()
                except UNREACHABLE as error:
                    self._nag("Kafka cannot be reached", error)
                    await asyncio.sleep(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])
                except KafkaError as error:
                    raise self._refusal(error) from error
                else:
                    self.consumer.subscribe([self.reader.topic], listener=self.assignment)
                    return
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Leave the group, and no connection open: within four seconds, whatever Kafka says."""
        consumer = self.consumer
        if consumer._coordinator is not None:  # noqa: SLF001 - nothing public makes it leave
            # A static member would not say that it leaves, and the others wait for it.
            consumer._coordinator._group_instance_id = None  # noqa: SLF001 - likewise
        if await _ends_well(consumer.stop(), _LEAVE_SECONDS):
            return
        # aiokafka leaves the rest of itself as it is then, and a group that does not hear of the
        # leaving waits for the session to end.
        if consumer._coordinator is not None:  # noqa: SLF001 - nothing public closes it
            await _ends_well(consumer._coordinator._maybe_leave_group(), _CLOSE_SECONDS)  # noqa: SLF001 - likewise
            await _ends_well(consumer._fetcher.close(), _CLOSE_SECONDS)  # noqa: SLF001 - likewise
        await _ends_well(consumer._client.close(), _CLOSE_SECONDS)  # noqa: SLF001 - likewise

    async def next_batch(self) -> Batch:
        """Return the next micro-batch: full, or as old as a batch may get."""
        while True:
            gathering = await self._gather()
            if gathering is not None:
                return gathering.close()

    async def _gather(self) -> Gathering | None:
        """Return messages of one assignment; None where it changed meanwhile."""
        await self._claim_due()
        serial = self.assignment.serial
        self.gathering = gathering = Gathering(self.reader.topic)
        deadline: float | None = None
        while True:
            wait_seconds = _IDLE_SECONDS if deadline is None else deadline - monotonic()
            full = (
                gathering.count >= self._settings.stream_batch_messages
                or gathering.size_bytes >= MAX_BATCH_BYTES
                or wait_seconds <= 0
            )
            if full and gathering.count:
                return gathering
            if self.assignment.unclaimed and gathering.count == 0:
                await self._claim_due()
            found = await self._fetch(
                wait_seconds, self._settings.stream_batch_messages - gathering.count
            )
            if self.assignment.serial != serial:
                return None
            for partition, records in found:
                owned = self.assignment.owned[partition]
                gathering.add(
                    records,
                    first=owned.next_offset,
                    epoch=owned.claim.epoch,
                    generation=owned.claim.generation,
                )
                owned.next_offset = records[-1].offset + 1
                owned.last_timestamp_ms = records[-1].timestamp
            if gathering.count and deadline is None:
                deadline = monotonic() + self._settings.stream_batch_seconds
            if not found and self._settings.kafka_idle_pause_seconds:
                await self._rest(self._settings.kafka_idle_pause_seconds)

    async def _fetch(
        self, wait_seconds: float, max_records: int
    ) -> list[tuple[int, Sequence[ConsumerRecord]]]:
        """Return new messages of partitions that are ours."""
        try:
            fetched = await self.consumer.getmany(
                timeout_ms=max(1, int(wait_seconds * 1000)), max_records=max_records
            )
        except OffsetOutOfRangeError as error:
            # Retention or a new topic: the claim looks at what is there.
            for each in error.args[0]:
                self.assignment.lose(each.partition)
            return []
        except NoOffsetForPartitionError:
            return []  # of a partition that is not claimed yet
        except UNREACHABLE as error:
            self._nag("Kafka cannot be reached", error)
            await asyncio.sleep(_IDLE_SECONDS)
            return []
        except KafkaError as error:
            raise self._refusal(error) from error
        if not fetched and not self.consumer.assignment():
            self._nag_about_topic()
        wanted = []
        for place, records in fetched.items():
            owned = self.assignment.owned.get(place.partition)
            if owned is not None and (new := self._take_new(owned, records)):
                wanted.append((place.partition, new))
        return wanted

    def _take_new(
        self, owned: _Owned, records: Sequence[ConsumerRecord]
    ) -> Sequence[ConsumerRecord]:
        """Return the records that are wanted, after a look at the one before them."""
        if owned.is_proven and records[0].offset >= owned.next_offset:
            return records
        for each in records:
            is_last = each.offset == owned.next_offset - 1
            if is_last and owned.last_timestamp_ms not in {None, each.timestamp}:
                raise TerminalError(
                    f"{self._where(owned.claim.partition)} holds another message at offset "
                    f"{each.offset} than the one that was loaded from there: the topic was made "
                    f"anew. {self._remedy()}"
                )
        owned.is_proven = True
        return [each for each in records if each.offset >= owned.next_offset]

    async def _claim_due(self) -> None:
        """Claim the partitions that are assigned and not yet ours; failures are tried again."""
        due = sorted(
            partition for partition, at in self.assignment.unclaimed.items() if at <= monotonic()
        )
        if not due:
            return
        serial = self.assignment.serial
        try:
            async with asyncio.timeout(30):
                await self._claim(due, serial)
        except (TransientError, *TRANSIENT, *UNREACHABLE, KafkaError) as error:
            self._nag(f"partitions of {self.reader.topic} cannot be claimed yet", error)
            wait = _RETRY_SECONDS[min(self._failures, len(_RETRY_SECONDS) - 1)]
            self._failures += 1
            await asyncio.sleep(wait)
        else:
            self._failures = 0

    async def _claim(self, partitions: list[int], serial: int) -> None:
        places = [TopicPartition(self.reader.topic, each) for each in partitions]
        begins = await self.consumer.beginning_offsets(places)
        ends = await self.consumer.end_offsets(places)
        async with self._pool.acquire() as connection:
            if self._settings.kafka_start_from == "latest":
                await self._begin_at_latest(connection)
            for place in places:
                if self.assignment.serial != serial:
                    return
                # A partition that was added to a topic the group reads holds nothing but news.
                claim = await claim_partition(
                    connection, self.reader, place.partition, begins[place]
                )
                if claim.next_offset < begins[place]:
                    await skip_deleted(connection, self.reader, claim, begins[place])
                # Asked after the claim: its owner before may just have loaded up to the new end.
                if claim.next_offset > ends[place] and await self._is_short(place, claim):
                    continue
                if self.assignment.serial != serial:
                    return
                self._begin(place, claim, begins[place])

    async def _begin_at_latest(self, connection: Connection) -> None:
        """Leave the end of every partition as the offset of a group that has read none of them."""
        if await find_known(connection, self.reader):
            return
        partitions = self.consumer.partitions_for_topic(self.reader.topic) or ()
        places = [TopicPartition(self.reader.topic, each) for each in partitions]
        ends = await self.consumer.end_offsets(places)
        await begin_new_group(
            connection, self.reader, {each.partition: end for each, end in ends.items()}
        )

    async def _is_short(self, place: TopicPartition, claim: Claim) -> bool:
        """Tell whether the log ends before the claim's offset; raises when it goes on to.

        A leader that is new may not know for a moment how far its log is acknowledged.
        """
        end = (await self.consumer.end_offsets([place]))[place]
        if claim.next_offset <= end:
            self._short_since.pop(place.partition, None)
            return False
        since = self._short_since.setdefault(place.partition, monotonic())
        if monotonic() - since > SHORT_LOG_SECONDS:
            raise TerminalError(
                f"{self._where(place.partition)} ends at offset {end}, and {claim.next_offset} "
                f"messages of it were loaded: the broker lost some, or the topic was made anew. "
                f"{self._remedy()}"
            )
        self.assignment.unclaimed[place.partition] = monotonic() + 1.0
        return True

    def _begin(self, place: TopicPartition, claim: Claim, begin: int) -> None:
        """Read on from the claim's offset."""
        owned = _Owned(claim, claim.next_offset, claim.last_timestamp_ms)
        next_offset = claim.next_offset
        if next_offset < begin:
            log.error(
                "messages were deleted from Kafka before they were loaded",
                topic=place.topic,
                partition=place.partition,
                first_offset=next_offset,
                last_offset=begin - 1,
            )
            self.notes.append(
                f"{self._where(place.partition)}: messages {next_offset} to {begin - 1} were "
                "deleted from Kafka before they were loaded."
            )
            owned.next_offset = begin
        if owned.next_offset == begin:
            owned.last_timestamp_ms = None  # the message before it is gone
        try:
            self._read_on(place, owned)
        except IllegalStateError:
            return  # it was taken from us meanwhile
        self.assignment.owned[place.partition] = owned
        self.assignment.unclaimed.pop(place.partition, None)

    def _read_on(self, place: TopicPartition, owned: _Owned) -> None:
        """Fetch the last message once more, to see that the log is the same, and what follows."""
        has_last = owned.last_timestamp_ms is not None
        owned.is_proven = not has_last
        self.consumer.seek(place, owned.next_offset - has_last)
        self.consumer.resume(place)

    async def hold(self, is_wanted: Callable[[], bool], wait: Callable[[float], Any]) -> None:
        """Fetch nothing until a batch is wanted again, and stay a member of the group.

        wait: returns after so many seconds at most.
        """
        await wait(1.0)
        if is_wanted():
            return
        held = [
            each for each in self.consumer.assignment() if each.partition in self.assignment.owned
        ]
        self.consumer.pause(*held)
        log.warning("paused: batches cannot be loaded as fast as they come", partitions=len(held))
        while not is_wanted():
            # Kafka takes a member that asks for nothing for dead. What it says now of a partition
            # it says again once that is claimed, or resumed.
            with contextlib.suppress(
                NoOffsetForPartitionError, OffsetOutOfRangeError, *UNREACHABLE
            ):
                await self.consumer.getmany(timeout_ms=0)
            await wait(1.0)
        for each in self.consumer.assignment():
            if (owned := self.assignment.owned.get(each.partition)) is not None:
                self._read_on(each, owned)

    async def _rest(self, seconds: float) -> None:
        """Ask for nothing for a moment: a broker without long polling answers in no time."""
        resting = [
            each for each in self.consumer.assignment() if each.partition in self.assignment.owned
        ]
        self.consumer.pause(*resting)
        await asyncio.sleep(seconds)
        assigned = self.consumer.assignment()
        self.consumer.resume(
            *(each for each in assigned if each.partition in self.assignment.owned)
        )

    def _where(self, partition: int) -> str:
        return f"Partition {partition} of the topic {self.reader.topic}"

    def _remedy(self) -> str:
        return (
            f"Say where the group {self.reader.group} shall begin again: `python -m "
            "flows.stream_processing_pipeline --begin-again earliest` (or latest)."
        )

    def _refusal(self, error: KafkaError) -> TerminalError:
        return TerminalError(
            f"Kafka at {self._settings.kafka_bootstrap_servers} refused to have the topic "
            f"{self.reader.topic} read by the group {self.reader.group} ({error}): check its "
            "version and what this login may do."
        )

    def _nag(self, what: str, error: BaseException) -> None:
        """Say it, but not every time."""
        if monotonic() - self._nagged >= _NAG_SECONDS:
            self._nagged = monotonic()
            log.warning(what, topic=self.reader.topic, reason=str(error) or type(error).__name__)

    def _nag_about_topic(self) -> None:
        if monotonic() - self._nagged >= _NAG_SECONDS:
            self._nagged = monotonic()
            log.warning(
                "no partition is assigned: the topic does not exist, or there are more consumers "
                "than partitions",
                topic=self.reader.topic,
            )


async def _ends_well(step: Coroutine[Any, Any, None], seconds: float) -> bool:
    """Tell whether the step got to its end within that time; it is cancelled where it did not."""
    task = asyncio.ensure_future(step)
    await asyncio.wait({task}, timeout=seconds)
    # Its first answer to being cancelled may be to wait for something else.
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_CLOSE_SECONDS)
    if task.cancelled():
        return False
    if error := task.exception():
        log.debug("Kafka was not left in peace", reason=str(error) or type(error).__name__)
    return error is None
