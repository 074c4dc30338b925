"""Dead letters as rows of their table: read back as the messages they were, and marked."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

import asyncpg
import numpy as np

from infra.cell_encryption import CellError, KeyRing
from infra.postgres.connection import Connection
from tasks.dead_letters import storable
from tasks.letter_outcomes import Outcome
from tasks.message_rows import MessageRows
from tasks.messages import DeadLetter, Messages, Span
from tasks.offsets import Reader
from tasks.sealing import DEAD_LETTERS, KEY, UNREADABLE, VALUE, open_column


def take_while_small(letters: Iterable[asyncpg.Record], max_bytes: int) -> Iterator[int]:
    """Yield the ids of letters until their values would be larger than that; at least one."""
    taken_bytes = 0
    for each in letters:
        if taken_bytes and taken_bytes + (each["size_bytes"] or 0) > max_bytes:
            return
        taken_bytes += each["size_bytes"] or 0
        yield each["id"]


async def read_letters(connection: Connection, ids: Iterable[int]) -> list[asyncpg.Record]:
    """Return the letters by group, topic, generation and place."""
    rows: list[asyncpg.Record] = await connection.fetch(
        """
        SELECT id, consumer_group, topic, generation, partition, message_offset, source, reason,
            message_key, message_value, is_sealed, message_time
        FROM metadata.dead_letters WHERE id = ANY($1)
        ORDER BY consumer_group, topic, generation, partition, message_offset
        """,
        list(ids),
    )
    return rows


def split_by_reader(
    letters: Iterable[asyncpg.Record],
) -> Iterator[tuple[Reader, Sequence[asyncpg.Record]]]:
    """Yield each group's letters of each topic.

    A topic that was made anew holds other messages at the same places: each has its own part.
    """
    for (group, topic, _), part in groupby(
        letters, key=lambda each: (each["consumer_group"], each["topic"], each["generation"])
    ):
        yield Reader(group, topic), tuple(part)


def rebuild_messages(
    letters: Sequence[asyncpg.Record], ring: KeyRing | None
) -> tuple[Messages, dict[int, DeadLetter]]:
    """Return the messages as they were read from Kafka, and those that cannot be by position.

    ring: that of the letters that are encrypted. What cannot be read has no value.
    """
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    unreadable: dict[int, DeadLetter] = {}
    for position, each in enumerate(letters):
        try:
            key, value = (open_column(ring, DEAD_LETTERS, each, name) for name in (KEY, VALUE))
        except CellError as error:
            key = value = None
            unreadable[position] = DeadLetter(position, each["source"], UNREADABLE, str(error))
        keys.append(key)
        values.append(value)
    messages = Messages(
        topic=letters[0]["topic"],
        partitions=np.array([each["partition"] for each in letters], dtype=np.int32),
        offsets=np.array([each["message_offset"] for each in letters], dtype=np.int64),
        timestamps_ms=np.array([_milliseconds(each) for each in letters], dtype=np.int64),
        keys=keys,
        values=values,
    )
    return messages, unreadable


def _milliseconds(letter: asyncpg.Record) -> int:
    time = letter["message_time"]
    return -1 if time is None else round(time.timestamp() * 1000)


def find_sources(rows: MessageRows) -> dict[int, str]:
    """Return the dataset of each message that made a row, by its position."""
    return {
        position: each.spec.table for each in rows.datasets for position in each.positions.to_list()
    }


def find_spans(letters: Sequence[asyncpg.Record]) -> tuple[Span, ...]:
    """Return from where to where the letters lie; between them are messages of no concern."""
    spans = []
    for partition, group in groupby(letters, key=lambda each: each["partition"]):
        part = list(group)
        last = part[-1]
        spans.append(
            Span(
                partition=partition,
                epoch=0,
                generation=last["generation"],
                first=part[0]["message_offset"],
                next=last["message_offset"] + 1,
                last_timestamp_ms=_milliseconds(last),
            )
        )
    return tuple(spans)


async def mark_letters(
    connection: Connection,
    letters: Sequence[asyncpg.Record],
    outcomes: Mapping[int, Outcome],
    failed: Iterable[DeadLetter],
    sources: Mapping[int, str],
) -> None:
    """Write down what became of each letter.

    What failed is relayed anew, with the reason that holds now. sources: of letters that made a
    row; a letter that could not be read before had none.
    """
    reasons = {each.position: each for each in failed}
    found = [reasons.get(position) for position in range(len(letters))]
    await connection.execute(
        """
        UPDATE metadata.dead_letters AS d
        SET attempts = d.attempts + 1, replayed_at = clock_timestamp(), outcome = g.outcome,
            source = coalesce(g.source, d.source),
            reason = coalesce(g.reason, d.reason), detail = coalesce(g.detail, d.detail),
            contract_version =
                CASE WHEN g.has_failed THEN g.contract_version ELSE d.contract_version END,
            earlier_reasons = CASE
                WHEN g.has_failed THEN d.earlier_reasons || jsonb_build_object(
                    'reason', d.reason, 'contract_version', d.contract_version,
                    'found_at', coalesce(d.replayed_at, d.buried_at)
                )
                ELSE d.earlier_reasons
            END,
            relayed_at = CASE WHEN NOT g.has_failed THEN d.relayed_at END,
            relay_attempts = CASE WHEN g.has_failed THEN 0 ELSE d.relay_attempts END
        FROM unnest(
            $1::bigint[], $2::text[], $3::boolean[], $4::text[], $5::text[], $6::text[], $7::text[]
        ) AS g (id, outcome, has_failed, source, reason, detail, contract_version)
        WHERE d.id = g.id
        """,
        [each["id"] for each in letters],
        [outcomes[position] for position in range(len(letters))],
        [each is not None for each in found],
        [storable(each.source) if each else sources[at] for at, each in enumerate(found)],
        [storable(each.reason) if each else None for each in found],
        [storable(each.detail) if each else None for each in found],
        [each.contract_version if each else None for each in found],
    )
