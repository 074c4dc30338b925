"""What the stream's page asks: how far behind, how fast, who reads, what died."""

import datetime as dt
from dataclasses import dataclass

import asyncpg

from dash_app.reader import Reader

COUNTED_LETTERS = 10_000
"""So many of the newest letters are counted by reason; a page of a bad day has more."""
COUNTED_UNSENT = 10_000


@dataclass(frozen=True, slots=True)
class Stream:
    """A group of consumers on a topic."""

    group: str
    topic: str


def name_stream(stream: Stream) -> str:
    """Return how the stream is called in an address; a topic's name has no slash."""
    return f"{stream.topic}/{stream.group}"


async def choose_stream(reader: Reader, name: str | None) -> Stream | None:
    """Return the stream of that name, which may be unknown; without one, the one last moved."""
    topic, slash, group = (name or "").partition("/")
    if slash:
        return Stream(group, topic)
    found = await find_streams(reader)
    return found[0] if found else None


async def find_streams(reader: Reader) -> list[Stream]:
    """Return every group and topic of which something was read, the one last moved first."""
    rows = await reader.fetch(
        """
        SELECT consumer_group, topic FROM metadata.stream_offsets
        GROUP BY 1, 2 ORDER BY max(updated_at) DESC, 1, 2 LIMIT 100
        """
    )
    return [Stream(row["consumer_group"], row["topic"]) for row in rows]


async def find_partitions(reader: Reader, stream: Stream) -> list[asyncpg.Record]:
    """Return each partition with its owner, its offset and its newest lag, if one is kept.

    was_messages: the lag a minute or more before the newest one, to tell whether it grows.
    """
    return await reader.fetch(
        """
        SELECT o.partition, o.owner, o.epoch, o.next_offset, o.updated_at,
            lag.lag_messages, lag.lag_seconds, lag.measured_at, earlier.was_messages
        FROM metadata.stream_offsets AS o
        LEFT JOIN LATERAL (
            SELECT lag_messages, lag_seconds, measured_at FROM metadata.stream_lag AS l
            WHERE (l.consumer_group, l.topic, l.partition)
                = (o.consumer_group, o.topic, o.partition)
            ORDER BY measured_at DESC LIMIT 1
        ) AS lag ON true
        LEFT JOIN LATERAL (
            SELECT lag_messages AS was_messages FROM metadata.stream_lag AS l
            WHERE (l.consumer_group, l.topic, l.partition)
                = (o.consumer_group, o.topic, o.partition)
                AND l.measured_at <= lag.measured_at - interval '1 minute'
            ORDER BY measured_at DESC LIMIT 1
        ) AS earlier ON true
        WHERE o.consumer_group = $1 AND o.topic = $2
        ORDER BY o.partition LIMIT 500
        """,
        stream.group,
        stream.topic,
    )


async def find_lag(
    reader: Reader,
    stream: Stream,
    partitions: list[int],
    *,
    since: dt.datetime,
    bucket: dt.timedelta,
) -> list[asyncpg.Record]:
    """Return the worst lag of each partition in each bucket of the time since then."""
    # A look into the index for each bucket: grouping would compute and hash each row's bucket.
    return await reader.fetch(
        """
        SELECT given.partition, begins.at, found.*
        FROM unnest($3::int[]) AS given (partition),
            generate_series($4::timestamptz, now(), $5::interval) AS begins (at),
            LATERAL (
                SELECT max(lag_messages) AS lag_messages, max(lag_seconds) AS lag_seconds
                FROM metadata.stream_lag AS l
                WHERE l.consumer_group = $1 AND l.topic = $2 AND l.partition = given.partition
                    AND l.measured_at >= begins.at AND l.measured_at < begins.at + $5
            ) AS found
        WHERE found.lag_messages IS NOT NULL
        ORDER BY given.partition, begins.at
        """,
        stream.group,
        stream.topic,
        partitions,
        since,
        bucket,
    )


async def find_batches(
    reader: Reader, stream: Stream, *, since: dt.datetime, bucket: dt.timedelta
) -> list[asyncpg.Record]:
    """Return what was committed in each bucket of the time since then."""
    return await reader.fetch(
        """
        SELECT begins.at, found.* FROM
            generate_series($3::timestamptz, now(), $4::interval) AS begins (at),
            LATERAL (
                -- A batch has few messages: sums of bigints would be reckoned as numerics.
                SELECT count(*) AS batches, sum(loaded::int) AS loaded, sum(dead::int) AS dead,
                    sum(skipped::int) AS skipped,
                    sum(messages::int)::float8 / count(*) AS average_messages,
                    max(messages) AS most_messages, avg(flush_seconds) AS average_seconds,
                    max(flush_seconds) AS longest_seconds
                FROM metadata.stream_batches
                WHERE consumer_group = $1 AND topic = $2
                    AND committed_at >= begins.at AND committed_at < begins.at + $4
                HAVING count(*) > 0
            ) AS found
        ORDER BY begins.at
        """,
        stream.group,
        stream.topic,
        since,
        bucket,
    )


async def find_last_batch(reader: Reader, stream: Stream) -> asyncpg.Record | None:
    """Return the group's newest batch, of this topic where it is among the newest hundred."""
    return await reader.fetchrow(
        """
        SELECT * FROM (
            SELECT topic, messages, loaded, dead, skipped, flush_seconds, committed_at, is_replay
            FROM metadata.stream_batches WHERE consumer_group = $1 ORDER BY id DESC LIMIT 100
        ) AS newest
        WHERE topic = $2 ORDER BY committed_at DESC LIMIT 1
        """,
        stream.group,
        stream.topic,
    )


async def count_letters(reader: Reader, stream: Stream, since: dt.datetime) -> list[asyncpg.Record]:
    """Return letters buried since then by reason and source, of the newest of all groups.

    counted: how many letters were looked at, which is COUNTED_LETTERS where there are more.
    """
    return await reader.fetch(
        """
        WITH newest AS (
            SELECT consumer_group, topic, source, reason, outcome, relayed_at, buried_at
            FROM metadata.dead_letters
            WHERE buried_at >= $3 ORDER BY buried_at DESC LIMIT $4
        )
        SELECT reason, source, count(*) AS letters,
            count(*) FILTER (WHERE coalesce(outcome, 'failed') = 'failed') AS waiting,
            count(*) FILTER (WHERE outcome = 'failed') AS failed,
            count(*) FILTER (WHERE outcome = 'loaded') AS loaded,
            count(*) FILTER (WHERE outcome IN ('superseded', 'duplicate')) AS late,
            count(*) FILTER (WHERE relayed_at IS NULL) AS not_relayed,
            max(buried_at) AS last_at, (SELECT count(*) FROM newest) AS counted
        FROM newest WHERE consumer_group = $1 AND topic = $2
        GROUP BY reason, source ORDER BY letters DESC, reason, source LIMIT 100
        """,
        stream.group,
        stream.topic,
        since,
        COUNTED_LETTERS,
    )


async def chart_letters(
    reader: Reader, stream: Stream, since: dt.datetime, unit: str
) -> list[asyncpg.Record]:
    """Return letters buried since then by hour or day (UTC) and reason; unit: `hour` or `day`."""
    return await reader.fetch(
        """
        WITH newest AS (
            SELECT consumer_group, topic, reason, buried_at FROM metadata.dead_letters
            WHERE buried_at >= $3 ORDER BY buried_at DESC LIMIT $5
        )
        SELECT date_trunc($4, buried_at) AS at, reason, count(*) AS letters
        FROM newest WHERE consumer_group = $1 AND topic = $2
        GROUP BY 1, 2 ORDER BY 1
        """,
        stream.group,
        stream.topic,
        since,
        unit,
        COUNTED_LETTERS,
    )


async def find_letters(
    reader: Reader,
    stream: Stream,
    *,
    until: dt.datetime,
    reason: str,
    is_waiting: bool,
    first: int,
    count: int,
) -> list[asyncpg.Record]:
    """Return a page of dead letters, newest first: what is known of them, never what they said.

    until: as of when. reason: how it begins; empty: any. is_waiting: only those that no replay
    has settled.
    """
    # The window is what keeps a reason that no letter has from reading them all.
    return await reader.fetch(
        """
        SELECT id, topic, partition, message_offset, source, reason,
            left(detail, 300) AS detail, contract_version, is_sealed, attempts, outcome, buried_at,
            relayed_at, replayed_at, execution_id
        FROM (
            SELECT id, consumer_group, topic, partition, message_offset, source, reason, detail,
                contract_version, is_sealed, attempts, outcome, buried_at, relayed_at, replayed_at,
                execution_id
            FROM metadata.dead_letters WHERE buried_at <= $8
            ORDER BY buried_at DESC, id DESC LIMIT $7
        ) AS newest
        WHERE consumer_group = $1 AND topic = $2 AND starts_with(reason, $3)
            AND (NOT $4 OR coalesce(outcome, 'failed') = 'failed')
        ORDER BY buried_at DESC, id DESC OFFSET $5 LIMIT $6
        """,
        stream.group,
        stream.topic,
        reason,
        is_waiting,
        first,
        count,
        COUNTED_LETTERS,
        until,
    )


async def count_unsent(reader: Reader) -> list[asyncpg.Record]:
    """Return the producer's unsent messages by topic and reason, the oldest COUNTED_UNSENT."""
    return await reader.fetch(
        """
        SELECT topic, reason, count(*) AS messages, max(attempts) AS attempts,
            min(id) AS first_id, min(refused_at) AS first_at,
            sum(count(*)) OVER ()::bigint AS counted
        FROM (
            SELECT id, topic, reason, attempts, refused_at FROM metadata.unsent_messages
            WHERE sent_at IS NULL ORDER BY id LIMIT $1
        ) AS waiting
        GROUP BY topic, reason ORDER BY messages DESC, topic, reason
        """,
        COUNTED_UNSENT,
    )
