"""Late runs of a deployment collapse into the newest: after three days away, it runs once.

Each run does all that is there to do, so the older ones have nothing to add. Runs that somebody
started by hand are let alone, and so is whatever has begun.
"""

import datetime as dt
import json
from collections import defaultdict

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelled

from infra.postgres.connection import Connection
from tasks.prefect_runs import Act, FlowNames, perform, read_runs

LATE_SECONDS = 60.0
"""A worker that is there has begun a run by then."""
MOST_A_ROUND = 100
"""Of one deployment; the rest goes in the next round."""


async def cancel_late_runs(connection: Connection, client: PrefectClient) -> list[Act]:
    """Cancel all late runs but the newest of each deployment; returns what was done."""
    due_before = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=LATE_SECONDS)
    late: dict[tuple[object, str], list[FlowRun]] = defaultdict(list)
    for run in await read_runs(client, [StateType.SCHEDULED], due_before=due_before):
        if _is_waiting(run):
            # Schedules of one deployment may have parameters of their own: one work each.
            parameters = json.dumps(run.parameters, sort_keys=True, default=str)
            late[run.deployment_id, parameters].append(run)
    names = FlowNames(client)
    acts = []
    for newest, *older in late.values():
        for run in older[:MOST_A_ROUND]:
            # A worker may have taken it since it was read.
            if not _is_waiting(await client.read_flow_run(run.id)):
                continue
            act = Act(
                "cancelled late",
                run,
                await names.find(run.flow_id),
                f"It was due at {_write(run)} and never began: the run that was due at "
                f"{_write(newest)} does its work too.",
            )
            acts.append(await perform(connection, client, act, Cancelled(message=act.reason)))
    return acts


def _is_waiting(run: FlowRun) -> bool:
    """Tell whether a schedule made the run, and nobody has begun it yet."""
    return (
        run.auto_scheduled
        and run.run_count == 0
        and run.state is not None
        and run.state.type is StateType.SCHEDULED
    )


def _write(run: FlowRun) -> str:
    return f"{run.expected_start_time:%Y-%m-%d %H:%M} UTC"
