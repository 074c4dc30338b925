"""The Prefect tasks that flows are composed of: each a few lines around a plain function.

A task is repeated only when its error says that the cause may pass. None keeps its result: a
frame or a connection is nothing to be kept. What an error says is the message of the task run's
state, which Prefect shows to everybody: secrets and personal data are taken out of it.
"""

from typing import Any
from uuid import UUID, uuid4

import pandas as pd
import polars as pl
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import task_run
from prefect.tasks import Task, exponential_backoff

from infra.endpoints import Endpoint
from infra.http import open_session
from infra.postgres.connection import Pool
from infra.shown_errors import hiding_in_errors
from schemas.dataset import Dataset
from schemas.errors import TransientError
from tasks.clean import Reject, Tally, bind, clean
from tasks.discover_files import Found
from tasks.extract_api import Fetched
from tasks.extract_api import fetch_endpoint as fetch
from tasks.extract_frame import FrameBlock, from_frame
from tasks.load import Order, Progress, Report, load_source
from tasks.load_endpoint import load_fetched
from tasks.load_file import load_found, noting_refusal
from tasks.prune_staging import prune_batches

RETRIES = 3


def can_pass(task_: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001 - Prefect's signature
    """Tell Prefect whether trying again can help: the error's type says so."""
    return isinstance(state.data, TransientError)


REPEATABLE: dict[str, Any] = {
    "retries": RETRIES,
    "retry_delay_seconds": exponential_backoff(backoff_factor=2),
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": can_pass,
    "cache_policy": NO_CACHE,
    "persist_result": False,
}


@task(task_run_name="load {found.path.name}", tags=["load"], **REPEATABLE)
async def load_file(
    pool: Pool,
    found: Found,
    order: Order,
    *,
    force: bool = False,
    accept_anomalies: bool = False,
    on_progress: Progress | None = None,
) -> Report:
    """Leave a file's rows in the database, once; a file that was loaded as it is stays alone."""
    with hiding_in_errors():
        return await load_found(
            pool,
            found,
            order,
            force=force,
            accept_anomalies=accept_anomalies,
            on_progress=on_progress,
        )


@task(task_run_name="fetch {endpoint.dataset}", tags=["extract"], **REPEATABLE)
async def fetch_endpoint(endpoint: Endpoint) -> Fetched:
    """Return every record that the endpoint has now."""
    with hiding_in_errors():
        async with open_session() as session:
            return await fetch(session, endpoint)


@task(task_run_name="load {order.table} from its API", tags=["load"], **REPEATABLE)
async def load_answer(
    pool: Pool,
    fetched: Fetched,
    order: Order,
    *,
    force: bool = False,
    accept_anomalies: bool = False,
) -> Report:
    """Leave an endpoint's records in the database, once."""
    with hiding_in_errors():
        return await load_fetched(
            pool, fetched, order, force=force, accept_anomalies=accept_anomalies
        )


@task(task_run_name="validate {dataset.__name__}", tags=["validate"], cache_policy=NO_CACHE)
def validate_frame(
    frame: pd.DataFrame | pl.DataFrame, dataset: type[Dataset]
) -> tuple[pl.DataFrame, list[Reject]]:
    """Return the rows that keep the contract, typed, and a reject for each of the others.

    Raises RefusedError when the frame lacks a column that the contract requires.
    """
    source = from_frame(frame)
    binding = bind(source.header, dataset.spec, "The frame")
    tally = Tally()
    accepted: list[pl.DataFrame] = []
    rejects: list[Reject] = []
    # A frame without rows has no blocks, and its answer is typed all the same.
    for block in source if source.cells.height else [FrameBlock(source.cells, source.lines, (), 0)]:
        rows, others = clean(
            block.cells,
            block.lines,
            block.raw_text,
            spec=dataset.spec,
            binding=binding,
            tally=tally,
        )
        accepted.append(rows)
        rejects += others
        rejects += [
            Reject(each.line, each.reason, None, each.detail, each.raw) for each in block.broken
        ]
    return pl.concat(accepted), rejects


@task(task_run_name="load a frame of {dataset.__name__}", tags=["load"], **REPEATABLE)
async def load_frame(
    pool: Pool,
    frame: pd.DataFrame | pl.DataFrame,
    dataset: type[Dataset],
    *,
    execution_id: int,
    name: str = "frame",
    accept_anomalies: bool = False,
) -> Report:
    """Leave a frame's rows in the database, by the same path that files take.

    name: what the manifest and the quarantine call the frame. Frames of one name, dates and numbers
    in it aside, are compared with each other. accept_anomalies: load it even if its contract
    refuses so odd a load.
    """
    # The task run's own id: a repetition after a COMMIT whose answer was lost loads nothing twice.
    load_id = UUID(task_run.id) if task_run.id else uuid4()
    order = Order(execution_id, name, dataset.spec.table, dataset.spec, load_id)

    async def load() -> Report:
        return await load_source(pool, from_frame(frame), order, accept_anomalies=accept_anomalies)

    with hiding_in_errors():
        return await noting_refusal(pool, order, load)


@task(task_run_name="prune staging", tags=["retention"], **REPEATABLE)
async def prune_staging(pool: Pool, *, retention_days: int) -> int:
    """Drop staged batches that were loaded longer ago; returns how many."""
    with hiding_in_errors():
        return await prune_batches(pool, retention_days=retention_days)
