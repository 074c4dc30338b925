"""The stream under fire: the plan, its course, and what was seen on the way."""

import random
import statistics
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from time import time

from tests.chaos.stream_aim import Aim
from tests.chaos.stream_faults import Fault, Faults, Kind
from tests.chaos.stream_stage import CONSUMERS, Servers, Stage
from tests.chaos.stream_verdict import Verdict, compare

START_SECONDS = 120.0
CATCH_UP_SECONDS = 120.0


@dataclass(frozen=True)
class Plan:
    """How much of what."""

    faults: Mapping[Kind, int]
    events_per_second: int
    least_events: int
    seed: int
    overlap: float = 0.25
    """The chance that a fault is followed by the next one before all is well again."""


@dataclass
class Course:
    """What happened."""

    faults: list[Fault] = field(default_factory=list)
    seconds: float = 0.0
    """From when all was running until the producer was told to end."""
    acknowledged: int = 0
    """In these seconds."""
    misses: int = 0
    phases: Mapping[str, int] = field(default_factory=dict)
    outcomes: Mapping[str, int] = field(default_factory=dict)
    fenced: int = 0
    """Batches that a consumer had to leave to another one, because its claim was gone."""
    cut_off: int = 0
    """Transactions that the next owner of a partition had to end."""
    complaints: list[str] = field(default_factory=list)

    def report(self) -> list[str]:
        """Return it in lines."""
        lines = [
            (
                f"{len(self.faults)} faults with rows in flight; {self.misses} tries came too late "
                "and were repeated"
            ),
            (
                "what consumers were at when they, or PostgreSQL under them, were hit: "
                f"{_listed(self.phases)}; what became of their transactions: "
                f"{_listed(self.outcomes)}"
            ),
            (
                f"left to another consumer by the epoch's fence: {self.fenced}; cut off by the "
                f"next owner: {self.cut_off}"
            ),
        ]
        for kind in Kind:
            seconds = [each.recovery_seconds for each in self.faults if each.kind is kind]
            if seconds:
                lines.append(
                    f"recovered from {kind} ({len(seconds)} times): median "
                    f"{statistics.median(seconds):.1f} s, max {max(seconds):.1f} s"
                )
        rate = self.acknowledged / self.seconds
        lines.append(f"produced {rate:,.0f} events a second for {self.seconds:.0f} s")
        return lines + self.complaints


async def run_drill(
    servers: Servers, plan: Plan, say: Callable[[str], None]
) -> tuple[Course, Verdict]:
    """Produce and consume under the plan's faults; returns their course, and what was left."""
    stage = Stage(servers)
    chance = random.Random(plan.seed)  # noqa: S311 - a drill, no secret
    faults = Faults(stage, chance, Aim(stage, chance))
    course = Course(complaints=stage.complaints)
    try:
        await _begin(stage, plan)
        started, before = time(), stage.view.acknowledged()
        await faults.wait_until_shared()
        async for struck in _strike_all(faults, plan):
            course.faults.append(struck)
            say(
                f"{struck.at - started:6.1f} s  {struck.kind}: {struck.hit}; recovered in "
                f"{struck.recovery_seconds:.1f} s"
            )

        async def is_enough() -> bool:
            return stage.view.acknowledged() >= plan.least_events

        patience_seconds = plan.least_events / plan.events_per_second + START_SECONDS
        await stage.wait_for(
            f"{plan.least_events:,} events are acknowledged", is_enough, patience_seconds
        )
        course.seconds, course.acknowledged = time() - started, stage.view.acknowledged() - before
        stage.end_producer()
        await stage.wait_for("all is loaded", stage.view.is_caught_up, CATCH_UP_SECONDS)
        stage.end_members()
        course.misses = faults.aim.misses
        course.phases, course.outcomes = faults.aim.phases, faults.aim.outcomes
        course.fenced = stage.count_in_logs("left to another consumer")
        course.cut_off = stage.count_in_logs("is cut off")
        return course, await compare(stage)
    finally:
        await stage.clear()


async def _begin(stage: Stage, plan: Plan) -> None:
    """Return once every partition is produced to and consumed."""

    async def is_produced() -> bool:
        produced = stage.view.produced()
        return bool(produced) and all(produced.values())

    async def is_consumed() -> bool:
        committed = await stage.view.next_offsets()
        return len(committed) == stage.servers.partitions and all(committed.values())

    await stage.set_up()
    for number in range(1, CONSUMERS + 1):
        stage.start_member(number)
    stage.start_producer(plan.events_per_second)
    await stage.wait_for("every partition is produced to", is_produced, START_SECONDS)
    await stage.wait_for("every partition is consumed", is_consumed, START_SECONDS)


async def _strike_all(faults: Faults, plan: Plan) -> AsyncIterator[Fault]:
    """Yield each fault once all is well after it."""
    kinds = [kind for kind, count in plan.faults.items() for _ in range(count)]
    faults.random.shuffle(kinds)
    unhealed: list[Fault] = []
    for place, kind in enumerate(kinds, 1):
        unhealed.append(await faults.strike(kind))
        is_last = place == len(kinds)
        if not is_last and faults.random.random() < plan.overlap:
            continue
        for each in unhealed:
            await faults.wait_until_healed(each)
            yield each
        unhealed.clear()
        await faults.wait_until_shared()


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"
