"""Messages as the stream handles them: in columns, each with the place it came from."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from aiokafka import ConsumerRecord


@dataclass(frozen=True, slots=True)
class Messages:
    """Some messages of one topic, in columns of the same height."""

    topic: str
    partitions: np.ndarray
    """int32"""
    offsets: np.ndarray
    """int64"""
    timestamps_ms: np.ndarray
    """int64: when they were produced, by the broker's or the producer's clock."""
    keys: list[bytes | None]
    values: list[bytes | None]

    def __len__(self) -> int:
        """Return how many they are."""
        return len(self.values)

    @property
    def size_bytes(self) -> int:
        """The size of their values."""
        return sum(len(each) for each in self.values if each is not None)


@dataclass(slots=True)
class Span:
    """What a batch took from one partition: `first` to before `next`, fetched under an epoch."""

    partition: int
    epoch: int
    generation: int
    first: int
    next: int
    last_timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Batch:
    """A micro-batch, and the spans of the log it stands for."""

    messages: Messages
    spans: tuple[Span, ...]

    @property
    def claims(self) -> frozenset[tuple[int, int]]:
        """The partitions, each with the epoch it was fetched under."""
        return frozenset((each.partition, each.epoch) for each in self.spans)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that could not be loaded, and why."""

    position: int
    """Where it stands among its messages."""
    source: str | None
    reason: str
    """The rule it broke: `invalid_json`, `no_contract`, or `column: rule` of its contract."""
    detail: str
    contract_version: str | None = None


@dataclass(slots=True)
class Gathering:
    """A micro-batch while it is being fetched."""

    topic: str
    spans: dict[int, Span] = field(default_factory=dict)
    records: list[Sequence[ConsumerRecord]] = field(default_factory=list)
    count: int = 0
    size_bytes: int = 0

    def add(self, records: Sequence[ConsumerRecord], *, epoch: int, generation: int) -> None:
        """Take the next records of one partition; there is at least one."""
        first, last = records[0], records[-1]
        span = self.spans.get(first.partition)
        if span is None:
            self.spans[first.partition] = Span(
                first.partition, epoch, generation, first.offset, last.offset + 1, last.timestamp
            )
        else:
            span.next, span.last_timestamp_ms = last.offset + 1, last.timestamp
        self.records.append(records)
        self.count += len(records)
        self.size_bytes += sum(len(each.value) for each in records if each.value is not None)

    def close(self) -> Batch:
        """Return the batch."""
        every = [each for part in self.records for each in part]
        messages = Messages(
            topic=self.topic,
            partitions=np.fromiter((each.partition for each in every), np.int32, self.count),
            offsets=np.fromiter((each.offset for each in every), np.int64, self.count),
            timestamps_ms=np.fromiter((each.timestamp for each in every), np.int64, self.count),
            keys=[each.key for each in every],
            values=[each.value for each in every],
        )
        return Batch(messages, tuple(self.spans.values()))
