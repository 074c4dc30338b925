"""Sends dead letters on to a topic of their own, from the table in which they were committed.

At least once: a letter counts as relayed when Kafka has acknowledged it, and is sent again where
that could not be written down. Whoever reads the topic tells letters apart by their key. The topic
gets a message as it was, also where the table keeps it encrypted: what is personal in it is then
protected as the topic is that it came from.
"""

import asyncio
from time import monotonic

import asyncpg
import structlog
from aiokafka.errors import KafkaError

from infra.cell_encryption import KeyRing
from infra.kafka.client import UNREACHABLE, require_kafka
from infra.kafka.producer import Producer
from infra.postgres.connection import TRANSIENT, Connection, Pool
from infra.settings import Settings
from schemas.errors import SluicewayError, TerminalError
from tasks.letter_rows import take_while_small
from tasks.sealing import VALUE_BYTES, find_key_ring, has_key, key_ids
from tasks.send_letters import Round, open_letters, send

log = structlog.get_logger("sluiceway.stream")

MAX_RELAY_ATTEMPTS = 5
"""After so many refusals a letter stays in the table alone."""
_LETTERS = 500
_BYTES = 16 << 20
_MAX_MESSAGE_BYTES = 64 << 20
"""Whether a letter is too large is for the broker to say."""
_DETAIL_CHARACTERS = 1_000
_FLUSH_SECONDS = 2.0
"""A consumer that is told to end waits for its relay too."""
_REST_SECONDS = 5.0
_RETRY_SECONDS = (5.0, 10.0, 30.0)
_NAG_SECONDS = 60.0

_WAITS = "relayed_at IS NULL AND relay_attempts < $1"
_HAS_KEY = has_key("$2")


def open_relay_producer(settings: Settings) -> Producer:
    """Return the producer that letters are relayed with, not connected yet.

    It is not idempotent: one letter that is refused must not spoil the client for the others, and
    letters may come twice anyway.
    """
    return Producer(
        settings,
        flush_seconds=_FLUSH_SECONDS,
        enable_idempotence=False,
        max_request_size=_MAX_MESSAGE_BYTES,
    )


async def relay(pool: Pool, settings: Settings) -> None:
    """Relay dead letters as they come, until cancelled; rides out a Kafka or PostgreSQL away.

    Raises SettingError when no setting says where Kafka is.
    """
    require_kafka(settings)
    failures = relayed = 0
    warned = told = -_NAG_SECONDS
    while True:
        try:
            is_due, lacks_key = await _look(pool, find_key_ring(settings))
            if lacks_key and monotonic() - warned >= _NAG_SECONDS:
                warned = monotonic()
                log.warning(
                    "dead letters wait in the table to be relayed",
                    reason="they are encrypted with a key that is not set",
                )
            if is_due:
                async with open_relay_producer(settings) as producer:
                    while count := await relay_once(pool, producer, settings):
                        relayed += count
        except (SluicewayError, KafkaError, *TRANSIENT, *UNREACHABLE) as error:
            wait_seconds = _RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)]
            failures += 1
            if monotonic() - warned >= _NAG_SECONDS:
                warned = monotonic()
                reason = (str(error) or type(error).__name__).splitlines()[0]
                log.warning("dead letters wait in the table to be relayed", reason=reason)
        else:
            wait_seconds, failures = _REST_SECONDS, 0
        if relayed and monotonic() - told >= _NAG_SECONDS:
            topic = settings.kafka_dead_letter_topic
            log.info("relayed dead letters", letters=relayed, topic=topic)
            told, relayed = monotonic(), 0
        await asyncio.sleep(wait_seconds)


async def relay_once(pool: Pool, producer: Producer, settings: Settings) -> int:
    """Leave the oldest letters that wait in the topic, a bounded number; returns how many.

    Several may do this at once: a letter that another one is relaying is passed over. A letter
    that the broker refuses, or that is not what was encrypted, is counted, and given up after five
    times; the others go on. One whose key is not set waits for it.
    Raises TransientError when Kafka or PostgreSQL is away, TerminalError when Kafka has no such
    topic or does not let us write to it; what was acknowledged by then counts as relayed.
    """
    topic, ring = settings.kafka_dead_letter_topic, find_key_ring(settings)
    client = await producer.open()
    # Asked before a letter is locked: of a topic that is missing, every letter would ask in vain.
    await producer.find_partitions(client, topic)
    async with pool.acquire() as connection, connection.transaction():
        # A process that is frozen here must not keep the letters from the others.
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = '60s'")
        done = Round()
        letters = open_letters(ring, await _lock_letters(connection, ring), done)
        await send(client, topic, letters, done)
        await _write_down(connection, done)
    if done.failure is not None:
        producer.discard(client)
        reason = str(done.failure) or type(done.failure).__name__
        if isinstance(done.failure, UNREACHABLE) or getattr(done.failure, "retriable", False):
            raise producer.unreachable(reason) from done.failure
        raise TerminalError(
            f"Kafka at {producer.where} takes no dead letters for the topic '{topic}' ({reason}): "
            "see to it that the topic is there and that this login may write to it."
        ) from done.failure
    return len(done.relayed)


async def _look(pool: Pool, ring: KeyRing | None) -> tuple[bool, bool]:
    """Tell whether a letter waits that can be read, and whether one does whose key is not set."""
    async with pool.acquire() as connection:
        [row] = await connection.fetch(
            f"""
            SELECT EXISTS (SELECT FROM metadata.dead_letters WHERE {_WAITS} AND {_HAS_KEY})
                    AS is_due,
                EXISTS (SELECT FROM metadata.dead_letters WHERE {_WAITS} AND NOT {_HAS_KEY})
                    AS lacks_key
            """,  # noqa: S608 - constants of this module
            MAX_RELAY_ATTEMPTS,
            key_ids(ring),
        )
    return row["is_due"], row["lacks_key"]


async def _lock_letters(connection: Connection, ring: KeyRing | None) -> list[asyncpg.Record]:
    """Return the oldest letters that wait and that nobody else relays: some, and not too large."""
    locked = await connection.fetch(
        f"""
        SELECT id, {VALUE_BYTES} AS size_bytes FROM metadata.dead_letters
        WHERE {_WAITS} AND {_HAS_KEY}
        ORDER BY id LIMIT $3
        FOR UPDATE SKIP LOCKED
        """,  # noqa: S608 - constants
        MAX_RELAY_ATTEMPTS,
        key_ids(ring),
        _LETTERS,
    )
    letters: list[asyncpg.Record] = await connection.fetch(
        """
        SELECT id, topic, partition, message_offset, reason, left(detail, $2) AS detail,
            contract_version, source, attempts, message_value, is_sealed
        FROM metadata.dead_letters WHERE id = ANY($1) ORDER BY id
        """,
        list(take_while_small(locked, _BYTES)),
        _DETAIL_CHARACTERS,
    )
    return letters


async def _write_down(connection: Connection, done: Round) -> None:
    await connection.execute(
        "UPDATE metadata.dead_letters SET relayed_at = clock_timestamp() WHERE id = ANY($1)",
        done.relayed,
    )
    given_up = await connection.fetch(
        """
        UPDATE metadata.dead_letters SET relay_attempts = relay_attempts + 1 WHERE id = ANY($1)
        RETURNING id, relay_attempts
        """,
        done.refused,
    )
    ids = [row["id"] for row in given_up if row["relay_attempts"] >= MAX_RELAY_ATTEMPTS]
    if ids:
        log.error(
            "dead letters cannot be relayed; they stay in metadata.dead_letters alone",
            letters=len(ids),
            first_id=min(ids),
            reason=done.refusal,
        )
