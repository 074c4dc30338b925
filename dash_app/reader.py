"""How the dashboard asks PostgreSQL: reading, never for long, failing with a sentence."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from infra.postgres.connection import TRANSIENT, Connection, Pool
from infra.settings import Settings
from schemas.errors import SettingError, SluicewayError, TransientError

POOL_SIZE = 8
STATEMENT_SECONDS = 5
AWAY = "The database is away"
_WAIT_SECONDS = 5.0


class AwayError(SluicewayError):
    """PostgreSQL cannot be reached: what is on the page has to wait."""


class SlowError(SluicewayError):
    """A question took longer than it may."""


class Reader:
    """Connections as the role `sluiceway_reader`, opened when first needed."""

    def __init__(self, settings: Settings) -> None:
        """Remember where; raises SettingError where no setting says so."""
        url = settings.reader_database_url.get_secret_value()
        if not url:
            raise SettingError(
                "No database is named: set SLUICEWAY_READER_DATABASE_URL to "
                "postgresql://sluiceway_reader:password@host:port/database."
            )
        self._pool = Pool(
            url,
            size=POOL_SIZE,
            wait_seconds=_WAIT_SECONDS,
            server_settings={
                "application_name": "sluiceway dashboard",
                "statement_timeout": f"{STATEMENT_SECONDS}s",
                "idle_in_transaction_session_timeout": "10s",
                # A page asks many short questions: compiling them would take longer.
                "jit": "off",
                # Of a million rows a page shows some: by index, whatever a disk of old would say.
                "random_page_cost": "1.1",
                "max_parallel_workers_per_gather": "0",
            },
        )

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Keep the pool open; PostgreSQL may be away then, and come."""
        async with self._pool:
            yield

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection.

        Raises AwayError when PostgreSQL cannot be reached, SlowError when an answer took too long.
        """
        try:
            async with self._pool.acquire() as connection:
                yield connection
        except asyncpg.QueryCanceledError as error:
            raise SlowError(
                f"PostgreSQL gave no answer within {STATEMENT_SECONDS} s: choose a shorter time, "
                "or look whether the server is overloaded."
            ) from error
        except TransientError as error:
            # It says itself where PostgreSQL should be, and that it is not there.
            raise AwayError(f"{AWAY}. {_first_line(error)}") from error
        except TRANSIENT as error:
            raise AwayError(f"{AWAY}: {_first_line(error)}") from error

    async def fetch(self, query: str, *given: Any) -> list[asyncpg.Record]:
        """Return all rows of the answer."""
        async with self.connection() as connection:
            found: list[asyncpg.Record] = await connection.fetch(query, *given)
            return found

    async def fetchrow(self, query: str, *given: Any) -> asyncpg.Record | None:
        """Return the first row, if there is one."""
        async with self.connection() as connection:
            return await connection.fetchrow(query, *given)

    async def fetchval(self, query: str, *given: Any) -> Any:
        """Return the first row's first value."""
        async with self.connection() as connection:
            return await connection.fetchval(query, *given)

    async def write(self, query: str, *given: Any) -> Any:
        """Return the first row's first value of a function that writes, for a role that reads.

        The role's transactions are read-only unless they ask to be another kind.
        """
        async with self.connection() as connection, connection.transaction():
            await connection.execute("SET TRANSACTION READ WRITE")
            return await connection.fetchval(query, *given)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).split("\n", maxsplit=1)[0]
