"""The processes of the stream's chaos: brokers, PostgreSQL, a producer and two consumers."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from deployments.bootstrap import bootstrap
from infra.local.kafka import ApacheKafka
from infra.local.postgres import Postgres
from infra.local.process import Child, Launch, wait_until
from tests.chaos.stream_brokers import Brokers
from tests.chaos.stream_events import GROUP, TOPIC, ChaosEvents
from tests.chaos.stream_view import View

CHECKOUT = Path(__file__).absolute().parents[2]
PASSWORD = "only for tests"
CONSUMERS = 2
SESSION_SECONDS = 6
"""As short as Apache Kafka allows by default: a member that is killed is missed that soon."""
END_SECONDS = 10.0
"""What a consumer is given to commit its batch and to leave."""


class ChaosError(Exception):
    """The drill cannot go on; the message says what did not happen in time."""


@dataclass(frozen=True)
class Servers:
    """What the chaos plays on; whoever started both stops them."""

    kafka: ApacheKafka
    postgres: Postgres
    database: str
    folder: Path
    partitions: int
    replicas: int

    def brokers(self) -> Brokers:
        """Return a client of the brokers."""
        return Brokers(self.kafka.bootstrap_servers, self.partitions, self.replicas)


@dataclass
class Member:
    """One of the two consumers: a process, replaced by a new one when it has ended."""

    number: int
    name: str
    """What PostgreSQL knows its connections by; of this process alone."""
    child: Child
    is_frozen: bool = False


class Stage:
    """All of the processes."""

    def __init__(self, servers: Servers) -> None:
        self.servers = servers
        self.view = View(servers.postgres.url(servers.database), servers.folder, servers.partitions)
        self.members: dict[int, Member] = {}
        self.complaints: list[str] = []
        """Sentences about consumers that ended by themselves, or not as they were told to."""
        self._producer: Child | None = None
        self._execution_id = 0
        self._serial = 0

    async def set_up(self) -> None:
        """Leave a topic and the events' table, both empty."""
        servers = self.servers
        await bootstrap(
            servers.postgres.url(servers.database),
            loader_password=PASSWORD,
            datasets=(ChaosEvents,),
        )
        async with servers.brokers() as brokers:
            await brokers.create()
        [row] = await self.view.fetch(
            "INSERT INTO metadata.pipeline_executions (pipeline_name) VALUES ('chaos') RETURNING id"
        )
        self._execution_id = row["id"]

    def start_producer(self, rate: int) -> None:
        """Start the producer."""
        servers = self.servers
        self._producer = self._launch(
            "producer",
            "tests.chaos.stream_producer",
            servers.kafka.bootstrap_servers,
            TOPIC,
            str(servers.partitions),
            str(rate),
            str(servers.folder),
        )

    def start_member(self, number: int) -> None:
        """Start a consumer, in the place of one that has ended."""
        self._serial += 1
        name = f"chaos-{number}-{self._serial:03}"
        child = self._launch(name, "tests.chaos.stream_consumer", name, str(self._execution_id))
        self.members[number] = Member(number, name, child)

    def find_member(self, name: str) -> Member | None:
        """Return the consumer of that name, where it is one that may be struck."""
        members = (each for each in self.members.values() if each.name == name)
        return next((each for each in members if not each.is_frozen), None)

    async def wait_for(
        self, what: str, condition: Callable[[], Awaitable[bool]], seconds: float
    ) -> None:
        """Return once the condition holds; raises ChaosError that says what did not come."""
        deadline = monotonic() + seconds
        while not await condition():
            self.watch_over()
            if monotonic() > deadline:
                raise ChaosError(f"This did not happen within {seconds:.0f} s: {what}.")
            await asyncio.sleep(0.05)

    def watch_over(self) -> None:
        """Start consumers anew that have ended by themselves, and remember it."""
        if self._producer is not None and not self._producer.is_running:
            raise ChaosError(f"{self._producer.explain_end()}")
        for member in list(self.members.values()):
            if not member.child.is_running:
                self.complaints.append(str(member.child.explain_end()))
                self.start_member(member.number)

    def end_producer(self) -> None:
        """Return once the producer has an answer to all that it sent."""
        if self._producer is not None:
            producer, self._producer = self._producer, None
            producer.stop(60)
            if producer.exit_code:
                raise ChaosError(f"{producer.explain_end()}")

    def end_members(self) -> None:
        """Tell the consumers to end, and see whether they do."""
        members = [*self.members.values()]
        for member in members:
            member.child.send_signal(signal.SIGTERM)
        wait_until(lambda: not any(each.child.is_running for each in members), END_SECONDS)
        for member in members:
            code = member.child.exit_code
            member.child.stop(0)
            if code != 0:
                ended = "did not end" if code is None else f"ended with exit code {code}"
                self.complaints.append(
                    f"{member.name} was told to end, and {ended} within {END_SECONDS:.0f} s"
                )
        self.members.clear()

    def count_in_logs(self, text: str) -> int:
        """Return how often the consumers said it."""
        logs = self._logs.glob("chaos-*.log")
        return sum(each.read_text(errors="replace").count(text) for each in logs)

    async def clear(self) -> None:
        """Leave none of its processes and no connection."""
        for child in (*(each.child for each in self.members.values()), self._producer):
            if child is not None:
                child.stop(0)
        self.members.clear()
        await self.view.close()

    @property
    def _logs(self) -> Path:
        return self.servers.folder / "logs"

    def _launch(self, name: str, module: str, *arguments: str) -> Child:
        servers = self.servers
        kept = {key: text for key, text in os.environ.items() if not key.startswith("SLUICEWAY_")}
        settings = {
            "SLUICEWAY_DATABASE_URL": servers.postgres.url(
                servers.database, user="sluiceway_loader", password=PASSWORD
            ),
            "SLUICEWAY_KAFKA_BOOTSTRAP_SERVERS": servers.kafka.bootstrap_servers,
            "SLUICEWAY_KAFKA_TOPIC": TOPIC,
            "SLUICEWAY_KAFKA_GROUP": GROUP,
            "SLUICEWAY_KAFKA_SESSION_TIMEOUT_SECONDS": str(SESSION_SECONDS),
        }
        return Child(
            Launch(
                name=name,
                command=[sys.executable, "-m", module, *arguments],
                environment=kept | settings,
                log=self._logs / f"{name}.log",
                working_folder=CHECKOUT,
            )
        )
