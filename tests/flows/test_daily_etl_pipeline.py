"""The daily flow as a person runs it: against a real Prefect server, PostgreSQL and API."""

import asyncio
import json
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, FlowRunFilter

from flows.daily_etl_pipeline import daily_etl_pipeline
from infra.postgres.connection import Pool
from infra.sample.api import serve_users
from infra.settings import read_settings
from schemas.errors import LedgerError, SettingError, TerminalError
from tasks import steps
from tasks.load import Outcome

CUSTOMERS = "customer_id,name,signup_date\n1,Ann,2024-01-01\n2,Bo,2024-01-02\n3,,2024-01-03\n"
PRODUCTS = "product_id,name,category,price\n7,Spade,garden,1.00\n"
SALES = (
    "order_id,customer_id,product_id,order_date,quantity,unit_price\n"
    "1,1,7,2024-06-01,1,1.00\n2,2,7,2024-06-02,2,1.00\n"
)


@pytest.fixture
def raw_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "sales_data.csv").write_text(SALES)
    (folder / "customers.csv").write_text(CUSTOMERS)
    (folder / "products.csv").write_text(PRODUCTS)
    return folder


@pytest.fixture
def set_up(database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable]:
    """Name the settings of the test's own database and of an API."""

    def name(*, database_url: str = database.loader_url, api: str = "http://127.0.0.1:9") -> None:
        endpoint = {"url": f"{api}/users", "dataset": "api_users", "attempts": 1}
        monkeypatch.setenv("SLUICEWAY_DATABASE_URL", database_url)
        monkeypatch.setenv("SLUICEWAY_API_ENDPOINTS", json.dumps([endpoint]))
        monkeypatch.setenv("SLUICEWAY_LOG_FOLDER", str(tmp_path / "logs"))
        monkeypatch.delenv("SLUICEWAY_DATABASE_BLOCK", raising=False)
        read_settings.cache_clear()

    name()
    yield name
    read_settings.cache_clear()


async def test_a_run_loads_all_once_and_leaves_its_ledger_and_history(
    raw_folder: Path, pool: Pool, set_up
) -> None:
    async with serve_users() as address:
        set_up(api=address)
        reports = await daily_etl_pipeline(raw_folder)
        again = await daily_etl_pipeline(raw_folder)
    assert Counter(report.outcome for report in reports) == {Outcome.LOADED: 4}
    by_table = {report.table: report.ledger for report in reports}
    assert (by_table["customers"].inserted, by_table["customers"].quarantined) == (2, 1)
    assert (by_table["sales_data"].inserted, by_table["sales_data"].inferred) == (2, 0)
    assert Counter(report.outcome for report in again) == {Outcome.UNCHANGED: 4}
    first, second = await fetch(pool, "SELECT * FROM metadata.pipeline_executions ORDER BY id")
    assert (first["status"], second["status"]) == ("SUCCESS", "SUCCESS")
    assert first["records_processed"] == sum(ledger.read for ledger in by_table.values())
    assert second["records_processed"] == 0
    [table] = await artifacts(first["flow_run_id"])
    rows = {row["source"]: row for row in json.loads(table.data)}
    assert table.type == "table"
    assert rows["customers.csv"]["quarantined"] == 1
    assert {row["outcome"] for row in rows.values()} == {"LOADED"}
    runs = await finished_task_runs(first["flow_run_id"], count=6)
    assert {(run.name, *run.tags) for run in runs} >= {
        ("fetch api_users", "extract"),
        ("load api_users from its API", "load"),
        ("load customers.csv", "load"),
        ("load products.csv", "load"),
        ("load sales_data.csv", "load"),
    }


async def test_a_refused_file_fails_the_run_with_a_sentence_and_keeps_no_other_out(
    raw_folder: Path, pool: Pool, set_up, prefect_lines: list[str]
) -> None:
    (raw_folder / "customers.csv").write_text("customer_id,nom\n1,Ann\n")
    with pytest.raises(TerminalError, match="1 of 3 sources could not be loaded") as error:
        await daily_etl_pipeline(raw_folder, with_api=False)
    sentence = f"{raw_folder / 'customers.csv'} lacks 'name', 'signup_date'"
    assert sentence in str(error.value)
    [run] = await fetch(pool, "SELECT * FROM metadata.pipeline_executions")
    assert (run["status"], run["error_message"]) == ("FAILED", str(error.value))
    [sales] = await fetch(pool, "SELECT count(*) AS rows FROM warehouse.fact_sales_data")
    assert sales["rows"] == 2
    told = [line for line in prefect_lines if sentence in line]
    assert told
    assert not [line for line in prefect_lines if "Traceback" in line]
    [table] = await artifacts(run["flow_run_id"])
    outcomes = {row["source"]: row["outcome"] for row in json.loads(table.data)}
    assert outcomes["customers.csv"] == "REFUSED"


async def test_an_api_that_is_down_is_a_warning_and_the_run_succeeds(
    raw_folder: Path, pool: Pool, set_up, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _without_waiting(monkeypatch)
    reports = await daily_etl_pipeline(raw_folder)
    assert Counter(report.outcome for report in reports) == {
        Outcome.LOADED: 3,
        Outcome.UNREACHABLE: 1,
    }
    [run] = await fetch(pool, "SELECT status, warnings FROM metadata.pipeline_executions")
    assert run["status"] == "SUCCESS"
    [warning] = [each for each in run["warnings"] if "/users" in each]
    assert "could not be reached" in warning
    [log] = (tmp_path / "logs").iterdir()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["level"] for line in lines if line.get("why") == warning] == ["warning"]


async def test_an_answer_that_is_no_json_is_a_warning_too(
    raw_folder: Path, pool: Pool, set_up
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nContent-Type: text/html\r\n\r\n<html>"
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        set_up(api=f"http://127.0.0.1:{port}")
        await daily_etl_pipeline(raw_folder)
    [run] = await fetch(pool, "SELECT status, warnings FROM metadata.pipeline_executions")
    assert run["status"] == "SUCCESS"
    assert [each for each in run["warnings"] if "text/html" in each]


async def test_a_load_whose_connection_breaks_is_repeated_by_its_task(
    raw_folder: Path,
    database,
    pool: Pool,
    set_up,
    prefect_lines: list[str],
    monkeypatch: pytest.MonkeyPatch,
    cut_once,
) -> None:
    _without_waiting(monkeypatch)
    async with cut_once(database.loader_url, b"COPY ") as (url, cuts):
        set_up(database_url=url)
        reports = await daily_etl_pipeline(raw_folder, with_api=False)
    assert cuts == [True]
    assert Counter(report.outcome for report in reports) == {Outcome.LOADED: 3}
    [run] = await fetch(pool, "SELECT status FROM metadata.pipeline_executions")
    assert run["status"] == "SUCCESS"
    assert len([line for line in prefect_lines if "Retry 1/3" in line]) == 1
    for table, rows in (("fact_sales_data", 2), ("dim_customers", 2), ("dim_products", 1)):
        [found] = await fetch(pool, f"SELECT count(*) AS rows FROM warehouse.{table}")  # noqa: S608
        assert (table, found["rows"]) == (table, rows)


async def test_a_file_that_is_no_data_and_a_folder_called_csv_are_named_in_the_warnings(
    raw_folder: Path, pool: Pool, set_up
) -> None:
    (raw_folder / "notes.pdf").write_bytes(b"%PDF-")
    (raw_folder / "x.csv").mkdir()
    (raw_folder / os.fsdecode(b"caf\xe9.csv")).write_text("a\n1\n")
    await daily_etl_pipeline(raw_folder, with_api=False)
    [run] = await fetch(pool, "SELECT status, warnings FROM metadata.pipeline_executions")
    warnings = " ".join(run["warnings"])
    assert run["status"] == "SUCCESS"
    assert "notes.pdf was left out" in warnings
    assert "x.csv was left out: it is a folder" in warnings
    assert "caf\\xe9.csv was left out: its name is not UTF-8" in warnings


async def test_a_folder_that_is_missing_fails_the_run_with_a_sentence(
    tmp_path: Path, pool: Pool, set_up
) -> None:
    with pytest.raises(TerminalError, match="does not exist: create it, or set SLUICEWAY_RAW"):
        await daily_etl_pipeline(tmp_path / "nowhere", with_api=False)
    [run] = await fetch(pool, "SELECT status, error_message FROM metadata.pipeline_executions")
    assert run["status"] == "FAILED"
    assert "does not exist" in run["error_message"]


async def test_a_fault_of_the_platform_in_one_source_keeps_no_other_out(
    raw_folder: Path, database, pool: Pool, set_up, prefect_lines: list[str]
) -> None:
    await break_table(database, "staging.products", "RAISE EXCEPTION 'a fault'")
    with pytest.raises(TerminalError, match="1 of 3 sources could not be loaded") as error:
        await daily_etl_pipeline(raw_folder, with_api=False)
    assert "products.csv could not be loaded by a fault of the platform" in str(error.value)
    [run] = await fetch(pool, "SELECT status, error_message FROM metadata.pipeline_executions")
    assert (run["status"], run["error_message"]) == ("FAILED", str(error.value))
    loaded = await fetch(pool, "SELECT dataset FROM metadata.dataset_counts ORDER BY 1")
    assert [row["dataset"] for row in loaded] == ["customers", "sales_data"]
    assert not [line for line in prefect_lines if "Retry" in line]


async def test_a_ledger_that_does_not_balance_commits_nothing_and_ends_the_run_with_its_sentence(
    raw_folder: Path, database, pool: Pool, set_up
) -> None:
    await break_table(database, "metadata.quarantine", "RETURN NULL")
    with pytest.raises(LedgerError, match="3 rows were read and 2 accounted for"):
        await daily_etl_pipeline(raw_folder, with_api=False)
    [run] = await fetch(pool, "SELECT status, error_message FROM metadata.pipeline_executions")
    assert run["status"] == "FAILED"
    assert "3 rows were read and 2 accounted for" in run["error_message"]
    [customers] = await fetch(pool, "SELECT count(*) AS rows FROM staging.customers")
    assert customers["rows"] == 0


async def test_without_a_database_the_flow_says_which_setting_to_make(
    raw_folder: Path, set_up
) -> None:
    set_up(database_url="")
    with pytest.raises(SettingError, match="set SLUICEWAY_DATABASE_URL"):
        await daily_etl_pipeline(raw_folder)


def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the number of repetitions, and not the seconds between them."""
    for task in (steps.load_file, steps.fetch_endpoint):
        monkeypatch.setattr(task, "retry_delay_seconds", 0)


async def break_table(database, table: str, body: str) -> None:
    """Let PostgreSQL itself spoil what is written into a table."""
    connection = await asyncpg.connect(database.owner_url)
    try:
        await connection.execute(
            "CREATE FUNCTION public.spoil() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN {body}; END $$;"
            f"CREATE TRIGGER spoil BEFORE INSERT ON {table}"
            " FOR EACH ROW EXECUTE FUNCTION public.spoil()"
        )
    finally:
        await connection.close()


async def artifacts(flow_run_id: Any) -> list[Any]:
    async with get_client() as client:
        return await client.read_artifacts(
            artifact_filter=ArtifactFilter(
                flow_run_id={"any_": [flow_run_id]}, key={"any_": ["ledger"]}
            )
        )


async def finished_task_runs(flow_run_id: Any, *, count: int) -> list[Any]:
    """Return the run's task runs; the server hears of them a moment later."""
    async with get_client() as client:

        async def read() -> list[Any]:
            return await client.read_task_runs(
                flow_run_filter=FlowRunFilter(id={"any_": [flow_run_id]})
            )

        return await until(read, lambda runs: len(runs) >= count)


async def until(read: Callable[[], Awaitable[Any]], good: Callable[[Any], bool]) -> Any:
    for _ in range(300):
        if good(found := await read()):
            break
        await asyncio.sleep(0.1)
    return found


async def fetch(pool: Pool, query: str) -> list:
    async with pool.acquire() as connection:
        return await connection.fetch(query)
