"""Keeps the wanted consumers alive: `python -m deployments.keeper`, under "restart always".

It looks every two seconds who sits in the seats, and has Prefect start a run for each that is
empty. While their work pool is paused, or their deployment, it ends them all. Any number of
keepers may run: one acts, the others stand by.
"""

import argparse
import asyncio
import datetime as dt
import logging
import signal
import sys
from collections.abc import Collection, Iterable
from contextlib import suppress
from uuid import UUID

import asyncpg
import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Cancelled, Cancelling, Crashed

from deployments.always_on import Phase, Plan, Run, View, decide
from infra.postgres.connection import TRANSIENT, connect
from infra.settings import Settings, read_settings
from schemas.errors import SluicewayError, TransientError
from tasks.database import find_database_url
from tasks.prefect_api import require_prefect_address
from tasks.seats import find_sitters, try_lock

DEPLOYMENT = "stream_processing_pipeline/always-on"
LOOK_SECONDS = 2.0
KEEPERS_SEAT = 0
"""Consumers are numbered from 1: this one is for the keeper that acts."""
LIVING = 200
ENDED = 20

_PHASES = {
    StateType.PENDING: Phase.PENDING,
    StateType.RUNNING: Phase.RUNNING,
    StateType.CANCELLING: Phase.CANCELLING,
    **dict.fromkeys(TERMINAL_STATES, Phase.ENDED),
}
log = logging.getLogger("sluiceway.keeper")


class Keeper:
    """Looks, decides, acts; what cannot be asked or done is tried again at the next look."""

    def __init__(self, settings: Settings, deployment: str = DEPLOYMENT) -> None:
        """Ask nobody yet."""
        self._settings = settings
        self._deployment = deployment
        self._connection: asyncpg.Connection | None = None
        self._acts = False
        self._unseated_since: dict[UUID, dt.datetime] = {}
        self._seated: set[UUID | None] = set()
        self._trouble = ""

    async def run(self) -> None:
        """Keep them alive until cancelled."""
        # A retry within the client would hold up the next look for a minute.
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            async with get_client() as client:
                while True:
                    try:
                        await self._look(client)
                    except ObjectNotFound:
                        self._tell(f"There is no deployment {self._deployment} yet.")
                    except httpx.HTTPError as error:
                        self._tell(f"The Prefect server does not answer: {error!r}.")
                    except (TransientError, *TRANSIENT) as error:
                        await self._forget()
                        self._tell(f"PostgreSQL does not answer: {error!r}.")
                    else:
                        self._tell("")
                    await asyncio.sleep(LOOK_SECONDS)

    async def _look(self, client: PrefectClient) -> None:
        connection = await self._connect()
        if not self._acts:
            self._acts = await try_lock(connection, self._settings.kafka_group, KEEPERS_SEAT)
            if not self._acts:
                return
        sitters = await find_sitters(connection, self._settings.kafka_group)
        seats = {number: each.flow_run_id for number, each in sitters.items() if number}
        deployment = await client.read_deployment_by_name(self._deployment)
        pool = await client.read_work_pool(deployment.work_pool_name or "")
        is_paused = pool.is_paused or deployment.paused
        wanted = 0 if is_paused else self._settings.stream_consumers
        runs = await _read_living(client, deployment.id)
        if any(number not in seats for number in range(1, wanted + 1)):
            runs += await _read_ended(client, deployment.id)
        now = dt.datetime.now(dt.UTC)
        self._remember(now, set(seats.values()), runs)
        view = View(now, wanted, seats, runs, self._unseated_since, self._seated)
        await self._act(client, deployment.id, decide(view))

    def _remember(self, now: dt.datetime, seated: set[UUID | None], runs: Collection[Run]) -> None:
        """Take note of who has sat in a seat, and since when each run has none."""
        self._seated = seated | (self._seated & {run.id for run in runs})
        self._unseated_since = {
            run.id: self._unseated_since.get(run.id, now)
            for run in runs
            if run.phase in {Phase.RUNNING, Phase.CANCELLING} and run.id not in seated
        }

    async def _act(self, client: PrefectClient, deployment_id: UUID, plan: Plan) -> None:
        for run in plan.bury:
            was_cancelled = run.phase is Phase.CANCELLING
            state: State = (
                Cancelled(message="The run was cancelled, and its process is gone.")
                if was_cancelled
                else Crashed(message="The run was killed: its process ended without a word.")
            )
            await client.set_flow_run_state(run.id, state, force=True)
            log.warning("Consumer %s: run %s is dead, and said to be now.", run.consumer, run.id)
        for run in plan.cancel:
            message = "The stream is paused, or fewer consumers are wanted."
            is_alive = run.phase is Phase.RUNNING
            state = Cancelling(message=message) if is_alive else Cancelled(message=message)
            await client.set_flow_run_state(run.id, state, force=True)
            log.info("Consumer %s: run %s is told to end.", run.consumer, run.id)
        for consumer in plan.start:
            made = await client.create_flow_run_from_deployment(
                deployment_id, parameters={"consumer": consumer}
            )
            log.info("Consumer %s: nobody is alive; run %s is to start.", consumer, made.id)

    async def _connect(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            await self._forget()
            url = await find_database_url(self._settings)
            self._connection = await connect(url, wait_seconds=LOOK_SECONDS)
        return self._connection

    async def _forget(self) -> None:
        """Start from nothing: who has lost a connection too gets the time to come back."""
        connection, self._connection = self._connection, None
        self._acts = False
        self._unseated_since = {}
        if connection is not None:
            connection.terminate()

    async def close(self) -> None:
        """Let another keeper act."""
        if self._connection is not None:
            with suppress(*TRANSIENT):
                await self._connection.close(timeout=2)

    def _tell(self, trouble: str) -> None:
        """Log what is in the way once, and once that it is gone."""
        if trouble != self._trouble:
            self._trouble = trouble
            if trouble:
                log.warning("%s It is asked again every %g s.", trouble, LOOK_SECONDS)
            else:
                log.info("PostgreSQL and the Prefect server answer.")


async def _read_living(client: PrefectClient, deployment_id: UUID) -> list[Run]:
    living = [each for each in StateType if each not in TERMINAL_STATES]
    found = await client.read_flow_runs(
        flow_run_filter=_filter(deployment_id, living), limit=LIVING
    )
    return _translate(found)


async def _read_ended(client: PrefectClient, deployment_id: UUID) -> list[Run]:
    found = await client.read_flow_runs(
        flow_run_filter=_filter(deployment_id, TERMINAL_STATES),
        sort=FlowRunSort.END_TIME_DESC,
        limit=ENDED,
    )
    return _translate(found)


def _filter(deployment_id: UUID, types: Iterable[StateType]) -> FlowRunFilter:
    return FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment_id]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types))),
    )


def _translate(found: Iterable[FlowRun]) -> list[Run]:
    """Return those that are a numbered consumer; others have no seat, and are let alone."""
    return [
        Run(
            each.id,
            each.parameters["consumer"],
            _PHASES.get(each.state.type, Phase.WAITING),
            each.state.timestamp,
            each.start_time,
        )
        for each in found
        if each.state is not None and each.parameters.get("consumer")
    ]


async def _keep(settings: Settings) -> None:
    keeper = Keeper(settings)
    keeping = asyncio.create_task(keeper.run())
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, keeping.cancel)
    try:
        await keeping
    except asyncio.CancelledError:
        await keeper.close()


def main() -> None:
    """Keep the consumers alive until told to end; they live on."""
    argparse.ArgumentParser(
        prog="python -m deployments.keeper",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", force=True)
    log.setLevel(logging.INFO)
    try:
        require_prefect_address()
        asyncio.run(_keep(read_settings()))
    except SluicewayError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
