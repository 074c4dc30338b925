"""The demo's own run of the deployment."""

import pytest
from prefect.client.orchestration import get_client

from deployments.demo import run_deployment


async def test_whoever_leaves_before_the_run_ends_does_not_leave_it_queued() -> None:
    def interrupt() -> None:
        raise InterruptedError

    said: list[str] = []
    async with get_client() as client:
        flow_id = await client.create_flow_from_name("left_early")
        deployment_id = await client.create_deployment(flow_id=flow_id, name="daily")
        with pytest.raises(InterruptedError):
            await run_deployment(said.append, interrupt, "left_early/daily")
        runs = await client.read_flow_runs()
    [run] = [each for each in runs if each.deployment_id == deployment_id]
    assert run.state is not None
    assert run.state.is_cancelled()
    assert "is triggered" in said[0]
