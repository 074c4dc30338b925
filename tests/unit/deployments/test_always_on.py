"""Which consumers are started, cancelled and said to be dead."""

import datetime as dt
from uuid import UUID, uuid4

import pytest

from deployments.always_on import (
    DEAD_SECONDS,
    LAPSE_SECONDS,
    LONGEST_WAIT_SECONDS,
    PENDING_SECONDS,
    STARTING_SECONDS,
    Phase,
    Run,
    View,
    decide,
)

NOW = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


def ago(seconds: float) -> dt.datetime:
    return NOW - dt.timedelta(seconds=seconds)


def run(phase: Phase, since_seconds: float, consumer: int = 1, lasted: float = 0) -> Run:
    return Run(uuid4(), consumer, phase, ago(since_seconds), ago(since_seconds + lasted))


def view(
    *runs: Run,
    seats: dict[int, UUID | None] | None = None,
    unseated_seconds: float | None = None,
    seated: tuple[Run, ...] = (),
    wanted: int = 1,
) -> View:
    since = {} if unseated_seconds is None else {each.id: ago(unseated_seconds) for each in runs}
    return View(NOW, wanted, seats or {}, runs, since, {each.id for each in seated})


def test_each_wanted_consumer_whose_seat_is_empty_is_started() -> None:
    assert decide(view(wanted=3, seats={2: uuid4()})).start == (1, 3)


def test_who_sits_in_a_seat_is_left_alone_whatever_prefect_says_of_the_run() -> None:
    living = run(Phase.RUNNING, 9_000)
    cancelling = run(Phase.CANCELLING, 9_000, consumer=2)
    without_prefect = {3: None}
    plan = decide(
        view(
            living,
            cancelling,
            wanted=3,
            seats={1: living.id, 2: cancelling.id, **without_prefect},
            unseated_seconds=9_000,
        )
    )
    assert (plan.start, plan.cancel, plan.bury) == ((), (), ())


@pytest.mark.parametrize(
    ("phase", "since_seconds", "starts"),
    [
        (Phase.WAITING, 9_000, False),
        (Phase.PENDING, PENDING_SECONDS - 1, False),
        (Phase.PENDING, PENDING_SECONDS, True),
        (Phase.RUNNING, STARTING_SECONDS - 1, False),
        (Phase.RUNNING, STARTING_SECONDS, True),
        (Phase.CANCELLING, 1, True),
        (Phase.ENDED, 0, True),
    ],
)
def test_a_run_on_its_way_to_the_seat_is_waited_for(
    phase: Phase, since_seconds: float, *, starts: bool
) -> None:
    assert decide(view(run(phase, since_seconds))).start == ((1,) if starts else ())


@pytest.mark.parametrize(
    ("unseated_seconds", "starts"), [(LAPSE_SECONDS - 1, False), (LAPSE_SECONDS, True)]
)
def test_a_run_that_lost_its_seat_has_a_moment_to_take_it_again(
    unseated_seconds: float, *, starts: bool
) -> None:
    lost = run(Phase.RUNNING, 30)
    plan = decide(view(lost, unseated_seconds=unseated_seconds, seated=(lost,)))
    assert plan.start == ((1,) if starts else ())
    assert plan.bury == ()


@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.CANCELLING])
def test_a_run_without_a_seat_is_said_to_be_dead_after_a_while(phase: Phase) -> None:
    dead = run(phase, 9_000)
    assert decide(view(dead, unseated_seconds=DEAD_SECONDS - 1)).bury == ()
    assert decide(view(dead, unseated_seconds=DEAD_SECONDS)).bury == (dead,)
    assert decide(view(dead)).bury == ()


def test_a_run_that_its_worker_forgot_is_said_to_be_dead_and_replaced() -> None:
    forgotten = run(Phase.PENDING, PENDING_SECONDS)
    plan = decide(view(forgotten))
    assert (plan.bury, plan.start) == ((forgotten,), (1,))


def test_what_is_not_wanted_any_more_is_cancelled_once() -> None:
    runs = [run(phase, 5, consumer=2) for phase in Phase]
    plan = decide(view(*runs, seats={1: uuid4()}))
    assert {each.phase for each in plan.cancel} == {Phase.WAITING, Phase.PENDING, Phase.RUNNING}
    assert plan.start == ()


def test_nothing_is_started_of_a_deployment_that_wants_none() -> None:
    living = run(Phase.RUNNING, 5)
    plan = decide(view(living, wanted=0, seats={1: living.id}))
    assert (plan.start, plan.cancel) == ((), (living,))


@pytest.mark.parametrize(
    ("short_runs", "wait_seconds"), [(1, 0), (2, 5), (3, 10), (4, 20), (20, LONGEST_WAIT_SECONDS)]
)
def test_runs_that_end_as_they_begin_are_followed_later_and_later(
    short_runs: int, wait_seconds: float
) -> None:
    def after(seconds: float) -> tuple[int, ...]:
        ended = [run(Phase.ENDED, seconds + number * 100) for number in range(short_runs)]
        return decide(view(*ended)).start

    assert after(wait_seconds) == (1,)
    if wait_seconds:
        assert after(wait_seconds - 1) == ()


def test_a_run_that_worked_for_a_while_is_followed_at_once() -> None:
    short = [run(Phase.ENDED, 100 + number) for number in range(5)]
    long = run(Phase.ENDED, 1, lasted=3_600)
    others = [run(Phase.ENDED, 1, consumer=2) for _ in range(5)]
    assert decide(view(*short, long, *others)).start == (1,)
