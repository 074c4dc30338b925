"""What pages ask of the mails that tell people. Nobody's address and no text of a mail is read."""

import datetime as dt

import asyncpg

from dash_app.reader import Reader

_ERROR = 1000
"""Characters of an error that are shown."""


async def count_mails(reader: Reader, since: dt.datetime) -> asyncpg.Record:
    """Return how many wait, and how many were sent and given up since then."""
    row = await reader.fetchrow(
        """
        SELECT waiting, oldest_at,
            (SELECT count(*) FROM metadata.mail_outbox WHERE sent_at >= $1) AS sent,
            (SELECT count(*) FROM metadata.mail_outbox WHERE abandoned_at >= $1) AS abandoned
        FROM (
            SELECT count(*) AS waiting, min(created_at) AS oldest_at
            FROM metadata.mail_outbox WHERE sent_at IS NULL AND abandoned_at IS NULL
        ) AS unsent
        """,
        since,
    )
    assert row is not None  # noqa: S101 - an aggregate has one row
    return row


async def find_stuck(reader: Reader, before: dt.datetime, since: dt.datetime) -> asyncpg.Record:
    """Return how many mails of before then still wait, and how many were given up since then."""
    row = await reader.fetchrow(
        """
        SELECT waiting, oldest_at, abandoned, abandoned_at
        FROM (
            SELECT count(*) AS waiting, min(created_at) AS oldest_at FROM metadata.mail_outbox
            WHERE sent_at IS NULL AND abandoned_at IS NULL AND created_at < $1
        ) AS unsent, (
            SELECT count(*) AS abandoned, max(abandoned_at) AS abandoned_at
            FROM metadata.mail_outbox WHERE abandoned_at >= $2
        ) AS given_up
        """,
        before,
        since,
    )
    assert row is not None  # noqa: S101 - an aggregate has one row
    return row


async def find_newest_error(reader: Reader) -> asyncpg.Record | None:
    """Return why the newest mail that is not sent could not be."""
    return await reader.fetchrow(
        """
        SELECT problem, channel, attempts, left(last_error, $1) AS error, created_at,
            next_attempt_at, abandoned_at
        FROM metadata.mail_outbox WHERE sent_at IS NULL AND last_error IS NOT NULL
        ORDER BY created_at DESC LIMIT 1
        """,
        _ERROR,
    )
