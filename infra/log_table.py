"""Log lines in metadata.pipeline_logs, written behind the back of whoever logs them.

A line costs its logger an append to a queue. One thread a process, with a connection of its own,
writes what has come together every second. A PostgreSQL that is away, full or locked holds nobody
up: the newest 10,000 lines wait for it, and all of them are in the log file anyway. A line is in
the table at least once: where the answer to a COMMIT is lost, its batch is written again.
"""

import atexit
import logging
import os
import weakref
from collections.abc import Callable

import structlog

from infra.log_rows import Line, shorten
from infra.log_writer import LogWriter

EXIT_SECONDS = 2.0
"""How long the end of a run or of the interpreter waits for lines to be written."""


class LogTable(logging.Handler):
    """Hands each line from INFO up to a writer, which the first line starts."""

    def __init__(self, url: str, *, pipeline: str, tell: Callable[[str], None]) -> None:
        """Remember where; nothing is started before the first line.

        pipeline: whose lines they are where they do not say so themselves.
        tell: called, from another thread, with a sentence about lines that wait or are lost; it
            must not log to this handler.
        """
        super().__init__(logging.INFO)
        self.url = url
        self.pipeline = pipeline
        self._tell = tell
        self._writer: LogWriter | None = None
        self._is_over = False
        _living.add(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the line."""
        fields = getattr(record, "fields", None)
        if fields is None:
            fields = {**structlog.contextvars.get_contextvars(), "event": record.getMessage()}
            if record.exc_text:
                fields["exception"] = record.exc_text
        if self._writer is None:
            if self._is_over:
                return
            try:
                self._writer = LogWriter(self.url, self.pipeline, self._tell)
            except (RuntimeError, OSError):
                # No more threads or files to be had: the line is in the file, and the run goes on.
                return
        self._writer.put(
            Line(record.created, record.levelname, record.name, self.pipeline, shorten(fields))
        )

    def write_out(self, seconds: float | None = None) -> None:
        """Wait until the lines so far are in the table, or PostgreSQL did not take them.

        seconds: how long at most; by default as long as at the interpreter's end.
        """
        if (writer := self._writer) is not None:
            writer.flush(EXIT_SECONDS if seconds is None else seconds)

    def close(self) -> None:
        """Write what waits and end the thread; a line that comes after all starts another."""
        # logging.config closes handlers that stay where they are.
        self.acquire()
        try:
            writer, self._writer = self._writer, None
        finally:
            self.release()
        if writer is not None:
            writer.stop(EXIT_SECONDS)
        super().close()

    def end(self) -> None:
        """Write what waits; lines that come later are left to the file."""
        self._is_over = True
        self.close()

    def forget_writer(self) -> None:
        """Begin afresh in a forked process: the lines, the thread and the socket are the parent's.

        The parent's writer is never freed here, because its thread's frames are not: that would
        shut the parent's socket out of the parent's event loop.
        """
        self._writer = None


_living: "weakref.WeakSet[LogTable]" = weakref.WeakSet()


def _forget_writers() -> None:
    for each in list(_living):
        each.forget_writer()


def _end_all() -> None:
    for each in list(_living):
        each.end()


os.register_at_fork(after_in_child=_forget_writers)
atexit.register(_end_all)
