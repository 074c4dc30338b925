"""Whether this machine has disk, memory and processor time left."""

import os
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic

import psutil

from infra.health.finding import Finding, bad, good

CPU_SECONDS = 300.0
"""The time that the processor's load is averaged over."""
_ENOUGH = 0.9
"""Of that time has to be seen before it is judged: turns are not exactly a minute apart."""


async def check_disk(folders: Mapping[str, Path], free_percent: float) -> Finding:
    """Return whether each folder's volume has so much room, and so many files, to spare.

    folders: by what they are called. Of one that is not there yet, where it would be made counts.
    """
    said, short = [], []
    seen: dict[int, str] = {}
    for name, folder in folders.items():
        place = next(
            each for each in (folder.absolute(), *folder.absolute().parents) if _is_there(each)
        )
        device = place.stat().st_dev
        if device in seen:
            continue
        seen[device] = name
        volume = os.statvfs(place)
        # As df counts: what is kept for root is nobody's.
        usable = volume.f_blocks - volume.f_bfree + volume.f_bavail
        room = 100 * volume.f_bavail / usable if usable else 100.0
        files = 100 * volume.f_favail / volume.f_files if volume.f_files else 100.0
        gigabytes = volume.f_bavail * volume.f_frsize / 1e9
        text = f"{room:.1f} % ({gigabytes:,.1f} GB) of the volume of the {name}"
        said.append(text)
        if room < free_percent:
            short.append(text)
        elif files < free_percent:
            short.append(f"{files:.1f} % of the files that the volume of the {name} can have")
    if short:
        return bad(f"Only {' and '.join(short)} is free; it should be {free_percent:g} %.")
    return good(f"Free: {', '.join(said)}.")


def _is_there(folder: Path) -> bool:
    try:
        return folder.exists()
    except OSError:
        # Below a folder that nobody shows us; its volume is found from there.
        return False


async def check_memory(free_percent: float) -> Finding:
    """Return whether so much memory can be had without swapping."""
    memory = psutil.virtual_memory()
    free = 100 * memory.available / memory.total
    said = f"{free:.1f} % ({memory.available / 1e9:,.1f} GB) of the memory"
    if free < free_percent:
        return bad(f"Only {said} is free; it should be {free_percent:g} %.")
    return good(f"Free: {said}.")


def read_cpu_seconds() -> tuple[float, float]:
    """Return the seconds, over all processors and since the start, that were busy, and all."""
    times = psutil.cpu_times()
    # A guest's time is in the user's already.
    guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    total = sum(times) - guests
    return total - times.idle - getattr(times, "iowait", 0.0), total


class CpuLoad:
    """The processor's load, averaged over what this process has seen of the last five minutes."""

    def __init__(
        self,
        limit_percent: float,
        *,
        read: Callable[[], tuple[float, float]] = read_cpu_seconds,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Take the first reading."""
        self._limit_percent = limit_percent
        self._read = read
        self._clock = clock
        self._readings = deque([(clock(), *read())])

    async def check(self) -> Finding:
        """Return whether the average is below the limit; GOOD until five minutes were seen."""
        now, (busy, total) = self._clock(), self._read()
        # The oldest that is kept is the last one that lies five minutes back.
        while len(self._readings) > 1 and self._readings[1][0] <= now - CPU_SECONDS:
            self._readings.popleft()
        since, busy_then, total_then = self._readings[0]
        self._readings.append((now, busy, total))
        if total <= total_then:
            return good("Measured from now on.")
        average = 100 * (busy - busy_then) / (total - total_then)
        minutes = (now - since) / 60
        if now - since < _ENOUGH * CPU_SECONDS:
            return good(f"{average:.0f} % busy, in the {minutes:.1f} minutes seen so far.")
        said = f"{average:.0f} % busy, on the average of {minutes:.1f} minutes"
        if average > self._limit_percent:
            return bad(f"{said}; more than {self._limit_percent:g} % is too much.")
        return good(f"{said}.")
