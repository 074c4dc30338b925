"""What an earlier stack left running because its supervisor was killed: found, and ended."""

import signal
from functools import partial
from pathlib import Path

import psutil

from infra.local.folder import read_json
from infra.local.process import end, find_process, read_mark

DEADLINE_SECONDS = 10.0


def find_recorded(record_folder: Path) -> list[tuple[psutil.Process, signal.Signals]]:
    """Return the recorded processes that still run, each with the signal that asks it to end."""
    found = []
    for path in sorted(record_folder.glob("*.json")):
        record = read_json(path)
        if not {"pid", "create_time", "stop_signal"} <= record.keys():
            continue
        process = find_process(int(record["pid"]), float(record["create_time"]))
        if process is not None:
            found.append((process, signal.Signals(record["stop_signal"])))
    return found


def find_marked(mark: str) -> list[psutil.Process]:
    """Return the running processes that carry the stack's mark, whatever session they are in."""
    return [
        process
        for process in psutil.process_iter()
        if read_mark(process) == mark and process.status() != psutil.STATUS_ZOMBIE
    ]


def end_orphans(
    record_folder: Path, mark: str, *, deadline_seconds: float = DEADLINE_SECONDS
) -> int:
    """Leave no process of an earlier stack; return how many there were.

    Call it only while holding the stack's lock: it ends a living stack too.
    """
    recorded = find_recorded(record_folder)
    kin = {each.pid: each for process, _ in recorded for each in [process, *_descendants(process)]}
    kin |= {each.pid: each for each in find_marked(mark)}
    # PostgreSQL's own processes end with their postmaster; told to end singly, they report a crash.
    for process, number in recorded:
        end(partial(_running, [process]), deadline_seconds, number)
    end(lambda: _running([*kin.values(), *find_marked(mark)]), deadline_seconds)
    for path in record_folder.glob("*.json"):
        path.unlink(missing_ok=True)
    return len(kin)


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _running(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [
        each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE
    ]
