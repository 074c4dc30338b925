"""Disk, memory and processor; the processor's five minutes pass without waiting for them."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from infra.health.finding import Status
from infra.health.machine import CpuLoad, check_disk, check_memory, read_cpu_seconds

MINUTE = 60.0


class Processor:
    """Four processors whose load is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.busy = 5000.0
        self.total = 90_000.0

    def work(self, share: float, seconds: float = MINUTE) -> None:
        self.now += seconds
        self.total += 4 * seconds
        self.busy += 4 * seconds * share

    def load(self, limit_percent: float = 95) -> CpuLoad:
        return CpuLoad(limit_percent, read=lambda: (self.busy, self.total), clock=lambda: self.now)


async def judge(shares: Iterable[float]) -> list[Status]:
    processor = Processor()
    load = processor.load()
    found = []
    for share in shares:
        processor.work(share)
        found.append((await load.check()).status)
    return found


async def test_the_processor_is_bad_when_five_minutes_were_busy() -> None:
    assert await judge([1.0] * 6) == [Status.GOOD] * 4 + [Status.BAD] * 2


async def test_first_readings_are_never_bad() -> None:
    processor = Processor()
    load = processor.load()
    first = await load.check()
    assert (first.status, first.detail) == (Status.GOOD, "Measured from now on.")
    processor.work(1.0, seconds=200)
    second = await load.check()
    assert second.status is Status.GOOD
    assert second.detail == "100 % busy, in the 3.3 minutes seen so far."


async def test_a_busy_minute_among_idle_ones_is_good_and_the_reverse_as_well() -> None:
    assert await judge([0.1] * 5 + [1.0] * 4) == [Status.GOOD] * 9
    # The last idle minute has left the five that count.
    assert (await judge([0.1] + [1.0] * 4))[-1] is Status.GOOD
    assert (await judge([0.1] + [1.0] * 5))[-1] is Status.BAD


async def test_the_average_is_of_the_last_five_minutes_alone() -> None:
    processor = Processor()
    load = processor.load()
    for _ in range(60):
        processor.work(1.0)
        await load.check()
    for _ in range(5):
        processor.work(0.25)
        found = await load.check()
    assert found.detail == "25 % busy, on the average of 5.0 minutes."


async def test_a_bad_processor_says_how_bad() -> None:
    processor = Processor()
    load = processor.load(limit_percent=60)
    processor.work(0.75, seconds=300)
    found = await load.check()
    assert found.detail == ("75 % busy, on the average of 5.0 minutes; more than 60 % is too much.")


def test_the_system_tells_processor_seconds() -> None:
    busy, total = read_cpu_seconds()
    assert 0 < busy <= total


async def test_disk_is_judged_by_the_volume_of_each_folder(tmp_path: Path) -> None:
    folders = {"log folder": tmp_path / "not" / "there yet", "raw folder": tmp_path}
    enough = await check_disk(folders, 0)
    assert enough.status is Status.GOOD
    # One volume is said once.
    assert enough.detail.count("log folder") == 1
    assert "raw folder" not in enough.detail
    short = await check_disk(folders, 100)
    assert short.status is Status.BAD
    assert "of the volume of the log folder is free; it should be 100 %" in short.detail


async def test_two_volumes_are_both_judged(tmp_path: Path) -> None:
    other = Path("/dev/shm")  # noqa: S108 - nothing is written there
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this machine has no second volume at /dev/shm")
    found = await check_disk({"log folder": tmp_path, "raw folder": other}, 0)
    assert "log folder" in found.detail
    assert "raw folder" in found.detail


async def test_memory_is_judged_by_what_is_available() -> None:
    assert (await check_memory(0)).status is Status.GOOD
    short = await check_memory(100)
    assert short.status is Status.BAD
    assert "of the memory is free; it should be 100 %" in short.detail
