"""A worker that bears with a server that is away."""

import logging
import subprocess
import sys

import httpx
import pytest
from prefect.workers.base import BaseWorker
from prefect.workers.process import ProcessWorker

from deployments.worker import PatientWorker

REQUEST = httpx.Request("POST", "http://127.0.0.1/api")


def status(code: int) -> httpx.HTTPStatusError:
    return httpx.HTTPStatusError(
        str(code), request=REQUEST, response=httpx.Response(code, request=REQUEST)
    )


def answer(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
    async def ask(_: object) -> list:
        if error is not None:
            raise error
        return []

    for name in ("get_and_submit_flow_runs", "sync_with_backend"):
        monkeypatch.setattr(ProcessWorker, name, ask)


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), status(503)])
async def test_a_server_that_is_away_ends_no_worker_and_is_told_once(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "prefect.sluiceway.worker")
    logging.getLogger("prefect").propagate = True
    worker = PatientWorker("stream")
    answer(monkeypatch, error)
    for _ in range(3):
        assert await worker.get_and_submit_flow_runs() == []
        await worker.sync_with_backend()
    assert worker.is_away
    answer(monkeypatch, None)
    await worker.get_and_submit_flow_runs()
    assert not worker.is_away
    told = [each.getMessage() for each in caplog.records if "Prefect server" in each.getMessage()]
    assert [each.split("(")[0].split(".")[0].strip() for each in told] == [
        "The Prefect server does not answer",
        "The Prefect server answers again",
    ]


async def test_an_answer_that_will_not_change_ends_the_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer(monkeypatch, status(401))
    with pytest.raises(httpx.HTTPStatusError):
        await PatientWorker("stream").get_and_submit_flow_runs()


def test_prefects_own_worker_is_still_the_one_of_its_type() -> None:
    assert BaseWorker.get_worker_class_from_type("process") is ProcessWorker
    assert PatientWorker.type == "process"


DRAINING = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), sys.exit(7)))
print(flush=True)
time.sleep(60)
"""
LEAVING = """
import asyncio, subprocess, sys
from deployments.worker import end_runs
run = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
run.stdout.readline()
asyncio.run(end_runs(30))
sys.exit(run.wait(0.1) != 7)
"""


def test_a_worker_that_is_told_to_end_waits_for_its_runs() -> None:
    # In a process of its own: it ends all children that it has.
    command = [sys.executable, "-c", LEAVING, DRAINING]
    assert subprocess.run(command, timeout=60, check=False).returncode == 0
