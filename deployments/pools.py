"""The work pools that the deployments name: created with their limits before anything is deployed.

`prefect work-pool create` takes no limit, and `prefect deploy --all` stops at a pool that is
missing. `python -m deployments.pools` makes them on the server of PREFECT_API_URL.
"""

import asyncio
import sys
from dataclasses import dataclass
from typing import Any

from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker

from schemas.errors import SluicewayError
from tasks.prefect_api import require_prefect, require_prefect_address


@dataclass(frozen=True, slots=True)
class Pool:
    """A process work pool."""

    name: str
    concurrent_runs: int
    description: str


BATCH = Pool("batch", concurrent_runs=20, description="Files and APIs, by schedule or by hand.")
STREAM = Pool(
    "stream",
    # A bound for mishaps. How many consumers there are is for the keeper, by their seats: a run
    # that was killed would hold its place in a pool of just that size, and keep the next one out.
    concurrent_runs=100,
    description="Consumers that run for ever; `python -m deployments.keeper` has them started.",
)
OPS = Pool("ops", concurrent_runs=10, description="What looks after the platform.")
POOLS = (BATCH, STREAM, OPS)


async def create_pools(client: PrefectClient, pools: tuple[Pool, ...] = POOLS) -> list[str]:
    """Leave each pool on the server as it is described here; returns a sentence for each change.

    One that is paused stays so.
    """
    template = ProcessWorker.get_default_base_job_template()
    # Without a command, a second process is started for each run only to find this one.
    template["variables"]["properties"]["command"]["default"] = "python -m prefect.engine"
    changes = []
    for pool in pools:
        wanted: dict[str, Any] = {
            "description": pool.description,
            "base_job_template": template,
            "concurrency_limit": pool.concurrent_runs,
        }
        try:
            there = await client.read_work_pool(pool.name)
        except ObjectNotFound:
            await client.create_work_pool(
                WorkPoolCreate(name=pool.name, type=ProcessWorker.type, **wanted)
            )
            changes.append(f"created the work pool {pool.name}")
            continue
        differing = {key: each for key, each in wanted.items() if getattr(there, key) != each}
        if differing:
            await client.update_work_pool(pool.name, WorkPoolUpdate(**differing))
            changes.append(f"changed the work pool {pool.name}: {', '.join(sorted(differing))}")
    return changes


async def _main() -> None:
    require_prefect_address()
    await require_prefect()
    async with get_client() as client:
        for change in await create_pools(client):
            sys.stdout.write(f"{change}\n")


if __name__ == "__main__":
    try:
        asyncio.run(_main())
    except SluicewayError as error:
        sys.exit(str(error))
