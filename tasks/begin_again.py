"""Makes a group read its topic from another place, on a person's word."""

from aiokafka import AIOKafkaConsumer, TopicPartition

from infra.kafka.client import UNREACHABLE, connection_options
from infra.settings import Settings
from schemas.errors import TerminalError, TransientError
from tasks.database import open_pool
from tasks.offsets import Reader, begin_again


async def begin_topic_again(settings: Settings, where: str) -> str:
    """Leave the group's offsets at the topic's `earliest` or `latest`; returns a sentence on it.

    Consumers that run are fenced, and read on from there. What was loaded stays, and messages
    that are read again double nothing in datasets with a key.
    """
    reader = Reader(settings.kafka_group, settings.kafka_topic, "begin-again")
    consumer = AIOKafkaConsumer(**connection_options(settings), group_id=None)
    try:
        await consumer.start()
        await consumer.topics()
        partitions = consumer.partitions_for_topic(reader.topic)
        if not partitions:
            raise TerminalError(
                f"Kafka has no topic {reader.topic}: create it, or name another in "
                "SLUICEWAY_KAFKA_TOPIC."
            )
        places = [TopicPartition(reader.topic, each) for each in sorted(partitions)]
        ask = consumer.beginning_offsets if where == "earliest" else consumer.end_offsets
        offsets = {place.partition: offset for place, offset in (await ask(places)).items()}
    except UNREACHABLE as error:
        raise TransientError(
            f"Kafka at {settings.kafka_bootstrap_servers} cannot be reached ({error}): is it "
            "running?"
        ) from error
    finally:
        await consumer.stop()
    async with await open_pool(settings) as pool, pool.acquire() as connection:
        await begin_again(connection, reader, offsets)
    shown = ", ".join(f"{partition} at {offset}" for partition, offset in offsets.items())
    return f"The group {reader.group} begins {reader.topic} again, by partition: {shown}."
