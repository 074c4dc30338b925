"""The embedded broker: Kafka's protocol in one small process, for the local stack and fast tests.

It is the server of the package `noida-db`, for development only. It keeps all messages in memory
and saves them a moment after they came: stop() loses nothing, a kill may lose what was acknowledged
within the last second or two.

`python -m infra.local.embedded_broker --port N --folder F` becomes one that runs in the foreground.
"""

import argparse
import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from infra.local.environment import inherit_environment
from infra.local.folder import PRIVATE_FOLDER
from infra.local.kafka_probe import list_brokers
from infra.local.ports import LOOPBACK, choose_port
from infra.local.process import Child, Launch, wait_until
from schemas.errors import SluicewayError, TerminalError

PACKAGE = "noida_db"
START_DEADLINE_SECONDS = 60.0
STOP_DEADLINE_SECONDS = 60.0
"""It writes everything it holds before it ends: 1.6 s for 45 MB of messages."""
PORT_ATTEMPTS = 3

TOPIC_LIMITS: Mapping[str, str] = {"retention.bytes": "16000000", "segment.bytes": "4000000"}
"""What a topic that lives long is to be created with, for each partition's size.

Every change rewrites the file of all messages, several times their size; the broker has limits for
a topic only, none of its own.
"""


def find_program() -> Path:
    """Return the broker's program; raises TerminalError where the package is not installed."""
    # The package is located, not imported: all there is to it is the program.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise TerminalError("The package noida-db is not installed: install the extra 'local'.")
    return Path(spec.origin).parent / "noida-db"


def serve_command(port: int, data_folder: Path) -> list[str]:
    """Return the command that serves that folder on that port of loopback."""
    return [
        *(str(find_program()), "start", "--only", "kafka", "--host", LOOPBACK),
        *("--kafka-port", str(port), "--data-dir", str(data_folder)),
    ]


class EmbeddedBroker:
    """One broker on one data folder. Not safe for use from several threads at once."""

    def __init__(
        self,
        data_folder: Path,
        *,
        port: int | None = None,
        log: Path | None = None,
        record_folder: Path | None = None,
        mark: str = "",
    ) -> None:
        """Describe the broker; nothing is started yet.

        port: by default one that is free, kept from the first start on.
        """
        self.data_folder = data_folder.absolute()
        self.log = log or self.data_folder.parent / f"{self.data_folder.name}.log"
        self._port = port
        self._record_folder = record_folder
        self._mark = mark or str(self.data_folder)
        self._child: Child | None = None

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
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        if self._port is None:
            self._port = choose_port()
        return self._port

    @port.setter
    def port(self, number: int) -> None:
        """Listen there from the next start on."""
        self._port = number

    @property
    def bootstrap_servers(self) -> str:
        """Where clients find it; the same after a restart."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def child(self) -> Child:
        """Its process; raises RuntimeError before the start and after the stop."""
        if self._child is None:
            raise RuntimeError("This embedded broker has not been started.")
        return self._child

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self._child is not None and self._child.is_running

    def start(self) -> None:
        """Return once it takes requests; raises TerminalError with the reason from its log."""
        for attempt in range(1, PORT_ATTEMPTS + 1):
            self.launch()
            try:
                self.wait_until_ready()
            except TerminalError:
                self.stop()
                taken = "is already in use" in self.log.read_text(errors="replace")
                if not taken or attempt == PORT_ATTEMPTS:
                    raise
                self._port = choose_port()
            else:
                return

    def launch(self) -> None:
        """Start the process, without waiting for it. Call this from the main thread."""
        self.data_folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        self._child = Child(
            Launch(
                name="embedded-broker",
                command=serve_command(self.port, self.data_folder),
                environment=inherit_environment(self._mark),
                log=self.log,
                record_folder=self._record_folder,
            )
        )

    def wait_until_ready(self, deadline_seconds: float = START_DEADLINE_SECONDS) -> None:
        """Return once it takes requests; raises TerminalError where it ends or is too slow."""
        child = self.child  # stop() may take it away while we wait in another thread
        port = self.port

        def look() -> bool:
            answers = child.listens_on(port) and bool(list_brokers(port))
            return answers or not child.is_running

        came = wait_until(look, deadline_seconds)
        if not child.is_running:
            raise child.explain_end()
        if not came:
            raise TerminalError(
                f"The embedded broker took no requests within {deadline_seconds:.0f} s; see "
                f"{self.log}."
            )

    def stop(self) -> None:
        """End it once all it holds is on disk. Nothing happens when stopped."""
        if self._child is not None:
            child, self._child = self._child, None
            child.stop(STOP_DEADLINE_SECONDS)

    def kill(self) -> None:
        """End it at once, as `kill -9` does; what came in the last moments is lost."""
        child, self._child = self.child, None
        child.stop(0)

    def restart(self) -> None:
        """Start it again on the same port, after kill() or stop()."""
        self.stop()
        self.start()


def main(arguments: list[str] | None = None) -> int:
    """Become the broker; return 1 with a sentence on stderr where it cannot be."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.local.embedded_broker",
        description="Run the embedded broker on loopback until Ctrl-C or SIGTERM.",
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="where it keeps its data")
    given = parser.parse_args(arguments)
    try:
        command = serve_command(given.port, given.folder.absolute())
        given.folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        os.execv(command[0], command)  # noqa: S606 - signals are to reach it and nobody between
    except OSError as error:
        sys.stderr.write(f"The embedded broker cannot run in {given.folder}: {error}.\n")
    except SluicewayError as error:
        sys.stderr.write(f"{error}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
