"""A block that is left when something else says so."""

import asyncio
import signal

import pytest

from schemas.errors import SluicewayError
from tasks.leaving import leave_once, leave_when


class GoneError(SluicewayError):
    pass


async def say_gone(when: asyncio.Event) -> GoneError:
    await when.wait()
    return GoneError("gone")


async def test_the_block_cleans_up_before_the_reason_is_raised() -> None:
    when, steps = asyncio.Event(), []

    async def work() -> None:
        async with leave_when(say_gone(when)):
            when.set()
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                steps.append("cleaned up")

    with pytest.raises(GoneError, match="gone"):
        await work()
    assert steps == ["cleaned up"]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_block_that_ends_by_itself_is_not_disturbed() -> None:
    when = asyncio.Event()
    async with leave_when(say_gone(when)):
        await asyncio.sleep(0)
    when.set()
    await asyncio.sleep(0)


async def test_a_cancellation_from_outside_stays_one_and_is_not_hurried() -> None:
    when, draining, drained = asyncio.Event(), asyncio.Event(), []

    async def work() -> None:
        async with leave_when(say_gone(when)):
            try:
                await asyncio.Event().wait()
            finally:
                draining.set()
                await asyncio.sleep(0.05)
                drained.append(True)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await draining.wait()
    when.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert drained == [True]


async def test_a_fault_of_the_reason_is_raised_too() -> None:
    async def fail() -> GoneError:
        raise ValueError("a fault")

    with pytest.raises(ValueError, match="a fault"):
        async with leave_when(fail()):
            await asyncio.Event().wait()


async def test_the_inner_reason_passes_an_outer_one() -> None:
    inner, outer = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        async with leave_when(say_gone(outer)), leave_when(say_gone(inner)):
            outer.set()
            await asyncio.Event().wait()

    with pytest.raises(GoneError):
        await work()


def test_once_leaving_has_begun_sigterm_does_nothing_until_it_is_over() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with leave_once() as begin:
            signal.raise_signal(signal.SIGTERM)
            begin()
            signal.raise_signal(signal.SIGTERM)
            assert len(heard) == 1
        signal.raise_signal(signal.SIGTERM)
        assert len(heard) == 2
    finally:
        signal.signal(signal.SIGTERM, before)
