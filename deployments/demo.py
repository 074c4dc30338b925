"""A run of a deployment, triggered and followed on the terminal until it ends."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.sorting import LogSort
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled

from schemas.errors import TerminalError

DEPLOYMENT = "daily_etl_pipeline/daily"
POLL_SECONDS = 0.5
LAST_LOGS_POLLS = 5
"""A run sends its log in batches; the last one arrives a moment after its state."""
PAGE = 200
CANCEL_SECONDS = 3.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a flow run ended."""

    flow_run_id: UUID
    name: str
    completed: bool
    state: str
    message: str


async def run_deployment(
    say: Say,
    check: Callable[[], None],
    name: str = DEPLOYMENT,
    parameters: Mapping[str, object] | None = None,
) -> Ended:
    """Return how a new run of the deployment ended; its states and log lines are said meanwhile.

    check: called at every look; what it raises ends the following.
    Raises TerminalError where there is no such deployment.
    """
    async with get_client() as client:
        try:
            deployment = await client.read_deployment_by_name(name)
        except ObjectNotFound:
            raise TerminalError(
                f"The Prefect server has no deployment {name}: deploy it with `prefect deploy`."
            ) from None
        flow_run = await client.create_flow_run_from_deployment(
            deployment.id, parameters=dict(parameters or {})
        )
        say(f"{name} is triggered: run {flow_run.name}")
        try:
            return await _follow(client, flow_run.id, say, check)
        except BaseException:
            # Whoever leaves before its end does not want it run later, as the next demo would.
            await asyncio.shield(_cancel(client, flow_run.id, say))
            raise


async def _cancel(client: PrefectClient, flow_run_id: UUID, say: Say) -> None:
    try:
        async with asyncio.timeout(CANCEL_SECONDS):
            await client.set_flow_run_state(flow_run_id, Cancelled(), force=True)
    except (TimeoutError, httpx.HTTPError) as error:
        say(f"The run could not be cancelled ({error!r}): a later start of the stack runs it.")


async def _follow(
    client: PrefectClient, flow_run_id: UUID, say: Say, check: Callable[[], None]
) -> Ended:
    printed, after_end = 0, 0
    shown: str | None = None
    while True:
        check()
        flow_run = await client.read_flow_run(flow_run_id)
        state = flow_run.state
        if state is not None and state.name != shown:
            shown = state.name
            say(f"{flow_run.name}: {(state.name or state.type.value).lower()}")
        printed += await _say_logs(client, flow_run_id, printed, say)
        if state is not None and state.is_final():
            after_end += 1
            if after_end > LAST_LOGS_POLLS:
                return Ended(
                    flow_run_id,
                    flow_run.name,
                    state.is_completed(),
                    shown or "",
                    state.message or "",
                )
        await asyncio.sleep(POLL_SECONDS)


async def _say_logs(client: PrefectClient, flow_run_id: UUID, offset: int, say: Say) -> int:
    logs = await client.read_logs(
        LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id])),
        limit=PAGE,
        offset=offset,
        sort=LogSort.TIMESTAMP_ASC,
    )
    for log in logs:
        if log.name.startswith("prefect") and log.level < logging.WARNING:
            continue  # Prefect's own steps: the pipeline's lines say what happened
        say(f"  {log.timestamp.astimezone():%H:%M:%S} {log.message}")
    return len(logs)
