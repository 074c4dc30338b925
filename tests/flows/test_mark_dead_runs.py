"""The janitor with a real Prefect server, without one, and from a shell."""

import asyncio
import datetime as dt
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling, Completed, Pending, Running

from flows.mark_dead_runs import mark_dead_runs
from infra.settings import Settings, read_settings
from tasks import tell_prefect
from tasks.janitor import Janitor, Round
from tasks.prefect_runs import be_the_only_one

ROOT = Path(__file__).parents[2]
NEAR_MIDNIGHT = dt.datetime(2026, 1, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
async def client() -> AsyncIterator[PrefectClient]:
    async with get_client() as opened:
        yield opened


@pytest.fixture
async def owner(database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.owner_url)
    yield connection
    await connection.close()


@pytest.fixture
def janitor(database) -> Janitor:
    return Janitor(Settings(database_url=database.loader_url), patience_seconds=0)


@pytest.fixture
def flow_name() -> str:
    return f"looked-after-{uuid4()}"


@pytest.fixture
async def deployment(client: PrefectClient, flow_name: str) -> UUID:
    """A deployment of the test's own, due at 02:00 each day; it makes no runs by itself."""
    flow_id = await client.create_flow_from_name(flow_name)
    return await client.create_deployment(
        flow_id=flow_id,
        name="daily",
        schedules=[DeploymentScheduleCreate(schedule=CronSchedule(cron="0 2 * * *"), active=True)],
        paused=True,
        enforce_parameter_schema=False,
    )


async def start(client: PrefectClient, deployment: UUID, state: Any, **parameters: object) -> UUID:
    """Make a run by hand and give it that state."""
    run = await client.create_flow_run_from_deployment(deployment, parameters=parameters)
    await client.set_flow_run_state(run.id, state, force=True)
    return run.id


async def write_row(owner: asyncpg.Connection, name: str, run: UUID, *, is_dead: bool) -> int:
    """Write the row of a run: of one that is gone, or of one that holds its lock here."""
    made: int = await owner.fetchval(
        "INSERT INTO metadata.pipeline_executions (pipeline_name, flow_run_id)"
        " VALUES ($1, $2) RETURNING id",
        name,
        run,
    )
    if not is_dead:
        await owner.execute("SELECT pg_advisory_lock($1)", (0x51C4 << 48) + made)
    return made


async def name_of_state(client: PrefectClient, run: UUID) -> str | None:
    return (await client.read_flow_run(run)).state_name


async def read_acts(owner: asyncpg.Connection) -> list[tuple[str, UUID]]:
    rows = await owner.fetch("SELECT act, flow_run_id FROM metadata.janitor_acts ORDER BY id")
    return [(row["act"], row["flow_run_id"]) for row in rows]


async def test_dead_runs_are_crashed_in_prefect_and_others_stay_as_they_are(
    client, deployment, flow_name, owner, janitor
) -> None:
    dead = await start(client, deployment, Running())
    unwanted = await start(client, deployment, Running())
    await client.set_flow_run_state(unwanted, Cancelling(), force=True)
    alive = await start(client, deployment, Running())
    finished = await start(client, deployment, Completed())
    kept = await start(client, deployment, Running(), consumer=1)
    for run in (dead, unwanted, finished, kept):
        await write_row(owner, flow_name, run, is_dead=True)
    await write_row(owner, flow_name, alive, is_dead=False)

    assert await janitor.make_round() == Round(marked=4, told=2, cancelled=0)
    names = [await name_of_state(client, each) for each in (dead, unwanted, alive, finished, kept)]
    assert names == ["Crashed", "Cancelled", "Running", "Completed", "Running"]
    state = (await client.read_flow_run(dead)).state
    [reason] = await owner.fetchrow(
        "SELECT error_message FROM metadata.pipeline_executions WHERE flow_run_id = $1", dead
    )
    assert state is not None
    assert state.message == reason
    acts = [each for each in await read_acts(owner) if each[0] == "told Prefect"]
    assert sorted(acts) == sorted([("told Prefect", dead), ("told Prefect", unwanted)])
    assert await janitor.make_round() == Round(0, 0, 0)

    # Prefect begins it again, and its new process has yet to make its row.
    await client.set_flow_run_state(dead, Running(), force=True)
    assert await janitor.make_round() == Round(0, 0, 0)
    assert await name_of_state(client, dead) == "Running"


async def test_a_run_that_never_made_its_row_is_crashed_when_its_flow_makes_rows(
    client, deployment, flow_name, owner, janitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = await start(client, deployment, Running())
    waiting = await start(client, deployment, Pending())
    assert await janitor.make_round() == Round(0, 0, 0)
    monkeypatch.setitem(tell_prefect.SILENT_SECONDS, StateType.RUNNING, 0)
    assert await janitor.make_round() == Round(0, 0, 0)
    # Only now is it known that a run of this flow makes a row.
    await write_row(owner, flow_name, uuid4(), is_dead=False)
    assert await janitor.make_round() == Round(0, 1, 0)
    assert await name_of_state(client, silent) == "Crashed"
    assert await name_of_state(client, waiting) == "Pending"


async def schedule(deployment: UUID, days: int) -> None:
    """Have the server make the runs that were due on so many days, as its scheduler would have."""
    async with httpx.AsyncClient(base_url=PREFECT_API_URL.value()) as raw:
        answer = await raw.post(
            f"/deployments/{deployment}/schedule",
            json={
                "start_time": NEAR_MIDNIGHT.isoformat(),
                "end_time": (NEAR_MIDNIGHT + dt.timedelta(days=days)).isoformat(),
                "min_runs": days,
                "max_runs": days,
            },
        )
        answer.raise_for_status()


async def read_runs(client: PrefectClient, deployment: UUID) -> list[FlowRun]:
    """Return the deployment's runs, in the order in which they are due."""
    found = await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[deployment]),
        )
    )
    return sorted(found, key=lambda run: str(run.expected_start_time))


async def test_of_late_runs_the_newest_is_left_and_those_by_hand_are_let_alone(
    client, deployment, owner, janitor
) -> None:
    by_hand = [(await client.create_flow_run_from_deployment(deployment)).id for _ in range(2)]
    await schedule(deployment, days=5)
    first, *middle, taken, newest, _, _ = await read_runs(client, deployment)
    await client.set_flow_run_state(taken.id, Pending(), force=True)

    rounds = await asyncio.gather(janitor.make_round(), janitor.make_round())
    assert sum(each.cancelled for each in rounds) == 3
    states = {each.id: each for each in await read_runs(client, deployment)}
    for cancelled in (first, *middle):
        state = states[cancelled.id].state
        assert state is not None
        assert state.is_cancelled()
    assert state.message == (
        "It was due at 2026-01-03 02:00 UTC and never began: the run that was due at 2026-01-05 "
        "02:00 UTC does its work too."
    )
    assert states[taken.id].state_name == "Pending"
    assert all(states[each].state.is_scheduled() for each in (newest.id, *by_hand))
    assert sorted(await read_acts(owner)) == sorted(
        ("cancelled late", each.id) for each in (first, *middle)
    )
    assert (await janitor.make_round()).cancelled == 0


async def test_a_janitor_leaves_prefect_to_another_that_is_at_it(
    client, deployment, owner, janitor
) -> None:
    await schedule(deployment, days=2)
    async with be_the_only_one(owner) as is_ours:
        assert is_ours
        assert await janitor.make_round() == Round(0, 0, 0)
    assert await janitor.make_round() == Round(0, 0, 1)


async def test_a_prefect_server_that_is_away_is_no_trouble_for_the_rest(
    database, owner, janitor, flow_name
) -> None:
    await write_row(owner, flow_name, uuid4(), is_dead=True)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        assert await janitor.make_round() == Round(1, 0, 0)


async def test_the_flow_makes_one_round_and_says_what_it_did(
    database, owner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLUICEWAY_DATABASE_URL", database.loader_url)
    monkeypatch.setenv("SLUICEWAY_LOG_FOLDER", str(tmp_path))
    monkeypatch.delenv("SLUICEWAY_DATABASE_BLOCK", raising=False)
    read_settings.cache_clear()
    assert (await mark_dead_runs()).startswith("Dead runs marked FAILED: 0;")
    read_settings.cache_clear()


def test_the_command_goes_on_without_a_prefect_server_and_waits_for_postgresql(
    database, tmp_path: Path
) -> None:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SLUICEWAY_", "PREFECT_"))
    }
    environment |= {
        "SLUICEWAY_DATABASE_URL": database.loader_url.replace(database.name, "none_yet"),
        "SLUICEWAY_LOG_FOLDER": str(tmp_path),
        "SLUICEWAY_LOG_STDOUT": "true",
        "PREFECT_HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "flows.mark_dead_runs", "--every", "0.1"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            said = process.stdout.readline()
            assert "refused the login" in said
            asyncio.run(rename(database.owner_url, database.name, "none_yet"))
            said = process.stdout.readline()
            while "it works again" not in said:
                assert said
                said = process.stdout.readline()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)
            asyncio.run(rename(database.owner_url, "none_yet", database.name))
    assert process.returncode == 0


async def rename(url: str, before: str, after: str) -> None:
    """Let a database be found under another name."""
    connection = await asyncpg.connect(url.replace(f"/{url.rsplit('/', 1)[1]}", "/postgres"))
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1",
            before,
        )
        await connection.execute(f"ALTER DATABASE {before} RENAME TO {after}")
    finally:
        await connection.close()
