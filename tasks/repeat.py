"""Does the same thing again and again, whatever becomes of each turn, until told to end.

What watches the platform runs this way, in a process of its own that needs no Prefect server.
"""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import structlog

from infra.redaction import redact
from schemas.errors import SluicewayError

log = structlog.get_logger("sluiceway.repeat")

END_SECONDS = 10.0
"""How long the turn under way may go on once the process is told to end."""

_ENDS = (signal.SIGTERM, signal.SIGINT)
Turn = Callable[[], Awaitable[Any]]


async def repeat(turn: Turn, *, every_seconds: float, name: str) -> None:
    """Take a turn now and at each full multiple of `every_seconds` of the clock; SIGTERM ends it.

    A turn that fails is logged, and the next is taken all the same. One that is still under way
    when the next is due is not overtaken: the next is left out.
    """
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _ENDS:
        loop.add_signal_handler(number, told.set)
    trouble = ""
    try:
        while not told.is_set():
            under_way = asyncio.ensure_future(turn())
            waiting = asyncio.ensure_future(told.wait())
            await asyncio.wait({under_way, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if not under_way.done():
                await asyncio.wait({under_way}, timeout=END_SECONDS)
                under_way.cancel()
            waiting.cancel()
            trouble = _tell(name, await _outcome_of(under_way), trouble)
            await _wait_until_due(told, every_seconds)
    finally:
        for number in _ENDS:
            loop.remove_signal_handler(number)


async def _wait_until_due(told: asyncio.Event, every_seconds: float) -> None:
    """Return at the next full multiple by the clock, or once told.

    Never before it: a turn that began a moment early would be of the minute before, and the next
    minute would have none.
    """
    due = _next_due(every_seconds)
    while not told.is_set() and (left := due - time.time()) > 0:
        if left > every_seconds:
            # The clock was set back meanwhile.
            due = _next_due(every_seconds)
            continue
        with suppress(TimeoutError):
            await asyncio.wait_for(told.wait(), left)


def _next_due(every_seconds: float) -> float:
    return (time.time() // every_seconds + 1) * every_seconds


async def _outcome_of(turn: "asyncio.Future[Any]") -> BaseException | None:
    await asyncio.wait({turn})
    return None if turn.cancelled() else turn.exception()


def _tell(name: str, error: BaseException | None, before: str) -> str:
    """Log what is in the way when it changes, and once that it is gone; returns it."""
    if error is None:
        if before:
            log.info("it works again", what=name)
        return ""
    reason = redact(str(error).split("\n", maxsplit=1)[0] or type(error).__name__)
    if reason != before:
        # What the platform raises on purpose says all there is to say.
        trace = None if isinstance(error, SluicewayError) else error
        log.warning("it failed, and is tried again", what=name, reason=reason, exc_info=trace)
    return reason
