"""What pages ask of the janitor, which ends runs whose process is gone."""

import asyncpg

from dash_app.reader import Reader

SHOWN = 20
_REASON = 500
"""Characters of a reason that are shown."""


async def find_acts(reader: Reader) -> list[asyncpg.Record]:
    """Return what the janitor did last, the newest first."""
    return await reader.fetch(
        """
        SELECT act, execution_id, pipeline_name, left(reason, $2) AS reason, acted_at
        FROM metadata.janitor_acts ORDER BY acted_at DESC, id DESC LIMIT $1
        """,
        SHOWN,
        _REASON,
    )


async def find_acts_of(reader: Reader, execution_id: int) -> list[asyncpg.Record]:
    """Return what the janitor did to a run, in the order of it."""
    return await reader.fetch(
        """
        SELECT act, left(reason, $3) AS reason, acted_at FROM metadata.janitor_acts
        WHERE execution_id = $1 ORDER BY acted_at, id LIMIT $2
        """,
        execution_id,
        SHOWN,
        _REASON,
    )
