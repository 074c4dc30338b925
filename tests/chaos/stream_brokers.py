"""What the brokers say of the topic and the group of the stream's chaos."""

from collections.abc import Mapping
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.chaos.stream_events import GROUP, TOPIC


class Brokers:
    """An administrator's client."""

    def __init__(self, bootstrap_servers: str, partitions: int, replicas: int) -> None:
        self._servers = bootstrap_servers
        self._partitions, self._replicas = partitions, replicas
        self._client = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)

    async def __aenter__(self) -> Self:
        await self._client.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def create(self) -> None:
        """Make the topic."""
        await self._client.create_topics([NewTopic(TOPIC, self._partitions, self._replicas)])

    async def leaders(self) -> dict[int, int]:
        """Return the broker that leads each partition."""
        return {each["partition"]: each["leader"] for each in await self._describe()}

    async def is_whole(self) -> bool:
        """Tell whether every replica of the topic is in sync."""
        return all(len(each["isr"]) == self._replicas for each in await self._describe())

    async def coordinator(self) -> int:
        """Return the broker that keeps the group."""
        return await self._client.find_coordinator(GROUP)

    async def ends(self) -> dict[int, int]:
        """Return the offset after the last message of each partition."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self._servers)
        await consumer.start()
        try:
            places = [TopicPartition(TOPIC, each) for each in range(self._partitions)]
            ends = await consumer.end_offsets(places)
        finally:
            await consumer.stop()
        return {place.partition: end for place, end in ends.items()}

    async def _describe(self) -> list[Mapping[str, Any]]:
        [topic] = await self._client.describe_topics([TOPIC])
        return topic["partitions"]
