"""Messages that Kafka did not take, and what its errors mean for them."""

from dataclasses import dataclass
from enum import StrEnum

import aiokafka.errors as kafka_errors

Message = tuple[bytes | None, bytes, int | None]
"""Key, value, and the time to stamp it with in ms; None: when it is sent."""

TOO_LARGE = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)
NOT_TAKEN = (
    kafka_errors.OutOfOrderSequenceNumber,
    kafka_errors.InvalidProducerEpoch,
    kafka_errors.InvalidProducerIdMapping,
    kafka_errors.ProducerFenced,
    kafka_errors.UnknownProducerId,
)
"""The client's numbering is broken: the messages are in no log, and are as good as before."""
_NOT_AUTHORIZED = (
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.ClusterAuthorizationFailedError,
)


class Reason(StrEnum):
    """Why a message was not sent."""

    TOO_LARGE = "too_large"
    TIMED_OUT = "timed_out"
    """It may be in the topic all the same: only the acknowledgement is missing."""
    NOT_AUTHORIZED = "not_authorized"
    REFUSED = "refused"
    """Anything else that a broker said."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that Kafka did not take."""

    message: Message
    reason: Reason
    detail: str


def judge(error: BaseException, topic: str) -> tuple[Reason, str]:
    """Return why a message was not sent, by the error that its batch ended with."""
    said = f"{type(error).__name__}: {error}".removesuffix(": ")
    if isinstance(error, TOO_LARGE):
        return Reason.TOO_LARGE, f"It is larger than topic '{topic}' allows ({said})."
    if isinstance(error, _NOT_AUTHORIZED):
        return Reason.NOT_AUTHORIZED, f"This login may not write to '{topic}' ({said})."
    if isinstance(error, kafka_errors.ProducerClosed) or getattr(error, "retriable", False):
        return Reason.TIMED_OUT, f"Kafka did not acknowledge it in time ({said})."
    return Reason.REFUSED, f"Kafka refused it ({said})."
