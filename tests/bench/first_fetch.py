"""When a process first asked Kafka for messages; for whatever consumes through aiokafka.

It imports nothing of ours: the tools that we are compared with run it in their own environment.
"""

from time import perf_counter, process_time
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest


class FirstFetch:
    """The moment of the first fetch request, which starts a lane's clock."""

    def __init__(self) -> None:
        """Watch aiokafka from now on, until it has fetched once."""
        self.seconds = 0.0
        """Of perf_counter."""
        self.cpu_seconds = 0.0
        """Of process_time."""
        send = AIOKafkaClient.send

        async def watched(client: AIOKafkaClient, node_id: int, request: Any, **more: Any) -> Any:
            if isinstance(request, FetchRequest):
                AIOKafkaClient.send = send
                self.seconds, self.cpu_seconds = perf_counter(), process_time()
            return await send(client, node_id, request, **more)

        AIOKafkaClient.send = watched
