"""A run's log lines: in PostgreSQL when the run is over, each with the run it belongs to."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.daily_etl_pipeline import daily_etl_pipeline
from infra import log_table
from infra.logs import detach_log_table
from infra.postgres.connection import Pool
from infra.settings import read_settings
from schemas.errors import TerminalError


@pytest.fixture
def raw_folder(database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A folder with a file that loads and one that is refused."""
    monkeypatch.setenv("SLUICEWAY_DATABASE_URL", database.loader_url)
    monkeypatch.setenv("SLUICEWAY_LOG_FOLDER", str(tmp_path / "logs"))
    monkeypatch.delenv("SLUICEWAY_DATABASE_BLOCK", raising=False)
    # A busy machine may take longer than lines are worth in earnest.
    monkeypatch.setattr(log_table, "EXIT_SECONDS", 30.0)
    read_settings.cache_clear()
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "customers.csv").write_text("customer_id,name,signup_date\n1,Ann,2024-01-01\n")
    (folder / "products.csv").write_text("product_id,nom\n1,Spade\n")
    yield folder
    detach_log_table()
    read_settings.cache_clear()


async def test_a_runs_lines_are_in_the_database_with_its_execution_id(
    raw_folder: Path, pool: Pool, tmp_path: Path
) -> None:
    with pytest.raises(TerminalError):
        await daily_etl_pipeline(raw_folder, with_api=False)
    async with pool.acquire() as connection:
        lines = await connection.fetch("SELECT * FROM metadata.pipeline_logs ORDER BY id")
        run = await connection.fetchval("SELECT id FROM metadata.pipeline_executions")
    assert {(line["pipeline_name"], line["execution_id"]) for line in lines} == {
        ("daily_etl_pipeline", run)
    }
    assert {(line["event"], line["level"], line["dataset"]) for line in lines} >= {
        ("loaded", "INFO", "customers"),
        ("not loaded", "ERROR", "products"),
    }
    [path] = (tmp_path / "logs").iterdir()
    in_file = [json.loads(each) for each in path.read_text(encoding="utf-8").splitlines()]
    assert [each["event"] for each in in_file] == [line["event"] for line in lines]
    [loaded] = [json.loads(line["fields"]) for line in lines if line["event"] == "loaded"]
    assert (loaded["read"], loaded["inserted"]) == (1, 1)
