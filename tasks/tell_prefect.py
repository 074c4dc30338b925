"""Flow runs that Prefect has as alive, and that are dead, are Crashed there too, or Cancelled.

Prefect's worker says so of a process that ends under it; of one that outlived its worker, or died
with it or while the server was away, nobody does. Consumers with a number are left to the keeper
(deployments/keeper.py), which knows by their seats who lives.
"""

import datetime as dt
from typing import Any

import asyncpg
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Cancelled, Crashed

from infra.postgres.connection import Connection
from tasks.prefect_runs import Act, FlowNames, perform, read_runs

SILENT_SECONDS = {StateType.RUNNING: 600.0, StateType.PENDING: 3600.0}
"""After so long in that state without a row in the history, a run's process is gone.

A flow makes its row in its first seconds, or fails within a minute where PostgreSQL gives no
connection; until it is Running, its machine may have to be made.
"""


async def tell_prefect(connection: Connection, client: PrefectClient) -> list[Act]:
    """Have Prefect say of each of its living runs that is dead that it is; returns what was done.

    It is Crashed then, or Cancelled where somebody wanted that.
    """
    living = await read_runs(client, [*SILENT_SECONDS, StateType.CANCELLING])
    rows = await connection.fetch(
        """
        SELECT DISTINCT ON (e.flow_run_id) e.flow_run_id, e.id, e.status, a.reason, a.acted_at
        FROM metadata.pipeline_executions AS e
        LEFT JOIN metadata.janitor_acts AS a ON a.execution_id = e.id AND a.act = 'marked dead'
        WHERE e.flow_run_id = ANY ($1) ORDER BY e.flow_run_id, e.id DESC, a.id DESC
        """,
        [run.id for run in living],
    )
    known = {row["flow_run_id"]: row for row in rows}
    names = FlowNames(client)
    acts = []
    for run in living:
        if run.parameters.get("consumer"):
            continue
        name = await names.find(run.flow_id)
        row = known.get(run.id)
        reason = _judge_known(run, row) if row else await _judge_unknown(connection, run, name)
        if reason is not None:
            act = Act("told Prefect", run, name, reason, row["id"] if row else None)
            is_unwanted = run.state is not None and run.state.is_cancelling()
            state: State[Any] = (
                Cancelled(message=reason) if is_unwanted else Crashed(message=reason)
            )
            acts.append(await perform(connection, client, act, state, force=True))
    return acts


def _judge_known(run: FlowRun, row: asyncpg.Record) -> str | None:
    """Return why the run is dead; None where its last row does not say so.

    Prefect may have begun it again after it was marked: that one has yet to make its row.
    """
    if row["status"] != "FAILED" or row["reason"] is None or run.state is None:
        return None
    reason: str = row["reason"]
    return reason if run.state.timestamp < row["acted_at"] else None


async def _judge_unknown(connection: Connection, run: FlowRun, name: str) -> str | None:
    """Return why a run without a row is dead; None where it may be alive.

    Only flows that are known to make a row are judged: others never have one.
    """
    if run.state is None or run.state.type not in SILENT_SECONDS:
        return None
    silent_seconds = (dt.datetime.now(dt.UTC) - run.state.timestamp).total_seconds()
    if silent_seconds < SILENT_SECONDS[run.state.type]:
        return None
    makes_rows = await connection.fetchval(
        """
        SELECT EXISTS (
            SELECT FROM metadata.pipeline_executions
            WHERE pipeline_name = $1 AND flow_run_id IS NOT NULL)
        """,
        name,
    )
    if not makes_rows:
        return None
    return (
        f"It has been {run.state.name} for {silent_seconds / 60:.0f} minutes without a row in the "
        "history, which a run of this flow makes as it begins: its process is gone."
    )
