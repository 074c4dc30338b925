"""Sends dead letters to their topic as the messages they were, and says what became of each."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    CorruptRecordException,
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)

from infra.cell_encryption import CellError, KeyRing
from infra.kafka.client import UNREACHABLE
from tasks.sealing import DEAD_LETTERS, VALUE, open_column

Letter = Mapping[str, Any]
"""A row, with its message as it was."""

_SEND_SECONDS = 40.0
"""More than aiokafka gives a message before it calls it lost."""
_REFUSED = (
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    CorruptRecordException,
    InvalidTimestampError,
)
"""What a broker says of one message, however often it is sent. Anything else is said of the topic
or of the moment, and no letter is to blame."""


@dataclass(slots=True)
class Round:
    """What became of some letters, by id."""

    relayed: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    """By the broker; or they are not what was encrypted."""
    refusal: str = ""
    """What was said of one of them."""
    failure: BaseException | None = None
    """Why the others were not sent."""


def open_letters(
    ring: KeyRing | None, letters: Sequence[asyncpg.Record], done: Round
) -> list[Letter]:
    """Return the letters with their messages as they were; those that are not go to `done`."""
    opened: list[Letter] = []
    for each in letters:
        try:
            opened.append({**each, VALUE: open_column(ring, DEAD_LETTERS, each, VALUE)})
        except CellError as error:
            done.refused.append(each["id"])
            done.refusal = str(error)
    return opened


async def send(
    client: AIOKafkaProducer, topic: str, letters: Sequence[Letter], done: Round
) -> None:
    """Send the letters, and wait for what the broker says of each."""
    try:
        async with asyncio.timeout(_SEND_SECONDS):
            suspects = await _send_together(client, topic, letters, done)
            for each in suspects:
                # What was said of a batch may be true of one letter in it.
                refused = await _send_together(client, topic, [each], done)
                done.refused += [letter["id"] for letter in refused]
    except (KafkaError, *UNREACHABLE) as error:
        done.failure = error


async def _send_together(
    client: AIOKafkaProducer, topic: str, letters: Sequence[Letter], done: Round
) -> list[Letter]:
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


def _key(letter: Letter) -> bytes:
    return f"{letter['topic']}-{letter['partition']}-{letter['message_offset']}".encode()


def _headers(letter: Letter) -> list[tuple[str, bytes]]:
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
