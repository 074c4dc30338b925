"""A load that its contract refuses as too odd, from the command line to the manifest."""

import argparse
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows import daily_etl_pipeline as daily
from infra.postgres.connection import Pool
from infra.settings import read_settings
from schemas.datasets import Customers, Products
from schemas.errors import TerminalError
from tasks import keep_profile
from tasks.anomalies import Anomaly
from tasks.profile import LoadProfile

HEADER = "customer_id,name,signup_date\n"


async def find_odd(_: object, profile: LoadProfile, *__: object, at: object) -> list[Anomaly]:
    if profile.dataset != "customers":
        return []
    odd = Anomaly("customers", profile.feed, None, "volume", "error", 1, 2, 2, None, "Too few.")
    return [odd]


async def test_a_run_leaves_an_odd_load_out_and_one_that_is_told_to_takes_it_in(
    tmp_path: Path, pool: Pool, database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICEWAY_DATABASE_URL", database.loader_url)
    monkeypatch.setenv("SLUICEWAY_LOG_FOLDER", str(tmp_path / "logs"))
    monkeypatch.delenv("SLUICEWAY_DATABASE_BLOCK", raising=False)
    monkeypatch.setattr(keep_profile, "judge_load", find_odd)
    strict = SimpleNamespace(spec=replace(Customers.spec, refuse_anomalies=True))
    monkeypatch.setattr(daily, "DATASETS", (strict, Products))
    read_settings.cache_clear()
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "customers.csv").write_text(f"{HEADER}1,Ann,2024-01-01\n")
    (raw / "products.csv").write_text("product_id,name,category,price\n7,Spade,garden,1.00\n")
    given = argparse.Namespace(
        raw_folder=raw, without_api=True, force=False, accept_anomalies=False
    )
    with pytest.raises(TerminalError, match=r"1 of 2 sources could not be loaded: .* Too few, and"):
        await daily._run(given)  # noqa: SLF001 - what the command does with its options
    given.accept_anomalies = True
    await daily._run(given)  # noqa: SLF001 - likewise
    read_settings.cache_clear()
    async with pool.acquire() as connection:
        runs = await connection.fetch(
            "SELECT status, warnings, parameters::jsonb -> 'accept_anomalies' AS accepted"
            " FROM metadata.pipeline_executions ORDER BY id"
        )
        files = await connection.fetch(
            "SELECT dataset, status FROM metadata.source_files ORDER BY execution_id, dataset"
        )
    assert [(row["status"], row["accepted"]) for row in runs] == [
        ("FAILED", "false"),
        ("SUCCESS", "true"),
    ]
    assert "customers.csv: anomaly accepted (error): Too few." in runs[1]["warnings"]
    assert [tuple(row) for row in files] == [
        ("customers", "REFUSED"),
        ("products", "LOADED"),
        ("customers", "LOADED"),
        ("products", "UNCHANGED"),
    ]
