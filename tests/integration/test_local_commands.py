"""The commands up, down and demo, as processes: what they refuse, and what they leave behind."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.local.binaries import find_secured_binaries
from infra.local.folder import StateFolder, read_json
from infra.local.orphans import find_marked
from infra.local.process import wait_until
from schemas.errors import TerminalError
from tests.conftest import skip_or_fail

MAKE = shutil.which("make")
REPOSITORY = Path(__file__).parents[2]
CODE = ("schemas", "infra", "tasks", "deployments")


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Path]:
    """A checkout of its own, under a path with a space; whatever runs in it is ended."""
    folder = tmp_path / "a checkout"
    folder.mkdir()
    for name in CODE:
        (folder / name).symlink_to(REPOSITORY / name)
    yield folder
    run(folder, "down")


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "deployments.local", *words]


def run(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words), cwd=checkout, capture_output=True, text=True, check=False, timeout=120
    )


def start(checkout: Path, name: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command(name),
        cwd=checkout,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def state(checkout: Path) -> StateFolder:
    return StateFolder(checkout / ".sluiceway")


def find_leftovers(checkout: Path) -> list[psutil.Process]:
    folder = state(checkout)
    servers = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder.data):
                servers.append(process)
        except (psutil.Error, OSError):
            continue
    return [*find_marked(folder.mark), *servers]


def has_reached(checkout: Path, record: str) -> bool:
    return (state(checkout).run / f"{record}.json").exists()


@pytest.mark.parametrize(
    ("record", "number"), [("postgres", signal.SIGTERM), ("prefect-server", signal.SIGINT)]
)
def test_an_interrupt_leaves_no_process_and_a_short_sentence(
    checkout: Path, record: str, number: signal.Signals
) -> None:
    with start(checkout, "demo") as demo:
        assert wait_until(lambda: has_reached(checkout, record) or demo.poll() is not None, 60)
        os.killpg(demo.pid, number)
        output, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert "Interrupted before it was done." in output
    assert "Traceback" not in output
    assert find_leftovers(checkout) == []


def test_a_second_stack_is_refused_and_down_stops_the_first(checkout: Path) -> None:
    with start(checkout, "up") as up:
        assert wait_until(lambda: has_reached(checkout, "postgres") or up.poll() is not None, 60)
        for words in (["up"], ["demo"], ["up", "--tls"], ["demo", "--tls"]):
            refused = run(checkout, *words)
            assert refused.returncode == 1
            assert f"(make up, process {up.pid}): stop it with `make down`" in refused.stderr
        down = run(checkout, "down")
        assert down.returncode == 0
        assert "Stopped." in down.stdout
        output, _ = up.communicate(timeout=60)
    assert up.returncode == 130
    assert "Traceback" not in output
    assert find_leftovers(checkout) == []


def test_down_has_nothing_to_do_twice(checkout: Path) -> None:
    for _ in range(2):
        down = run(checkout, "down")
        assert (down.returncode, down.stdout) == (0, "Nothing is running.\n")


def test_after_a_kill_of_the_supervisor_nothing_stays_and_the_data_is_whole(
    checkout: Path,
) -> None:
    with start(checkout, "up") as up:
        assert wait_until(
            lambda: has_reached(checkout, "prefect-server") or up.poll() is not None, 60
        )
        up.kill()
        up.communicate(timeout=60)
    assert run(checkout, "down").returncode == 0
    assert find_leftovers(checkout) == []
    assert list(state(checkout).run.glob("*.json")) == []
    with start(checkout, "up") as again:
        assert wait_until(
            lambda: has_reached(checkout, "prefect-server") or again.poll() is not None, 60
        )
        again.send_signal(signal.SIGTERM)
        again.communicate(timeout=60)
    assert again.returncode == 130


def test_data_of_another_postgresql_is_refused_with_a_sentence(checkout: Path) -> None:
    data = state(checkout).data
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9\n")
    refused = run(checkout, "up")
    assert refused.returncode == 1
    assert "was written by PostgreSQL 9" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert read_json(state(checkout).root / "supervisor.json") == {}


def test_keys_that_are_lost_are_not_made_anew(checkout: Path) -> None:
    folder = state(checkout)
    folder.make()
    (folder.data.parent / "cell-keys.made").touch()
    refused = run(checkout, "up")
    assert refused.returncode == 1
    assert "The key " in refused.stderr
    assert "is gone, and what was encrypted with it is still in" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert find_leftovers(checkout) == []


def test_without_kafkas_jars_the_stack_with_tls_names_the_command(
    checkout: Path,
) -> None:
    try:
        find_secured_binaries()
    except TerminalError as error:
        skip_or_fail(str(error))
    # This checkout has no .kafka.
    refused = run(checkout, "demo", "--tls")
    assert (refused.returncode, refused.stderr) == (
        1,
        "Apache Kafka's jars are not here: run `make kafka`.\n",
    )
    assert read_json(state(checkout).root / "supervisor.json") == {}


@pytest.mark.skipif(MAKE is None, reason="make is not installed")
def test_make_passes_a_signal_on_and_waits(checkout: Path) -> None:
    shutil.copy(REPOSITORY / "Makefile", checkout)
    (checkout / "requirements.lock").touch()
    # The environment that runs this test stands in for one that make would install.
    program = checkout / ".venv" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    program.chmod(0o755)
    (checkout / ".venv" / ".installed").touch()
    with subprocess.Popen(
        [MAKE, "demo"],
        cwd=checkout,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as make:
        assert wait_until(lambda: has_reached(checkout, "postgres") or make.poll() is not None, 60)
        make.terminate()
        output, _ = make.communicate(timeout=60)
    assert make.returncode != 0
    assert "Interrupted before it was done." in output
    assert find_leftovers(checkout) == []
