"""The table of messages that Kafka did not take: sent again by later runs, or kept for a person.

What may be personal is encrypted there. A message that cannot be read any more holds up no other:
its row says why, and every run tries it again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from infra.cell_encryption import CellError, KeyRing
from infra.kafka.producer import Producer
from infra.postgres.connection import TRANSIENT, Connection, Pool
from schemas.errors import TransientError
from tasks.produce import produce_many
from tasks.refusals import Message, Reason, Refusal
from tasks.sealing import (
    KEY,
    UNREADABLE,
    UNSENT_MESSAGES,
    VALUE,
    VALUE_BYTES,
    find_key_ring,
    open_column,
    seal_message,
)

MAX_ATTEMPTS = 5
"""The first sending is one of them."""
FOR_A_PERSON = (Reason.TOO_LARGE,)
"""Sending again changes nothing."""
_PAGE_MESSAGES = 1_000
_PAGE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Resent:
    """What became of the messages that earlier runs could not send."""

    sent: int = 0
    refused: int = 0
    """Refused once more."""
    kept: int = 0
    """All of the topic that no run will send again, too large or refused too often, or that cannot
    be read."""


@dataclass(frozen=True, slots=True)
class _Page:
    """Some messages by their id, and of those that cannot be read why."""

    messages: dict[int, Message] = field(default_factory=dict)
    unreadable: dict[int, str] = field(default_factory=dict)

    @property
    def ids(self) -> list[int]:
        return [*self.messages, *self.unreadable]


async def keep_unsent(
    connection: Connection,
    refusals: Sequence[Refusal],
    *,
    execution_id: int,
    topic: str,
    source: str,
    ring: KeyRing | None,
) -> None:
    """Leave one row for each of these messages, in the connection's transaction.

    ring: to encrypt them with; None: they are kept as they are.
    """
    if not refusals:
        return
    await connection.copy_records_to_table(
        "unsent_messages",
        schema_name="metadata",
        columns=(
            "execution_id",
            "topic",
            "source",
            "reason",
            "detail",
            "message_key",
            "message_value",
            "is_sealed",
        ),
        records=(
            (
                *(execution_id, topic, source, each.reason.value, each.detail),
                *seal_message(ring, UNSENT_MESSAGES, key, value),
            )
            for each in refusals
            for key, value, _ in (each.message,)
        ),
    )


async def resend_unsent(pool: Pool, producer: Producer, topic: str) -> Resent:
    """Send what was refused for a reason that can pass, oldest first, and mark what was taken.

    A message is sent MAX_ATTEMPTS times at most. One that Kafka took just before a crash is sent
    once more by the next run, which the merge makes harmless. Two runs at once share the work.

    Raises TransientError when Kafka or PostgreSQL is away, TerminalError when there is no such
    topic; also where nothing is waiting, so that a run knows before it begins.
    """
    ring = find_key_ring()
    await producer.find_partitions(await producer.open(), topic)
    sent = refused = last_id = 0
    try:
        while True:
            async with pool.acquire() as connection, connection.transaction():
                page = await _take_page(connection, ring, topic, after=last_id)
                if not page.ids:
                    kept = await _count_kept(connection, topic)
                    return Resent(sent, refused, kept)
                last_id = max(page.ids)
                delivery = await produce_many(producer, topic, page.messages.values())
                await _mark(connection, page.messages, delivery.refusals)
                await _mark_unreadable(connection, page.unreadable)
            sent += delivery.sent
            refused += len(delivery.refusals)
    except TRANSIENT as error:
        raise TransientError(
            f"PostgreSQL went away while unsent messages were sent again ({error}): they will be "
            "sent by the next run."
        ) from error


async def _take_page(
    connection: Connection, ring: KeyRing | None, topic: str, *, after: int
) -> _Page:
    """Return some messages, locked so that no other run sends them too."""
    rows = await connection.fetch(
        f"""
        SELECT id, message_key, message_value, is_sealed FROM metadata.unsent_messages
        WHERE sent_at IS NULL AND id IN (
            SELECT few.id FROM (
                SELECT id, {VALUE_BYTES} AS own, sum({VALUE_BYTES}) OVER (ORDER BY id) AS so_far
                FROM metadata.unsent_messages
                WHERE sent_at IS NULL AND topic = $1 AND id > $2
                    AND attempts < $3 AND reason <> ALL ($4::text[])
                ORDER BY id LIMIT $5
            ) AS few
            WHERE few.so_far - few.own < $6
        )
        ORDER BY id FOR UPDATE SKIP LOCKED
        """,  # noqa: S608 - a constant of tasks.sealing
        topic,
        after,
        MAX_ATTEMPTS,
        [*FOR_A_PERSON],
        _PAGE_MESSAGES,
        _PAGE_BYTES,
    )
    page = _Page()
    for row in rows:
        try:
            key, value = (open_column(ring, UNSENT_MESSAGES, row, each) for each in (KEY, VALUE))
        except CellError as error:
            page.unreadable[row["id"]] = str(error)
        else:
            page.messages[row["id"]] = (key, value or b"", None)
    return page


async def _mark(
    connection: Connection, page: dict[int, Message], refusals: Sequence[Refusal]
) -> None:
    # Two messages can be equal: what was refused is known by what it is, not by what it says.
    refused = {id(each.message): each for each in refusals}
    await connection.execute(
        """
        UPDATE metadata.unsent_messages
        SET attempts = attempts + 1, sent_at = clock_timestamp() WHERE id = ANY ($1)
        """,
        [row_id for row_id, message in page.items() if id(message) not in refused],
    )
    await connection.executemany(
        """
        UPDATE metadata.unsent_messages
        SET attempts = attempts + 1, reason = $2, detail = $3 WHERE id = $1
        """,
        [
            (row_id, refused[id(message)].reason.value, refused[id(message)].detail)
            for row_id, message in page.items()
            if id(message) in refused
        ],
    )


async def _mark_unreadable(connection: Connection, unreadable: Mapping[int, str]) -> None:
    # No attempt is counted: a key that is missing today may be set tomorrow.
    await connection.executemany(
        "UPDATE metadata.unsent_messages SET reason = $2, detail = $3 WHERE id = $1",
        [(row_id, UNREADABLE, detail) for row_id, detail in unreadable.items()],
    )


async def _count_kept(connection: Connection, topic: str) -> int:
    kept: int = await connection.fetchval(
        """
        SELECT count(*) FROM metadata.unsent_messages
        WHERE sent_at IS NULL AND topic = $1 AND (attempts >= $2 OR reason = ANY ($3::text[]))
        """,
        topic,
        MAX_ATTEMPTS,
        [*FOR_A_PERSON, UNREADABLE],
    )
    return kept
