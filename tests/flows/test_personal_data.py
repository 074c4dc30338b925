"""Forgetting a person and rotating keys as somebody starts them; whom is said nowhere."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter
from prefect.settings import PREFECT_API_URL

from flows.forget_person import forget_person
from infra.cell_keys import make_key
from infra.postgres.connection import Pool
from infra.settings import read_settings
from schemas.datasets import Customers
from schemas.errors import SettingError
from tasks.extract_csv import CsvFile
from tasks.load import Order, load_source

ROOT = Path(__file__).parents[2]
WILHELMINE = "wilhelmine.unusual@example.com"


@pytest.fixture(autouse=True)
def set_up(database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("SLUICEWAY_DATABASE_URL", database.loader_url)
    monkeypatch.setenv("SLUICEWAY_ERASER_DATABASE_URL", database.eraser_url)
    monkeypatch.setenv("SLUICEWAY_LOG_FOLDER", str(tmp_path / "logs"))
    monkeypatch.delenv("SLUICEWAY_DATABASE_BLOCK", raising=False)
    read_settings.cache_clear()
    yield
    read_settings.cache_clear()


@pytest.fixture
async def owner(database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.owner_url)
    yield connection
    await connection.close()


@pytest.fixture
async def customers(pool: Pool, owner: asyncpg.Connection, tmp_path: Path) -> None:
    """Wilhelmine, who is also in the quarantine, and Bob."""
    path = tmp_path / "customers.csv"
    path.write_text(
        "customer_id,name,email,signup_date\n"
        f"1,Wilhelmine,{WILHELMINE},2024-01-01\n2,Bob,bob@example.com,2024-01-01\n"
        f"3,,{WILHELMINE},2024-01-01\n"
    )
    run = await owner.fetchval(
        "INSERT INTO metadata.pipeline_executions (pipeline_name) VALUES ('test') RETURNING id"
    )
    order = Order(run, str(path), "customers", Customers.spec)
    await load_source(pool, CsvFile(path), order)


@pytest.fixture
def value_file(tmp_path: Path) -> str:
    path = tmp_path / "value"
    path.write_text(WILHELMINE)
    return str(path)


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Awaitable[subprocess.CompletedProcess[str]]]:
    async def run(
        *command: str, given: str = "", **settings: str
    ) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", *command],
            input=given,
            cwd=tmp_path,
            env={
                **os.environ,
                "PREFECT_API_URL": str(PREFECT_API_URL.value()),
                "PYTHONPATH": str(ROOT),
                "COLUMNS": "200",
                **settings,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    return run


LEFT = "SELECT array_agg(customer_id) FROM warehouse.dim_customers WHERE name IS NOT NULL"


async def test_whom_is_in_no_place_where_a_run_leaves_something(
    customers: None, value_file: str, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    dry = await forget_person("customers", "email", requested_by="4711", value_file=value_file)
    assert (dry.total, await owner.fetchval(LEFT)) == (3, [1, 2])
    await Secret(value=WILHELMINE).save("whom", overwrite=True)
    done = await forget_person(
        "customers", "email", requested_by="4711", value_block="whom", dry_run=False
    )
    assert (done.total, await owner.fetchval(LEFT)) == (3, [2])

    runs = await owner.fetch(
        "SELECT * FROM metadata.pipeline_executions WHERE pipeline_name = 'forget_person'"
    )
    assert [(each["status"], each["records_processed"]) for each in runs] == [("SUCCESS", 3)] * 2
    texts = [str([dict(each) for each in runs])]
    async with get_client() as client:
        for run in runs:
            texts.append((await client.read_flow_run(run["flow_run_id"])).model_dump_json())
            [found] = await client.read_artifacts(
                artifact_filter=ArtifactFilter(flow_run_id={"any_": [run["flow_run_id"]]})
            )
            texts.append(found.model_dump_json())
            assert {row["table"]: row["rows"] for row in json.loads(found.data)} == {
                "staging.customers": 1,
                "warehouse.dim_customers": 1,
                "metadata.quarantine": 1,
            }
    for table in ("pipeline_logs", "erasures", "alert_events"):
        rows = await owner.fetch(f"SELECT t::text FROM metadata.{table} AS t")  # noqa: S608 - above
        texts += [each[0] for each in rows]
    texts += [path.read_text() for path in (tmp_path / "logs").rglob("*") if path.is_file()]
    assert "forget_person" in "".join(texts)
    assert not [text for text in texts if "wilhelmine" in text.lower()]


async def test_without_the_erasers_address_nothing_begins(
    value_file: str, owner: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICEWAY_ERASER_DATABASE_URL", "")
    read_settings.cache_clear()
    with pytest.raises(SettingError, match="SLUICEWAY_ERASER_DATABASE_URL is not set"):
        await forget_person("customers", "email", requested_by="4711", value_file=value_file)
    with pytest.raises(SettingError, match="no Secret block 'nobody'"):
        await forget_person("customers", "email", requested_by="4711", value_block="nobody")
    assert await owner.fetchval("SELECT count(*) FROM metadata.pipeline_executions") == 0


async def test_the_commands_say_what_they_did_or_what_is_wrong(
    customers: None, owner: asyncpg.Connection, start: Callable
) -> None:
    forget = ("flows.forget_person", "customers", "email", "--ticket", "4711")
    answers = await asyncio.gather(
        start(*forget, "--for-real", given=f"{WILHELMINE}\n"), start(*forget, given="\n")
    )
    done, nobody = answers
    assert (done.returncode, await owner.fetchval(LEFT)) == (0, [2])
    assert done.stdout.splitlines()[-1] == "3 rows about this person are erased."
    assert nobody.returncode == 1
    assert "The person's value is empty" in nobody.stderr
    assert not [each for each in answers if "wilhelmine" in f"{each.stdout}{each.stderr}".lower()]

    keys = f"{make_key('new')},{os.environ['SLUICEWAY_CELL_KEYS']}"
    rotated = await start("flows.rotate_keys", SLUICEWAY_CELL_KEYS=keys)
    assert rotated.returncode == 0
    # Bob's name and address, staged and merged.
    assert rotated.stdout.splitlines()[-1].startswith("2 rows are rewritten. There are cells: 4 of")
    unreadable = await start(
        "flows.rotate_keys", "--dry-run", SLUICEWAY_CELL_KEYS=make_key("other")
    )
    assert unreadable.returncode == 1
    assert "Some cells cannot be read: 1 of staging.customers.email (key " in unreadable.stderr
