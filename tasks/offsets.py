"""How far a group has read each partition: in PostgreSQL, moved in the transaction of the rows.

An epoch per partition counts its owners. Whoever claims a partition raises it, and whoever still
holds an older one can no longer move the offset: a consumer that was frozen past its session
wakes up, tries to commit what others have loaded meanwhile, and is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg
import structlog

from infra.postgres.connection import Connection
from infra.postgres.copy import affected
from schemas.errors import SluicewayError
from tasks.messages import Span

log = structlog.get_logger("sluiceway.stream")

_COMMIT_SECONDS = 5
"""What the owner before is given to end its transaction, once its partition is ours by Kafka."""


class FencedError(SluicewayError):
    """Another consumer has claimed a partition of the batch; nothing of it was committed."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A partition that is ours until somebody else claims it."""

    partition: int
    epoch: int
    generation: int
    """Counts how often the partition was begun again, as after its topic was made anew."""
    next_offset: int
    last_timestamp_ms: int | None
    """Of the message before `next_offset`; None where none was read."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads: a group, and the topic it reads."""

    group: str
    topic: str
    owner: str = ""
    """Host and process, for a person who looks at the table."""


async def find_known(connection: Connection, reader: Reader) -> set[int]:
    """Return the partitions of which the group has read something, or at least claimed."""
    rows = await connection.fetch(
        "SELECT partition FROM metadata.stream_offsets WHERE consumer_group = $1 AND topic = $2",
        reader.group,
        reader.topic,
    )
    return {row["partition"] for row in rows}


async def begin_new_group(
    connection: Connection, reader: Reader, start_offsets: dict[int, int]
) -> None:
    """Leave an offset for each partition that has none; nobody claims them yet.

    A group that begins at the latest needs them all at once: a partition that its next owner finds
    unknown, while others are known, is taken for one that was added to the topic.
    """
    await connection.execute(
        """
        INSERT INTO metadata.stream_offsets
            (consumer_group, topic, partition, next_offset, epoch, owner)
        SELECT $1, $2, g.partition, g.next_offset, 0, $5
        FROM unnest($3::int[], $4::bigint[]) AS g (partition, next_offset) ORDER BY g.partition
        ON CONFLICT DO NOTHING
        """,
        reader.group,
        reader.topic,
        list(start_offsets),
        list(start_offsets.values()),
        reader.owner,
    )


async def claim_partition(
    connection: Connection, reader: Reader, partition: int, start_offset: int
) -> Claim:
    """Make the partition ours; a group that never read it begins at `start_offset`.

    Waits for a commit of the owner before, so that the offset returned is the last one. An owner
    that does not get there is cut off, and LockNotAvailableError raised: the next try succeeds.
    """
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL lock_timeout = '{_COMMIT_SECONDS}s'")
            return await _claim(connection, reader, partition, start_offset)
    except asyncpg.LockNotAvailableError:
        await _cut_off_owner(connection, reader, partition)
        raise


async def _claim(
    connection: Connection, reader: Reader, partition: int, start_offset: int
) -> Claim:
    [row] = await connection.fetch(
        """
        INSERT INTO metadata.stream_offsets AS o
            (consumer_group, topic, partition, next_offset, epoch, owner)
        VALUES ($1, $2, $3, $4, 1, $5)
        ON CONFLICT (consumer_group, topic, partition) DO UPDATE
        SET epoch = o.epoch + 1, owner = excluded.owner, updated_at = clock_timestamp()
        RETURNING o.epoch, o.generation, o.next_offset, o.last_timestamp_ms
        """,
        reader.group,
        reader.topic,
        partition,
        start_offset,
        reader.owner,
    )
    return Claim(partition, **dict(row))


async def _cut_off_owner(connection: Connection, reader: Reader, partition: int) -> None:
    """End the connection in whose transaction the partition's offset is held; it rolls back.

    A process that is frozen while PostgreSQL waits for the rest of its COPY would hold it for as
    long as it is frozen: no timeout of the server ends that wait.
    """
    ended = await connection.fetch(
        """
        SELECT a.pid, pg_terminate_backend(a.pid)
        FROM metadata.stream_offsets AS o JOIN pg_stat_activity AS a ON a.backend_xid = o.xmax
        WHERE o.consumer_group = $1 AND o.topic = $2 AND o.partition = $3
            AND a.pid <> pg_backend_pid()
        """,
        reader.group,
        reader.topic,
        partition,
    )
    if ended:
        log.warning("an owner that did not end its batch is cut off", partition=partition)


async def advance(connection: Connection, reader: Reader, spans: Sequence[Span]) -> None:
    """Move the offsets past the spans, in the caller's transaction.

    A span begins where the offset stands, or it is refused: none is passed over. Raises
    FencedError where any of the partitions is not ours any more.
    """
    status = await connection.execute(
        """
        UPDATE metadata.stream_offsets AS o
        SET next_offset = g.next_offset, last_timestamp_ms = g.last_timestamp_ms,
            updated_at = clock_timestamp()
        FROM unnest($3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
            AS g (partition, epoch, first_offset, next_offset, last_timestamp_ms)
        WHERE o.consumer_group = $1 AND o.topic = $2 AND o.partition = g.partition
            AND o.epoch = g.epoch AND o.next_offset = g.first_offset
        """,
        reader.group,
        reader.topic,
        [each.partition for each in spans],
        [each.epoch for each in spans],
        [each.first for each in spans],
        [each.next for each in spans],
        [each.last_timestamp_ms for each in spans],
    )
    if affected(status) != len(spans):
        raise FencedError(
            f"A partition of {reader.topic} that this consumer was loading belongs to another one "
            "now: the batch is left to that one."
        )


async def skip_deleted(
    connection: Connection, reader: Reader, claim: Claim, next_offset: int
) -> None:
    """Move a claimed partition's offset to the first message that its log still has."""
    await connection.execute(
        """
        UPDATE metadata.stream_offsets
        SET next_offset = $5, last_timestamp_ms = NULL, updated_at = clock_timestamp()
        WHERE consumer_group = $1 AND topic = $2 AND partition = $3 AND epoch = $4
        """,
        reader.group,
        reader.topic,
        claim.partition,
        claim.epoch,
        next_offset,
    )


async def is_committed(connection: Connection, reader: Reader, spans: Sequence[Span]) -> bool:
    """Tell whether a COMMIT whose answer was lost got through: all of it or nothing did."""
    span = spans[0]
    found: bool = await connection.fetchval(
        """
        SELECT EXISTS (
            SELECT FROM metadata.stream_offsets
            WHERE consumer_group = $1 AND topic = $2 AND partition = $3 AND epoch = $4
                AND next_offset >= $5
        )
        """,
        reader.group,
        reader.topic,
        span.partition,
        span.epoch,
        span.next,
    )
    return found


async def begin_again(
    connection: Connection, reader: Reader, start_offsets: dict[int, int]
) -> None:
    """Make the group read the partitions from other offsets, as a new generation of them."""
    await connection.execute(
        """
        INSERT INTO metadata.stream_offsets AS o
            (consumer_group, topic, partition, next_offset, epoch, owner)
        SELECT $1, $2, g.partition, g.next_offset, 1, $5
        FROM unnest($3::int[], $4::bigint[]) AS g (partition, next_offset)
        ON CONFLICT (consumer_group, topic, partition) DO UPDATE
        SET epoch = o.epoch + 1, generation = o.generation + 1, owner = excluded.owner,
            next_offset = excluded.next_offset, last_timestamp_ms = NULL,
            updated_at = clock_timestamp()
        """,
        reader.group,
        reader.topic,
        list(start_offsets),
        list(start_offsets.values()),
        reader.owner,
    )
