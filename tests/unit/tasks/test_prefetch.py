"""Stages overlap by one item, keep their order, and leave nothing running behind."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

import pytest

from tasks.prefetch import from_thread, prefetch


async def numbers(count: int, seen: list[object]) -> AsyncGenerator[int, None]:
    try:
        for each in range(count):
            seen.append(each)
            yield each
    finally:
        seen.append("closed")


async def test_items_come_in_order_and_the_source_is_closed() -> None:
    seen: list[object] = []
    assert [each async for each in prefetch(numbers(5, seen))] == [0, 1, 2, 3, 4]
    assert seen == [0, 1, 2, 3, 4, "closed"]


async def test_no_items_are_no_error() -> None:
    assert [each async for each in prefetch(numbers(0, []))] == []
    assert [each async for each in from_thread(iter([]))] == []


async def test_exactly_one_item_is_made_ahead() -> None:
    seen: list[object] = []
    async with aclosing(prefetch(numbers(9, seen))) as ahead:
        assert await anext(ahead) == 0
        for _ in range(5):
            await asyncio.sleep(0)
        assert seen == [0, 1]
    assert seen == [0, 1, "closed"]


async def test_none_is_an_item_as_any_other() -> None:
    assert [each async for each in from_thread(iter([None, 0, None]))] == [None, 0, None]


async def test_an_error_comes_after_the_items_before_it() -> None:
    def failing() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    ahead = prefetch(from_thread(failing()))
    assert await anext(ahead) == 1
    with pytest.raises(ValueError, match="broken"):
        await anext(ahead)


async def test_an_error_that_nobody_waits_for_is_dropped_with_the_source() -> None:
    seen: list[object] = []

    async def failing() -> AsyncGenerator[int, None]:
        yield 1
        seen.append("made")
        raise ValueError("broken")

    async with aclosing(prefetch(failing())) as ahead:
        assert await anext(ahead) == 1
        for _ in range(5):
            await asyncio.sleep(0)
    assert seen == ["made"]


async def test_leaving_waits_for_the_item_under_way_in_its_thread() -> None:
    started, release = threading.Event(), threading.Event()
    states: list[str] = []

    def blocking() -> Iterator[int]:
        yield 1
        started.set()
        release.wait(30)
        states.append("finished")
        yield 2

    iterator = blocking()

    async def consume() -> None:
        async with aclosing(prefetch(from_thread(iterator))) as ahead:
            async for _ in ahead:
                await asyncio.to_thread(started.wait, 30)
                break
        states.append("left")

    task = asyncio.create_task(consume())
    await asyncio.to_thread(started.wait, 30)
    for _ in range(20):
        await asyncio.sleep(0)
    assert states == []
    release.set()
    await task
    assert states == ["finished", "left"]
    # A thread still inside would make this raise "generator already executing".
    iterator.close()


async def test_a_cancelled_reader_leaves_no_thread_inside_and_no_warning() -> None:
    started, release = threading.Event(), threading.Event()

    def failing() -> Iterator[int]:
        started.set()
        release.wait(30)
        raise ValueError("nobody hears this")
        yield 1

    async def consume() -> list[int]:
        return [each async for each in prefetch(from_thread(failing()))]

    task = asyncio.create_task(consume())
    await asyncio.to_thread(started.wait, 30)
    task.cancel()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
