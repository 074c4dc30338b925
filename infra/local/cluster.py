"""A PostgreSQL data folder: made once, wholly or not at all, and configured at every start."""

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from infra.local.binaries import Binaries
from infra.local.certificates import Pair
from infra.local.environment import inherit_environment
from infra.local.folder import PRIVATE_FOLDER, write_privately
from infra.local.identity import Identity
from infra.local.process import wait_until
from schemas.errors import TerminalError

SUPERUSER = "postgres"
INCLUDED_FILE = "sluiceway.conf"
CERTIFICATE_FILE = "sluiceway-certificate.pem"
KEY_FILE = "sluiceway-certificate.key"
SECURED_RULES_FILE = "sluiceway-hba.conf"
SECURED_RULES = "hostssl all all all scram-sha-256\n"
"""Who speaks in clear is refused, whoever it is."""
BUILTIN_LOCALE_SINCE = 17
LEFTOVER_DEADLINE_SECONDS = 10.0
READY_LINE = 7
"""Where postmaster.pid says `ready`; pg_ctl reads it there too."""


@dataclass(frozen=True)
class Cluster:
    """A data folder and the programs that made it."""

    folder: Path
    binaries: Binaries
    identity: Identity

    @property
    def password_file(self) -> Path:
        """Where the superuser's password is kept, beside the data folder."""
        return self.folder.parent / f"{self.folder.name}.password"

    @property
    def superuser_password(self) -> str:
        """The password that was generated when the folder was made."""
        return self.password_file.read_text(encoding="utf-8").strip()

    def is_served_by(self, pid: int) -> bool:
        """Whether that process takes connections for the folder; a killed one's word is no sign."""
        try:
            lines = (self.folder / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except OSError:
            return False
        return (
            len(lines) > READY_LINE
            and lines[0].strip() == str(pid)
            and lines[READY_LINE].strip() == "ready"
        )

    def prepare(self, *, sync: bool = True) -> list[str]:
        """Leave a data folder that this PostgreSQL can start on; returns what a person should know.

        Raises TerminalError where the folder is another version's, or a server runs on it.
        """
        version_file = self.folder / "PG_VERSION"
        if not version_file.exists():
            return self._create(sync=sync)
        found = version_file.read_text(encoding="utf-8").strip()
        if found != str(self.binaries.major_version):
            raise TerminalError(
                f"The data folder {self.folder} was written by PostgreSQL {found}, and this is "
                f"PostgreSQL {self.binaries.major_version}: dump it with the old version and load "
                "it again, or move the folder away to start with an empty one."
            )
        self._clear_leftovers()
        return self._open()

    def configure(self, settings: Mapping[str, str]) -> None:
        """Leave exactly these settings over PostgreSQL's own defaults."""
        lines = [f"{name} = {quote_value(value)}" for name, value in settings.items()]
        self._place(INCLUDED_FILE, "\n".join([*lines, ""]))

    def secure(self, pair: Pair) -> dict[str, str]:
        """Leave copies of a certificate and its key that the server may read.

        Returns the settings by which it speaks TLS to other programs, and nothing else.
        """
        self._place(CERTIFICATE_FILE, pair.certificate_file.read_text(encoding="utf-8"))
        self._place(KEY_FILE, pair.key_file.read_text(encoding="utf-8"))
        self._place(SECURED_RULES_FILE, SECURED_RULES)
        return {
            "ssl": "on",
            "ssl_cert_file": CERTIFICATE_FILE,
            "ssl_key_file": KEY_FILE,
            "hba_file": str(self.folder.absolute() / SECURED_RULES_FILE),
        }

    def _place(self, name: str, text: str) -> None:
        write_privately(self.folder / name, text)
        if self.identity.user_id is not None:
            os.chown(self.folder / name, self.identity.user_id, -1)

    def _create(self, *, sync: bool) -> list[str]:
        self.folder.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        if not self.password_file.exists():
            write_privately(self.password_file, secrets.token_urlsafe(24))
        draft = self.folder.with_name(f"{self.folder.name}.unfinished")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=PRIVATE_FOLDER)
        notes = self._open(draft)
        self._run_initdb(draft, sync=sync)
        with (draft / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(f"\ninclude_if_exists = '{INCLUDED_FILE}'\n")
        # A folder of the final name is always whole, wherever we were interrupted.
        draft.rename(self.folder)
        return notes

    def _open(self, folder: Path | None = None) -> list[str]:
        return [
            *self.identity.hand_over(folder or self.folder),
            *self.identity.open_parents(Path(self.binaries.program("postgres"))),
        ]

    def _run_initdb(self, draft: Path, *, sync: bool) -> None:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8") as password:
            password.write(self.superuser_password)
            password.flush()
            if self.identity.user_id is not None:
                os.chown(password.name, self.identity.user_id, -1)
            done = subprocess.run(  # noqa: S603 - PostgreSQL's own program
                [
                    *self.identity.prefix,
                    self.binaries.program("initdb"),
                    f"--pgdata={draft}",
                    f"--username={SUPERUSER}",
                    f"--pwfile={password.name}",
                    "--auth=scram-sha-256",
                    "--data-checksums",
                    "--encoding=UTF8",
                    *self._locale(),
                    *([] if sync else ["--no-sync"]),
                ],
                capture_output=True,
                text=True,
                check=False,
                env=inherit_environment(str(self.folder)) | {"LC_ALL": "C"},
                user=self.identity.user_id,
                group=self.identity.group_id,
                extra_groups=[] if self.identity.user_id is not None else None,
                # Ctrl-C on the terminal is ours to handle; this ends by itself within a second.
                start_new_session=True,
            )
        if done.returncode:
            last = " ".join((done.stderr or done.stdout).split())
            raise TerminalError(f"PostgreSQL could not make its data folder {self.folder}: {last}")

    def _locale(self) -> list[str]:
        if self.binaries.major_version >= BUILTIN_LOCALE_SINCE:
            return ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        return ["--locale=C.UTF-8", "--lc-messages=C"]

    def _clear_leftovers(self) -> None:
        """Leave no process and no pid file of a server that was killed."""
        pid_file = self.folder / "postmaster.pid"
        if not pid_file.exists():
            return
        first = pid_file.read_text(encoding="utf-8").split("\n", 1)[0]
        postmaster = int(first) if first.strip().isdigit() else 0
        if any(each.pid == postmaster for each in self.find_processes()):
            raise TerminalError(
                f"A PostgreSQL (process {postmaster}) already runs on {self.folder}: stop it first."
            )
        # Backends of a killed server notice, but not at once.
        if not wait_until(lambda: not self.find_processes(), LEFTOVER_DEADLINE_SECONDS):
            for each in self.find_processes():
                each.kill()
            wait_until(lambda: not self.find_processes(), LEFTOVER_DEADLINE_SECONDS)
        if psutil.pid_exists(postmaster):  # somebody else's now: PostgreSQL would not dare
            pid_file.unlink()

    def find_processes(self) -> list[psutil.Process]:
        """Return the server's processes: they, and nobody else, work in the data folder."""
        return [
            process
            for process in psutil.process_iter()
            if _working_folder(process) == str(self.folder.resolve())
        ]


def _working_folder(process: psutil.Process) -> str | None:
    try:
        if process.status() == psutil.STATUS_ZOMBIE or not process.name().startswith("postgres"):
            return None
        return process.cwd()
    except (psutil.Error, OSError):
        return None


def quote_value(value: str) -> str:
    """Return a setting's value as postgresql.conf takes it."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
