"""A process is told from every other that has or had its number."""

import os
import subprocess
import sys

from tasks.process_identity import Sight, identify_process, see_process


def test_a_process_lives_as_long_as_it_does_and_no_other_with_its_number_is_taken_for_it() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        identity = identify_process(process.pid)
        assert identity is not None
        assert see_process(identity) is Sight.LIVES
        place, _, start = identity.rpartition("/")
        assert see_process(f"{place}/{int(start) - 1}") is Sight.GONE
        process.kill()
        # Nobody has waited for it yet: a zombie.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert see_process(identity) is Sight.GONE
    assert see_process(identity) is Sight.GONE
    assert identify_process(process.pid) is None


def test_a_process_of_another_boot_or_container_is_not_seen_from_here() -> None:
    identity = identify_process(os.getpid())
    assert identity is not None
    boot, namespace, number, start = identity.split("/")
    assert see_process(identity) is Sight.LIVES
    assert see_process(f"another/{namespace}/{number}/{start}") is Sight.UNSEEN
    assert see_process(f"{boot}/1/{number}/{start}") is Sight.UNSEEN
    assert see_process(None) is Sight.UNSEEN
