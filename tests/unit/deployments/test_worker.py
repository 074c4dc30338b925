"""A worker that bears with a server that is away."""

import logging

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
