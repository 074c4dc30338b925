"""The folder that holds all a local stack keeps: data, logs, secrets, ports, running processes."""

import base64
import json
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local.ports import choose_port
from schemas.errors import TerminalError

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


def write_privately(path: Path, text: str) -> None:
    """Leave that text in the file, readable by its owner only; a crash leaves the old text."""
    draft = path.with_name(f"{path.name}.new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)


@dataclass(frozen=True, slots=True)
class StateFolder:
    """`.sluiceway/` of a checkout. Everything below is private to its owner."""

    root: Path
    is_secured: bool = False
    """Whether the stack speaks TLS: its data, keys and passwords are apart from the other's."""

    @property
    def own(self) -> Path:
        """What a stack of the other kind does not touch."""
        return self.root / "tls" if self.is_secured else self.root

    @property
    def data(self) -> Path:
        """PostgreSQL's data folder."""
        return self.own / "postgres" / "data"

    @property
    def broker(self) -> Path:
        """The broker's data folder."""
        return self.own / ("kafka" if self.is_secured else "broker")

    @property
    def certificates(self) -> Path:
        """The CA of a stack that speaks TLS, and its services' certificates."""
        return self.own / "certificates"

    @property
    def logs(self) -> Path:
        """One log file per process."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """One file per running process."""
        return self.root / "run"

    @property
    def prefect(self) -> Path:
        """Prefect's home."""
        return self.own / "prefect"

    @property
    def temporary(self) -> Path:
        """Temporary files of the stack's processes."""
        return self.root / "tmp"

    @property
    def lock(self) -> Path:
        """Held by the one process that supervises a stack here."""
        return self.root / "lock"

    @property
    def environment_file(self) -> Path:
        """Lines for a shell, so that it reaches the stack."""
        return self.root / "env"

    @property
    def mark(self) -> str:
        """What every process of a stack in this folder carries in its environment."""
        return str(self.root)

    def make(self) -> None:
        """Create the folder and those below it that the stack's processes expect."""
        for folder in (
            self.root,
            self.own,
            self.data.parent,
            self.logs,
            self.run,
            self.prefect,
            self.temporary,
        ):
            folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)

    def secret(self, name: str) -> str:
        """Return the secret of that name, the same for as long as the folder lives."""
        path = self._secret_file(name)
        if not path.exists():
            write_privately(path, secrets.token_urlsafe(24))
        return path.read_text(encoding="utf-8")

    def key(self, name: str, make: Callable[[], str]) -> str:
        """Return the key of that name, made once for what PostgreSQL's folder is to hold.

        Raises TerminalError where the key is gone and that folder is not: a new one would read
        nothing of what is there.
        """
        path = self._secret_file(name)
        note = self.data.parent / f"{name}.made"
        if not path.exists():
            if note.exists():
                raise TerminalError(
                    f"The key {path} is gone, and what was encrypted with it is still in "
                    f"{self.data}: put the file back, or begin anew with `make clean`."
                )
            write_privately(path, make())
        note.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        note.touch(mode=PRIVATE_FILE)
        return path.read_text(encoding="utf-8").strip()

    def _secret_file(self, name: str) -> Path:
        path = self.own / "secrets" / name
        for folder in (self.root, self.own, path.parent):
            folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        return path

    def port(self, name: str) -> int:
        """Return a free port, last time's where it can be had, so that addresses stay the same."""
        path = self.root / "ports.json"
        known: dict[str, Any] = read_json(path)
        # Another's may be free only because its server has not been started yet.
        others = [port for owner, port in known.items() if owner != name]
        known[name] = choose_port(known.get(name), avoid=others)
        write_privately(path, json.dumps(known))
        return int(known[name])


def make_fernet_key() -> str:
    """Return a new key in the form that Fernet takes, and so Prefect."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in that file, or an empty one where there is none (or half of one)."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
