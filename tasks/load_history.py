"""Reads what earlier loads looked like, as the rules want it."""

import datetime as dt
import json
from dataclasses import dataclass

from infra.postgres.connection import Connection
from tasks.anomaly_rules import COLUMNS_READ, LOADS_READ, Cells, Load
from tasks.profile import LoadProfile

_NEWS_LOOKED_AT = 200


async def read_history(
    connection: Connection,
    dataset: str,
    feed: str,
    *,
    before: dt.datetime,
    loads: int = LOADS_READ,
    with_columns: int = COLUMNS_READ,
) -> list[Load]:
    """Return the feed's loads before that time in order, so many of the newest.

    Only the newest `with_columns` of them have columns: those take longest to read.
    """
    rows = await connection.fetch(
        """
        SELECT profiled_at, read, duplicates, quarantined,
            CASE WHEN row_number() OVER (ORDER BY profiled_at DESC) <= $5 THEN columns END
                AS columns
        FROM (
            SELECT profiled_at, read, duplicates, quarantined, columns
            FROM metadata.load_profiles
            WHERE dataset = $1 AND feed = $2 AND profiled_at < $3
            ORDER BY profiled_at DESC LIMIT $4
        ) AS newest
        ORDER BY profiled_at
        """,
        dataset,
        feed,
        before,
        loads,
        with_columns,
    )
    return [
        Load(
            at=row["profiled_at"],
            read=row["read"],
            duplicates=row["duplicates"],
            quarantined=row["quarantined"],
            columns={
                name: Cells(each["rows"], each["missing"], each["mistyped"])
                for name, each in json.loads(row["columns"] or "{}").items()
            },
        )
        for row in rows
    ]


def see(profile: LoadProfile, at: dt.datetime) -> Load:
    """Return the load as the rules see it."""
    return Load(
        at=at,
        read=profile.read,
        duplicates=profile.duplicates,
        quarantined=profile.quarantined,
        columns={
            each.column: Cells(each.rows, each.missing, each.mistyped) for each in profile.columns
        },
    )


@dataclass(frozen=True, slots=True)
class Heard:
    """When something was last heard of a dataset."""

    feeds: dict[str, dt.datetime]
    """By feed: its last load, or the end of the last whole day of a stream."""
    alive: dict[str, dt.datetime]
    """By feed: when it last was heard of besides, as a stream today, or an API without news."""
    of_stream: frozenset[str]
    """Feeds whose loads are whole days of a stream: they come as often as days end."""
    news: dt.datetime | None
    """When rows came last, or an API's answer that nothing changed."""
    newest_feed: str | None
    """The one that brought rows last."""


async def find_heard(connection: Connection, dataset: str, *, before: dt.datetime) -> Heard:
    """Return when something was last heard of the dataset, up to that time.

    A load of which every row was rejected is no news, and neither is a file that is as it was.
    """
    feeds = await connection.fetch(
        # From feed to feed along the index, however many loads there are of each.
        """
        WITH RECURSIVE feeds AS (
            (SELECT feed FROM metadata.load_profiles WHERE dataset = $1 ORDER BY feed LIMIT 1)
            UNION ALL
            SELECT (
                SELECT p.feed FROM metadata.load_profiles AS p
                WHERE p.dataset = $1 AND p.feed > feeds.feed ORDER BY p.feed LIMIT 1
            ) FROM feeds WHERE feeds.feed IS NOT NULL
        )
        SELECT feeds.feed, newest.at, newest.news_at, newest.is_stream FROM feeds, LATERAL (
            SELECT max(profiled_at) AS at, max(profiled_at) FILTER (WHERE read > quarantined)
                AS news_at, bool_or(day IS NOT NULL) AS is_stream
            FROM (
                SELECT p.profiled_at, p.read, p.quarantined, p.day
                FROM metadata.load_profiles AS p
                WHERE p.dataset = $1 AND p.feed = feeds.feed AND p.profiled_at < $2
                ORDER BY p.profiled_at DESC LIMIT $3
            ) AS loads
        ) AS newest
        WHERE newest.at IS NOT NULL
        """,
        dataset,
        before,
        _NEWS_LOOKED_AT,
    )
    streams = await connection.fetch(
        """
        SELECT feed, max(written_at) AS at,
            max(written_at) FILTER (WHERE read > quarantined) AS news_at
        FROM metadata.stream_days WHERE dataset = $1 AND written_at < $2 GROUP BY feed
        """,
        dataset,
        before,
    )
    answered: dt.datetime | None = await connection.fetchval(
        # A range and an order by the dataset, so that the index on both serves.
        """
        SELECT max(recorded_at) FILTER (WHERE status = 'UNCHANGED' AND path LIKE '%://%')
        FROM (
            SELECT recorded_at, status, path FROM metadata.source_files AS f
            WHERE f.dataset BETWEEN $1 AND $1 AND f.recorded_at < $2
            ORDER BY f.dataset, f.id DESC LIMIT $3
        ) AS files
        """,
        dataset,
        before,
        _NEWS_LOOKED_AT,
    )
    brought = [(row["news_at"], row["feed"]) for row in (*feeds, *streams) if row["news_at"]]
    alive = dict.fromkeys((row["feed"] for row in feeds), answered) | {
        row["feed"]: row["at"] for row in streams
    }
    newest = max(brought, default=(None, None))
    return Heard(
        feeds={row["feed"]: row["at"] for row in feeds},
        alive={feed: at for feed, at in alive.items() if at is not None},
        of_stream=frozenset(row["feed"] for row in feeds if row["is_stream"])
        | {row["feed"] for row in streams},
        news=max((each for each in (newest[0], answered) if each is not None), default=None),
        newest_feed=newest[1],
    )


async def find_answers(
    connection: Connection, dataset: str, *, since: dt.datetime, before: dt.datetime
) -> list[dt.datetime]:
    """Return when APIs answered that nothing of the dataset had changed."""
    rows = await connection.fetch(
        """
        SELECT recorded_at FROM metadata.source_files
        WHERE dataset = $1 AND recorded_at >= $2 AND recorded_at < $3
            AND status = 'UNCHANGED' AND path LIKE '%://%'
        """,
        dataset,
        since,
        before,
    )
    return [row["recorded_at"] for row in rows]


async def was_told(
    connection: Connection, dataset: str, feed: str, *, since: dt.datetime
) -> str | None:
    """Return with which severity somebody was told that the feed is silent; None: nobody was.

    What was said when a late load came at last has an execution, and is not meant.
    """
    told: str | None = await connection.fetchval(
        """
        SELECT severity FROM metadata.anomalies
        WHERE dataset = $1 AND detected_at > $3 AND feed = $2 AND rule = 'freshness'
            AND execution_id IS NULL
        ORDER BY severity LIMIT 1
        """,
        dataset,
        feed,
        since,
    )
    return told
