"""Debian's PostgreSQL over TLS alone: the platform works, and nobody else is let in or believed."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from deployments.bootstrap import bootstrap
from infra.local.postgres import Postgres
from infra.postgres.connection import Pool, connect
from infra.tls.authority import Authority
from schemas.datasets import Products
from schemas.errors import SettingError
from tasks.discover_files import discover_files
from tasks.load import Order, Outcome
from tasks.load_file import load_found
from tests.conftest import DEBIAN_BIN, skip_or_fail
from tests.tls_servers import postgres_over_tls, verified_address

PASSWORD = "only for tests"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("tls"))
    # Not for `localhost`, which is the same machine by another name.
    made.issue("postgres", ["127.0.0.1"])
    return made


@pytest.fixture(scope="module")
def server(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server that speaks TLS or nothing, with the platform's tables in `platform`."""
    if not (DEBIAN_BIN / "postgres").exists():
        skip_or_fail("PostgreSQL 15 is not installed: run `make system-packages`")
    with postgres_over_tls(tmp_path_factory.mktemp("postgres") / "data", authority) as postgres:
        yield postgres


async def test_the_platform_works_over_tls_alone(
    server: Postgres, authority: Authority, tmp_path: Path
) -> None:
    ca = authority.certificate_file
    await bootstrap(verified_address(server, ca), loader_password=PASSWORD)
    (tmp_path / "products.csv").write_text(
        "product_id,name,category,price,weight_kg,active\n1,Pen,toys,1.00,0.1,true\n"
    )
    async with Pool(
        verified_address(server, ca, user="sluiceway_loader", password=PASSWORD)
    ) as pool:
        async with pool.acquire() as connection:
            run = await connection.fetchval(
                "INSERT INTO metadata.pipeline_executions (pipeline_name) VALUES ('t') RETURNING id"
            )
            assert await connection.fetchval(
                "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            ) in {"TLSv1.2", "TLSv1.3"}
        [found], _ = await asyncio.to_thread(discover_files, tmp_path, [Products.spec])
        report = await load_found(pool, found, Order(run, str(found.path), found.table, found.spec))
    assert (report.outcome, report.ledger.inserted) == (Outcome.LOADED, 1)


async def test_a_certificate_of_another_ca_is_not_believed(
    server: Postgres, tmp_path: Path
) -> None:
    other = Authority(tmp_path).certificate_file
    with pytest.raises(SettingError, match="unable to get local issuer certificate"):
        await connect(verified_address(server, other), wait_seconds=1)


async def test_a_certificate_for_another_host_is_not_believed(
    server: Postgres, authority: Authority
) -> None:
    with pytest.raises(SettingError, match="Hostname mismatch"):
        await connect(
            verified_address(server, authority.certificate_file, host="localhost"), wait_seconds=1
        )


async def test_a_wrong_password_is_refused(server: Postgres, authority: Authority) -> None:
    url = verified_address(server, authority.certificate_file, user="postgres", password="wrong")
    with pytest.raises(SettingError, match="refused the login") as caught:
        await connect(url, wait_seconds=1)
    assert "wrong" not in str(caught.value)


async def test_nothing_is_said_in_clear(server: Postgres) -> None:
    with pytest.raises(SettingError, match="no encryption"):
        await connect(server.url("platform"), wait_seconds=1)
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await asyncpg.connect(server.url("platform"), ssl="disable")
