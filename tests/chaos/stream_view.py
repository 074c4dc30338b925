"""The stream's chaos seen from outside: PostgreSQL's catalog and tables, and what was produced."""

import asyncio
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import asyncpg

from tests.chaos.stream_producer import (
    ACKNOWLEDGED,
    NEXT_OFFSET,
    POSITIONS,
    UNDER_WAY,
    open_positions,
)

AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)
PATIENCE_SECONDS = 60.0


class View:
    """A connection as the database's owner, and the positions that the producer shares."""

    def __init__(self, owner_url: str, folder: Path, partitions: int) -> None:
        self._owner_url = owner_url
        self._folder, self._partitions = folder, partitions
        self._connection: asyncpg.Connection | None = None
        self._positions: Any = None

    async def fetch(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        """Return rows from PostgreSQL; waits while it is away."""
        deadline = monotonic() + PATIENCE_SECONDS
        while True:
            try:
                if self._connection is None or self._connection.is_closed():
                    self._connection = await asyncpg.connect(
                        self._owner_url, timeout=5, server_settings={"jit": "off"}
                    )
                return await self._connection.fetch(sql, *arguments)
            except AWAY:
                if monotonic() > deadline:
                    raise
                await self.close()
                await asyncio.sleep(0.05)

    async def next_offsets(self) -> dict[int, int]:
        """Return what is committed, by partition."""
        rows = await self.fetch("SELECT partition, next_offset FROM metadata.stream_offsets")
        return {row["partition"]: row["next_offset"] for row in rows}

    async def owners(self) -> dict[int, int]:
        """Return the process that has claimed each partition last."""
        rows = await self.fetch("SELECT partition, owner FROM metadata.stream_offsets")
        return {row["partition"]: int(row["owner"].rpartition(":")[2]) for row in rows}

    def produced(self) -> dict[int, int]:
        """Return the offset after the last event that was acknowledged, by partition."""
        return self._column(NEXT_OFFSET)

    def under_way(self) -> dict[int, int]:
        """Return how many events have no answer yet, by partition."""
        return self._column(UNDER_WAY)

    def acknowledged(self) -> int:
        """Return how many events were acknowledged."""
        return sum(self._column(ACKNOWLEDGED).values())

    async def is_caught_up(self) -> bool:
        """Tell whether all that was acknowledged is committed."""
        committed = await self.next_offsets()
        return all(committed.get(each, 0) >= end for each, end in self.produced().items())

    async def close(self) -> None:
        """Leave no connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*AWAY):
                await connection.close(timeout=1)

    def _column(self, column: int) -> dict[int, int]:
        if self._positions is None:
            if not (self._folder / POSITIONS).exists():
                return {}  # the producer is still starting
            self._positions = open_positions(self._folder, self._partitions)
        return dict(enumerate(self._positions[:, column].tolist()))
