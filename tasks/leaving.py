"""A block that ends early when something else says so, and tells why."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager

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


@contextmanager
def leave_once() -> Iterator[Callable[[], None]]:
    """Yield what is to be called when leaving begins: SIGTERM then does nothing more in the block.

    Whoever tells a process to end often tells it twice, once itself and once through a worker, and
    the second SIGTERM would cut off what the first began. Whoever is in a hurry kills.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None  # only the main thread hears signals
        return
    before = signal.getsignal(signal.SIGTERM)

    def ignore() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    try:
        yield ignore
    finally:
        if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:
            signal.signal(signal.SIGTERM, before)
