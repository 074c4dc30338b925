"""Finds the moment at which a batch's rows are in flight, in PostgreSQL's own words."""

import asyncio
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic

from tests.chaos.stream_events import TABLE
from tests.chaos.stream_stage import ChaosError, Member, Stage

AIM_SECONDS = 60.0
POLL_SECONDS = 0.002
MORE_SECONDS = 0.03
"""About as long as the transaction of a batch takes here."""

IN_TRANSACTION = rf"""
    SELECT application_name AS name, pid, backend_xid::text AS xid,
        regexp_replace(query, '\s+', ' ', 'g') AS query
    FROM pg_stat_activity AS a
    WHERE application_name LIKE 'chaos-%' AND backend_xid IS NOT NULL
        -- A claim writes too: a batch has moved an offset, or has begun with its rows.
        AND (
            query ~ 'UPDATE metadata\.stream_offsets'
            OR EXISTS (
                SELECT FROM pg_locks AS l
                LEFT JOIN pg_inherits AS i ON i.inhrelid = l.relation
                WHERE l.pid = a.pid AND l.mode = 'RowExclusiveLock'
                    AND coalesce(i.inhparent, l.relation) = 'staging.{TABLE}'::regclass
            )
        )
"""  # noqa: S608 - a constant
PHASES: Mapping[str, str] = {
    "UPDATE metadata.stream_offsets": "offsets",
    "COPY": "rows",
    "RELEASE SAVEPOINT": "rows",
    "INSERT INTO metadata.dead_letters": "dead letters",
    "INSERT INTO metadata.stream_batches": "ledger",
    "INSERT INTO metadata.dataset_counts": "ledger",
    "COMMIT": "commit",
}
"""The parts of a batch's transaction by the statement that PostgreSQL does, or did last."""


@dataclass(frozen=True)
class Flight:
    """A consumer whose batch is under way in PostgreSQL."""

    member: Member
    pid: int
    """Of PostgreSQL's process."""
    xid: str
    phase: str


@dataclass
class Aim:
    """Finds flights, and remembers what they were doing and what became of them."""

    stage: Stage
    random: random.Random
    phases: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    misses: int = 0

    @asynccontextmanager
    async def catch(self) -> AsyncIterator[Flight]:
        """Hold a consumer still in the middle of its batch's transaction; let it go at the end."""
        await asyncio.sleep(self.random.uniform(0, 1))
        deadline = monotonic() + AIM_SECONDS
        while True:
            flight = self.random.choice(await self.wait_for_flights())
            await asyncio.sleep(self.random.uniform(0, MORE_SECONDS))
            child = flight.member.child
            child.send_signal(signal.SIGSTOP)
            # What it had sent before, PostgreSQL does yet.
            await asyncio.sleep(POLL_SECONDS)
            caught = [each for each in await self.find_flights() if each.pid == flight.pid]
            if caught:
                break
            child.send_signal(signal.SIGCONT)
            self.misses += 1
            if monotonic() > deadline:
                raise ChaosError(f"No consumer was met in its transaction in {AIM_SECONDS:.0f} s.")
        try:
            yield caught[0]
        finally:
            child.send_signal(signal.SIGCONT)

    @asynccontextmanager
    async def catch_between(self) -> AsyncIterator[tuple[Member, int]]:
        """Hold a consumer still that has just committed; also says how many rows it has not loaded.

        It may not have heard of its commit, and has fetched what comes next.
        """
        deadline = monotonic() + AIM_SECONDS
        while True:
            flight = self.random.choice(await self.wait_for_flights())
            while await self._is_under_way(flight):
                pass
            await asyncio.sleep(self.random.uniform(0, MORE_SECONDS))
            child = flight.member.child
            child.send_signal(signal.SIGSTOP)
            await asyncio.sleep(POLL_SECONDS)
            unread = await self._count_unread(flight.member)
            if unread and not await self._is_under_way(flight):
                break
            child.send_signal(signal.SIGCONT)
            self.misses += 1
            if monotonic() > deadline:
                raise ChaosError(f"No consumer had rows to load in {AIM_SECONDS:.0f} s.")
        try:
            yield flight.member, unread
        finally:
            child.send_signal(signal.SIGCONT)

    async def _is_under_way(self, flight: Flight) -> bool:
        return any(each.pid == flight.pid for each in await self.find_flights())

    async def _count_unread(self, member: Member) -> int:
        view = self.stage.view
        owners, committed, produced = (
            await view.owners(),
            await view.next_offsets(),
            view.produced(),
        )
        return sum(
            produced[each] - committed[each]
            for each, owner in owners.items()
            if owner == member.child.pid
        )

    async def wait_for_flights(self) -> list[Flight]:
        """Return every consumer that is in its batch's transaction, once there is one."""
        deadline = monotonic() + AIM_SECONDS
        while not (flights := await self.find_flights()):
            if monotonic() > deadline:
                raise ChaosError(f"No consumer wrote anything in {AIM_SECONDS:.0f} s.")
            self.stage.watch_over()
            await asyncio.sleep(POLL_SECONDS)
        return flights

    async def find_flights(self) -> list[Flight]:
        """Return every consumer that is in its batch's transaction now."""
        return [
            Flight(member, row["pid"], row["xid"], phase_of(row["query"]))
            for row in await self.stage.view.fetch(IN_TRANSACTION)
            if (member := self.stage.find_member(row["name"])) is not None
        ]

    async def find_outcome(self, flight: Flight) -> str:
        """Return what became of its transaction, once PostgreSQL knows: aborted or committed."""
        found = ""

        async def is_known() -> bool:
            nonlocal found
            [row] = await self.stage.view.fetch(
                "SELECT pg_xact_status($1::text::xid8) AS status", flight.xid
            )
            found = row["status"]
            return found != "in progress"

        await self.stage.wait_for(f"transaction {flight.xid} ends", is_known, AIM_SECONDS)
        return found

    def remember(self, flight: Flight, outcome: str) -> str:
        """Count a flight that was hit; returns it in words."""
        self.phases[flight.phase] += 1
        self.outcomes[outcome] += 1
        return f"{flight.member.name} at its {flight.phase}, transaction {outcome}"


def phase_of(query: str) -> str:
    """Return which part of a batch's transaction a statement is."""
    text = query.strip()
    # asyncpg asks for the types of what it is about to write, where it does not know them yet.
    return next((name for start, name in PHASES.items() if text.startswith(start)), "rows")
