"""PostgreSQL's address from a Prefect block of prefect-sqlalchemy, and from nothing else."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from prefect.client.orchestration import get_client
from prefect_sqlalchemy import AsyncSqlAlchemyConnector

from deployments.blocks import save_database_block
from flows.daily_etl_pipeline import daily_etl_pipeline
from infra.local.certificates import issue_certificates
from infra.local.postgres import Postgres
from infra.logs import detach_log_table
from infra.postgres.connection import connect
from infra.redaction import MASK, redact
from infra.settings import Settings, read_settings
from infra.tls.authority import Authority
from schemas.errors import SettingError
from tasks.database import find_database_url
from tests.conftest import DEBIAN_BIN, FAST, skip_or_fail


@pytest.fixture
def block_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The name of a block: all that this process knows of the database."""
    for name in ("DATABASE_URL", "READER_DATABASE_URL", "OWNER_DATABASE_URL"):
        monkeypatch.delenv(f"SLUICEWAY_{name}", raising=False)
    monkeypatch.setenv("SLUICEWAY_DATABASE_BLOCK", "alone")
    monkeypatch.setenv("SLUICEWAY_LOG_FOLDER", str(tmp_path / "logs"))
    read_settings.cache_clear()
    yield "alone"
    detach_log_table()
    read_settings.cache_clear()


async def test_a_block_names_the_database_that_flows_use(database) -> None:
    await save_database_block("warehouse", database.loader_url)
    url = await find_database_url(Settings(database_block="warehouse"))
    connection = await connect(url)
    try:
        assert await connection.fetchval("SELECT current_user") == "sluiceway_loader"
        assert await connection.fetchval("SELECT current_database()") == database.name
    finally:
        await connection.close()


async def test_a_flow_runs_by_the_block_alone(database, block_alone: str, tmp_path: Path) -> None:
    assert await save_database_block(block_alone, database.loader_url) == [
        "created the block alone"
    ]
    assert await save_database_block(block_alone, database.loader_url) == []
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "products.csv").write_text(
        "product_id,name,category,price,weight_kg,active\n1,Pen,toys,1.00,0.1,true\n"
    )
    [report] = await daily_etl_pipeline(folder, with_api=False)
    assert report.ledger.inserted == 1


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[tuple[Postgres, Path]]:
    """A server that speaks TLS alone, and the file of its CA."""
    if not (DEBIAN_BIN / "postgres").exists():
        skip_or_fail("PostgreSQL 15 is not installed: run `make system-packages`")
    certificates = issue_certificates(tmp_path / "a folder & its CA")
    data = tmp_path / "data"
    with Postgres(
        data, bin_folder=DEBIAN_BIN, settings=FAST, certificates=certificates
    ) as postgres:
        yield postgres, certificates.ca_file


async def test_a_block_keeps_the_way_over_tls(secured: tuple[Postgres, Path]) -> None:
    postgres, ca_file = secured
    address = postgres.url("postgres").split("?")[0]
    query = urlencode({"sslmode": "verify-full", "sslrootcert": str(ca_file)})
    await save_database_block("over-tls", f"{address}?{query}")
    connection = await connect(await find_database_url(Settings(database_block="over-tls")))
    try:
        assert await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    finally:
        await connection.close()
    other = Authority(ca_file.parent.parent / "others").certificate_file
    query = urlencode({"sslmode": "verify-full", "sslrootcert": str(other)})
    await save_database_block("over-tls", f"{address}?{query}")
    with pytest.raises(SettingError, match="unable to get local issuer certificate"):
        await connect(await find_database_url(Settings(database_block="over-tls")))


async def test_the_password_in_a_block_is_told_nobody_who_looks_at_it() -> None:
    address = "postgresql://loader:only-in-the-block@db.example/x"
    # As somebody may have made it, or an earlier version: the whole address as one text.
    asyncpg_address = address.replace("postgresql", "postgresql+asyncpg")
    await AsyncSqlAlchemyConnector(connection_info=asyncpg_address).save("looked-at")
    assert "only-in-the-block" in await _look_at("looked-at")
    assert await save_database_block("looked-at", address) == ["changed the block looked-at"]
    assert "only-in-the-block" not in await _look_at("looked-at")

    assert redact("only-in-the-block") == "only-in-the-block"
    assert await find_database_url(Settings(database_block="looked-at")) == address
    assert redact("only-in-the-block") == MASK


async def _look_at(name: str) -> str:
    """Return what the Prefect UI shows of the block."""
    async with get_client() as client:
        found = await client.read_block_document_by_name(
            name, "async-sqlalchemy-connector", include_secrets=False
        )
    return str(found.data)


async def test_a_block_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(SettingError, match="SLUICEWAY_DATABASE_BLOCK names 'nowhere'"):
        await find_database_url(Settings(database_block="nowhere"))
