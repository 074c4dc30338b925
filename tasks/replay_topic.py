"""Reads messages of a topic again, beside its consumers, and loads what is missing.

An isolated run: it is no member of a group, and moves no offset, here or in Kafka. Rows are merged
by their versions as ever, rows without a key are staged once, and dead letters buried once.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from infra.kafka.client import UNREACHABLE, connection_options
from infra.postgres.connection import Pool
from infra.settings import Settings
from schemas.dataset import Spec
from schemas.errors import TransientError
from tasks.lasting_session import LastingSession
from tasks.ledger import Ledger
from tasks.load_batch import BatchReport, load_batch
from tasks.message_rows import make_rows
from tasks.messages import Batch, Gathering
from tasks.offsets import Reader
from tasks.sealing import Sealing
from tasks.stream_source import MAX_BATCH_BYTES
from tasks.topic_range import Section, Stretch, find_standings, find_stretches

log = structlog.get_logger("sluiceway.stream")

PROGRESS_SECONDS = 30.0
_SILENCE_SECONDS = 60.0
_FETCH_MS = 1_000
_STOP_SECONDS = 5.0


@dataclass(slots=True)
class TopicReplay:
    """What a replay of a topic read, and what became of it."""

    topic: str
    stretches: Sequence[Stretch] = ()
    notes: list[str] = field(default_factory=list)
    batches: int = 0
    messages: int = 0
    loaded: int = 0
    dead: int = 0
    """Buried now, and not before."""
    skipped: int = 0
    """Superseded, duplicates, and dead letters that were buried before."""
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    """By dataset."""

    @property
    def span(self) -> int:
        """How many offsets lie in the stretches; not each has to be a message."""
        return sum(each.until - each.first for each in self.stretches)

    def add(self, report: BatchReport) -> None:
        """Count what was committed."""
        self.batches += 1
        self.messages += report.messages
        self.loaded += report.loaded
        self.dead += report.dead
        self.skipped += report.skipped
        for table, ledger in report.ledgers.items():
            self.ledgers[table] = self.ledgers.get(table, Ledger()) + ledger

    def __str__(self) -> str:
        """Say it in a sentence or two."""
        if not self.stretches:
            return " ".join(self.notes)
        total = sum(self.ledgers.values(), Ledger())
        said = (
            f"Of {self.messages} messages of {self.topic} {total.inserted} brought new rows, "
            f"{total.updated} changed one, {total.unchanged} said what is there already, "
            f"{self.skipped} came too late or were dead letters before, {self.dead} are dead "
            "letters now."
        )
        return " ".join([said, *self.notes])


async def replay_topic(
    pool: Pool,
    settings: Settings,
    specs: Mapping[str, Spec],
    section: Section,
    *,
    topic: str | None = None,
    execution_id: int | None = None,
) -> TopicReplay:
    """Load a section of the topic again, up to where it ends now; returns what became of it.

    topic: by default SLUICEWAY_KAFKA_TOPIC. specs: the contracts by the name that a message's
    `source` gives. Raises TerminalError for a section that does not exist, TransientError when
    Kafka or PostgreSQL stays away: what was loaded stays, and the next replay doubles nothing.
    SettingError where a contract has personal columns and no keys are set.
    """
    reader = Reader(settings.kafka_group, topic or settings.kafka_topic)
    sealing = Sealing(specs)
    replay = TopicReplay(reader.topic)
    consumer = AIOKafkaConsumer(
        **connection_options(settings),
        group_id=None,
        enable_auto_commit=False,
        # A position that is out of range is an error, and no reason to read from elsewhere.
        auto_offset_reset="none",
        isolation_level="read_committed",
        fetch_max_wait_ms=250,
        max_partition_fetch_bytes=4 << 20,
    )
    try:
        async with LastingSession(pool) as session:
            # Before the ends of the partitions are looked at: the group goes on meanwhile.
            standings = await session.run(lambda opened: find_standings(opened.connection, reader))
            await consumer.start()
            replay.stretches, replay.notes = await find_stretches(
                consumer, settings, reader, section, standings
            )
            run = _Run(consumer, settings, reader, specs, sealing, replay, execution_id)
            await run.load_all(session)
    except (*UNREACHABLE, KafkaError) as error:
        raise TransientError(
            f"Kafka at {settings.kafka_bootstrap_servers} cannot be read from "
            f"({str(error) or type(error).__name__}): run the replay again when it can; nothing "
            "is loaded twice."
        ) from error
    finally:
        with suppress(TimeoutError):
            await asyncio.wait_for(consumer.stop(), _STOP_SECONDS)
    return replay


class _Run:
    """A replay under way."""

    def __init__(
        self,
        consumer: AIOKafkaConsumer,
        settings: Settings,
        reader: Reader,
        specs: Mapping[str, Spec],
        sealing: Sealing,
        replay: TopicReplay,
        execution_id: int | None,
    ) -> None:
        self._consumer = consumer
        self._batch_messages = settings.stream_batch_messages
        self._reader = reader
        self._specs = specs
        self._sealing = sealing
        self._replay = replay
        self._execution_id = execution_id
        self._open = {
            TopicPartition(reader.topic, each.partition): each for each in replay.stretches
        }

    async def load_all(self, session: LastingSession) -> None:
        """Load batch after batch until every stretch is read."""
        told = monotonic()
        async for batch in self._batches():
            rows = await asyncio.to_thread(make_rows, batch.messages, self._specs)
            load = partial(
                load_batch,
                batch=batch,
                rows=rows,
                reader=self._reader,
                sealing=self._sealing,
                execution_id=self._execution_id,
                is_replay=True,
            )
            self._replay.add(await session.run(load))
            if monotonic() - told >= PROGRESS_SECONDS:
                told = monotonic()
                self._tell()

    def _tell(self) -> None:
        replay = self._replay
        log.info(
            "replaying",
            topic=replay.topic,
            messages=replay.messages,
            of=replay.span,
            loaded=replay.loaded,
            dead=replay.dead,
            skipped=replay.skipped,
        )

    async def _batches(self) -> AsyncIterator[Batch]:
        """Yield the messages of the stretches, in batches of a bounded size."""
        self._consumer.assign(list(self._open))
        for place, stretch in self._open.items():
            self._consumer.seek(place, stretch.first)
        while self._open:
            gathering = await self._gather()
            if gathering.count:
                yield gathering.close()

    async def _gather(self) -> Gathering:
        """Return messages until a batch is full or everything is read."""
        gathering = Gathering(self._reader.topic)
        heard = monotonic()
        while self._open and gathering.size_bytes < MAX_BATCH_BYTES:
            wanted = self._batch_messages - gathering.count
            if wanted <= 0:
                break
            for place, records in (await self._fetch(wanted)).items():
                stretch = self._open[place]
                wanted_records = [each for each in records if each.offset < stretch.until]
                if wanted_records:
                    gathering.add(
                        wanted_records,
                        first=wanted_records[0].offset,
                        epoch=0,
                        generation=stretch.generation,
                    )
                heard = monotonic()
            if await self._close_read():
                heard = monotonic()
            if monotonic() - heard > _SILENCE_SECONDS:
                raise TransientError(
                    f"Kafka has sent nothing of {self._reader.topic} for {_SILENCE_SECONDS:.0f} s: "
                    "run the replay again when it answers; nothing is loaded twice."
                )
        return gathering

    async def _fetch(self, limit: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        try:
            found: dict[TopicPartition, list[ConsumerRecord]] = await self._consumer.getmany(
                *self._open, timeout_ms=_FETCH_MS, max_records=limit
            )
        except OffsetOutOfRangeError as error:
            raise TransientError(
                f"Messages of {self._reader.topic} were deleted from Kafka before the replay came "
                "to them: run it again for what is left."
            ) from error
        return found

    async def _close_read(self) -> bool:
        """Leave the partitions that are read to their end; tells whether there were any.

        By the position, not by messages: a stretch may end in marks of transactions.
        """
        done = [
            place
            for place, stretch in self._open.items()
            if await self._consumer.position(place) >= stretch.until
        ]
        for place in done:
            self._consumer.pause(place)
            del self._open[place]
        return bool(done)
