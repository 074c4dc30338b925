"""What the janitor asks of the Prefect server and tells it: of dead runs, and of late ones.

All of it is done by one janitor at a time, and written down in metadata.janitor_acts. Without a
server, or with one that is away, there is nothing to do here: the history is PostgreSQL's.
"""

import datetime as dt
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort

from infra.postgres.connection import Connection

log = structlog.get_logger("sluiceway.prefect_runs")

_PAGE = 200
_LOCK = (0x51C4 << 48) - 1
"""The advisory lock of the janitor that talks to Prefect; those of runs lie above."""


@dataclass(frozen=True, slots=True)
class Act:
    """What is done to a flow run, and written down."""

    act: str
    run: FlowRun
    pipeline_name: str
    reason: str
    execution_id: int | None = None


@asynccontextmanager
async def be_the_only_one(connection: Connection) -> AsyncIterator[bool]:
    """Yield whether this janitor is the one that talks to Prefect while the block is under way."""
    taken: bool = await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK)
    try:
        yield taken
    finally:
        if taken:
            await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)


async def perform(
    connection: Connection,
    client: PrefectClient,
    act: Act,
    state: "State[Any]",
    *,
    force: bool = False,
) -> Act:
    """Give the run that state and leave a line about it, or do neither where Prefect refuses.

    force: whatever state it has now.
    """
    async with connection.transaction():
        await connection.execute(
            """
            INSERT INTO metadata.janitor_acts
                (act, execution_id, flow_run_id, pipeline_name, reason)
            VALUES ($1, $2, $3, $4, $5)
            """,
            act.act,
            act.execution_id,
            act.run.id,
            act.pipeline_name,
            act.reason,
        )
        await client.set_flow_run_state(act.run.id, state, force=force)
    log.warning(
        act.act,
        flow_run_id=str(act.run.id),
        pipeline_name=act.pipeline_name,
        execution_id=act.execution_id,
        reason=act.reason,
    )
    return act


async def read_runs(
    client: PrefectClient, types: Iterable[StateType], *, due_before: dt.datetime | None = None
) -> list[FlowRun]:
    """Return the deployments' runs in these states, those that are due last first."""
    due = FlowRunFilterExpectedStartTime.model_validate({"before_": due_before})
    chosen = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(is_null_=False),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types))),
        expected_start_time=due if due_before else None,
    )
    found: dict[UUID, FlowRun] = {}
    while True:
        page = await client.read_flow_runs(
            flow_run_filter=chosen,
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=_PAGE,
            offset=len(found),
        )
        found |= {each.id: each for each in page}
        if len(page) < _PAGE:
            return list(found.values())


class FlowNames:
    """The names of flows, each asked for once."""

    def __init__(self, client: PrefectClient) -> None:
        """Know none yet."""
        self._client = client
        self._names: dict[UUID, str] = {}

    async def find(self, flow_id: UUID) -> str:
        """Return the flow's name."""
        if flow_id not in self._names:
            self._names[flow_id] = (await self._client.read_flow(flow_id)).name
        return self._names[flow_id]
