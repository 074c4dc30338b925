"""Whether a certain process lives, told from every other one that has or had its number.

A process number is used again after a reboot, after some thousand processes, and in every
container at once. With the machine's boot, the namespace of the numbers and the instant the process
began, it names one process for ever.
"""

import os
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path

_PROC = Path("/proc")
_STATE, _START = 0, 19
"""Places in /proc/<pid>/stat, counted from the first field after the command's name."""


class Sight(Enum):
    """What can be seen of a process from here."""

    LIVES = auto()
    GONE = auto()
    UNSEEN = auto()
    """It is, or was, on another machine, in another container, or hidden from this user."""


def identify_process(process_id: int) -> str | None:
    """Return boot/namespace/pid/start of a process; None where the system does not say."""
    place, start = _identify_place(), _read_start(process_id)
    return f"{place}/{process_id}/{start}" if place and start else None


def see_process(identity: str | None) -> Sight:
    """Tell whether that process lives; what cannot be known for sure is UNSEEN."""
    place, _, process = (identity or "").rpartition("/")[0].rpartition("/")
    if not place or place != _identify_place():
        return Sight.UNSEEN
    process_id = int(process)
    if identify_process(process_id) == identity:
        return Sight.LIVES
    # It ended, or another has its number; or /proc hides the processes of other users.
    return Sight.UNSEEN if _is_hidden(process_id) else Sight.GONE


def _identify_place() -> str | None:
    """Return where process numbers mean what they mean here, in no other boot or container."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{(_PROC / 'self/ns/pid').stat().st_ino}"
    except OSError:
        return None


def _read_start(process_id: int) -> str | None:
    """Return when a process began, in ticks since the boot; None where it is gone or a zombie."""
    try:
        stat = (_PROC / str(process_id) / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The command's name stands in parentheses, and may hold some itself.
    fields = stat.rpartition(")")[2].split()
    return None if fields[_STATE] in {"Z", "X"} else fields[_START]


def _is_hidden(process_id: int) -> bool:
    """Tell whether there is a process of that number that /proc does not show."""
    if (_PROC / str(process_id)).exists():
        return False
    with suppress(ProcessLookupError):
        try:
            os.kill(process_id, 0)
        except PermissionError:
            return True
    return False
