"""One supervisor for one checkout: who it is, what it has reached, and how it is interrupted."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import psutil

from infra.local.folder import StateFolder, read_json, write_privately
from infra.local.lock import Lock
from infra.local.process import find_process
from schemas.errors import TerminalError

INTERRUPTED = 130
"""The exit code a shell gives to a command that was interrupted."""
READY = "ready"
STARTING = "starting"


@dataclass(frozen=True, slots=True)
class Found:
    """A supervisor that lives, as it described itself."""

    process: psutil.Process
    mode: str
    state: str
    environment: dict[str, str]
    is_secured: bool
    """Whether its stack speaks TLS."""

    @property
    def command(self) -> str:
        """What a person said to make."""
        return f"{self.mode} ARGS=--tls" if self.is_secured else self.mode


class Supervision:
    """The right to run a stack in this checkout, and the note that says who has it."""

    def __init__(self, folder: StateFolder) -> None:
        """Name the folder; nothing is claimed yet."""
        self._folder = folder
        self._lock = Lock(folder.lock)
        self._note = folder.root / "supervisor.json"
        self._mode = ""

    def claim(self, mode: str) -> bool:
        """Return whether this process may run the stack from now on."""
        self._folder.make()
        if not self._lock.acquire():
            return False
        self._mode = mode
        self.announce(STARTING, {})
        return True

    def announce(self, state: str, environment: dict[str, str]) -> None:
        """Let other commands know how far the stack is and how to reach it."""
        me = psutil.Process()
        note = {
            "pid": me.pid,
            "create_time": me.create_time(),
            "mode": self._mode,
            "state": state,
            "environment": environment,
            "is_secured": self._folder.is_secured,
        }
        write_privately(self._note, json.dumps(note))

    def release(self) -> None:
        """Let the next one have the checkout."""
        self._note.unlink(missing_ok=True)
        self._lock.release()

    def find(self) -> Found | None:
        """Return the supervisor that lives, None where there is none."""
        note = read_json(self._note)
        if not note:
            return None
        process = find_process(note["pid"], note["create_time"])
        if process is None:
            return None
        return Found(
            process, note["mode"], note["state"], note["environment"], note.get("is_secured", False)
        )

    def describe(self) -> TerminalError:
        """Return the sentence for whoever finds the checkout taken."""
        found = self.find()
        if found is None:
            return TerminalError("Another command is using this checkout's stack; try again.")
        return TerminalError(
            f"A stack is already {'running' if found.state == READY else found.state} in this "
            f"checkout (make {found.command}, process {found.process.pid}): "
            "stop it with `make down` first."
        )


def run_interruptibly(work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Return what the work returned, or 130 where Ctrl-C or SIGTERM ended it.

    The first signal cancels the work, which cleans up in its `finally`; later ones do nothing, so
    that an impatient second Ctrl-C leaves no process behind.
    """
    try:
        return asyncio.run(_guard(work))
    except asyncio.CancelledError:
        return INTERRUPTED


async def _guard(work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work())

    def interrupt() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, _do_nothing)
        sys.stderr.write("\nStopping what was started …\n")
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, interrupt)
    return await task


def _do_nothing() -> None:
    return


def adopt(environment: dict[str, str]) -> None:
    """Make this process use that Prefect server, and nothing that the shell said about another."""
    for name in [each for each in os.environ if each.startswith("PREFECT_")]:
        del os.environ[name]
    os.environ.update(environment)
