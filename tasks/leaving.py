"""A block that ends early when something else says so, and tells why."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

import anyio

from schemas.errors import SluicewayError


@asynccontextmanager
async def leave_when(reason: Coroutine[None, None, SluicewayError]) -> AsyncIterator[None]:
    """Run the block, and `reason` beside it; once that returns an error, cancel the block.

    The block cleans up as in any cancellation, then the error is raised. What `reason` raises is
    raised in the same way. A block that is being cancelled already is not hurried.
    """
    block = asyncio.current_task()
    if block is None:
        raise RuntimeError("There is no task that could be left.")
    cancelled_before = block.cancelling()
    watching = asyncio.create_task(reason)
    is_left = False

    def leave(_: asyncio.Task[SluicewayError]) -> None:
        nonlocal is_left
        if block.cancelling() == cancelled_before:
            is_left = block.cancel()

    watching.add_done_callback(leave)
    try:
        yield
    except asyncio.CancelledError:
        if is_left and block.uncancel() == cancelled_before:
            raise watching.result() from None
        raise
    finally:
        watching.remove_done_callback(leave)
        watching.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.gather(watching, return_exceptions=True)
