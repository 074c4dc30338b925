"""Processes of ours: each in a session of its own, logged, recorded, and stopped with its kin."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from infra.local.environment import STACK_MARK
from infra.local.folder import write_privately
from schemas.errors import TerminalError

PR_SET_PDEATHSIG = 1
POLL_SECONDS = 0.02
CLOCK_TOLERANCE_SECONDS = 2.0
"""A start time is worked out from the boot time, which moves when the clock is set."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What to start, and how it should end."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    record_folder: Path | None = None
    """Where `<name>.json` says which process this is, for whoever has to clean up."""
    working_folder: Path | None = None
    user_id: int | None = None
    group_id: int | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    """Asks the process to end; it is also sent when the process that started it dies."""
    ends_children: bool = False
    """Whether it tells its children itself, and waits for them: they are not told twice."""


class Child:
    """A process that was started by this one, and all that it starts in its turn."""

    def __init__(self, launch: Launch) -> None:
        """Start it. Call this from the main thread: the child dies with the thread it came from."""
        self.launch = launch
        launch.log.parent.mkdir(parents=True, exist_ok=True)
        if launch.log.exists():
            launch.log.replace(launch.log.with_suffix(".log.1"))
        with launch.log.open("wb") as log:
            self._popen = subprocess.Popen(  # noqa: S603 - commands are composed here, never by users
                list(launch.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=launch.working_folder,
                env=dict(launch.environment),
                start_new_session=True,
                # It makes one system call, and no lock is taken between fork and exec.
                preexec_fn=die_with_parent(launch.stop_signal),  # noqa: PLW1509
                user=launch.user_id,
                group=launch.group_id,
                extra_groups=[] if launch.user_id is not None else None,
            )
        self.create_time = _create_time(self.pid)
        if launch.record_folder is not None:
            write_privately(self._record, json.dumps(self._description()))

    @property
    def name(self) -> str:
        """What a person calls it."""
        return self.launch.name

    @property
    def pid(self) -> int:
        """Its process id, which is also its session's."""
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended; its descendants may outlive it."""
        return self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Its exit code, negative for a signal; None while it runs."""
        return self._popen.poll()

    def listens_on(self, port: int) -> bool:
        """Whether it is this process, and no other, that takes connections on that port."""
        try:
            found = psutil.Process(self.pid).net_connections("tcp")
        except psutil.Error:
            return False
        return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in found)

    def send_signal(self, number: signal.Signals) -> None:
        """Deliver a signal to this process alone; nothing happens where it has ended."""
        self._popen.send_signal(number)

    def stop(self, deadline_seconds: float = 10.0) -> None:
        """Leave none of its session: asked first, killed after the deadline."""
        if self.launch.ends_children:
            self.send_signal(self.launch.stop_signal)
            wait_until(lambda: not self.session(), deadline_seconds)
            deadline_seconds = 0
        end(self.session, deadline_seconds, self.launch.stop_signal)
        self._popen.wait()
        self.forget()

    def forget(self) -> None:
        """Remove its record."""
        if self.launch.record_folder is not None:
            self._record.unlink(missing_ok=True)

    def session(self) -> list[psutil.Process]:
        """Return the processes of its session that still run, itself among them."""
        reaped = self._popen.poll() is not None
        found = session_members(self.pid, self.create_time)
        if not reaped:
            return found
        # The number may have been given away since: take only what carries our mark.
        mark = self.launch.environment.get(STACK_MARK)
        return [each for each in found if mark and read_mark(each) == mark]

    def read_log(self, lines: int = 20) -> str:
        """Return the last lines of its log."""
        text = self.launch.log.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def explain_end(self) -> TerminalError:
        """Return the error that says that it ended by itself, with the last it said."""
        return TerminalError(
            f"{self.name} ended by itself (exit code {self.exit_code}); the end of its log "
            f"{self.launch.log} is:\n{self.read_log()}"
        )

    @property
    def _record(self) -> Path:
        return (self.launch.record_folder or Path()) / f"{self.name}.json"

    def _description(self) -> dict[str, str | int | float]:
        return {
            "name": self.name,
            "pid": self.pid,
            "create_time": self.create_time,
            "stop_signal": int(self.launch.stop_signal),
        }


def die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """Return what a new process runs before its program, so that it ends with its parent.

    Linux only; None elsewhere, where orphans are left to `down`.
    """
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def arrange() -> None:
        libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # it died before the call above
            os._exit(1)

    return arrange


def wait_until(condition: Callable[[], bool], deadline_seconds: float) -> bool:
    """Return whether the condition came true before the deadline."""
    end_time = time.monotonic() + deadline_seconds
    while not condition():
        if time.monotonic() >= end_time:
            return False
        time.sleep(POLL_SECONDS)
    return True


def end(
    find: Callable[[], Iterable[psutil.Process]],
    deadline_seconds: float,
    number: signal.Signals = signal.SIGTERM,
) -> None:
    """Leave none of the processes found: each asked once by that signal, then killed."""
    asked: set[int] = set()

    def ask() -> bool:
        found = list(find())
        for process in found:
            if process.pid not in asked:
                asked.add(process.pid)
                _send(process, number)
        return not found

    def kill() -> bool:
        found = list(find())
        for process in found:
            _send(process, signal.SIGKILL)
        return not found

    if deadline_seconds <= 0 or not wait_until(ask, deadline_seconds):
        wait_until(kill, 10)


def session_members(session_id: int, started_after: float) -> list[psutil.Process]:
    """Return the running processes of a session, dead ones that nobody has waited for left out."""
    members = []
    for process in psutil.process_iter():
        try:
            if (
                os.getsid(process.pid) == session_id
                and process.status() != psutil.STATUS_ZOMBIE
                and process.create_time() >= started_after - CLOCK_TOLERANCE_SECONDS
            ):
                members.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess, PermissionError):
            continue  # it ended while we looked, or is somebody else's
    return members


def read_mark(process: psutil.Process) -> str | None:
    """Return the stack a process belongs to; None where it belongs to none or cannot be asked."""
    try:
        return process.environ().get(STACK_MARK)
    except (psutil.Error, OSError):
        return None


def find_process(pid: int, create_time: float) -> psutil.Process | None:
    """Return the process of that id and start, or None where it has ended."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - create_time) <= CLOCK_TOLERANCE_SECONDS
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _create_time(pid: int) -> float:
    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return time.time()


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
