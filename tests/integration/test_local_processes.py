"""Real processes: nothing of a stack outlives what it belongs to."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from infra.local.environment import inherit_environment
from infra.local.orphans import end_orphans, find_marked
from infra.local.process import Child, Launch, find_process, wait_until

IGNORES_SIGTERM = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("on", flush=True)
time.sleep(600)
"""
FAMILY = """
import subprocess, sys, time
for own_session in (False, True):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"],
                     start_new_session=own_session)
print("on", flush=True)
time.sleep(600)
"""
SUPERVISOR = """
import os, sys
from pathlib import Path
from infra.local.environment import inherit_environment
from infra.local.process import Child, Launch
folder = Path(sys.argv[1])
child = Child(Launch("sleeper", [sys.executable, "-c", sys.argv[2]],
                     inherit_environment(str(folder)), folder / "log", record_folder=folder))
while "on" not in child.read_log():
    assert child.is_running
print(child.pid, flush=True)
os.kill(os.getpid(), 9)
"""


def launch(folder: Path, code: str) -> Child:
    return Child(
        Launch(
            "sleeper",
            [sys.executable, "-c", code],
            inherit_environment(str(folder)),
            folder / "logs" / "sleeper.log",
            record_folder=folder,
        )
    )


def is_on(child: Child) -> bool:
    return "on" in child.read_log()


def start_orphans(folder: Path, code: str) -> int:
    """Let a supervisor start a child and be killed; return the child's process id."""
    done = subprocess.run(
        [sys.executable, "-c", SUPERVISOR, str(folder), code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return int(done.stdout)


def test_stopping_a_child_stops_its_children_and_forgets_them(tmp_path: Path) -> None:
    child = launch(tmp_path, FAMILY)
    assert wait_until(lambda: is_on(child), 30)
    assert (tmp_path / "sleeper.json").exists()
    assert len(child.session()) == 2
    child.stop()
    assert child.session() == []
    assert child.exit_code == -signal.SIGTERM
    assert not (tmp_path / "sleeper.json").exists()
    # One had left the session; the mark finds it.
    assert len(find_marked(str(tmp_path))) == 1
    assert end_orphans(tmp_path, str(tmp_path)) == 1
    assert find_marked(str(tmp_path)) == []


def test_a_child_that_does_not_listen_is_killed_after_the_deadline(tmp_path: Path) -> None:
    child = launch(tmp_path, IGNORES_SIGTERM)
    assert wait_until(lambda: is_on(child), 30)
    child.stop(deadline_seconds=0.2)
    assert child.exit_code == -signal.SIGKILL


def test_a_child_that_ended_says_why(tmp_path: Path) -> None:
    child = launch(tmp_path, "import sys; sys.exit('no such database')")
    assert wait_until(lambda: not child.is_running, 30)
    error = str(child.explain_end())
    assert "sleeper ended by itself (exit code 1)" in error
    assert "no such database" in error
    child.stop()


def test_the_log_of_the_last_time_is_kept(tmp_path: Path) -> None:
    for text in ("first", "second"):
        child = launch(tmp_path, f"print({text!r})")
        assert wait_until(lambda child=child: not child.is_running, 30)
        child.stop()
    logs = tmp_path / "logs"
    assert (logs / "sleeper.log").read_text() == "second\n"
    assert (logs / "sleeper.log.1").read_text() == "first\n"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a child")
def test_a_child_dies_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    pid = start_orphans(tmp_path, "import time; print('on', flush=True); time.sleep(600)")
    assert wait_until(lambda: find_marked(str(tmp_path)) == [], 30)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_what_a_killed_supervisor_left_is_ended_by_the_next(tmp_path: Path) -> None:
    pid = start_orphans(tmp_path, IGNORES_SIGTERM)
    assert [each.pid for each in find_marked(str(tmp_path))] == [pid]
    assert end_orphans(tmp_path, str(tmp_path), deadline_seconds=0.2) == 1
    assert find_marked(str(tmp_path)) == []
    assert list(tmp_path.glob("*.json")) == []


def test_a_process_with_a_recorded_id_but_another_start_is_left_alone(tmp_path: Path) -> None:
    me = psutil.Process()
    assert find_process(me.pid, me.create_time()) == me
    assert find_process(me.pid, me.create_time() - 3600) is None
    (tmp_path / "postgres.json").write_text(
        f'{{"name": "postgres", "pid": {me.pid}, "create_time": 1.0, "stop_signal": 9}}'
    )
    assert end_orphans(tmp_path, str(tmp_path)) == 0
