"""What the pages ask of loads that looked odd."""

import datetime as dt

import asyncpg

from dash_app.reader import Reader

SHOWN = 30
RECENT = 500
"""Of the newest, how many the overview looks through."""
_SENTENCE = 1000
"""Characters of a sentence that are shown."""


async def find_newest(
    reader: Reader, dataset: str | None, since: dt.datetime
) -> list[asyncpg.Record]:
    """Return what was odd since then, of one dataset or all, the newest first: SHOWN at most."""
    if dataset is None:
        return await reader.fetch(
            """
            SELECT dataset, feed, column_name, rule, severity, observed, expected, low, high,
                left(summary, $3) AS summary, execution_id, batch_id, was_refused,
                detected_at
            FROM metadata.anomalies WHERE detected_at >= $1
            ORDER BY detected_at DESC, id DESC LIMIT $2
            """,
            since,
            SHOWN,
            _SENTENCE,
        )
    return await reader.fetch(
        """
        SELECT dataset, feed, column_name, rule, severity, observed, expected, low, high,
            left(summary, $4) AS summary, execution_id, batch_id, was_refused, detected_at
        FROM metadata.anomalies WHERE dataset = $1 AND detected_at >= $2
        ORDER BY detected_at DESC, id DESC LIMIT $3
        """,
        dataset,
        since,
        SHOWN,
        _SENTENCE,
    )


async def find_recent(reader: Reader, since: dt.datetime) -> list[asyncpg.Record]:
    """Return what was odd since then, the newest first: RECENT at most."""
    return await reader.fetch(
        """
        SELECT dataset, feed, rule, severity, left(summary, $3) AS summary, execution_id, batch_id,
            was_refused, detected_at
        FROM metadata.anomalies WHERE detected_at >= $1
        ORDER BY detected_at DESC, id DESC LIMIT $2
        """,
        since,
        RECENT,
        _SENTENCE,
    )


async def find_of_run(reader: Reader, execution_id: int) -> list[asyncpg.Record]:
    """Return what was odd about the run's loads, the newest first: SHOWN at most."""
    return await reader.fetch(
        """
        SELECT dataset, feed, column_name, rule, severity, observed, expected, low, high,
            left(summary, $3) AS summary, execution_id, batch_id, was_refused,
                detected_at
        FROM metadata.anomalies WHERE execution_id = $1
        ORDER BY detected_at DESC, id DESC LIMIT $2
        """,
        execution_id,
        SHOWN,
        _SENTENCE,
    )


async def find_marks(reader: Reader, dataset: str, since: dt.datetime) -> list[asyncpg.Record]:
    """Return what was odd of a dataset since then, as its charts mark it: the newest RECENT."""
    return await reader.fetch(
        """
        SELECT column_name, rule, severity, observed, left(summary, $4) AS summary, detected_at
        FROM metadata.anomalies WHERE dataset = $1 AND detected_at >= $2
        ORDER BY detected_at DESC, id DESC LIMIT $3
        """,
        dataset,
        since,
        RECENT,
        _SENTENCE,
    )
