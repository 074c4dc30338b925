"""An Apache Kafka of our own, of one node or three: started, stopped, killed and frozen.

`python -m infra.local.kafka` starts one, says where it is and stays until Ctrl-C or SIGTERM.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from infra.local.environment import inherit_environment
from infra.local.folder import PRIVATE_FOLDER, StateFolder
from infra.local.java import find_java
from infra.local.kafka_jars import CHECKOUT, find_jars
from infra.local.kafka_node import HEAP_MEBIBYTES, Node, java_command
from infra.local.kafka_probe import list_brokers
from infra.local.kafka_security import Security
from infra.local.kafka_storage import prepare_storage
from infra.local.lock import Lock
from infra.local.orphans import end_orphans
from infra.local.ports import LOOPBACK
from infra.local.process import Child, Launch, wait_until
from schemas.errors import SluicewayError, TerminalError

START_DEADLINE_SECONDS = 120.0
STOP_DEADLINE_SECONDS = 15.0
"""The last of three finds no controller to say goodbye to, and would wait for minutes."""
INTERRUPTED = 130
"""The exit code a shell gives to a command that was interrupted."""
PORT_ATTEMPTS = 3
WATCH_SECONDS = 0.5


class ApacheKafka:
    """A KRaft cluster on loopback, in one folder. Not safe for use from several threads at once."""

    def __init__(
        self,
        folder: Path,
        *,
        nodes: int = 1,
        properties: Mapping[str, str] | None = None,
        jars: Path | None = None,
        java: Path | None = None,
        heap_mebibytes: int | None = None,
        security: Security | None = None,
        log_folder: Path | None = None,
        record_folder: Path | None = None,
        mark: str = "",
    ) -> None:
        """Describe the cluster; nothing is started yet.

        nodes: 1 or 3, each broker and controller, numbered from 1; the folder keeps to the number.
        properties: over those of infra/local/kafka_node.py, for each node.
        security: TLS and SCRAM for clients and between brokers; None: neither.
        mark, record_folder: of the stack that it is a part of, which ends it where it was left
        behind; by default its own, as log_folder is.
        Raises TerminalError where the jars or a Java are missing, saying what to do.
        """
        if nodes not in HEAP_MEBIBYTES:
            raise TerminalError(f"A local Kafka has 1 node or 3, not {nodes}.")
        self.folder = folder.absolute()
        self._java = java_command(
            java or find_java(), jars or find_jars(), heap_mebibytes or HEAP_MEBIBYTES[nodes]
        )
        self._count = nodes
        self._properties = dict(properties or {})
        self._security = security
        self._log_folder = log_folder
        self._records = record_folder or self.folder / "run"
        self._mark = mark or str(self.folder)
        self._is_part = bool(mark)
        self._lock = Lock(self.folder / "lock")
        self._nodes: dict[int, Node] = {}
        self._children: dict[int, Child] = {}
        self._frozen: set[int] = set()

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it."""
        self.stop()

    @property
    def nodes(self) -> Mapping[int, Node]:
        """The nodes by number, with their ports, which are chosen at the first look or start."""
        if not self._nodes:
            self._nodes = {each.number: each for each in self._choose_ports()}
        return self._nodes

    @property
    def bootstrap_servers(self) -> str:
        """Where clients find it; the same after a restart."""
        return ",".join(f"{LOOPBACK}:{each.port}" for each in self.nodes.values())

    @property
    def is_running(self) -> bool:
        """Whether every node's process lives."""
        return len(self._children) == self._count and all(
            child.is_running for child in self._children.values()
        )

    def child(self, number: int = 1) -> Child:
        """Return a node's process; raises RuntimeError where it was not started, or was killed."""
        if number not in self._children:
            raise RuntimeError(f"Node {number} of this Kafka has not been started.")
        return self._children[number]

    def start(self) -> None:
        """Return once every node takes requests and knows the others.

        The first start formats the storage. Raises TerminalError with the reason from a node's log.
        """
        self._claim()
        try:
            for attempt in range(1, PORT_ATTEMPTS + 1):
                self._format()
                self.launch()
                try:
                    self.wait_until_ready()
                except TerminalError:
                    taken = any(
                        "Address already in use" in child.read_log()
                        for child in self._children.values()
                    )
                    if not taken or attempt == PORT_ATTEMPTS:
                        raise
                    self._end_nodes()
                    self._nodes = {}
                else:
                    return
        except BaseException:
            self.stop()
            raise

    def prepare(self) -> None:
        """Leave storage that every node can start on; the first time takes seconds."""
        self._claim()
        self._format()

    def launch(self) -> None:
        """Start every node, without waiting for them, after prepare().

        Call this from the main thread.
        """
        for number in self.nodes:
            self.launch_node(number)

    def stop(self) -> None:
        """Leave none of its processes; nothing acknowledged is lost. Nothing happens when stopped.

        Nodes that have not ended by themselves after a while are killed.
        """
        self._end_nodes()
        self._nodes = {}  # looked up again at the next start: a port may have been taken meanwhile
        self._lock.release()

    def restart(self) -> None:
        """Stop all nodes and start them again."""
        self.stop()
        self.start()

    def kill(self, number: int = 1) -> None:
        """End a node at once, as `kill -9` does; start_node() brings it back."""
        self.child(number).stop(0)
        del self._children[number]
        self._frozen.discard(number)

    def start_node(self, number: int = 1) -> None:
        """Return once a killed node is back, at its old port, and known to the others that live."""
        self.launch_node(number)
        self.wait_until_ready()

    def launch_node(self, number: int = 1) -> None:
        """Start a killed node without waiting for it. Call this from the main thread.

        An event loop waits by `asyncio.to_thread(kafka.wait_until_ready)`, and leaves the cluster
        alone meanwhile.
        """
        if number in self._children and self._children[number].is_running:
            raise RuntimeError(f"Node {number} of this Kafka runs already.")
        node = self.nodes[number]
        self._children[number] = Child(
            Launch(
                name=node.name,
                command=node.server_command(self._java),
                environment=self._environment,
                log=node.log,
                record_folder=self._records,
            )
        )

    def freeze(self, number: int = 1) -> None:
        """Suspend a node by SIGSTOP: its connections stay open and nothing answers any more."""
        child = self.child(number)
        child.send_signal(signal.SIGSTOP)
        # Its threads stop one by one, and until the last has, one may answer.
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        self._frozen.add(number)

    def thaw(self, number: int = 1) -> None:
        """Let a frozen node go on, without waiting until the others have it back."""
        self.child(number).send_signal(signal.SIGCONT)
        self._frozen.discard(number)

    def wait_until_ready(self, deadline_seconds: float = START_DEADLINE_SECONDS) -> None:
        """Return once every node that lives, frozen ones aside, answers and knows all of them.

        Raises TerminalError where one ends, or it takes too long.
        """
        expected = self._children.keys() - self._frozen
        waiting = set(expected)

        def look() -> bool:
            for number in sorted(waiting):
                child, port = self._children[number], self.nodes[number].port
                if not child.is_running:
                    return True
                # One that speaks TLS tells nothing to a probe that has no login.
                if child.listens_on(port) and (
                    self._security is not None or expected <= list_brokers(port)
                ):
                    waiting.discard(number)
            return not waiting

        came = wait_until(look, deadline_seconds)
        self.raise_for_ended()
        if not came:
            log = self.nodes[min(waiting)].log
            raise TerminalError(
                f"Apache Kafka was not ready within {deadline_seconds:.0f} s: node "
                f"{min(waiting)} does not answer, or does not know the others; see {log}."
            )

    def raise_for_ended(self) -> None:
        """Raise TerminalError where a node has ended by itself."""
        for child in self._children.values():
            if not child.is_running:
                raise child.explain_end()

    @property
    def _environment(self) -> dict[str, str]:
        return inherit_environment(self._mark)

    def _claim(self) -> None:
        for folder in (self.folder, self._records):
            folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        if not self._lock.acquire():
            raise TerminalError(f"An Apache Kafka already runs on {self.folder}: stop it first.")
        if not self._is_part:
            # Of a starter that was killed; its nodes need a moment to notice.
            end_orphans(self._records, self._mark)

    def _format(self) -> None:
        nodes = [*self.nodes.values()]
        for node in nodes:
            node.write_properties(nodes, self._properties)
        prepare_storage(self.folder, nodes, self._java, self._environment)

    def _choose_ports(self) -> Iterable[Node]:
        self.folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        state = StateFolder(self.folder)
        for number in range(1, self._count + 1):
            yield Node(
                number,
                self.folder,
                port=state.port(f"broker-{number}"),
                controller_port=state.port(f"controller-{number}"),
                security=self._security,
                log_folder=self._log_folder,
            )

    def _end_nodes(self) -> None:
        for number in sorted(self._frozen):
            self.thaw(number)
        for child in self._children.values():
            child.send_signal(child.launch.stop_signal)
        end_time = time.monotonic() + STOP_DEADLINE_SECONDS
        wait_until(
            lambda: not any(child.is_running for child in self._children.values()),
            STOP_DEADLINE_SECONDS,
        )
        while self._children:
            _, child = self._children.popitem()
            child.stop(max(0.0, end_time - time.monotonic()))


def main(arguments: list[str] | None = None) -> int:
    """Return 0 when a Kafka that was up is stopped; a mistake is one sentence on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.local.kafka",
        description="Start an Apache Kafka on loopback and keep it until Ctrl-C or SIGTERM.",
    )
    parser.add_argument("--nodes", type=int, choices=sorted(HEAP_MEBIBYTES), default=1)
    parser.add_argument(
        "--folder", type=Path, help="where it keeps its data (default: .sluiceway/kafka-NODES)"
    )
    given = parser.parse_args(arguments)
    folder = given.folder or CHECKOUT / ".sluiceway" / f"kafka-{given.nodes}"
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    exit_code = INTERRUPTED
    try:
        with ApacheKafka(folder, nodes=given.nodes) as kafka:
            exit_code = 0
            _say(f"Apache Kafka takes requests at {kafka.bootstrap_servers}")
            _say(f"Its data is in {kafka.folder}. Ctrl-C stops it.")
            while True:
                kafka.raise_for_ended()
                time.sleep(WATCH_SECONDS)
    except SluicewayError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        _say("Stopped.")
    return exit_code


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # an impatient second one leaves no process behind
    raise KeyboardInterrupt


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
