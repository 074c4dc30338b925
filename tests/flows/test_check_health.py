"""Health checks with a real Prefect server and real workers, by the flow, and from a shell."""

import asyncio
import datetime as dt
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.check_health import check_health
from infra.health.checker import Checker
from infra.health.finding import Check, Result, Status
from infra.health.prefect_server import check_server, check_workers
from infra.local.ports import choose_port
from infra.settings import read_settings

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def client() -> AsyncIterator[PrefectClient]:
    async with get_client() as opened:
        yield opened


@pytest.fixture
async def pool_name(client: PrefectClient) -> AsyncIterator[str]:
    """A work pool with a deployment, and no worker."""
    name = f"watched-{uuid4()}"
    await client.create_work_pool(WorkPoolCreate(name=name, type="process"))
    flow_id = await client.create_flow_from_name(name)
    await client.create_deployment(
        flow_id=flow_id, name="daily", work_pool_name=name, enforce_parameter_schema=False
    )
    yield name
    await client.delete_work_pool(name)


async def run(check: Check, seconds: float = 30) -> Result:
    [result] = await Checker({"part": check}, timeout_seconds=seconds).run(dt.datetime.now(dt.UTC))
    return result


async def test_a_prefect_server_that_answers_is_good() -> None:
    found = await run(check_server)
    assert (found.status, found.detail) == (Status.GOOD, "The API answers.")


async def test_a_prefect_server_that_is_away_is_bad_and_its_workers_unknown() -> None:
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{choose_port()}/api"}):
        server, workers = await run(check_server), await run(check_workers)
    assert server.status is Status.BAD
    assert server.detail.startswith("The Prefect server does not answer (Connect")
    assert workers.status is Status.UNKNOWN


async def test_a_prefect_server_that_hangs_is_bad() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{port}/api"}):
            found = await run(check_server, seconds=0.5)
    assert found.status is Status.BAD
    assert found.detail == "It gave no answer within 0.5 s."


async def test_a_pool_without_a_living_worker_is_named(
    client: PrefectClient, pool_name: str
) -> None:
    deserted = await run(check_workers)
    assert deserted.status is Status.BAD
    assert pool_name in deserted.detail
    await client.send_worker_heartbeat(pool_name, "one", heartbeat_interval_seconds=30)
    served = await run(check_workers)
    assert pool_name not in served.detail or f"{pool_name} 1" in served.detail
    # Three beats missed.
    later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=91)
    gone = await run(lambda: check_workers(later))
    assert gone.status is Status.BAD
    assert pool_name in gone.detail


async def test_a_pool_that_is_paused_or_has_no_deployment_needs_no_worker(
    client: PrefectClient, pool_name: str
) -> None:
    empty = f"empty-{uuid4()}"
    await client.create_work_pool(WorkPoolCreate(name=empty, type="process"))
    await client.update_work_pool(pool_name, WorkPoolUpdate(is_paused=True))
    found = await run(check_workers)
    await client.delete_work_pool(empty)
    assert pool_name not in found.detail
    assert empty not in found.detail


async def test_the_flow_writes_down_what_it_returns(
    database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICEWAY_DATABASE_URL", database.loader_url)
    monkeypatch.setenv("SLUICEWAY_LOG_FOLDER", str(tmp_path))
    monkeypatch.setenv("SLUICEWAY_RAW_FOLDER", str(tmp_path))
    read_settings.cache_clear()
    found = await check_health()
    read_settings.cache_clear()
    assert set(found) == {"postgres", "prefect", "workers", "disk", "memory", "cpu"}
    assert (found["postgres"], found["prefect"]) == ("GOOD", "GOOD")
    connection = await asyncpg.connect(database.loader_url)
    rows = await connection.fetch("SELECT component, status FROM metadata.health_checks")
    await connection.close()
    assert {row["component"]: row["status"] for row in rows} == found


def make_environment(database, folder: Path) -> dict[str, str]:
    """Return what a process is told that has no Prefect server."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("SLUICE", "PREFECT"))
    }
    return environment | {
        "SLUICEWAY_DATABASE_URL": database.loader_url,
        "SLUICEWAY_LOG_FOLDER": str(folder),
        "SLUICEWAY_RAW_FOLDER": str(folder),
        "SLUICEWAY_HEALTH_FREE_DISK_PERCENT": "0",
        "SLUICEWAY_HEALTH_FREE_MEMORY_PERCENT": "0",
        "PREFECT_HOME": str(folder / "prefect"),
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "200",
    }


def test_who_looks_once_sees_the_table_also_while_postgresql_is_away(
    database, tmp_path: Path
) -> None:
    url = f"postgresql://sluiceway_loader@127.0.0.1:{choose_port()}/x"
    done = subprocess.run(
        [sys.executable, "-m", "flows.check_health"],
        cwd=tmp_path,
        env=make_environment(database, tmp_path) | {"SLUICEWAY_DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert re.search(r"postgres +│ BAD", done.stdout)
    assert re.search(r"memory +│ GOOD", done.stdout)
    assert done.stderr.startswith("This is not written down")
    assert "Traceback" not in done.stderr


async def test_the_process_looks_again_and_again_until_told_to_end(
    database, tmp_path: Path
) -> None:
    # One that looks once, and ends with 1 for a dashboard that nobody started.
    once = subprocess.Popen(
        [sys.executable, "-m", "flows.check_health"],
        cwd=tmp_path,
        env=make_environment(database, tmp_path) | {"SLUICEWAY_DASHBOARD_PORT": str(choose_port())},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.check_health", "--every", "0.5"],
        cwd=tmp_path,
        env=make_environment(database, tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        connection = await asyncpg.connect(database.loader_url)
        # Only the other looks at a dashboard.
        looked = """
            SELECT count(*) FROM (SELECT FROM metadata.health_checks GROUP BY checked_at
                                  HAVING bool_and(component <> 'dashboard')) AS turns
        """
        async with asyncio.timeout(90):
            while await connection.fetchval(looked) < 3:  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(0.05)
            shown, complaint = await asyncio.to_thread(once.communicate)
        await connection.close()
        process.send_signal(signal.SIGTERM)
        said = await asyncio.to_thread(process.communicate, timeout=60)
    finally:
        for each in (once, process):
            each.kill()
    assert process.returncode == 0, said
    assert said == ("", "")
    assert (once.returncode, complaint) == (1, "")
    for word in ("postgres", "dashboard", "BAD", "GOOD", "does not answer at http://127.0.0.1:"):
        assert word in shown
    # Without a Prefect server there is none to look at, and none was started.
    assert "prefect" not in shown
