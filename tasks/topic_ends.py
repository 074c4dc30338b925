"""Where a topic ends, by partition."""

from aiokafka import AIOKafkaConsumer, TopicPartition

from infra.kafka.client import UNREACHABLE, connection_options
from infra.settings import Settings
from schemas.errors import TerminalError, TransientError


async def read_topic_ends(settings: Settings, where: str = "latest") -> dict[int, int]:
    """Return, by partition, the offset after the last message, or of the `earliest` one.

    Raises TerminalError when there is no such topic, TransientError when Kafka cannot be reached.
    """
    topic = settings.kafka_topic
    # A topic that a consumer is not made for stays unknown to it.
    consumer = AIOKafkaConsumer(topic, **connection_options(settings), group_id=None)
    try:
        await consumer.start()
        partitions = consumer.partitions_for_topic(topic)
        if not partitions:
            raise TerminalError(
                f"Kafka has no topic {topic}: create it, or name another in SLUICEWAY_KAFKA_TOPIC."
            )
        places = [TopicPartition(topic, each) for each in sorted(partitions)]
        ask = consumer.beginning_offsets if where == "earliest" else consumer.end_offsets
        return {place.partition: offset for place, offset in (await ask(places)).items()}
    except UNREACHABLE as error:
        raise TransientError(
            f"Kafka at {settings.kafka_bootstrap_servers} cannot be reached ({error}): is it "
            "running?"
        ) from error
    finally:
        await consumer.stop()
