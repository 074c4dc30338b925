"""Sends dead letters on to a topic of their own, from the table in which they were committed.

At least once: a letter counts as relayed when Kafka has acknowledged it, and is sent again where
that could not be written down. Whoever reads the topic tells letters apart by their key.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import monotonic

import asyncpg
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    CorruptRecordException,
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

from infra.kafka.client import UNREACHABLE, require_kafka
from infra.kafka.producer import Producer
from infra.postgres.connection import TRANSIENT, Connection, Pool
from infra.settings import Settings
from schemas.errors import SluicewayError, TerminalError
from tasks.letter_rows import take_while_small

log = structlog.get_logger("sluiceway.stream")

MAX_RELAY_ATTEMPTS = 5
"""After so many refusals a letter stays in the table alone."""
_LETTERS = 500
_BYTES = 16 << 20
_MAX_MESSAGE_BYTES = 64 << 20
"""Whether a letter is too large is for the broker to say."""
_DETAIL_CHARACTERS = 1_000
_SEND_SECONDS = 40.0
"""More than aiokafka gives a message before it calls it lost."""
_FLUSH_SECONDS = 2.0
"""A consumer that is told to end waits for its relay too."""
_REST_SECONDS = 5.0
_RETRY_SECONDS = (5.0, 10.0, 30.0)
_NAG_SECONDS = 60.0

_REFUSED = (
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    CorruptRecordException,
    InvalidTimestampError,
)
"""What a broker says of one message, however often it is sent. Anything else is said of the topic
or of the moment, and no letter is to blame."""


@dataclass(slots=True)
class _Round:
    """What became of some letters, by id."""

    relayed: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    refusal: str = ""
    """What the broker said of one of them."""
    failure: BaseException | None = None
    """Why the others were not sent."""


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
            if await _is_due(pool):
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
    that the broker refuses is counted, and given up after five times; the others go on.
    Raises TransientError when Kafka or PostgreSQL is away, TerminalError when Kafka has no such
    topic or does not let us write to it; what was acknowledged by then counts as relayed.
    """
    topic = settings.kafka_dead_letter_topic
    client = await producer.open()
    # Asked before a letter is locked: of a topic that is missing, every letter would ask in vain.
    await producer.find_partitions(client, topic)
    async with pool.acquire() as connection, connection.transaction():
        # A process that is frozen here must not keep the letters from the others.
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = '60s'")
        letters = await _lock_letters(connection)
        done = await _send(client, topic, letters)
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


async def _is_due(pool: Pool) -> bool:
    async with pool.acquire() as connection:
        found: bool = await connection.fetchval(
            "SELECT EXISTS (SELECT FROM metadata.dead_letters"
            " WHERE relayed_at IS NULL AND relay_attempts < $1)",
            MAX_RELAY_ATTEMPTS,
        )
    return found


async def _lock_letters(connection: Connection) -> list[asyncpg.Record]:
    """Return the oldest letters that wait and that nobody else relays: some, and not too large."""
    locked = await connection.fetch(
        """
        SELECT id, octet_length(message_value) AS size_bytes FROM metadata.dead_letters
        WHERE relayed_at IS NULL AND relay_attempts < $1
        ORDER BY id LIMIT $2
        FOR UPDATE SKIP LOCKED
        """,
        MAX_RELAY_ATTEMPTS,
        _LETTERS,
    )
    letters: list[asyncpg.Record] = await connection.fetch(
        """
        SELECT id, topic, partition, message_offset, reason, left(detail, $2) AS detail,
            contract_version, source, attempts, message_value
        FROM metadata.dead_letters WHERE id = ANY($1) ORDER BY id
        """,
        list(take_while_small(locked, _BYTES)),
        _DETAIL_CHARACTERS,
    )
    return letters


async def _send(client: AIOKafkaProducer, topic: str, letters: Sequence[asyncpg.Record]) -> _Round:
    """Send the letters, and wait for what the broker says of each."""
    done = _Round()
    try:
        async with asyncio.timeout(_SEND_SECONDS):
            suspects = await _send_together(client, topic, letters, done)
            for each in suspects:
                # What was said of a batch may be true of one letter in it.
                refused = await _send_together(client, topic, [each], done)
                done.refused += [letter["id"] for letter in refused]
    except (KafkaError, *UNREACHABLE) as error:
        done.failure = error
    return done


async def _send_together(
    client: AIOKafkaProducer, topic: str, letters: Sequence[asyncpg.Record], done: _Round
) -> list[asyncpg.Record]:
    """Send the letters, in few batches; returns those of refused ones.

    Raises KafkaError where something else is wrong, with all that was acknowledged in `done`.
    """
    suspects = []
    under_way = {}
    failure: BaseException | None = None
    for each in letters:
        try:
            future = await client.send(
                topic, each["message_value"], _key(each), headers=_headers(each)
            )
        except _REFUSED as error:
            suspects.append(each)
            done.refusal = str(error)
        except (KafkaError, *UNREACHABLE) as error:
            failure = error
            break
        else:
            under_way[future] = each
    answers = await asyncio.gather(*under_way, return_exceptions=True)
    for each, answer in zip(under_way.values(), answers, strict=True):
        if not isinstance(answer, BaseException):
            done.relayed.append(each["id"])
        elif isinstance(answer, _REFUSED):
            suspects.append(each)
            done.refusal = str(answer)
        else:
            failure = answer
    if failure is not None:
        raise failure
    return suspects


def _key(letter: asyncpg.Record) -> bytes:
    return f"{letter['topic']}-{letter['partition']}-{letter['message_offset']}".encode()


def _headers(letter: asyncpg.Record) -> list[tuple[str, bytes]]:
    """Return what is known of a letter; what is not is left out."""
    facts = {
        "reason": letter["reason"],
        "detail": letter["detail"],
        "contract_version": letter["contract_version"],
        "topic": letter["topic"],
        "partition": letter["partition"],
        "offset": letter["message_offset"],
        "attempts": letter["attempts"],
        "source": letter["source"],
    }
    return [(name, str(fact).encode()) for name, fact in facts.items() if fact not in {None, ""}]


async def _write_down(connection: Connection, done: _Round) -> None:
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
            "Kafka refuses dead letters for good; they stay in metadata.dead_letters alone",
            letters=len(ids),
            first_id=min(ids),
            reason=done.refusal,
        )
