"""One run at a time produces to a topic: two would send the same new source twice.

The lock is PostgreSQL's, and gone with the process that holds it. A limit of Prefect's is kept by a
lease, and a run that was killed would keep the next ones out until that ends.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from infra.postgres.connection import Pool
from schemas.errors import TransientError

_LOCK_CLASS = 0x51C5
_WAIT_SECONDS = 240
"""Less than the five minutes after which the next run comes."""


@asynccontextmanager
async def hold_production(pool: Pool, topic: str) -> AsyncIterator[None]:
    """Let the block be the only one that produces to the topic.

    Raises TransientError when another run has not come to its end within four minutes.
    """
    async with pool.acquire() as connection:
        await connection.execute(f"SET lock_timeout = '{_WAIT_SECONDS}s'")
        try:
            await connection.execute(
                "SELECT pg_advisory_lock($1, hashtext($2))", _LOCK_CLASS, topic
            )
        except asyncpg.LockNotAvailableError as error:
            raise TransientError(
                f"Another run has been producing to {topic} for {_WAIT_SECONDS} s: this one is not "
                "needed; look at the other in Prefect if it seems to hang."
            ) from error
        # Going back to the pool, the connection is reset, and gives the lock free.
        yield
