"""Runs health checks side by side, each in a thread and an event loop of its own.

So a check that blocks, as a disk that hangs does, holds up nothing but itself: it is BAD once its
time is over, and its thread is left to itself.
"""

import asyncio
import contextvars
import datetime as dt
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from time import monotonic

import structlog

from infra.health.finding import Check, Finding, Result, Status, bad, first_line, unknown
from infra.redaction import redact

log = structlog.get_logger("sluiceway.health")

GRACE_SECONDS = 1.0
"""What a check gets to tidy up once its time is over."""
MAX_THREADS = 3
"""Of a component, at the same time."""
MAX_CHARACTERS = 500
"""Of a detail."""


@dataclass(frozen=True, slots=True)
class _Asked:
    thread: threading.Thread
    answer: "Future[tuple[Finding, float]]"


class Checker:
    """Checks by component. A component whose last check still hangs is not checked on top of it."""

    def __init__(self, checks: Mapping[str, Check], *, timeout_seconds: float) -> None:
        """Check nothing yet."""
        self._checks = dict(checks)
        self._timeout_seconds = timeout_seconds
        self._asked: dict[str, list[_Asked]] = {}

    async def run(self, checked_at: dt.datetime) -> list[Result]:
        """Return a result for each component, in the order of the checks.

        Takes no longer than the timeout and a second, whatever the checks do, and raises nothing.
        """
        return await asyncio.gather(
            *(self._run_one(name, check, checked_at) for name, check in self._checks.items())
        )

    async def _run_one(self, component: str, check: Check, checked_at: dt.datetime) -> Result:
        begun = monotonic()
        try:
            finding, seconds = await self._ask(component, check)
        except Exception as error:
            log.exception("a health check failed itself", component=component)
            finding = unknown(f"The check itself failed: {type(error).__name__}: {error}")
            seconds = monotonic() - begun
        # One line; and PostgreSQL takes no text with a zero in it.
        detail = " ".join(redact(finding.detail).replace("\0", " ").split())[:MAX_CHARACTERS]
        return Result(component, finding.status, seconds, detail, checked_at)

    async def _ask(self, component: str, check: Check) -> tuple[Finding, float]:
        alive = [each for each in self._asked.get(component, []) if each.thread.is_alive()]
        # One that has answered is about to end; if name lookups hang, in a minute or so.
        if len(alive) >= MAX_THREADS or not all(each.answer.done() for each in alive):
            return bad("An earlier check of it still hangs, without an answer."), 0.0
        answer: Future[tuple[Finding, float]] = Future()
        # It cannot be called off from here on, only left alone.
        answer.set_running_or_notify_cancel()
        thread = threading.Thread(
            # With the settings and the log lines' tags that hold here.
            target=contextvars.copy_context().run,
            args=(_work, check, self._timeout_seconds, answer),
            name=f"health of {component}",
            daemon=True,
        )
        begun = monotonic()
        thread.start()
        self._asked[component] = [*alive, _Asked(thread, answer)]
        waiting = asyncio.wrap_future(answer)
        await asyncio.wait({waiting}, timeout=self._timeout_seconds + GRACE_SECONDS)
        if not waiting.done():
            return _no_answer(self._timeout_seconds), monotonic() - begun
        return waiting.result()


def _work(check: Check, timeout_seconds: float, answer: "Future[tuple[Finding, float]]") -> None:
    try:
        asyncio.run(_answer(check, timeout_seconds, answer))
    except BaseException as error:
        if answer.done():
            log.warning("a health check could not tidy up after itself", exc_info=error)
            return
        # A check that would end the process ends its thread.
        is_plain = isinstance(error, Exception)
        answer.set_exception(error if is_plain else RuntimeError(type(error).__name__))


async def _answer(
    check: Check, timeout_seconds: float, answer: "Future[tuple[Finding, float]]"
) -> None:
    begun = monotonic()
    try:
        async with asyncio.timeout(timeout_seconds) as limit:
            finding = await check()
    except TimeoutError as error:
        finding = (
            _no_answer(timeout_seconds)
            if limit.expired()
            else bad(f"It gave no answer in time: {first_line(error)}.")
        )
    # Before the loop closes, which waits for name lookups that hang.
    answer.set_result((finding, monotonic() - begun))


def _no_answer(timeout_seconds: float) -> Finding:
    return Finding(Status.BAD, f"It gave no answer within {timeout_seconds:g} s.")
