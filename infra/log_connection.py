"""The one connection that a process writes its log lines over."""

import asyncio
from contextlib import suppress

import asyncpg

from infra.log_rows import Row
from infra.postgres.connection import connect

FULL_SECONDS = 1.0
"""How long a free connection of the role is waited for."""
_CONNECT_SECONDS = 4.0
_CLOSE_SECONDS = 1.0
_TURNS_TO_HEAR = 3
"""Of an event loop: to see what is there to be read, to read it, and to take note of its end."""
LOCK_TIMEOUT = "1s"
STATEMENT_TIMEOUT = "5s"

# A line that PostgreSQL loses in a crash is still in the log file: no commit waits for the disk.
_SESSION = """
    SELECT set_config('application_name', 'sluiceway log lines', false),
        set_config('synchronous_commit', 'off', false),
        set_config('lock_timeout', $1, false),
        set_config('statement_timeout', $2, false)
"""
_INSERT = """
    INSERT INTO metadata.pipeline_logs
        (logged_at, level, pipeline_name, execution_id, dataset, event, fields)
    SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::bigint[], $5::text[],
                         $6::text[], $7::jsonb[])
"""
# Classes of SQLSTATE that say that PostgreSQL does not take what is in the line.
_REFUSALS = ("22", "23", "54")


class LogConnection:
    """Opened when it is needed, given up when it fails."""

    def __init__(self, url: str) -> None:
        """Remember where."""
        self._url = url
        self._connection: asyncpg.Connection | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._connection is not None

    async def open(self) -> None:
        """Have a connection; raises what connect raises, and TimeoutError."""
        if self._connection is not None:
            # The loop stood still since the last batch: it hears now of a server that left.
            for _ in range(_TURNS_TO_HEAR):
                await asyncio.sleep(0)
            if self._connection.is_closed():
                self.give_up()
        if self._connection is None:
            async with asyncio.timeout(_CONNECT_SECONDS):
                self._connection = await connect(self._url, wait_seconds=FULL_SECONDS)
                try:
                    await self._connection.execute(_SESSION, LOCK_TIMEOUT, STATEMENT_TIMEOUT)
                except BaseException:
                    self.give_up()
                    raise

    async def insert(self, rows: list[Row]) -> None:
        """Write the rows, all or none; to be called when `open` has returned."""
        if self._connection is None:
            raise RuntimeError("The connection is used before it was opened.")
        try:
            await self._connection.execute(_INSERT, *zip(*rows, strict=True))
        except BaseException as error:
            # After an error of PostgreSQL's the connection is as good as before.
            if not isinstance(error, asyncpg.PostgresError):
                self.give_up()
            raise

    async def close(self) -> None:
        """Take leave of PostgreSQL, or just leave where it does not answer."""
        if self._connection is not None:
            with suppress(Exception, asyncio.CancelledError):
                await self._connection.close(timeout=_CLOSE_SECONDS)
            self.give_up()
        # A connection that is given up is closed in the loop's next turn.
        await asyncio.sleep(0)

    def give_up(self) -> None:
        """Leave without a word."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


def is_refusal(error: Exception) -> bool:
    """Tell whether PostgreSQL does not take what is in a row, now or ever."""
    return (
        isinstance(error, ValueError) or (getattr(error, "sqlstate", None) or "")[:2] in _REFUSALS
    )
