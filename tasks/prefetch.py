"""Lets the stages of a load overlap: while one block is copied, the next is being made."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import TypeVar

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
    """Yield what a plain iterator makes, each item in a worker thread."""
    while (item := await asyncio.to_thread(next, iterator, _END)) is not _END:
        yield item  # type: ignore[misc] # as above


async def _next(source: AsyncIterator[T]) -> T | object:
    return await anext(source, _END)


_END = object()
