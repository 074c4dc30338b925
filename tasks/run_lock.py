"""The advisory lock that shows that a run lives, taken again whenever its connection is lost.

PostgreSQL gives it back when the process is gone, however it went and on whatever host. It does so
too when PostgreSQL itself is restarted or the network is cut; a run that lives has the lock again a
moment after they are back, and whoever looks for dead runs looks twice (tasks/mark_dead_runs.py).
"""

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import NoReturn

import asyncpg
import structlog

from infra.postgres.connection import TRANSIENT, Connection, Pool
from schemas.errors import SluicewayError

log = structlog.get_logger("sluiceway.run_lock")

LOCK_BASE = 0x51C4 << 48
"""A run holds this advisory lock plus its id while it lives."""
BURIED_ALIVE = (
    "It was taken for dead, and said to be FAILED for a while, because it had lost its connection "
    "to PostgreSQL."
)
_CHECK_SECONDS = 10.0
_RETRY_SECONDS = 1.0
_LOCK_SECONDS = 90.0
"""PostgreSQL takes a minute to find out that a connection's other end is gone."""


class RunLock:
    """A connection of the pool's that does nothing but hold the lock of one run."""

    def __init__(self, pool: Pool) -> None:
        """Take nothing yet."""
        self._pool = pool
        self._lent = AsyncExitStack()
        self.connection: Connection | None = None
        """None while it is lost and not back yet."""

    async def connect(self) -> Connection:
        """Have a connection; whoever makes the run's row takes the lock over it."""
        self.connection = await self._lent.enter_async_context(self._pool.acquire())
        return self.connection

    async def leave(self) -> None:
        """Give the connection back, and with it the lock: back in the pool, it is reset."""
        self.connection = None
        await self._lent.aclose()

    async def keep(self, execution_id: int, warnings: list[str]) -> NoReturn:
        """Take the lock again whenever it is lost.

        A run that was taken for dead meanwhile is RUNNING again, and `warnings` says so.
        """
        while True:
            await self._wait_for_loss()
            log.warning("the run's connection to PostgreSQL is lost")
            while self.connection is None:
                await asyncio.sleep(_RETRY_SECONDS)
                await self._take_again(execution_id, warnings)
            log.info("the run has its connection to PostgreSQL again")

    async def _wait_for_loss(self) -> None:
        """Return when the connection is of no use any more, and forget it."""
        connection = self.connection
        lost = asyncio.Event()
        # A pool takes a connection that is closed back unasked, and then it answers nothing.
        with suppress(*TRANSIENT):
            assert connection is not None  # noqa: S101 - for mypy: `connect` came before
            connection.add_termination_listener(lambda _: lost.set())
            while not connection.is_closed():
                with suppress(TimeoutError):
                    await asyncio.wait_for(lost.wait(), _CHECK_SECONDS)
                    break
                # A host that vanished says no farewell: it has to be asked.
                await connection.execute("SELECT 1", timeout=_CHECK_SECONDS)
        await self._forget()

    async def _forget(self) -> None:
        connection, self.connection = self.connection, None
        with suppress(*TRANSIENT):
            if connection is not None:
                connection.terminate()
        await self._lent.aclose()

    async def _take_again(self, execution_id: int, warnings: list[str]) -> None:
        """Have a connection with the lock, or none where PostgreSQL gives none yet."""
        try:
            connection = await self.connect()
            # Our own lost connection may hold it still: nobody takes us for dead meanwhile.
            await connection.execute(
                "SELECT pg_advisory_lock($1)", LOCK_BASE + execution_id, timeout=_LOCK_SECONDS
            )
            # An end that the run wrote itself, as with a traceback, is the end.
            was_buried = await connection.fetchval(
                """
                UPDATE metadata.pipeline_executions
                SET status = 'RUNNING', end_time = NULL, error_message = NULL
                WHERE id = $1 AND status = 'FAILED' AND error_traceback IS NULL RETURNING true
                """,
                execution_id,
                timeout=_CHECK_SECONDS,
            )
        except (SluicewayError, asyncpg.PostgresError, *TRANSIENT) as error:
            log.debug("PostgreSQL gives no connection yet", reason=str(error))
            await self._forget()
        else:
            if was_buried:
                warnings.append(BURIED_ALIVE)
