"""Messages as the stream handles them: in columns, each with the place it came from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

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
    timestamps_ms: Sequence[int] | np.ndarray
    """When they were produced, by the broker's or the producer's clock."""
    keys: Sequence[bytes | None]
    values: list[bytes | None]

    def __len__(self) -> int:
        """Return how many they are."""
        return len(self.values)

    @property
    def size_bytes(self) -> int:
        """The size of their values."""
        return _size_bytes(self.values)


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


class _Field(Sequence[Any]):
    """One field of many records, read only where it is asked for: few messages need theirs."""

    def __init__(self, records: list[ConsumerRecord], name: str) -> None:
        self._records = records
        self._name = name

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, place: Any) -> Any:
        return getattr(self._records[place], self._name)


@dataclass(slots=True)
class Gathering:
    """A micro-batch while it is being fetched."""

    topic: str
    spans: dict[int, Span] = field(default_factory=dict)
    records: list[Sequence[ConsumerRecord]] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    count: int = 0
    size_bytes: int = 0

    def add(
        self, records: Sequence[ConsumerRecord], *, first: int, epoch: int, generation: int
    ) -> None:
        """Take the next records of one partition; there is at least one.

        first: the offset that was asked for; the log may have none there any more.
        """
        partition, last = records[0].partition, records[-1]
        span = self.spans.get(partition)
        if span is None:
            self.spans[partition] = Span(
                partition, epoch, generation, first, last.offset + 1, last.timestamp
            )
        else:
            span.next, span.last_timestamp_ms = last.offset + 1, last.timestamp
        values = [each.value for each in records]
        self.records.append(records)
        self.values += values
        self.count += len(records)
        self.size_bytes += _size_bytes(values)

    def close(self) -> Batch:
        """Return the batch."""
        every = list(chain.from_iterable(self.records))
        messages = Messages(
            topic=self.topic,
            partitions=np.repeat(
                np.array([part[0].partition for part in self.records], dtype=np.int32),
                [len(part) for part in self.records],
            ),
            offsets=np.concatenate([_offsets(part) for part in self.records]),
            timestamps_ms=_Field(every, "timestamp"),
            keys=_Field(every, "key"),
            values=self.values,
        )
        return Batch(messages, tuple(self.spans.values()))


def _offsets(records: Sequence[ConsumerRecord]) -> np.ndarray:
    first, last = records[0].offset, records[-1].offset
    if last - first + 1 == len(records):  # none was compacted away or belongs to a transaction
        return np.arange(first, last + 1, dtype=np.int64)
    return np.fromiter((each.offset for each in records), np.int64, len(records))


def _size_bytes(values: list[bytes | None]) -> int:
    try:
        return sum(map(len, values))  # type: ignore[arg-type] # a tombstone is rare, and caught
    except TypeError:
        return sum(len(each) for each in values if each is not None)
