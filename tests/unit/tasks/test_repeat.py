"""Turns by the clock in a process of its own, told to end by real signals."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks import repeat as module
from tasks.repeat import repeat

ROOT = Path(__file__).parents[3]
PROGRAM = """
import asyncio, os, sys, time
from tasks import repeat as module

turns = 0

def say(text):
    print(text, flush=True)

{turn}

module.END_SECONDS = {end_seconds}
asyncio.run(module.repeat(turn, every_seconds={every}, name="the test"))
say("ended")
"""


class Repeater:
    """A process that takes turns."""

    def __init__(self, turn: str, *, every: float, end_seconds: float = 10) -> None:
        program = PROGRAM.format(turn=textwrap.dedent(turn), every=every, end_seconds=end_seconds)
        environment = {key: value for key, value in os.environ.items() if "SLUICEWAY" not in key}
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def rest(self) -> list[str]:
        said, _ = self.process.communicate(timeout=60)
        return [each for each in said.splitlines() if "[" not in each]


@pytest.fixture
def repeaters() -> Iterator[list[Repeater]]:
    """Started by the test, ended here where it failed."""
    made: list[Repeater] = []
    yield made
    for each in made:
        each.process.kill()
        each.process.communicate()


def test_a_signal_ends_it_while_it_waits(repeaters: list[Repeater]) -> None:
    repeaters.append(it := Repeater("async def turn():\n    say('turn')", every=3600))
    assert it.line() == "turn"
    it.process.send_signal(signal.SIGINT)
    assert it.rest() == ["ended"]
    assert it.process.returncode == 0


def test_the_turn_under_way_is_finished(repeaters: list[Repeater]) -> None:
    turn = """
    async def turn():
        say("begun")
        while not told:
            await asyncio.sleep(0.01)
        say("finished")

    told = []
    import signal
    # Not until it was told to end does the turn end.
    add = asyncio.SelectorEventLoop.add_signal_handler
    def note(loop, number, act):
        add(loop, number, lambda: (act(), told.append(number)))
    asyncio.SelectorEventLoop.add_signal_handler = note
    """
    repeaters.append(it := Repeater(turn, every=3600))
    assert it.line() == "begun"
    it.process.terminate()
    assert it.rest() == ["finished", "ended"]
    assert it.process.returncode == 0


def test_a_turn_that_does_not_end_is_cancelled(repeaters: list[Repeater]) -> None:
    turn = """
    async def turn():
        say("begun")
        try:
            await asyncio.Event().wait()
        finally:
            say("cancelled")
    """
    repeaters.append(it := Repeater(turn, every=3600, end_seconds=0.1))
    assert it.line() == "begun"
    it.process.terminate()
    assert it.rest() == ["cancelled", "ended"]
    assert it.process.returncode == 0


def test_turns_that_fail_are_told_once_and_the_next_are_taken(repeaters: list[Repeater]) -> None:
    turn = """
    import structlog

    async def turn():
        global turns
        turns += 1
        if turns <= 3:
            raise OSError("postgresql://eve:pa55word@db is away")
        if turns == 5:
            os.kill(os.getpid(), 15)

    class Lines:
        def warning(self, event, **fields):
            say(f"warned: {fields['reason']}")
        def info(self, event, **fields):
            say(event)
    module.log = Lines()
    """
    repeaters.append(it := Repeater(turn, every=0.02))
    assert it.rest() == ["warned: postgresql://•••@db is away", "it works again", "ended"]


class Clock:
    """A clock that the test sets; whoever waits wakes up as told."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.waits: list[float] = []

    def time(self) -> float:
        return self.now


async def take_turns(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, wakes: list[float], seconds_of_turn: float = 0
) -> list[float]:
    """Return at which times turns began; a wait ends at each of `wakes`, as systems do it."""
    begun: list[float] = []
    left = iter(wakes)

    async def turn() -> None:
        begun.append(clock.now)
        clock.now += seconds_of_turn
        if len(begun) > 2 * len(wakes):
            # It no longer waits at all.
            signal.raise_signal(signal.SIGTERM)

    async def wait_for(waited, timeout: float) -> None:  # noqa: ASYNC109 - asyncio's own name
        waited.close()
        clock.waits.append(timeout)
        try:
            clock.now = next(left)
        except StopIteration:
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(0)
        raise TimeoutError

    monkeypatch.setattr(module.asyncio, "wait_for", wait_for)
    monkeypatch.setattr(module, "time", clock)
    await repeat(turn, every_seconds=60, name="the test")
    return begun


async def test_a_turn_is_taken_at_once_and_at_each_full_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(1000.0)
    begun = await take_turns(monkeypatch, clock, [1020.001, 1080.002, 1140.0])
    assert begun == [1000.0, 1020.001, 1080.002, 1140.0]
    assert clock.waits[:4] == pytest.approx([20, 59.999, 59.998, 60])


async def test_who_wakes_up_early_does_not_begin_early(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = await take_turns(
        monkeypatch, Clock(1020.0), [1079.9996, 1080.0001, 1139.99, 1139.999, 1140.0]
    )
    # One turn a minute, each in its own.
    assert [int(at // 60) for at in begun] == [17, 18, 19]


async def test_a_turn_that_is_due_while_another_is_under_way_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = await take_turns(monkeypatch, Clock(1020.0), [1140.0, 1260.0], seconds_of_turn=70)
    assert begun == [1020.0, 1140.0, 1260.0]


async def test_a_clock_that_is_set_back_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(10_000.0)
    begun = await take_turns(monkeypatch, clock, [5000.0, 5040.0])
    assert begun == [10_000.0, 5040.0]
    assert max(clock.waits) <= 60


async def test_the_signals_are_everybodys_again_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)

    async def turn() -> None:
        signal.raise_signal(signal.SIGTERM)

    await repeat(turn, every_seconds=3600, name="the test")
    assert signal.getsignal(signal.SIGTERM) is before
