"""What it takes to have each wanted consumer alive exactly once: decided here, done by the keeper.

Nothing is asked of Prefect about who lives: a consumer lives while it sits in its seat
(tasks/seats.py). Prefect only starts runs, ends them, and shows them.
"""

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from uuid import UUID

STARTING_SECONDS = 60.0
"""How long a run may be Running before it sits in its seat."""
PENDING_SECONDS = 120.0
"""How long a worker may take from taking a run to its process."""
LAPSE_SECONDS = 5.0
"""How long a run that has lost its seat with its connection is given to take it again."""
DEAD_SECONDS = 60.0
"""A run that has no seat for so long is said to be dead."""
SHORT_SECONDS = 60.0
"""A run that ended sooner than this did not work: the next one waits."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 5.0, 300.0


class Phase(Enum):
    """How far Prefect has a run."""

    WAITING = auto()
    """No worker has taken it yet."""
    PENDING = auto()
    RUNNING = auto()
    CANCELLING = auto()
    ENDED = auto()


@dataclass(frozen=True, slots=True)
class Run:
    """A run of the deployment, as Prefect has it."""

    id: UUID
    consumer: int
    phase: Phase
    since: dt.datetime
    """When it entered the phase."""
    started: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class View:
    """All that is decided upon."""

    now: dt.datetime
    wanted: int
    """How many consumers; they are numbered from 1."""
    seats: Mapping[int, UUID | None]
    """By consumer: the run that sits there."""
    runs: Collection[Run]
    """Those that have not ended, and the last that have."""
    unseated_since: Mapping[UUID, dt.datetime] = field(default_factory=dict)
    """By run: since when it is seen to run without a seat."""
    seated: Collection[UUID | None] = frozenset()
    """Runs that have been seen in a seat."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do."""

    start: tuple[int, ...] = ()
    """Consumers that need a run."""
    cancel: tuple[Run, ...] = ()
    """Runs that are not wanted any more."""
    bury: tuple[Run, ...] = ()
    """Runs that Prefect has as alive, and that are not."""


def decide(view: View) -> Plan:
    """Return what brings each wanted consumer to life, and nobody else."""
    bury = tuple(run for run in view.runs if _is_dead(run, view))
    return Plan(
        start=tuple(each for each in range(1, view.wanted + 1) if _is_missing(each, view, bury)),
        cancel=tuple(
            run
            for run in view.runs
            if run.consumer > view.wanted
            and run.phase in {Phase.WAITING, Phase.PENDING, Phase.RUNNING}
            and run not in bury
        ),
        bury=bury,
    )


def _is_missing(consumer: int, view: View, dead: Collection[Run]) -> bool:
    """Tell whether the consumer needs a run, and it is time to start one."""
    if consumer in view.seats:
        return False
    runs = [run for run in view.runs if run.consumer == consumer]
    if any(_is_coming(run, view) for run in runs if run not in dead):
        return False
    return view.now >= _earliest_start(runs)


def _is_coming(run: Run, view: View) -> bool:
    """Tell whether the run is on its way to its seat, or back to it."""
    if run.phase is not Phase.RUNNING:
        return run.phase in {Phase.WAITING, Phase.PENDING}
    if run.id in view.seated:
        return _unseated_seconds(run, view) < LAPSE_SECONDS
    return (view.now - run.since).total_seconds() < STARTING_SECONDS


def _is_dead(run: Run, view: View) -> bool:
    """Tell whether nobody lives behind the run; Prefect would have it as alive for ever."""
    if run.phase is Phase.PENDING:
        return (view.now - run.since).total_seconds() >= PENDING_SECONDS
    if run.phase not in {Phase.RUNNING, Phase.CANCELLING} or run.id in view.seats.values():
        return False
    return _unseated_seconds(run, view) >= DEAD_SECONDS


def _unseated_seconds(run: Run, view: View) -> float:
    unseated = view.now - max(view.unseated_since.get(run.id, view.now), run.since)
    return unseated.total_seconds()


def _earliest_start(runs: Collection[Run]) -> dt.datetime:
    """Return when the next run may start: the later, the more in a row ended as they began."""
    ended = sorted(
        (run for run in runs if run.phase is Phase.ENDED), key=lambda run: run.since, reverse=True
    )
    short = 0
    for run in ended:
        if (run.since - (run.started or run.since)).total_seconds() >= SHORT_SECONDS:
            break
        short += 1
    if short < 2:  # noqa: PLR2004 - the first one is bad luck
        return dt.datetime.min.replace(tzinfo=dt.UTC)
    wait_seconds = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (short - 2))
    return ended[0].since + dt.timedelta(seconds=wait_seconds)
