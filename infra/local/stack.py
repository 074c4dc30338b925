"""The local stack's services, each startable by itself and all stopped together."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from infra.cell_keys import make_key
from infra.local.binaries import find_secured_binaries
from infra.local.certificates import issue_certificates
from infra.local.embedded_broker import EmbeddedBroker
from infra.local.environment import inherit_environment
from infra.local.folder import StateFolder
from infra.local.kafka import ApacheKafka
from infra.local.kafka_security import MECHANISM, Security
from infra.local.orphans import end_orphans
from infra.local.postgres import Postgres
from infra.local.prefect_server import client_environment, server_command, server_environment
from infra.local.process import Child, Launch
from infra.local.revival import Revival

DATABASE = "sluiceway"
OWNER = "sluiceway_owner"
PREFECT = "prefect"
KAFKA_USER = "sluiceway"
STOP_DEADLINE_SECONDS = 25.0
ABANDON_DEADLINE_SECONDS = 2.0
"""For a stack that never was complete: Prefect's server hears nothing while it migrates, and
loses nothing when it is killed then."""


class Stack:
    """PostgreSQL, a broker, and the processes that use them. Start them from the main thread."""

    def __init__(self, folder: StateFolder, checkout: Path) -> None:
        """Choose its ports; nothing is started yet.

        Raises TerminalError where the keys of what is there are gone, or the folder is of the kind
        that speaks TLS and a program for it is missing.
        """
        self.folder = folder
        self.checkout = checkout
        binaries = find_secured_binaries() if folder.is_secured else None
        self.certificates = issue_certificates(folder.certificates) if folder.is_secured else None
        """None: everything is said in clear, on loopback."""
        self.postgres = Postgres(
            folder.data,
            bin_folder=binaries.folder if binaries else None,
            log=folder.logs / "postgres.log",
            record_folder=folder.run,
            mark=folder.mark,
            certificates=self.certificates,
        )
        self.broker = self._describe_broker()
        self.personal_keys = {
            "SLUICEWAY_CELL_KEYS": folder.key("cell-keys", make_key),
            "SLUICEWAY_INDEX_KEYS": folder.key("index-keys", make_key),
        }
        """What personal cells are encrypted with and found by, for who reads and writes them."""
        self.prefect_port = folder.port("prefect")
        self.is_complete = False
        """Whether all was started; an incomplete stack is stopped with less patience."""
        self._children: list[Child | Revival] = []
        self._apart: list[Revival] = []

    @property
    def owner_url(self) -> str:
        """The platform's database, as the role that owns it."""
        return self.postgres.url(DATABASE, user=OWNER, password=self.folder.secret(OWNER))

    @property
    def client_environment(self) -> dict[str, str]:
        """What a program needs to use this stack's Prefect server, and to deploy to it."""
        return client_environment(self.folder, self.prefect_port, self.certificates) | {
            # prefect.yaml tells flow runs by this where the code is.
            "SLUICEWAY_CHECKOUT": str(self.checkout),
        }

    async def start_postgres(self) -> None:
        """Leave PostgreSQL running, with a database for the platform and one for Prefect."""
        self.postgres.port = self.folder.port("postgres")
        self.postgres.prepare()
        self.postgres.launch()
        # Recovery after a crash can take long, and Ctrl-C has to be heard meanwhile.
        await asyncio.to_thread(self.postgres.wait_until_ready)
        for role, database in ((OWNER, DATABASE), (PREFECT, PREFECT)):
            options = "CREATEROLE" if role == OWNER else ""
            self.postgres.ensure_role(role, self.folder.secret(role), options=options)
            self.postgres.ensure_database(database, owner=role)

    @property
    def broker_environment(self) -> dict[str, str]:
        """What reaches the broker, once it has been started."""
        servers = {"SLUICEWAY_KAFKA_BOOTSTRAP_SERVERS": self.broker.bootstrap_servers}
        if self.certificates is None:
            return servers | {
                "SLUICEWAY_KAFKA_SECURITY": "plaintext",
                # The embedded broker answers an idle fetch at once.
                "SLUICEWAY_KAFKA_IDLE_PAUSE_SECONDS": "0.1",
            }
        return servers | {
            "SLUICEWAY_KAFKA_SECURITY": "sasl_ssl",
            "SLUICEWAY_KAFKA_SCRAM": MECHANISM,
            "SLUICEWAY_KAFKA_CA_FILE": str(self.certificates.ca_file),
            "SLUICEWAY_KAFKA_USER": KAFKA_USER,
            "SLUICEWAY_KAFKA_PASSWORD": self.folder.secret("kafka"),
        }

    async def start_broker(self) -> None:
        """Leave the broker running: Apache Kafka over TLS, or the embedded one in clear."""
        if isinstance(self.broker, ApacheKafka):
            await asyncio.to_thread(self.broker.prepare)
        else:
            self.broker.port = self.folder.port("broker")
        self.broker.launch()
        # Reading what it holds can take seconds, and Ctrl-C has to be heard meanwhile.
        await asyncio.to_thread(self.broker.wait_until_ready)

    def keep_prefect_server(self) -> Revival:
        """Start the Prefect server, without waiting for it."""
        url = self.postgres.url(PREFECT, user=PREFECT, password=self.folder.secret(PREFECT))
        return self.keep(
            "prefect-server",
            server_command(self.prefect_port, self.certificates),
            server_environment(self.folder, self.prefect_port, url, self.certificates),
        )

    def start(self, name: str, command: list[str], environment: Mapping[str, str]) -> Child:
        """Start a process of the stack; it is logged, recorded and stopped with the others."""
        child = Child(self._describe(name, command, environment))
        self._children.append(child)
        return child

    def keep(
        self,
        name: str,
        command: list[str],
        environment: Mapping[str, str],
        *,
        ends_children: bool = False,
        is_apart: bool = False,
    ) -> Revival:
        """Start a process of the stack that is started again whenever it ends.

        is_apart: no other process needs it, so that it need not wait for its turn to stop.
        """
        described = self._describe(name, command, environment)
        revival = Revival(replace(described, ends_children=ends_children))
        self._children.append(revival)
        if is_apart:
            self._apart.append(revival)
        return revival

    def _describe_broker(self) -> EmbeddedBroker | ApacheKafka:
        folder = self.folder
        if self.certificates is None:
            return EmbeddedBroker(
                folder.broker,
                log=folder.logs / "embedded-broker.log",
                record_folder=folder.run,
                mark=folder.mark,
            )
        pair = self.certificates.pair("kafka")
        security = Security(
            certificate_file=pair.certificate_file,
            key_file=pair.key_file,
            ca_file=self.certificates.ca_file,
            broker_password=folder.secret("kafka-broker"),
            users={KAFKA_USER: folder.secret("kafka")},
        )
        return ApacheKafka(
            folder.broker,
            security=security,
            log_folder=folder.logs,
            record_folder=folder.run,
            mark=folder.mark,
        )

    def _describe(self, name: str, command: list[str], environment: Mapping[str, str]) -> Launch:
        return Launch(
            name=name,
            command=command,
            environment={
                **inherit_environment(self.folder.mark),
                # Prefect's runners share one folder of a fixed name there, and a machine's
                # users would get into each other's way.
                "TMPDIR": str(self.folder.temporary),
                **environment,
            },
            log=self.folder.logs / f"{name}.log",
            record_folder=self.folder.run,
            working_folder=self.checkout,
        )

    def look_after(self) -> None:
        """Start again what is to be kept alive and has ended.

        Raises TerminalError where another process of the stack has ended by itself, or one ends
        again and again.
        """
        broker = self.broker
        servers = (
            self.postgres.child,
            broker.child() if isinstance(broker, ApacheKafka) else broker.child,
        )
        for each in (*servers, *self._children):
            if isinstance(each, Revival):
                each.tend()
            elif not each.is_running:
                raise each.explain_end()

    def dismiss(self, child: Child) -> None:
        """Expect that process no longer: it has done its work."""
        child.stop()
        self._children.remove(child)

    def stop(self) -> None:
        """Leave no process of the stack; the last to be started goes first, the servers last."""
        deadline = STOP_DEADLINE_SECONDS if self.is_complete else ABANDON_DEADLINE_SECONDS
        for each in self._apart:
            each.child.send_signal(each.child.launch.stop_signal)
        while self._children:
            last = self._children[-1]
            (last.child if isinstance(last, Revival) else last).stop(deadline)
            self._children.pop()
        self.broker.stop()
        self.postgres.stop()
        # What a flow run started in a session of its own is still ours to end.
        end_orphans(self.folder.run, self.folder.mark)
