"""How far behind the consumers are, and how many dead letters wait."""

import datetime as dt

from infra.exporter.sheet import Sheet, add
from infra.postgres.connection import Connection

LAG_KEPT = dt.timedelta(days=7)
"""A group of which nothing was measured for so long is shown no more."""
MOST_LETTERS = 100_000
"""Open letters are counted up to so many: it takes some ten milliseconds."""


async def read_lag(sheet: Sheet, connection: Connection) -> None:
    """Add each partition's newest lag, however old, and when the group's was measured."""
    rows = await connection.fetch(
        """
        SELECT o.consumer_group, o.topic, o.partition::text AS partition,
            lag.lag_messages, lag.lag_seconds,
            extract(epoch FROM lag.measured_at)::float8 AS measured_at
        FROM metadata.stream_offsets AS o, LATERAL (
            SELECT lag_messages, lag_seconds, measured_at FROM metadata.stream_lag AS l
            WHERE (l.consumer_group, l.topic, l.partition)
                = (o.consumer_group, o.topic, o.partition)
                AND measured_at >= now() - $1::interval
            ORDER BY measured_at DESC LIMIT 1
        ) AS lag
        ORDER BY o.consumer_group, o.topic, o.partition
        """,
        LAG_KEPT,
    )
    stream = ("group", "topic")
    of_stream = [((row["consumer_group"], row["topic"]), row) for row in rows]
    partitions = [((*key, row["partition"]), row) for key, row in of_stream]
    sheet.gauge(
        "sluiceway_consumer_lag_messages",
        "Messages of the partition that the group has not loaded, when it was last measured.",
        (*stream, "partition"),
        [(key, row["lag_messages"]) for key, row in partitions],
        combine=add,
    )
    sheet.gauge(
        "sluiceway_consumer_lag_seconds",
        "Age of the partition's oldest message that is not loaded; 0 where all are.",
        (*stream, "partition"),
        [(key, row["lag_seconds"]) for key, row in partitions],
        unit="seconds",
    )
    sheet.gauge(
        "sluiceway_consumer_lag_measured_timestamp_seconds",
        "When the group's lag was last measured; nobody measures it while no consumer runs.",
        stream,
        [(key, row["measured_at"]) for key, row in of_stream],
        unit="seconds",
    )


async def read_letters(sheet: Sheet, connection: Connection) -> None:
    """Add how many dead letters were buried and not loaded since."""
    # It has an index of its own, which has only these.
    waiting = await connection.fetchval(
        """
        SELECT count(*) FROM (
            SELECT FROM metadata.dead_letters
            WHERE coalesce(outcome, 'failed') = 'failed' LIMIT $1
        ) AS counted
        """,
        MOST_LETTERS,
    )
    sheet.gauge(
        "sluiceway_dead_letters_open",
        f"Dead letters that no replay has settled, counted up to {MOST_LETTERS}.",
        (),
        [((), waiting)],
    )
