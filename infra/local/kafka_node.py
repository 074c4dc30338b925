"""One node of a local Apache Kafka: its files, its properties and its commands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.local.folder import write_privately
from infra.local.kafka_security import SECURED, Security
from infra.local.ports import LOOPBACK

LOG_SETTINGS = Path(__file__).absolute().parents[1] / "kafka" / "log4j2.properties"
REPLICAS = 3
"""Of each partition, where there are nodes for them."""
HEAP_MEBIBYTES = {1: 512, 3: 384}
JAVA_OPTIONS = (
    # Measured on two cores: the start takes half as long as with Java's defaults.
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
)

PROPERTIES: Mapping[str, str] = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "auto.create.topics.enable": "false",
    "num.partitions": "3",
    # Nothing is deleted for its age; a topic of its own retention says so itself.
    "log.retention.ms": "-1",
    "unclean.leader.election.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    # Kafka's defaults are for a fleet: fifty partitions of its own each, and 128 MB to compact.
    "offsets.topic.num.partitions": "5",
    "transaction.state.log.num.partitions": "5",
    "share.coordinator.state.topic.num.partitions": "5",
    "log.cleaner.dedupe.buffer.size": str(8 * 1024 * 1024),
    "log.cleaner.backoff.ms": "1000",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "broker.heartbeat.interval.ms": "500",
    # A frozen node answers nobody and closes nothing: the others give it up after this, not 30 s.
    "controller.socket.timeout.ms": "3000",
    "replica.socket.timeout.ms": "3000",
}


@dataclass(frozen=True, slots=True)
class Node:
    """Broker and controller in one process."""

    number: int
    """Its node.id, from 1 on."""
    folder: Path
    port: int
    controller_port: int
    security: Security | None = None
    """None: whoever reaches its port may do everything."""
    log_folder: Path | None = None
    """By default one of its own."""

    @property
    def name(self) -> str:
        """What a person calls it, and its files."""
        return f"kafka-{self.number}"

    @property
    def data(self) -> Path:
        """Its storage."""
        return self.folder / self.name

    @property
    def properties_file(self) -> Path:
        """What it is started with."""
        return self.folder / f"{self.name}.properties"

    @property
    def log(self) -> Path:
        """What it says: warnings and worse."""
        return (self.log_folder or self.folder / "logs") / f"{self.name}.log"

    @property
    def is_formatted(self) -> bool:
        """Whether its storage is whole; this file is written last."""
        return (self.data / "meta.properties").exists()

    def write_properties(self, nodes: Sequence["Node"], more: Mapping[str, str]) -> None:
        """Leave the file that starts it as one of these nodes."""
        secured = self.security.properties if self.security else {}
        properties = {
            **PROPERTIES,
            **self._place(nodes),
            **by_size(len(nodes)),
            **secured,
            **more,
        }
        lines = [f"{name}={escape_value(value)}" for name, value in properties.items()]
        write_privately(self.properties_file, "\n".join([*lines, ""]))

    def _place(self, nodes: Sequence["Node"]) -> dict[str, str]:
        listener = SECURED if self.security else "PLAINTEXT"
        among_nodes = "SSL" if self.security else "PLAINTEXT"
        here = f"{listener}://{LOOPBACK}:{self.port}"
        return {
            "inter.broker.listener.name": listener,
            "listener.security.protocol.map": f"{listener}:{listener},CONTROLLER:{among_nodes}",
            "node.id": str(self.number),
            "log.dirs": str(self.data),
            "listeners": f"{here},CONTROLLER://{LOOPBACK}:{self.controller_port}",
            "advertised.listeners": here,
            "controller.quorum.voters": ",".join(
                f"{each.number}@{LOOPBACK}:{each.controller_port}" for each in nodes
            ),
        }

    def format_command(self, java: Sequence[str], cluster_id: str) -> list[str]:
        """Return the command that leaves its storage empty and ready."""
        return [
            *(*java, "kafka.tools.StorageTool", "format"),
            *("--cluster-id", cluster_id, "--config", str(self.properties_file)),
            *(self.security.format_options if self.security else ()),
        ]

    def server_command(self, java: Sequence[str]) -> list[str]:
        """Return the command that serves."""
        return [*java, "kafka.Kafka", str(self.properties_file)]


def by_size(nodes: int) -> dict[str, str]:
    """Return how many copies are made and waited for: with three nodes, one may be lost."""
    replicas = str(min(REPLICAS, nodes))
    waited_for = "2" if nodes >= REPLICAS else "1"
    return {
        "default.replication.factor": replicas,
        "min.insync.replicas": waited_for,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": waited_for,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": waited_for,
        # So long after a kill or a freeze, another broker leads the partitions: by default 9 s. And
        # so long does one that was killed wait before it is let in again.
        "broker.session.timeout.ms": "4000" if nodes >= REPLICAS else "2000",
    }


def java_command(java: Path, jars: Path, heap_mebibytes: int) -> list[str]:
    """Return the command that only lacks the class to run."""
    return [
        str(java),
        f"-Xmx{heap_mebibytes}m",
        *JAVA_OPTIONS,
        f"-Dlog4j2.configurationFile={LOG_SETTINGS}",
        *("-cp", f"{jars}/*"),
    ]


def escape_value(value: str) -> str:
    """Return a property's value as Java reads it."""
    return value.replace("\\", "\\\\").replace("\n", "\\n")
