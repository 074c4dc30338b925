"""Takes dead letters through contract, merge and ledger once more, and marks what became of each.

A letter is loaded and marked in one transaction, some thousand at a time: a replay that is killed
goes on with the next run. The versions of the rows decide as ever: an old message that is loaded
late replaces nothing newer.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic

import asyncpg
import structlog

from infra.cell_encryption import KeyRing
from infra.cell_keys import key_ring_for
from infra.postgres.connection import Connection, Pool
from schemas.dataset import Spec
from tasks.lasting_session import LastingSession
from tasks.letter_choice import KEYLESS, Choice, Plan, count_left, lock_letters, plan_replay
from tasks.letter_outcomes import Outcome, tell_outcomes
from tasks.letter_rows import (
    find_sources,
    find_spans,
    mark_letters,
    read_letters,
    rebuild_messages,
    split_by_reader,
    take_while_small,
)
from tasks.load_batch import BatchReport, count_rejects, note_batch
from tasks.message_rows import MessageRows, make_rows
from tasks.messages import Batch, DeadLetter
from tasks.offsets import Reader
from tasks.sealing import find_key_ring, key_ids
from tasks.stream_session import StreamSession

log = structlog.get_logger("sluiceway.stream")

CHUNK_LETTERS = 5_000
_CHUNK_BYTES = 32 << 20
_PROGRESS_SECONDS = 30.0
_BUSY_SECONDS = 60.0
"""How long letters are waited for that somebody else holds, as while they are relayed."""
_BUSY_PAUSE_SECONDS = 0.5

Kind = tuple[str | None, str]
"""A letter's source and reason, as they were before."""


@dataclass(slots=True)
class Replay:
    """What a replay was to do, and did."""

    plan: Plan
    dry_run: bool
    outcomes: dict[Kind, Counter[Outcome]] = field(default_factory=dict)
    new_reasons: Counter[str] = field(default_factory=Counter)
    """Why letters failed again."""
    batches: int = 0
    busy: int = 0
    """Letters that somebody else held until the end; the next replay takes them."""

    @property
    def total(self) -> Counter[Outcome]:
        """What became of letters of every kind."""
        return sum(self.outcomes.values(), Counter())

    def add(self, chunk: "_Chunk") -> None:
        """Count what was committed."""
        self.batches += len(chunk.batch_ids)
        for kind, outcomes in chunk.outcomes.items():
            self.outcomes.setdefault(kind, Counter()).update(outcomes)
        self.new_reasons += chunk.new_reasons

    def __str__(self) -> str:
        """Say it in a sentence or two."""
        if self.dry_run or not self.plan.letters:
            return str(self.plan)
        total = self.total
        said = f"Of {total.total()} dead letters {total[Outcome.LOADED]} were loaded"
        if total[Outcome.SUPERSEDED] or total[Outcome.DUPLICATE]:
            said += (
                f", {total[Outcome.SUPERSEDED]} came too late for a newer row, "
                f"{total[Outcome.DUPLICATE]} repeated another"
            )
        said += f", {total[Outcome.FAILED]} failed again."
        if self.plan.worn_out:
            said += (
                f" {self.plan.worn_out} were left alone: they were replayed "
                f"{self.plan.choice.max_attempts} times or more."
            )
        if self.plan.keyless:
            said += f" {self.plan.keyless} {KEYLESS}."
        if self.busy:
            said += f" {self.busy} were held by another run: replay again to have them too."
        return said


@dataclass(slots=True)
class _Chunk:
    """What one transaction did."""

    last_id: int
    batch_ids: list[int] = field(default_factory=list)
    outcomes: dict[Kind, Counter[Outcome]] = field(default_factory=dict)
    new_reasons: Counter[str] = field(default_factory=Counter)


async def replay_dead_letters(
    pool: Pool,
    specs: Mapping[str, Spec],
    choice: Choice,
    *,
    execution_id: int | None = None,
    dry_run: bool = True,
    chunk_letters: int = CHUNK_LETTERS,
) -> Replay:
    """Load the chosen dead letters by the contracts of today; returns what became of them.

    specs: the contracts by the name that a message's `source` gives. dry_run: only look, and
    count. A letter that was loaded, or came too late, is never replayed again; one that fails
    keeps its earlier reason beside the new one, and is relayed anew; so does one that is not what
    was encrypted. Several replays may run at once: each letter is replayed by one of them. Raises
    TransientError when PostgreSQL stays away, SettingError where a contract has personal columns
    and no keys are set.
    """
    ring = key_ring_for(*specs.values()) or find_key_ring()
    async with LastingSession(pool) as session:
        plan = await session.run(
            lambda opened: plan_replay(opened.connection, choice, key_ids(ring))
        )
        replay = Replay(plan, dry_run=dry_run)
        if plan.letters and not dry_run:
            run = _Run(session, specs, ring, replay, execution_id, chunk_letters)
            await run.replay_all()
    return replay


class _Run:
    """A replay under way."""

    def __init__(
        self,
        session: LastingSession,
        specs: Mapping[str, Spec],
        ring: KeyRing | None,
        replay: Replay,
        execution_id: int | None,
        chunk_letters: int,
    ) -> None:
        self._session = session
        self._specs = specs
        self._ring = ring
        self._replay = replay
        self._execution_id = execution_id
        self._chunk_letters = chunk_letters
        self._in_doubt: _Chunk | None = None
        """A chunk whose COMMIT was sent, and not answered."""

    async def replay_all(self) -> None:
        """Replay the letters, and wait for those that others hold."""
        plan, deadline = self._replay.plan, monotonic() + _BUSY_SECONDS
        while True:
            await self._replay_free()
            others = await self._session.run(lambda opened: count_left(opened.connection, plan))
            # What others have replayed meanwhile is done, and what is beyond the limit not ours.
            self._replay.busy = min(others, self._left)
            if not self._replay.busy or monotonic() > deadline:
                return
            await asyncio.sleep(_BUSY_PAUSE_SECONDS)

    @property
    def _left(self) -> int:
        return self._replay.plan.letters - self._replay.total.total()

    async def _replay_free(self) -> None:
        """Replay the letters that nobody holds, chunk by chunk."""
        after_id, told = 0, monotonic()
        while self._left:
            chunk = await self._session.run(partial(self._try, after_id=after_id))
            if chunk is None:
                return
            self._replay.add(chunk)
            after_id = chunk.last_id
            if monotonic() - told >= _PROGRESS_SECONDS:
                told = monotonic()
                total = self._replay.total
                log.info(
                    "replaying dead letters",
                    letters=total.total(),
                    of=self._replay.plan.letters,
                    failed=total[Outcome.FAILED],
                )

    async def _try(self, session: StreamSession, after_id: int) -> _Chunk | None:
        """Replay the next chunk once, whatever happened to the answer of an earlier try."""
        await session.prepare(self._specs.values())
        doubtful = self._in_doubt
        is_done = doubtful is not None and await _is_committed(session.connection, doubtful)
        self._in_doubt = None
        if is_done:
            return doubtful
        async with session.connection.transaction():
            chunk = await self._replay_chunk(session, after_id)
            self._in_doubt = chunk
        self._in_doubt = None
        return chunk

    async def _replay_chunk(self, session: StreamSession, after_id: int) -> _Chunk | None:
        connection = session.connection
        limit = min(self._chunk_letters, self._left)
        locked = await lock_letters(connection, self._replay.plan, after_id=after_id, limit=limit)
        if not locked:
            return None
        ids = list(take_while_small(locked, _CHUNK_BYTES))
        chunk = _Chunk(last_id=ids[-1])
        parts = [
            (reader, letters, await self._make_rows(letters))
            for reader, letters in split_by_reader(await read_letters(connection, ids))
        ]
        # All locks at once, in their order: a second part would take them out of it.
        await session.lock(*(rows for _, _, rows in parts), is_replay=True)
        for reader, letters, rows in parts:
            batch = Batch(rows.messages, find_spans(letters))
            failed, outcomes, report = await self._load(session, reader, batch, rows)
            chunk.batch_ids.append(report.batch_id)
            await mark_letters(connection, letters, outcomes, failed, find_sources(rows))
            for position, letter in enumerate(letters):
                kind = letter["source"], letter["reason"]
                chunk.outcomes.setdefault(kind, Counter())[outcomes[position]] += 1
            chunk.new_reasons.update(each.reason for each in failed)
        return chunk

    async def _make_rows(self, letters: Sequence[asyncpg.Record]) -> MessageRows:
        messages, unreadable = rebuild_messages(letters, self._ring)
        rows = await asyncio.to_thread(make_rows, messages, self._specs)
        dead = (unreadable.get(each.position, each) for each in rows.dead)
        return replace(rows, dead=tuple(dead))

    async def _load(
        self, session: StreamSession, reader: Reader, batch: Batch, rows: MessageRows
    ) -> tuple[list[DeadLetter], dict[int, Outcome], BatchReport]:
        """Load one group's letters of one topic, with a ledger of their own."""
        started = monotonic()
        batch_id = await session.next_batch_id()
        # Another group, or a replay of the topic, may have staged the message meanwhile.
        ledgers, refused = await session.load(rows, batch_id, only_missing=True)
        ledgers = count_rejects(ledgers, rows)
        for table, ledger in ledgers.items():
            ledger.refuse_imbalance(f"dead letters of {reader.topic} ({table})")
        failed = [*rows.dead, *refused]
        outcomes = await tell_outcomes(session.connection, rows, failed, range(len(rows.messages)))
        outcomes |= {each.position: Outcome.FAILED for each in failed}
        report = BatchReport(
            batch_id=batch_id,
            messages=len(rows.messages),
            loaded=sum(each.loaded for each in ledgers.values()),
            dead=len(failed),
            skipped=sum(each.duplicates + each.superseded for each in ledgers.values()),
            flush_seconds=monotonic() - started,
            ledgers=ledgers,
        )
        await note_batch(
            session.connection, batch, report, reader, self._execution_id, is_replay=True
        )
        return failed, outcomes, report


async def _is_committed(connection: Connection, chunk: _Chunk) -> bool:
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM metadata.stream_batches WHERE id = ANY($1))", chunk.batch_ids
    )
    return found
