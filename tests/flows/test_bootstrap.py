"""A new installation by one command, and what the command leaves alone when it runs again."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from aiohttp import web
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import (
    DeploymentUpdate,
    VariableCreate,
    VariableUpdate,
    WorkPoolUpdate,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.schemas.automations import AutomationCore
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Crashed

from deployments import bootstrap
from deployments.automations import WATCHES, apply_automations
from deployments.bootstrap import bootstrap_database
from deployments.flow_deployments import apply_deployments, read_declared
from deployments.pools import POOLS
from deployments.publication import publish
from flows.daily_etl_pipeline import daily_etl_pipeline
from infra.logs import detach_log_table
from infra.settings import Settings, read_settings
from schemas.errors import SettingError, TerminalError, TransientError
from tasks.prefect_variables import PREFIX, VARIABLES, apply_variables
from tests.conftest import Server

ROOT = Path(__file__).parents[2]
DAILY = "daily_etl_pipeline/daily"
JANITOR = "mark_dead_runs/every-minute"
CRASH_WATCH = WATCHES[1].name


@pytest.fixture
async def client() -> AsyncIterator[PrefectClient]:
    """A client of the server, which has nothing of ours when the test is over."""
    async with get_client() as opened:
        yield opened
        for declared in read_declared():
            for there in await opened.read_deployments():
                if there.name == declared.name:
                    await opened.delete_deployment(there.id)
        for watch in WATCHES:
            for each in await opened.read_automations_by_name(watch.name):
                await opened.delete_automation(each.id)
        for setting in VARIABLES:
            if await opened.read_variable_by_name(f"{PREFIX}{setting}"):
                await opened.delete_variable_by_name(f"{PREFIX}{setting}")
        names = {pool.name for pool in POOLS}
        for pool in await opened.read_work_pools():
            if pool.name in names:
                await opened.delete_work_pool(pool.name)


@pytest.fixture
async def empty_database(embedded_server: Server) -> AsyncIterator[str]:
    """The address, as its owner, of a database with nothing in it."""
    address = embedded_server.postgres.url("postgres")
    connection = await asyncpg.connect(address)
    await connection.execute("CREATE DATABASE fresh")
    yield embedded_server.postgres.url("fresh")
    await connection.execute("DROP DATABASE fresh WITH (FORCE)")
    await connection.close()


@pytest.fixture
def fresh_settings() -> Iterator[None]:
    read_settings.cache_clear()
    yield
    read_settings.cache_clear()


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


async def give(client: PrefectClient, setting: str, value: float | str) -> None:
    """Set the Prefect variable of a setting, as a person does in the UI."""
    name = f"{PREFIX}{setting}"
    if await client.read_variable_by_name(name):
        await client.update_variable(VariableUpdate(name=name, value=value))
    else:
        await client.create_variable(VariableCreate(name=name, value=value))


async def test_the_command_makes_everything_once(
    client: PrefectClient,
    empty_database: str,
    fresh_settings: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SLUICEWAY_OWNER_DATABASE_URL", empty_database)
    monkeypatch.setenv("SLUICEWAY_DATABASE_URL", "postgresql://sluiceway_loader:pw-1@127.0.0.1/x")
    monkeypatch.setenv("SLUICEWAY_DATABASE_BLOCK", "bootstrapped")
    # The other tests' roles have their passwords.
    monkeypatch.setattr(bootstrap, "_password_of", lambda _: None)
    monkeypatch.setattr(sys, "argv", ["bootstrap"])
    await asyncio.to_thread(bootstrap.main)
    first = capsys.readouterr().out
    for change in (
        "database: migrated metadata to version ",
        "database: created warehouse.fact_sales_data\n",
        "prefect: created the work pool stream\n",
        "prefect: created the block bootstrapped\n",
        f"prefect: created the variable {PREFIX}raw_folder\n",
        f"prefect: created the deployment {DAILY}\n",
        f"prefect: created the automation '{CRASH_WATCH}'\n",
    ):
        assert change in first
    await asyncio.to_thread(bootstrap.main)
    assert capsys.readouterr().out == "database: nothing to change\nprefect: nothing to change\n"


async def test_it_makes_what_prefects_own_command_would(client: PrefectClient) -> None:
    declared = read_declared()
    await publish(Settings())
    environment = os.environ | {"PREFECT_API_URL": str(PREFECT_API_URL.value())}
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    ended = await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, env=environment, check=False, capture_output=True
    )
    assert ended.returncode == 0, ended.stderr
    changes = await apply_deployments(client, declared)
    # Where the checkout has a remote, Prefect's command takes the commit for a version.
    assert {each.rsplit(": ", 1)[-1] for each in changes} <= {"version"}


async def test_what_a_person_paused_stays_so_and_limits_come_back(client: PrefectClient) -> None:
    await publish(Settings())
    daily = await client.read_deployment_by_name(DAILY)
    janitor = await client.read_deployment_by_name(JANITOR)
    await client.pause_deployment(daily.id)
    [schedule] = daily.schedules
    await client.update_deployment_schedule(daily.id, schedule.id, active=False)
    [schedule] = janitor.schedules
    await client.update_deployment_schedule(janitor.id, schedule.id, active=True)
    await client.update_work_pool("batch", WorkPoolUpdate(is_paused=True, concurrency_limit=7))
    await client.update_deployment(daily.id, DeploymentUpdate(concurrency_limit=99, tags=["x"]))
    [automation] = await client.read_automations_by_name(CRASH_WATCH)
    await client.pause_automation(automation.id)
    await give(client, "concurrent_files", 2)

    assert await publish(Settings()) == [
        "changed the work pool batch: concurrency_limit",
        f"changed the deployment {DAILY}: concurrency_limit, tags",
    ]
    pool = await client.read_work_pool("batch")
    assert (pool.is_paused, pool.concurrency_limit) == (True, 20)
    daily = await client.read_deployment_by_name(DAILY)
    assert (daily.paused, daily.schedules[0].active, daily.tags) == (True, False, ["batch"])
    assert daily.global_concurrency_limit is not None
    assert daily.global_concurrency_limit.limit == 3
    assert (await client.read_deployment_by_name(JANITOR)).schedules[0].active
    assert not (await client.read_automations_by_name(CRASH_WATCH))[0].enabled
    variable = await client.read_variable_by_name(f"{PREFIX}concurrent_files")
    assert variable is not None
    assert variable.value == 2


async def test_schedules_and_automations_are_neither_lost_nor_doubled(
    client: PrefectClient,
) -> None:
    await publish(Settings())
    daily = await client.read_deployment_by_name(DAILY)
    [schedule] = daily.schedules
    await client.update_deployment_schedule(
        daily.id, schedule.id, schedule=CronSchedule(cron="0 5 * * *", timezone="UTC")
    )
    [automation] = await client.read_automations_by_name(CRASH_WATCH)
    copied = AutomationCore.model_validate(automation.model_dump(exclude={"id", "owner_resource"}))
    await client.create_automation(copied)
    copied.description = "another"
    for each in await client.read_automations_by_name(CRASH_WATCH):
        await client.update_automation(each.id, copied)

    assert await publish(Settings()) == [
        f"changed the schedules of the deployment {DAILY}",
        f"changed the automation '{CRASH_WATCH}'",
        f"deleted a second automation '{CRASH_WATCH}'",
    ]
    [schedule] = (await client.read_deployment_by_name(DAILY)).schedules
    assert isinstance(schedule.schedule, CronSchedule)
    assert schedule.schedule.cron == "0 2 * * *"
    assert await apply_automations(client) == []


async def test_a_run_that_crashes_has_the_janitor_look_and_the_janitors_own_does_not(
    client: PrefectClient,
) -> None:
    await publish(Settings())
    janitor = await client.read_deployment_by_name(JANITOR)
    daily = await client.read_deployment_by_name(DAILY)
    own = await client.create_flow_run_from_deployment(janitor.id)
    await client.set_flow_run_state(own.id, Crashed(message="by a test"), force=True)
    crashed = await client.create_flow_run_from_deployment(daily.id)
    await client.set_flow_run_state(crashed.id, Crashed(message="by a test"), force=True)
    looking: list[FlowRun] = []
    for _ in range(600):
        runs = await client.read_flow_runs()
        looking = [each for each in runs if each.deployment_id == janitor.id and each.id != own.id]
        if looking:
            break
        await asyncio.sleep(0.1)
    assert len(looking) == 1


async def test_a_flow_goes_by_prefects_variables(
    client: PrefectClient,
    database,
    fresh_settings: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("SLUICEWAY_DATABASE_URL", database.loader_url)
    monkeypatch.setenv("SLUICEWAY_LOG_FOLDER", str(tmp_path / "logs"))
    monkeypatch.setenv("SLUICEWAY_RAW_FOLDER", str(tmp_path / "nowhere"))
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "customers.csv").write_text("customer_id,name,signup_date\n1,Ann,2024-01-01\n")
    await give(client, "raw_folder", str(folder))
    try:
        [report] = await daily_etl_pipeline(with_api=False)
    finally:
        detach_log_table()
    assert report.ledger.inserted == 1

    settings = Settings(concurrent_files=5)
    assert (await apply_variables(settings)).concurrent_files == 5
    await give(client, "concurrent_files", 7)
    assert (await apply_variables(settings)).concurrent_files == 7
    for wrong in (21, "4", 1.5):
        await give(client, "concurrent_files", wrong)
        with pytest.raises(SettingError, match=r"sluiceway_concurrent_files .* a number from 1"):
            await apply_variables(settings)


async def test_no_server_and_a_server_of_others_is_one_sentence(free_port: int) -> None:
    async def refuse(_request: web.Request) -> web.Response:
        return web.Response(status=401)

    async def greet(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    for answer, kind, said in (
        (None, TransientError, r"at http://127.0.0.1:\d+/api does not answer"),
        (refuse, SettingError, r"refuses what is asked of it \(401\)"),
        (greet, TransientError, "no Prefect 3 server"),
    ):
        app = web.Application()
        if answer is not None:
            app.router.add_get("/api/health", greet)
            app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        if answer is not None:
            await web.TCPSite(runner, "127.0.0.1", free_port).start()
        url = f"http://somebody:pass-word@127.0.0.1:{free_port}/api"
        with (
            temporary_settings({PREFECT_API_URL: url}),
            pytest.raises(kind, match=said) as caught,
        ):
            await publish(Settings())
        assert "pass-word" not in str(caught.value)
        await runner.cleanup()


async def test_a_role_that_may_not_is_told_what_it_needs(database) -> None:
    with pytest.raises(TerminalError, match=r"PostgreSQL refused .*CREATEROLE") as caught:
        await bootstrap_database(Settings(owner_database_url=database.loader_url))
    assert "\n" not in str(caught.value)
