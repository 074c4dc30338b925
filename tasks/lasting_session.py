"""A session that outlives its connections: a replay goes on when PostgreSQL is back."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self, TypeVar

import structlog

from infra.postgres.connection import TRANSIENT, Pool
from schemas.errors import TransientError
from tasks.stream_session import StreamSession

log = structlog.get_logger("sluiceway.stream")

RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
"""A restart of PostgreSQL, and somewhat more."""

_Result = TypeVar("_Result")


class LastingSession:
    """A stream session of the pool, opened anew where the last one broke."""

    def __init__(self, pool: Pool) -> None:
        """Open nothing yet."""
        self._pool = pool
        self._stack = AsyncExitStack()
        self._session: StreamSession | None = None

    async def __aenter__(self) -> Self:
        """Take part in a with statement."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the connection back."""
        await self._close()

    async def run(self, work: Callable[[StreamSession], Awaitable[_Result]]) -> _Result:
        """Return what the work returns; it is begun again while PostgreSQL is away.

        The work must bear to be done twice: where the answer to a COMMIT was lost, nobody knows.
        Raises TransientError when PostgreSQL stays away for about a minute.
        """
        for wait_seconds in (*RETRY_SECONDS, None):
            try:
                return await work(await self._open())
            except (TransientError, *TRANSIENT) as error:
                await self._close()
                reason = (str(error) or type(error).__name__).splitlines()[0]
                if wait_seconds is None:
                    raise TransientError(
                        f"PostgreSQL stayed away ({reason}): run the replay again when it is "
                        "back; what was committed stays, and nothing is loaded twice."
                    ) from error
                log.warning("PostgreSQL is away; the replay waits", reason=reason)
            await asyncio.sleep(wait_seconds)
        raise AssertionError  # the last turn returns or raises

    async def _open(self) -> StreamSession:
        if self._session is None:
            self._session = await self._stack.enter_async_context(StreamSession.open(self._pool))
        return self._session

    async def _close(self) -> None:
        self._session = None
        stack, self._stack = self._stack, AsyncExitStack()
        await stack.aclose()
