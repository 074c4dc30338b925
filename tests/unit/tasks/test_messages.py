"""What is fetched becomes a batch with every message in its place, and the spans it stands for."""

import itertools
from dataclasses import dataclass

import pytest

from tasks.messages import Batch, Gathering, Span


@dataclass(frozen=True)
class Record:
    """What the client gives for a message, as far as it is read."""

    partition: int
    offset: int
    value: bytes | None
    timestamp: int = 1_790_000_000_000
    key: bytes | None = b"key"


def fetch(partition: int, *offsets: int) -> list[Record]:
    return [
        Record(
            partition,
            offset,
            f"{partition}/{offset}".encode(),
            1_790_000_000_000 + offset,
            f"k{offset}".encode(),
        )
        for offset in offsets
    ]


def gather(*fetches: list[Record], asked_for: int = 0) -> Batch:
    """Gather what was fetched, of logs in which all before was compacted away."""
    gathering = Gathering("topic")
    for records in fetches:
        epoch = 10 + records[0].partition
        gathering.add(records, first=asked_for, epoch=epoch, generation=2)
    assert gathering.count == sum(map(len, fetches))
    batch = gathering.close()
    assert gathering.size_bytes == batch.messages.size_bytes
    return batch


def test_every_message_keeps_its_place() -> None:
    fetches = [fetch(0, 5, 6, 7), fetch(2, 100), fetch(0, 8, 12, 13), fetch(1, 0, 3)]
    batch = gather(*fetches)
    messages = batch.messages
    every = list(itertools.chain.from_iterable(fetches))
    assert len(messages) == len(every)
    for place, record in enumerate(every):
        assert (
            messages.partitions[place],
            messages.offsets[place],
            messages.timestamps_ms[place],
            messages.keys[place],
            messages.values[place],
        ) == (record.partition, record.offset, record.timestamp, record.key, record.value)
    assert (messages.partitions.dtype, messages.offsets.dtype) == ("int32", "int64")
    assert batch.spans == (
        Span(0, 10, 2, 0, 14, 1_790_000_000_013),
        Span(2, 12, 2, 0, 101, 1_790_000_000_100),
        Span(1, 11, 2, 0, 4, 1_790_000_000_003),
    )
    assert batch.claims == {(0, 10), (1, 11), (2, 12)}


@pytest.mark.parametrize("offsets", [(4,), (4, 5, 6), (4, 6), (4, 5, 9), (4, 8, 9)])
def test_offsets_with_gaps_are_those_of_the_messages(offsets: tuple[int, ...]) -> None:
    batch = gather(fetch(0, *offsets), asked_for=3)
    assert batch.messages.offsets.tolist() == list(offsets)
    assert (batch.spans[0].first, batch.spans[0].next) == (3, offsets[-1] + 1)


def test_a_tombstone_has_no_size() -> None:
    records = [Record(0, 0, b"four"), Record(0, 1, None), Record(0, 2, b""), Record(0, 3, b"xx")]
    assert gather(records).messages.size_bytes == 6
