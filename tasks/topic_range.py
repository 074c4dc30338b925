"""From where to where a topic is to be read again, partition by partition."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition

from infra.postgres.connection import Connection
from infra.settings import Settings
from schemas.errors import TerminalError
from tasks.offsets import Reader

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Section:
    """What a person asks for; messages at the end are not included."""

    from_time: dt.datetime | None = None
    """Of the messages, as Kafka has them; with a zone."""
    from_offset: int | None = None
    until_time: dt.datetime | None = None
    until_offset: int | None = None
    partitions: tuple[int, ...] = ()
    """By default all."""

    def __post_init__(self) -> None:
        """Raise TerminalError for what is no section of a topic."""
        if (self.from_time is None) == (self.from_offset is None):
            raise TerminalError(
                "Say where the replay begins, by a time or by an offset (0 is the beginning), and "
                "not by both."
            )
        if self.until_time is not None and self.until_offset is not None:
            raise TerminalError("Say where the replay ends by a time or by an offset, not by both.")
        if min(self.from_offset or 0, self.until_offset or 0, *self.partitions, 0) < 0:
            raise TerminalError("Offsets and partitions are numbers from 0 on.")
        is_empty = _is_past(self.from_time, self.until_time) or _is_past(
            self.from_offset, self.until_offset
        )
        if is_empty:
            raise TerminalError("The replay ends before it begins: nothing lies between.")


@dataclass(frozen=True, slots=True)
class Stretch:
    """What is to be read of one partition: `first` to before `until`."""

    partition: int
    generation: int
    first: int
    until: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a group has got in a partition."""

    next_offset: int
    generation: int


async def find_standings(connection: Connection, reader: Reader) -> dict[int, Standing]:
    """Return how far the group has got, by partition."""
    rows = await connection.fetch(
        "SELECT partition, next_offset, generation FROM metadata.stream_offsets"
        " WHERE consumer_group = $1 AND topic = $2",
        reader.group,
        reader.topic,
    )
    return {row["partition"]: Standing(row["next_offset"], row["generation"]) for row in rows}


async def find_stretches(
    consumer: AIOKafkaConsumer,
    settings: Settings,
    reader: Reader,
    section: Section,
    standings: Mapping[int, Standing],
) -> tuple[list[Stretch], list[str]]:
    """Return what there is to read, without empty stretches, and a sentence for each thing left.

    standings: as they were just before; what the group reads meanwhile is no concern.
    A replay ends where the partition ends now. Nor does it overtake the group: what that has not
    read yet it will load itself, and rows without a key would be there twice.
    Raises TerminalError for a topic, partition or offset that does not exist.
    """
    places = await _find_partitions(consumer, settings, reader.topic, section)
    begins = await consumer.beginning_offsets(places)
    ends = await consumer.end_offsets(places)
    firsts = await _find_offsets(consumer, places, section.from_time, section.from_offset, ends)
    untils = await _find_offsets(consumer, places, section.until_time, section.until_offset, ends)
    _refuse_past_the_end(section, reader, ends)
    stretches, unread = [], 0
    for place in places:
        known = standings.get(place.partition)
        if known is not None and known.next_offset > ends[place]:
            raise TerminalError(
                f"Partition {place.partition} of {reader.topic} ends at offset {ends[place]}, and "
                f"{known.next_offset} messages of it were loaded: the topic was made anew, or lost "
                "messages. Let the consumer begin again first: `python -m "
                "flows.stream_processing_pipeline --begin-again earliest`."
            )
        first = max(firsts[place], begins[place])
        wanted = min(untils[place], ends[place])
        limit = _limit(known, has_begun=bool(standings), reader=reader, settings=settings)
        until = wanted if limit is None else min(wanted, limit)
        unread += max(0, wanted - max(first, until))
        if first < until:
            generation = known.generation if known is not None else 0
            stretches.append(Stretch(place.partition, generation, first, until))
    return stretches, _remark(stretches, unread, section, reader)


def _is_past(first: dt.datetime | int | None, until: dt.datetime | int | None) -> bool:
    return first is not None and until is not None and first >= until  # type: ignore[operator] # both are of one kind


async def _find_partitions(
    consumer: AIOKafkaConsumer, settings: Settings, topic: str, section: Section
) -> list[TopicPartition]:
    # Asked for a topic by its name, a broker might make it.
    if topic not in await consumer.topics():
        raise TerminalError(
            f"Kafka at {settings.kafka_bootstrap_servers} has no topic '{topic}' that this login "
            "may see: check its name."
        )
    await consumer.beginning_offsets([TopicPartition(topic, 0)])  # learns of the others with it
    known = consumer.partitions_for_topic(topic)
    absent = sorted(set(section.partitions) - known)
    if absent:
        raise TerminalError(
            f"The topic {topic} has no partition {', '.join(map(str, absent))}: its partitions are "
            f"{', '.join(map(str, sorted(known)))}."
        )
    return [TopicPartition(topic, each) for each in sorted(section.partitions or known)]


async def _find_offsets(
    consumer: AIOKafkaConsumer,
    places: Sequence[TopicPartition],
    time: dt.datetime | None,
    offset: int | None,
    ends: Mapping[TopicPartition, int],
) -> dict[TopicPartition, int]:
    """Return the offset in each partition: its end where no message is so new, or none is asked."""
    if offset is not None:
        return dict.fromkeys(places, offset)
    if time is None:
        return dict(ends)
    found = await consumer.offsets_for_times(dict.fromkeys(places, max(0, _milliseconds(time))))
    return {each: ends[each] if found[each] is None else found[each].offset for each in places}


def _milliseconds(time: dt.datetime) -> int:
    """Return the first millisecond that is not before the time."""
    return -((_EPOCH - time) // dt.timedelta(milliseconds=1))


def _refuse_past_the_end(
    section: Section, reader: Reader, ends: Mapping[TopicPartition, int]
) -> None:
    offset = section.from_offset
    if offset is not None and offset > max(ends.values()):
        shown = ", ".join(f"{each.partition} at {end}" for each, end in ends.items())
        raise TerminalError(
            f"Offset {offset} is past the end of {reader.topic}; its partitions end: {shown}."
        )


def _limit(
    known: Standing | None, *, has_begun: bool, reader: Reader, settings: Settings
) -> int | None:
    """Return the offset from which on the group reads the partition itself; None: nowhere."""
    if known is not None:
        return known.next_offset
    # It has not come to this partition yet, and will begin at its beginning.
    is_its_own = reader.topic == settings.kafka_topic and settings.kafka_start_from == "earliest"
    return 0 if has_begun or is_its_own else None


def _remark(
    stretches: Sequence[Stretch], unread: int, section: Section, reader: Reader
) -> list[str]:
    notes = []
    if unread:
        notes.append(
            f"{unread} messages of {reader.topic} that the group {reader.group} has not read yet "
            "are left to it."
        )
    elif not stretches and section.from_time is not None:
        notes.append(
            f"No message of {reader.topic} is as new as {section.from_time:%Y-%m-%d %H:%M:%S %Z}: "
            "there is nothing to replay."
        )
    elif not stretches:
        notes.append(f"No message of {reader.topic} lies there: there is nothing to replay.")
    return notes
