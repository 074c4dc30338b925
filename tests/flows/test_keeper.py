"""The keeper: against a real Prefect server, and PostgreSQL's seats."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.objects import FlowRun
from prefect.states import Running

from deployments import keeper as keeper_module
from deployments.always_on import Plan, View, decide
from deployments.keeper import Keeper
from deployments.pools import STREAM, create_pools
from infra.settings import Settings
from tasks.seats import hold_seat

GROUP = "kept"


@pytest.fixture
async def client() -> AsyncIterator[PrefectClient]:
    async with get_client() as opened:
        yield opened


@dataclass(frozen=True)
class Kept:
    """A deployment and a pool of the test's own, which no worker looks at."""

    name: str
    id: UUID
    pool: str


@pytest.fixture
async def deployment(client: PrefectClient) -> Kept:
    name = f"test-{uuid4()}"
    await create_pools(client, (replace(STREAM, name=name),))
    flow_id = await client.create_flow_from_name("kept")
    identity = await client.create_deployment(
        flow_id=flow_id, name=name, work_pool_name=name, enforce_parameter_schema=False
    )
    return Kept(f"kept/{name}", identity, name)


@pytest.fixture
def keep(database, deployment, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Let a keeper look at that deployment while the block runs."""
    monkeypatch.setattr(keeper_module, "LOOK_SECONDS", 0.05)

    @asynccontextmanager
    async def let_keep(wanted: int) -> AsyncIterator[None]:
        settings = Settings(
            database_url=database.loader_url, kafka_group=GROUP, stream_consumers=wanted
        )
        keeper = Keeper(settings, deployment.name)
        keeping = asyncio.create_task(keeper.run())
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await keeper.close()

    return let_keep


async def runs(client: PrefectClient, deployment: Kept) -> dict[int, FlowRun]:
    """Return the deployment's runs by consumer; there is one of each, or the test fails."""
    found = [each for each in await client.read_flow_runs() if each.deployment_id == deployment.id]
    by_consumer = {each.parameters["consumer"]: each for each in found}
    assert len(by_consumer) == len(found)
    return by_consumer


async def until(ask: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(1_200):
        if await ask():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not come true within a minute")


async def test_each_empty_seat_gets_one_run_and_each_taken_one_none(
    client, deployment, database, keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[View] = []

    def look(view: View) -> Plan:
        looks.append(view)
        return decide(view)

    monkeypatch.setattr(keeper_module, "decide", look)

    async def has_looked_again() -> bool:
        return len(looks) > 3 and len(looks[-3].runs) == 2

    async with hold_seat(database.loader_url, GROUP, 2), keep(3), keep(3):
        await until(has_looked_again)
        assert set(await runs(client, deployment)) == {1, 3}


async def pause_pool(client: PrefectClient, kept: Kept, *, paused: bool) -> None:
    await client.update_work_pool(kept.pool, WorkPoolUpdate(is_paused=paused))


async def pause_deployment(client: PrefectClient, kept: Kept, *, paused: bool) -> None:
    await (client.pause_deployment if paused else client.resume_deployment)(kept.id)


@pytest.mark.parametrize("pause", [pause_pool, pause_deployment])
async def test_pausing_ends_the_runs_and_resuming_brings_them_back(
    client, deployment, database, keep, pause
) -> None:
    async with keep(2), AsyncExitStack() as seats:
        await until(lambda: has_runs(client, deployment, {1, 2}))
        living = (await runs(client, deployment))[1]
        await client.set_flow_run_state(living.id, Running(), force=True)
        await seats.enter_async_context(hold_seat(database.loader_url, GROUP, 1, living.id))
        await pause(client, deployment, paused=True)

        async def are_told() -> bool:
            found = await runs(client, deployment)
            return found[1].state.is_cancelling() and found[2].state.is_cancelled()

        await until(are_told)
        await seats.aclose()
        await pause(client, deployment, paused=False)

        async def is_back() -> bool:
            found = await client.read_flow_runs()
            mine = [each for each in found if each.deployment_id == deployment.id]
            return {each.parameters["consumer"] for each in mine if each.state.is_scheduled()} == {
                1,
                2,
            }

        await until(is_back)


async def test_a_pool_that_is_paused_stays_so_when_the_pools_are_made_again(
    client, deployment
) -> None:
    await pause_pool(client, deployment, paused=True)
    await create_pools(client, (replace(STREAM, name=deployment.pool, concurrent_runs=7),))
    found = await client.read_work_pool(deployment.pool)
    assert (found.is_paused, found.concurrency_limit) == (True, 7)


async def has_runs(client, deployment, consumers: set[int]) -> bool:
    return set(await runs(client, deployment)) == consumers
