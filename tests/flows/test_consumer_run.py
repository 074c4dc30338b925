"""A run of the consumer that is one too many, or not wanted any more."""

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.states import Cancelling, Completed, Running, State

from flows.stream_processing_pipeline import stream_processing_pipeline
from infra.settings import read_settings
from tasks import own_flow_run
from tasks.own_flow_run import UnwantedError, wait_until_unwanted
from tasks.seats import hold_seat


@pytest.fixture
def stream_settings(database, monkeypatch: pytest.MonkeyPatch, tmp_path) -> Iterator[None]:
    """The test's own database, and a broker that is not there."""
    monkeypatch.setenv("SLUICEWAY_DATABASE_URL", database.loader_url)
    monkeypatch.setenv("SLUICEWAY_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    monkeypatch.setenv("SLUICEWAY_LOG_FOLDER", str(tmp_path))
    monkeypatch.delenv("SLUICEWAY_DATABASE_BLOCK", raising=False)
    read_settings.cache_clear()
    yield
    read_settings.cache_clear()


async def test_a_consumer_that_is_alive_already_is_not_run_twice(
    database, pool, stream_settings
) -> None:
    async with hold_seat(database.loader_url, read_settings().kafka_group, 1, uuid4()):
        state = await stream_processing_pipeline(consumer=1, return_state=True)
    assert state.is_cancelled()
    assert "Consumer 1 of stream_processor_group is alive in another run" in (state.message or "")
    async with pool.acquire() as connection:
        runs = await connection.fetchval("SELECT count(*) FROM metadata.pipeline_executions")
    assert runs == 0


@pytest.mark.parametrize("unwanted", [Cancelling(), Completed()], ids=lambda each: each.name)
async def test_a_run_learns_from_the_server_that_it_is_not_wanted(
    unwanted: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_flow_run, "_ASK_SECONDS", 0.5)
    async with get_client() as client:
        flow_id = await client.create_flow_from_name("unwanted")
        deployment_id = await client.create_deployment(flow_id=flow_id, name=f"of {unwanted.name}")
        run = await client.create_flow_run_from_deployment(deployment_id, state=Running())
        waiting = asyncio.create_task(wait_until_unwanted(run.id))
        await client.set_flow_run_state(run.id, unwanted, force=True)
        why = await asyncio.wait_for(waiting, 60)
    assert isinstance(why, UnwantedError)
    assert unwanted.name in str(why)
