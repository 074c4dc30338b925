"""What PostgreSQL has of the runs that are killed, asked as its owner."""

from typing import Any
from uuid import UUID

import asyncpg

from tasks.process_identity import Sight, see_process


class View:
    """A look at the history and the warehouse, each time over a connection of its own."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def count_rows(self, case: int) -> dict[str, int]:
        """Return how many rows of the case are in the warehouse, by where they came from."""
        row = await self.fetchrow(
            """
            SELECT
                (SELECT count(*) FROM warehouse.dim_customers
                 WHERE customer_id BETWEEN $1 AND $1 + 999 AND NOT _is_inferred) AS customers,
                (SELECT count(*) FROM warehouse.fact_sales_data
                 WHERE order_id BETWEEN $1 AND $1 + 999) AS sales,
                (SELECT count(*) FROM warehouse.dim_api_users
                 WHERE id BETWEEN $1 AND $1 + 999) AS users
            """,
            1000 * case,
        )
        return dict(row)

    async def read_run(self, execution_id: int) -> asyncpg.Record:
        return await self.fetchrow(
            "SELECT * FROM metadata.pipeline_executions WHERE id = $1", execution_id
        )

    async def read_ended(self) -> dict[int, tuple[Any, ...]]:
        """Return every run that has ended, by its number."""
        rows = await self.fetch(
            """
            SELECT id, status, records_processed, start_time, end_time, error_message,
                error_traceback, warnings
            FROM metadata.pipeline_executions WHERE status <> 'RUNNING'
            """
        )
        return {row["id"]: tuple(row) for row in rows}

    async def find_hanging(self) -> list[int]:
        """Return the runs that are RUNNING without a process."""
        rows = await self.fetch(
            "SELECT id, process_identity FROM metadata.pipeline_executions WHERE status = 'RUNNING'"
        )
        return [
            row["id"] for row in rows if see_process(row["process_identity"]) is not Sight.LIVES
        ]

    async def count_acts(self, act: str, flow_run_id: UUID) -> int:
        count: int = await self.fetchval(
            "SELECT count(*) FROM metadata.janitor_acts WHERE act = $1 AND flow_run_id = $2",
            act,
            flow_run_id,
        )
        return count

    async def fetch(self, query: str, *values: Any) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self._url)
        try:
            return await connection.fetch(query, *values)
        finally:
            await connection.close()

    async def fetchrow(self, query: str, *values: Any) -> asyncpg.Record:
        [row] = await self.fetch(query, *values)
        return row

    async def fetchval(self, query: str, *values: Any) -> Any:
        return (await self.fetchrow(query, *values))[0]
