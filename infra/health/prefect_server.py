"""Whether the Prefect server answers, and each of its work pools has a worker."""

import datetime as dt

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    WorkerFilter,
    WorkerFilterLastHeartbeatTime,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import Worker, WorkPool
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_API_URL

from infra.health.finding import Finding, bad, first_line, good, unknown

MISSED_BEATS = 3
"""A worker that missed so many is gone, as Prefect itself sees it."""
DEFAULT_BEAT_SECONDS = 30
_RECENTLY = dt.timedelta(hours=1)
_AWAY = (httpx.HTTPError, PrefectException, OSError)


def is_named() -> bool:
    """Tell whether PREFECT_API_URL names a server; without one Prefect would start its own."""
    return bool(PREFECT_API_URL.value())


async def check_server() -> Finding:
    """Return whether the API says that it is healthy."""
    async with get_client() as client:
        problem = await client.api_healthcheck()
    if problem is not None:
        said = f"{type(problem).__name__}: {first_line(problem)}"
        return bad(f"The Prefect server does not answer ({said}): see that it runs.")
    return good("The API answers.")


async def check_workers(now: dt.datetime | None = None) -> Finding:
    """Return whether each work pool that is not paused and has deployments has a worker online.

    Pools that need no worker are left out. UNKNOWN where the API is away: that is its own check.
    """
    try:
        async with get_client() as client:
            pools = [
                each for each in await client.read_work_pools() if await _is_used(client, each)
            ]
            moment = now or dt.datetime.now(dt.UTC)
            online = {each.name: await _count_online(client, each, moment) for each in pools}
    except _AWAY as error:
        return unknown(f"The Prefect server does not say ({type(error).__name__}).")
    deserted = sorted(name for name, workers in online.items() if not workers)
    if deserted:
        return bad(f"No worker serves the work pool {', '.join(deserted)}: start one.")
    if not online:
        return good("No work pool needs a worker.")
    counts = ", ".join(f"{name} {workers}" for name, workers in sorted(online.items()))
    return good(f"Workers by work pool: {counts}.")


async def _is_used(client: PrefectClient, pool: WorkPool) -> bool:
    if pool.is_paused or pool.is_push_pool or pool.is_managed_pool:
        return False
    chosen = WorkPoolFilter(name=WorkPoolFilterName(any_=[pool.name]))
    return bool(await client.read_deployments(work_pool_filter=chosen, limit=1))


async def _count_online(client: PrefectClient, pool: WorkPool, now: dt.datetime) -> int:
    # By their heartbeats: the status is set by a service of the server's, which may lag behind.
    recent = WorkerFilter(
        last_heartbeat_time=WorkerFilterLastHeartbeatTime.model_validate(
            {"after_": now - _RECENTLY}
        )
    )
    workers = await client.read_workers_for_work_pool(pool.name, worker_filter=recent)
    return sum(is_online(each, now) for each in workers)


def is_online(worker: Worker, now: dt.datetime) -> bool:
    """Tell whether a worker gave a sign of life lately."""
    if worker.last_heartbeat_time is None:
        return False
    beat = worker.heartbeat_interval_seconds or DEFAULT_BEAT_SECONDS
    return now - worker.last_heartbeat_time <= dt.timedelta(seconds=MISSED_BEATS * beat)
