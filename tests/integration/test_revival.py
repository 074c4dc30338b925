"""Real processes that are started again when they end."""

import signal
import sys
from pathlib import Path

import pytest

from infra.local.environment import inherit_environment
from infra.local.process import Launch, wait_until
from infra.local.revival import LONGEST_WAIT_SECONDS, MOST_ENDS, STABLE_SECONDS, Revival
from schemas.errors import TerminalError


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def launch(folder: Path, code: str) -> Launch:
    return Launch(
        "kept",
        [sys.executable, "-c", code],
        inherit_environment(str(folder)),
        folder / "kept.log",
        record_folder=folder,
    )


def end(revival: Revival) -> None:
    revival.child.send_signal(signal.SIGKILL)
    assert wait_until(lambda: not revival.child.is_running, 30)


def test_a_process_that_was_killed_is_started_again_at_once(tmp_path: Path) -> None:
    revival = Revival(launch(tmp_path, "import time; time.sleep(600)"))
    try:
        first = revival.child
        revival.tend()
        assert revival.child is first
        end(revival)
        revival.tend()
        assert revival.child is not first
        assert revival.child.is_running
    finally:
        revival.child.stop()


def test_each_further_end_is_followed_by_a_longer_wait(tmp_path: Path) -> None:
    clock = Clock()
    revival = Revival(launch(tmp_path, "import time; time.sleep(600)"), clock)
    try:
        for wait_seconds in (0.0, 2.0, 4.0):
            ended = revival.child
            end(revival)
            if wait_seconds:
                revival.tend()
                clock.seconds += wait_seconds - 0.1
                revival.tend()
                assert revival.child is ended
                clock.seconds += 0.2
            revival.tend()
            assert revival.child is not ended
        clock.seconds += STABLE_SECONDS
        ended = revival.child
        end(revival)
        revival.tend()
        assert revival.child is not ended
    finally:
        revival.child.stop()


def test_who_ends_again_and_again_is_given_up_with_the_end_of_its_log(tmp_path: Path) -> None:
    clock = Clock()
    revival = Revival(launch(tmp_path, "import sys; sys.exit('no such pool')"), clock)
    for _ in range(MOST_ENDS - 1):
        ended = revival.child
        assert wait_until(lambda: not revival.child.is_running, 30)
        revival.tend()
        clock.seconds += LONGEST_WAIT_SECONDS
        revival.tend()
        assert revival.child is not ended
    assert wait_until(lambda: not revival.child.is_running, 30)
    with pytest.raises(TerminalError, match="no such pool"):
        revival.tend()
    revival.child.stop()
