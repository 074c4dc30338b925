"""Lets the stages of a load overlap: while one block is copied, the next is being made."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from contextlib import aclosing
from typing import Any, TypeVar

T = TypeVar("T")


async def prefetch(source: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """Yield what the source yields, with the next item already under way; one item ahead."""
    async with aclosing(source):
        pending = asyncio.create_task(_next(source))
        try:
            while (item := await pending) is not _END:
                pending = asyncio.create_task(_next(source))
                yield item  # type: ignore[misc] # the end marker never gets here
        finally:
            if not pending.done():
                pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)


async def from_thread(iterator: Iterator[T]) -> AsyncGenerator[T, None]:
    """Yield what a plain iterator makes, each item in a worker thread.

    A cancelled wait ends only with the item under way: whoever closes what the thread reads from
    would otherwise pull it from under the thread.
    """
    while (item := await _finish(asyncio.to_thread(next, iterator, _END))) is not _END:
        yield item  # type: ignore[misc] # as above


async def _finish(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            # Nobody is left to hear of it; asyncio would complain that nobody asked.
            task.exception()
        raise


async def _next(source: AsyncIterator[T]) -> T | object:
    return await anext(source, _END)


_END = object()
