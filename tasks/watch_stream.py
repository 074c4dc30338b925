"""What runs beside a consumer: lag, a line in the log, counts of the run, dead letters relayed.

None of it may hold up the consumer or end it: what PostgreSQL or Kafka refuse it is tried again
at the next turn.
"""

import asyncio
import datetime as dt
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic

import structlog
from aiokafka.errors import KafkaError

from infra.kafka.client import UNREACHABLE
from infra.postgres.connection import TRANSIENT, Connection, Pool
from infra.settings import Settings
from schemas.datasets import DATASETS
from schemas.errors import TransientError
from tasks.clean import Tally, summarise
from tasks.consume import Consumer
from tasks.load_batch import BatchReport
from tasks.message_rows import MessageRows
from tasks.record import Execution, fold_counts, hold_execution
from tasks.relay_dead_letters import relay
from tasks.stream_days import StreamDays, close_days
from tasks.stream_lag import Lag, LagProbe, prune_lag, write_lag

log = structlog.get_logger("sluiceway.stream")

LAG_SECONDS = 5.0
REPORT_SECONDS = 30.0
CLOSE_AGAIN_SECONDS = 3600.0
_PRUNE_TURNS = 720
_PASSING = (TransientError, *TRANSIENT, *UNREACHABLE, KafkaError)


@dataclass(slots=True)
class Quality:
    """What the contracts let through and did not, since it was last written down."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    days: StreamDays = field(default_factory=StreamDays)
    batch_id: int = 0

    def add(self, report: BatchReport, rows: MessageRows) -> None:
        """Take note of a committed batch."""
        self.batch_id = report.batch_id
        self._add(rows.tallies)
        self.days.add(report, rows, now=dt.datetime.now(dt.UTC))

    def take_back(self, earlier: "Quality") -> None:
        """Take note of what could not be written down."""
        self.batch_id = self.batch_id or earlier.batch_id
        self._add(earlier.tallies)
        self.days.take_back(earlier.days)

    async def write(self, connection: Connection, execution_id: int) -> None:
        """Write it down, in the caller's transaction."""
        await connection.executemany(
            """
            INSERT INTO metadata.quality_results
                (execution_id, batch_id, dataset, column_name, rule, checked, failed, statistics)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
            """,
            [
                (execution_id, self.batch_id, table, *result)
                for table, tally in self.tallies.items()
                for result in summarise(tally)
            ],
        )
        await self.days.write(connection, execution_id=execution_id)

    def _add(self, tallies: Mapping[str, Tally]) -> None:
        for table, tally in tallies.items():
            self.tallies.setdefault(table, Tally()).add(tally)


class StreamWatch:
    """The watchers of one consumer."""

    def __init__(self, pool: Pool, settings: Settings, execution: Execution) -> None:
        """Watch nothing yet."""
        self.quality = Quality()
        self._specs = {each.spec.table: each.spec for each in DATASETS}
        self._pool = pool
        self._settings = settings
        self._execution = execution
        self._lags: list[Lag] = []
        self._said = Counter[str]()
        self._close_from = 0.0

    def note(self, report: BatchReport, rows: MessageRows) -> None:
        """Take note of a committed batch."""
        self.quality.add(report, rows)
        self._specs |= {each.spec.table: each.spec for each in rows.datasets}

    async def run(self, consumer: Consumer) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep(lambda: self._measure_lag(consumer)))
            group.create_task(self._keep(lambda: self._report(consumer)))
            group.create_task(self._keep(lambda: relay(self._pool, self._settings)))

    async def write_end(self, consumer: Consumer) -> None:
        """Write down what was counted since the last turn."""
        self._execution.records_processed = consumer.progress.messages
        self._execution.warnings += consumer.source.notes
        await self._try(self._write_counts, "the last counts could not be written")
        await self._try(self._close_days, "a day that is over could not be judged")

    async def _keep(self, watcher: Callable[[], Awaitable[None]]) -> None:
        """Run a watcher for ever: a fault in it is told, and ends neither it nor the consumer."""
        while True:
            try:
                await watcher()
            except Exception as error:
                log.exception("a watcher of the stream failed and begins again", reason=str(error))
                self._execution.warnings.append(f"A watcher of the stream failed: {error}")
            await asyncio.sleep(REPORT_SECONDS)

    async def _measure_lag(self, consumer: Consumer) -> None:
        while True:
            await self._try(lambda: self._measure_for_long(consumer), "the lag cannot be measured")
            await asyncio.sleep(LAG_SECONDS)

    async def _measure_for_long(self, consumer: Consumer) -> None:
        turn = 0
        async with LagProbe(self._settings, consumer.reader) as probe:
            while True:
                owned = consumer.source.assignment.owned
                offsets = {
                    partition: max(
                        consumer.progress.next_offsets.get(partition, 0), each.claim.next_offset
                    )
                    for partition, each in list(owned.items())
                }
                self._lags = await probe.measure(offsets)
                async with self._pool.acquire() as connection:
                    await write_lag(connection, consumer.reader, self._lags)
                    if turn % _PRUNE_TURNS == 0:
                        await prune_lag(connection, consumer.reader)
                turn += 1
                await asyncio.sleep(LAG_SECONDS)

    async def _report(self, consumer: Consumer) -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            self._say(consumer)
            self._execution.records_processed = consumer.progress.messages
            await self._try(self._write_counts, "the counts cannot be written")
            await self._try(self._fold_counts, "the counts cannot be added up")
            await self._try(self._close_days, "a day that is over cannot be judged")

    def _say(self, consumer: Consumer) -> None:
        """Write one line about what was done since the last one."""
        progress = consumer.progress
        now = Counter[str](
            messages=progress.messages,
            loaded=progress.loaded,
            dead=progress.dead,
            skipped=progress.skipped,
            batches=progress.batches,
            fenced=progress.fenced,
            waits=progress.waits,
        )
        done = {name: now[name] - self._said[name] for name in now}
        self._said = now
        last = progress.last_commit
        owned = len(consumer.source.assignment.owned)
        if not owned:
            log.warning(
                "no partition is ours: there are more consumers than partitions, the topic does "
                "not exist, or the group waits for a member that is gone",
                topic=consumer.reader.topic,
                group=consumer.reader.group,
            )
            self._lags = []
        log.info(
            "stream",
            **{name: count for name, count in done.items() if count or name == "messages"},
            per_second=round(done["messages"] / REPORT_SECONDS),
            partitions=owned,
            lag_messages=sum(each.messages for each in self._lags) if self._lags else None,
            lag_seconds=round(max(each.seconds for each in self._lags), 1) if self._lags else None,
            last_commit_seconds_ago=None if last is None else round(monotonic() - last, 1),
        )

    async def _write_counts(self) -> None:
        quality, self.quality = self.quality, Quality()
        try:
            async with self._pool.acquire() as connection:
                await hold_execution(connection, self._execution)
                async with connection.transaction():
                    await quality.write(connection, self._execution.id)
        except BaseException:
            self.quality.take_back(quality)
            raise

    async def _close_days(self) -> None:
        if monotonic() < self._close_from:
            return
        try:
            async with self._pool.acquire() as connection:
                self._execution.warnings += await close_days(
                    connection,
                    self._specs,
                    execution_id=self._execution.id,
                    now=dt.datetime.now(dt.UTC),
                )
        except _PASSING:
            raise
        except Exception:
            # It would fail at every turn, and keep counts from being written or a run from its end.
            log.exception("a day of the stream that is over cannot be judged")
            self._close_from = monotonic() + CLOSE_AGAIN_SECONDS

    async def _fold_counts(self) -> None:
        async with self._pool.acquire() as connection:
            await fold_counts(connection)

    async def _try(self, act: Callable[[], Awaitable[None]], failure: str) -> None:
        try:
            await act()
        except _PASSING as error:
            log.debug(failure, reason=str(error) or type(error).__name__)
