"""The thread that writes log lines into metadata.pipeline_logs, over one connection of its own."""

import asyncio
import datetime as dt
import socket
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from infra.log_connection import LogConnection, is_refusal
from infra.log_rows import Line, Row, make_row

MAX_QUEUE = 10_000
"""Lines that wait at most; the oldest give way."""
BATCH_LINES = 500
BATCH_SECONDS = 1.0
IDLE_SECONDS = 60.0
"""A connection that nothing was written over for so long is closed."""
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 15.0)
ATTEMPT_SECONDS = 10.0


class LogWriter:
    """Takes lines from any thread at once, and writes them in batches from its own."""

    def __init__(self, url: str, pipeline: str, tell: Callable[[str], None]) -> None:
        """Start the thread; it opens nothing before the first line. Raises what keeps it from it.

        pipeline: whose lines these are, for what the writer itself has to say.
        tell: called from the thread with a sentence about lines that wait or are lost.
        """
        self.queue: deque[Line] = deque()
        self._pipeline = pipeline
        self._tell = tell
        self._something = threading.Event()
        self._at_once = threading.Event()
        self._asked: deque[threading.Event] = deque()
        self._is_stopping = False
        self._has_given_up = False
        self._failures = 0
        self._dropped = 0
        """Counted by those who put lines; the thread only reads it."""
        self._refused = 0
        self._lost_and_told = 0
        self._pending: list[Row] = []
        self._connection = LogConnection(url)
        self._task: asyncio.Task[Any] | None = None
        self._loop = _Loop()
        self._thread = threading.Thread(target=self._run, name="sluiceway log lines", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._loop.close()
            raise

    def put(self, line: Line) -> None:
        """Queue a line; not for two threads at once (a logging handler's lock sees to that)."""
        queue = self.queue
        if len(queue) >= MAX_QUEUE:
            with suppress(IndexError):
                queue.popleft()
                self._dropped += 1
        queue.append(line)
        # To set an event takes ten times as long as to look at it.
        if not self._something.is_set():
            self._something.set()
        elif len(queue) >= BATCH_LINES and not self._failures and not self._at_once.is_set():
            self._at_once.set()

    def flush(self, seconds: float) -> bool:
        """Wait until the lines put so far are written, or were tried; tells whether in time."""
        tried = threading.Event()
        self._asked.append(tried)
        self._wake()
        return tried.wait(seconds)

    def stop(self, seconds: float) -> None:
        """Write what waits, close the connection and end the thread; whatever happens, in time."""
        self._is_stopping = True
        self._wake()
        self._thread.join(seconds * 0.75)
        if self._thread.is_alive():
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._give_up)
            self._thread.join(seconds * 0.25)

    def _wake(self) -> None:
        self._at_once.set()
        self._something.set()

    def _give_up(self) -> None:
        self._has_given_up = True
        if self._task is not None:
            self._task.cancel()

    def _run(self) -> None:
        # What asyncpg has to say of a connection that was given up is of no interest.
        self._loop.set_exception_handler(lambda *_: None)
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            is_stopping = False
            while not (is_stopping or self._has_given_up):
                if self._failures:
                    self._at_once.wait(RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS)) - 1])
                elif self._something.wait(IDLE_SECONDS if self._connection.is_open else None):
                    self._at_once.wait(BATCH_SECONDS)
                else:
                    runner.run(self._disconnect())
                    continue
                # First, so that a line that is put meanwhile is not overlooked.
                self._something.clear()
                self._at_once.clear()
                is_stopping = self._is_stopping
                asked = [self._asked.popleft() for _ in range(len(self._asked))]
                self._write_what_waits(runner)
                for each in asked:
                    each.set()
            runner.run(self._disconnect())

    def _write_what_waits(self, runner: asyncio.Runner) -> None:
        try:
            runner.run(self._write_all())
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - no line may end the thread
            self._failures += 1
            if self._failures == 1:
                self._complain(error)
        else:
            self._failures = 0

    def _complain(self, error: BaseException) -> None:
        if isinstance(error, TimeoutError | asyncio.CancelledError):
            reason = "it did not answer in time"
        else:
            reason = (str(error) or type(error).__name__).splitlines()[0]
        wait = "" if self._is_stopping else f"; the newest {MAX_QUEUE:,} wait for it"
        self._say(
            f"PostgreSQL does not take log lines for metadata.pipeline_logs ({reason}). They are "
            f"in this file{wait}."
        )

    def _say(self, sentence: str) -> None:
        # Whatever is wrong with the file: the thread has to live.
        with suppress(Exception):
            self._tell(sentence)

    async def _write_all(self) -> None:
        self._task = asyncio.current_task()
        try:
            while self._pending or self.queue:
                while self.queue and len(self._pending) < BATCH_LINES:
                    self._pending.append(make_row(self.queue.popleft()))
                await self._write_pending()
            if lost := self._dropped + self._refused - self._lost_and_told:
                self._lost_and_told += lost
                sentence = (
                    f"{lost:,} log lines are missing from metadata.pipeline_logs before this one: "
                    "they were more than could wait, or not to be stored. The log file has them."
                )
                self._say(sentence)
                self._pending.append(self._own_row(sentence))
                await self._write_pending()
        finally:
            self._task = None

    def _own_row(self, sentence: str) -> Row:
        now = dt.datetime.now(dt.UTC).timestamp()
        return make_row(Line(now, "WARNING", __name__, self._pipeline, {"event": sentence}))

    async def _write_pending(self) -> None:
        async with asyncio.timeout(ATTEMPT_SECONDS):
            await self._connection.open()
            try:
                await self._connection.insert(self._pending)
            except Exception as error:
                if not is_refusal(error):
                    raise
                await self._write_each()
        self._pending = []

    async def _write_each(self) -> None:
        """Write what is pending row by row, without those that PostgreSQL does not take."""
        while self._pending:
            try:
                await self._connection.insert(self._pending[:1])
            except Exception as error:
                if not is_refusal(error):
                    raise
                self._refused += 1
            del self._pending[0]

    async def _disconnect(self) -> None:
        self._task = asyncio.current_task()
        await self._connection.close()
        self._task = None


class _Loop(asyncio.SelectorEventLoop):
    """Looks names up in its own thread: at the interpreter's exit there are no others to be had."""

    async def getaddrinfo(
        self, host: bytes | str | None, port: bytes | str | int | None, **options: Any
    ) -> list[Any]:
        return socket.getaddrinfo(host, port, **options)
