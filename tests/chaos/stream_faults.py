"""The four faults. Each strikes while rows are in flight: where it came too late, it does not count
and is repeated.
"""

import asyncio
import contextlib
import os
import random
import signal
from dataclasses import dataclass, field
from enum import StrEnum
from time import monotonic, time

from tests.chaos.stream_aim import AIM_SECONDS, Aim
from tests.chaos.stream_stage import ChaosError, Stage

HEAL_SECONDS = 120.0
ANSWER_SECONDS = 0.06
"""The producer hands something over for each partition sooner than that."""

BETWEEN = 0.2
"""The chance that a consumer is killed right after a commit, and not within a transaction."""


class Kind(StrEnum):
    """What is done to whom."""

    CONSUMER = "kill -9 of a consumer"
    POSTGRES = "kill -9 of PostgreSQL"
    BROKER = "kill -9 of a broker"
    FROZEN = "SIGSTOP of a consumer"


@dataclass
class Fault:
    """One fault that hit."""

    kind: Kind
    at: float
    """Seconds since the epoch; PostgreSQL's clock is this machine's."""
    marks: dict[int, int]
    """The offset after the last event that was acknowledged when it struck, by partition."""
    hit: str = ""
    """What was under way."""
    recovery_seconds: float = 0.0
    """Until every partition had committed an event that was acknowledged after it struck."""


@dataclass
class Faults:
    """Strikes, and waits until all is well again."""

    stage: Stage
    random: random.Random
    aim: Aim
    brokers: list[int] = field(default_factory=list)
    """Those whose turn has not come yet."""

    async def strike(self, kind: Kind) -> Fault:
        """Return what was hit, once something was."""
        return await {
            Kind.CONSUMER: self._kill_consumer,
            Kind.POSTGRES: self._kill_postgres,
            Kind.BROKER: self._kill_broker,
            Kind.FROZEN: self._freeze_consumer,
        }[kind]()

    async def _kill_consumer(self) -> Fault:
        if self.random.random() < BETWEEN:
            return await self._kill_consumer_between()
        async with self.aim.catch() as flight:
            fault = self._begin(Kind.CONSUMER)
            flight.member.child.stop(0)
        self.stage.start_member(flight.member.number)
        fault.hit = self.aim.remember(flight, await self.aim.find_outcome(flight))
        return fault

    async def _kill_consumer_between(self) -> Fault:
        async with self.aim.catch_between() as (member, unread):
            fault = self._begin(Kind.CONSUMER)
            member.child.stop(0)
        self.stage.start_member(member.number)
        self.aim.phases["between two batches"] += 1
        fault.hit = f"{member.name} between two batches, with {unread} events fetched or to fetch"
        return fault

    async def _kill_postgres(self) -> Fault:
        """Kill the whole server; it did hit where a transaction that was seen did not get there."""
        postgres, aim = self.stage.servers.postgres, self.aim
        while True:
            flights = await aim.wait_for_flights()
            for each in flights:
                with contextlib.suppress(ProcessLookupError):
                    # It would get to its end while the server's processes are looked up.
                    os.kill(each.pid, signal.SIGSTOP)
            fault = self._begin(Kind.POSTGRES)
            postgres.kill()
            await asyncio.sleep(self.random.uniform(0, 4))
            postgres.start()
            outcomes = [await aim.find_outcome(each) for each in flights]
            if "aborted" in outcomes:
                hits = [aim.remember(*each) for each in zip(flights, outcomes, strict=True)]
                fault.hit = "; ".join(hits)
                return fault
            aim.misses += 1
            await self.wait_until_healed(fault)

    async def _kill_broker(self) -> Fault:
        """Kill a broker that has events it did not answer, and others that are not loaded yet."""
        stage, kafka = self.stage, self.stage.servers.kafka
        async with stage.servers.brokers() as brokers:
            # Two replicas must remain that have everything.
            await stage.wait_for("every replica is in sync", brokers.is_whole, HEAL_SECONDS)
            leaders, coordinator = await brokers.leaders(), await brokers.coordinator()
        victim = self._choose_broker(set(leaders.values()))
        led = [partition for partition, leader in leaders.items() if leader == victim]
        deadline = monotonic() + AIM_SECONDS
        while True:
            await asyncio.sleep(self.random.uniform(0, 0.2))
            kafka.freeze(victim)
            # What the producer hands over now, the broker has and does not answer.
            await asyncio.sleep(ANSWER_SECONDS)
            fault = self._begin(Kind.BROKER)
            committed, unanswered = await stage.view.next_offsets(), stage.view.under_way()
            unread = {each: fault.marks[each] - committed.get(each, 0) for each in led}
            if any(unanswered[each] and unread[each] > 0 for each in led):
                break
            kafka.thaw(victim)
            self.aim.misses += 1
            if monotonic() > deadline:
                raise ChaosError(f"No rows were in flight on broker {victim}.")
        kafka.kill(victim)
        role = " and keeps the group" if victim == coordinator else ""
        fault.hit = (
            f"broker {victim} leads partitions {led}{role}; {sum(unanswered[each] for each in led)}"
            f" events had no answer, {sum(unread.values())} were not loaded"
        )
        await asyncio.sleep(self.random.uniform(3, 10))
        kafka.start_node(victim)
        async with stage.servers.brokers() as brokers:
            await stage.wait_for("every replica is in sync again", brokers.is_whole, HEAL_SECONDS)
        return fault

    def _choose_broker(self, leaders: set[int]) -> int:
        """Return one that leads, each in its turn."""
        if not self.brokers:
            nodes = sorted(self.stage.servers.kafka.nodes)
            self.brokers = self.random.sample(nodes, len(nodes))
        chosen = next((each for each in self.brokers if each in leaders), None)
        if chosen is None:
            return self.random.choice(sorted(leaders))
        self.brokers.remove(chosen)
        return chosen

    async def _freeze_consumer(self) -> Fault:
        """Freeze a consumer until the other one has taken its partitions over, and wake it."""
        stage, view = self.stage, self.stage.view
        async with self.aim.catch() as flight:
            fault = self._begin(Kind.FROZEN)
            member = flight.member
            member.is_frozen = True
            marks, owners = await view.next_offsets(), await view.owners()
            mine = [each for each, owner in owners.items() if owner == member.child.pid]

            async def are_taken_over() -> bool:
                owners, offsets = await view.owners(), await view.next_offsets()
                return all(
                    owners[each] != member.child.pid and offsets[each] > marks[each]
                    for each in mine
                )

            await stage.wait_for(
                f"another consumer goes on with partitions {mine} of {member.name}, which is "
                f"frozen at its {flight.phase}",
                are_taken_over,
                HEAL_SECONDS,
            )
            taken_over_seconds = time() - fault.at
            await asyncio.sleep(self.random.uniform(0, 3))
            member.is_frozen = False
        hit = self.aim.remember(flight, await self.aim.find_outcome(flight))
        fault.hit = (
            f"{hit}; its partitions {mine} went on elsewhere after {taken_over_seconds:.1f} s; "
            f"woken after {time() - fault.at:.1f} s"
        )
        return fault

    async def wait_until_healed(self, fault: Fault) -> None:
        """Return once every partition has committed an event from after the fault."""
        stage = self.stage

        async def is_healed() -> bool:
            committed = await stage.view.next_offsets()
            return all(committed.get(each, 0) > mark for each, mark in fault.marks.items())

        await stage.wait_for(
            f"all goes on after {fault.kind}: {fault.hit}", is_healed, HEAL_SECONDS
        )
        fault.recovery_seconds = await self._measure_recovery(fault)

    async def wait_until_shared(self) -> None:
        """Return once every consumer has partitions."""
        stage = self.stage

        async def is_shared() -> bool:
            owners = set((await stage.view.owners()).values())
            return owners == {each.child.pid for each in stage.members.values()}

        await stage.wait_for("each consumer has partitions", is_shared, HEAL_SECONDS)

    async def _measure_recovery(self, fault: Fault) -> float:
        """Return the seconds until the slowest partition went on, as the batches have it."""
        rows = await self.stage.view.fetch(
            """
            SELECT extract(epoch FROM min(b.committed_at))::float8 AS at
            FROM metadata.stream_batches AS b,
                unnest(b.partitions, b.next_offsets) AS g (partition, next_offset)
            JOIN unnest($2::int[], $3::bigint[]) AS m (partition, mark) USING (partition)
            WHERE b.committed_at > to_timestamp($1) AND g.next_offset > m.mark
            GROUP BY g.partition
            """,
            fault.at,
            list(fault.marks),
            list(fault.marks.values()),
        )
        return max(row["at"] for row in rows) - fault.at

    def _begin(self, kind: Kind) -> Fault:
        return Fault(kind, time(), self.stage.view.produced())
