"""The table of messages that could not be loaded, written in the transaction of those that were.

One that may be personal is encrypted: `tasks.sealing`.
"""

import datetime as dt
from collections.abc import Sequence

from infra.postgres.connection import Connection
from infra.postgres.copy import affected
from infra.redaction import redact
from tasks.messages import DeadLetter, Messages, Span
from tasks.sealing import DEAD_LETTERS, Sealing, seal_message

_LAST_MS = 253_402_300_799_000
"""The last second of the year 9999."""


async def bury(
    connection: Connection,
    group: str,
    messages: Messages,
    dead: Sequence[DeadLetter],
    *,
    sealing: Sealing,
    generations: dict[int, int],
    batch_id: int,
    execution_id: int | None,
) -> int:
    """Leave one row for each of these messages; returns how many had none before.

    sealing: says which of them are encrypted.
    generations: of each partition, how often it was begun again.
    """
    if not dead:
        return 0
    # Letters are relayed and replayed in the order of their ids.
    dead = sorted(dead, key=lambda each: each.position)
    positions = [each.position for each in dead]
    partitions = messages.partitions[positions].tolist()
    kept = [
        seal_message(
            sealing.ring_for(each.source),
            DEAD_LETTERS,
            messages.keys[each.position],
            messages.values[each.position],
        )
        for each in dead
    ]
    status = await connection.execute(
        """
        INSERT INTO metadata.dead_letters
            (consumer_group, topic, batch_id, execution_id, generation, partition, message_offset,
             source, reason, detail, contract_version, message_key, message_value, is_sealed,
             message_time)
        SELECT $1, $2, $3, $4, g.*
        FROM unnest(
            $5::int[], $6::int[], $7::bigint[], $8::text[], $9::text[], $10::text[], $11::text[],
            $12::bytea[], $13::bytea[], $14::boolean[], $15::timestamptz[]
        ) AS g
        ON CONFLICT ON CONSTRAINT dead_letters_one_per_message DO NOTHING
        """,
        group,
        messages.topic,
        batch_id,
        execution_id,
        [generations.get(each, 0) for each in partitions],
        partitions,
        messages.offsets[positions].tolist(),
        [_shown(each.source) for each in dead],
        [storable(each.reason) for each in dead],
        [_shown(each.detail) for each in dead],
        [each.contract_version for each in dead],
        [key for key, _, _ in kept],
        [value for _, value, _ in kept],
        [is_sealed for _, _, is_sealed in kept],
        [_time(int(messages.timestamps_ms[each])) for each in positions],
    )
    return affected(status)


def generations_of(spans: Sequence[Span]) -> dict[int, int]:
    """Return each partition's generation."""
    return {each.partition: each.generation for each in spans}


def storable(text: str | None) -> str | None:
    """Return the text as PostgreSQL can hold it: without NUL, and in UTF-8."""
    if text is None:
        return None
    return text.replace("\0", r"\x00").encode("utf-8", "backslashreplace").decode()


def _shown(text: str | None) -> str | None:
    """Return what is said of a message without e-mail addresses: it is not encrypted, as it is."""
    return storable(redact(text) if text is not None and "@" in text else text)


def _time(timestamp_ms: int) -> dt.datetime | None:
    # A message without a timestamp has -1; one that counts in microseconds is of no calendar.
    if not 0 <= timestamp_ms <= _LAST_MS:
        return None
    return dt.datetime.fromtimestamp(timestamp_ms / 1000, dt.UTC)
