"""The exporter as a service: what it may read, and how it bears a PostgreSQL that is not there."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from deployments.bootstrap import bootstrap
from deployments.roles import CONNECTION_LIMIT, MONITOR_LIMIT
from infra.exporter.scraper import Group, Scraper, make_pool
from infra.exporter.serve import serve_metrics
from infra.exporter.sheet import Sheet
from infra.local.postgres import Postgres
from infra.local.stack import DATABASE, OWNER
from infra.postgres.connection import Connection
from infra.settings import Settings
from schemas.errors import SettingError
from tests.conftest import DEBIAN_BIN, FAST, Database, skip_or_fail
from tests.exporter_scrapes import Scrape, served

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def monitor(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.monitor_url)
    yield connection
    await connection.close()


async def test_the_monitor_reads_figures_and_nothing_else(monitor) -> None:
    whole = await monitor.fetch(
        """
        SELECT c.oid::regclass::text FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('metadata', 'warehouse', 'staging') AND c.relkind IN ('r', 'v')
            AND has_table_privilege(c.oid, 'SELECT')
        """
    )
    assert {row[0] for row in whole} == {
        "metadata.metric_sums", "metadata.rollup_uptime", "metadata.stream_lag",
    }  # fmt: skip
    columns = await monitor.fetch(
        """
        SELECT c.relname || '.' || a.attname FROM pg_attribute AS a
        JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('metadata', 'warehouse', 'staging') AND c.relkind IN ('r', 'v')
            AND a.attnum > 0 AND has_column_privilege(c.oid, a.attnum, 'SELECT')
            AND NOT has_table_privilege(c.oid, 'SELECT')
        """
    )
    assert {row[0] for row in columns} == {
        "pipeline_executions.pipeline_name", "pipeline_executions.status",
        "pipeline_executions.start_time", "health_checks.component", "health_checks.status",
        "health_checks.checked_at", "health_checks.latency_seconds",
        "maintenance_windows.component", "maintenance_windows.starts_at",
        "maintenance_windows.ends_at", "stream_offsets.consumer_group", "stream_offsets.topic",
        "stream_offsets.partition", "dataset_counts.dataset", "dataset_counts.recorded_at",
        "dataset_counts.inserted", "dataset_counts.updated", "dataset_counts.unchanged",
        "source_files.id", "source_files.dataset", "source_files.path", "source_files.status",
        "source_files.recorded_at", "dead_letters.id", "dead_letters.outcome",
        "mail_outbox.sent_at", "mail_outbox.abandoned_at",
    }  # fmt: skip


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT message_value FROM metadata.dead_letters",
        "SELECT * FROM metadata.dead_letters",
        "SELECT raw FROM metadata.quarantine",
        "SELECT error_message FROM metadata.pipeline_executions",
        "SELECT body_text FROM metadata.mail_outbox",
        "SELECT event FROM metadata.pipeline_logs",
        "SELECT detail FROM metadata.health_checks",
        "SELECT * FROM warehouse.dim_customers",
        "SELECT * FROM staging.customers",
        "UPDATE metadata.metric_totals SET total = 0",
        "INSERT INTO metadata.metric_changes VALUES ('runs', '{p,FAILED}', 1)",
        "DELETE FROM metadata.stream_lag",
        "SELECT metadata.fold_counts()",
        "SELECT metadata.raise_metric_totals()",
        "SELECT metadata.set_maintenance(NULL, NULL, now(), now(), 'x', 'y')",
        "CREATE TABLE metadata.mine (a integer)",
        "CREATE TABLE public.mine (a integer)",
    ],
)
async def test_the_monitor_is_refused_everything_else(monitor, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await monitor.execute(statement)


@pytest.fixture(params=["embedded", "debian"])
def own_server(request, tmp_path_factory) -> Iterator[Postgres]:
    """A server of the test's own, to stop and start; with the local stack's owner on it."""
    folder = None
    if request.param == "debian":
        folder = DEBIAN_BIN
        if not (folder / "postgres").exists():
            skip_or_fail("PostgreSQL 15 is not installed: run `make system-packages`")
    data = tmp_path_factory.mktemp("exporter") / "data"
    with Postgres(data, bin_folder=folder, settings=FAST) as postgres:
        postgres.ensure_role(OWNER, "x", options="CREATEROLE")
        postgres.ensure_database(DATABASE, owner=OWNER)
        yield postgres


async def test_an_owner_that_is_no_superuser_is_enough_and_a_stop_is_survived(own_server) -> None:
    owner_url = own_server.url(DATABASE, user=OWNER, password="x")
    await bootstrap(owner_url, loader_password="l", monitor_password="m")
    loader = await asyncpg.connect(own_server.url(DATABASE, user="sluiceway_loader", password="l"))
    await loader.execute("INSERT INTO metadata.pipeline_executions (pipeline_name) VALUES ('p')")
    url = own_server.url(DATABASE, user="sluiceway_monitor", password="m")
    async with served(url) as exporter:
        scrape = await exporter.scrape()
        assert set(scrape.of("sluiceway_exporter_group_up").values()) == {1.0}
        assert scrape.of("sluiceway_runs_running") == {("p",): 1}
        # Others' connections are seen without pg_read_all_stats.
        connections = scrape.of("sluiceway_database_connections")
        assert connections[("sluiceway_loader",)] == connections[("sluiceway_monitor",)] == 1
        limits = scrape.of("sluiceway_database_connection_limit")
        assert limits[("sluiceway_loader",)] == CONNECTION_LIMIT
        assert limits[("sluiceway_monitor",)] == MONITOR_LIMIT
        loader.terminate()

        await asyncio.to_thread(own_server.stop)
        for _ in range(2):
            away = await exporter.scrape()
            assert away.value("sluiceway_database_up") == 0
            ours = {name for name in away.families if name.startswith("sluiceway")}
            assert ours == {"sluiceway_database_up"}
        await asyncio.to_thread(own_server.start)
        back = await exporter.scrape()
        assert back.value("sluiceway_database_up") == 1
        assert back.of("sluiceway_runs_running") == {("p",): 1}


@asynccontextmanager
async def scraping(url: str, group: Group, **given: float) -> AsyncIterator[Scraper]:
    """Lend a scraper of one group."""
    async with make_pool(url) as pool:
        scraper = Scraper(pool, groups={"only": group}, **given)
        try:
            yield scraper
        finally:
            await scraper.end()


def value_of(metrics: list, name: str) -> float:
    [found] = [each.samples[0].value for each in metrics if each.name == name]
    return float(found)


async def test_scrapes_at_the_same_time_share_one_reading(database: Database) -> None:
    readings = 0

    async def count(_sheet: Sheet, connection: Connection) -> None:
        nonlocal readings
        readings += 1
        await connection.execute("SELECT pg_sleep(0.05)")

    async with scraping(database.monitor_url, count, share_seconds=1000) as scraper:
        first = await asyncio.gather(*(scraper.scrape() for _ in range(10)))
        assert all(each is first[0] for each in first)
        assert await scraper.scrape() is first[0]
    assert readings == 1
    async with scraping(database.monitor_url, count, share_seconds=0) as scraper:
        await asyncio.gather(*(scraper.scrape() for _ in range(10)))
        await scraper.scrape()
    assert readings == 3


async def test_a_group_that_cannot_be_read_takes_no_other_with_it(database: Database) -> None:
    owner = await asyncpg.connect(database.owner_url)
    await owner.execute("REVOKE SELECT ON metadata.rollup_uptime FROM sluiceway_monitor")
    await owner.close()
    async with served(database.monitor_url) as exporter:
        scrape: Scrape = await exporter.scrape()
        down = {key for key, up in scrape.of("sluiceway_exporter_group_up").items() if not up}
        assert down == {("uptime",)}
        assert "sluiceway_uptime_ratio" not in scrape.families
        assert scrape.value("sluiceway_database_up") == 1
        assert scrape.value("sluiceway_mails_waiting") == 0


async def test_a_server_that_falls_silent_holds_no_scrape_up(database: Database) -> None:
    lasting = "0.01"

    async def ask(sheet: Sheet, connection: Connection) -> None:
        # As if it were frozen: neither its statement timeout nor a cancelling ends it.
        await connection.execute(f"SET LOCAL statement_timeout = 0; SELECT pg_sleep({lasting})")
        sheet.gauge("found", "It was.", (), [((), 1)])

    given = {"share_seconds": 0, "answer_seconds": 2.0}
    async with scraping(database.monitor_url, ask, **given) as scraper:
        assert value_of(await scraper.scrape(), "found") == 1
        lasting = "600"
        assert value_of(await scraper.scrape(), "sluiceway_database_up") == 0
        lasting = "0.01"
        assert value_of(await scraper.scrape(), "found") == 1


async def test_a_server_that_takes_a_connection_and_says_nothing_is_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://a:b@127.0.0.1:{silent.getsockname()[1]}/c"
        async with make_pool(url) as pool:
            scraper = Scraper(pool, answer_seconds=0.2)
            metrics = await scraper.scrape()
            assert [each.name for each in metrics] == ["sluiceway_database_up"]
            assert value_of(metrics, "sluiceway_database_up") == 0
            await scraper.end()


async def test_a_port_that_is_taken_is_told_by_its_setting(database: Database) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(
            monitor_database_url=database.monitor_url,  # type: ignore[arg-type]
            exporter_port=taken.getsockname()[1],
        )
        with pytest.raises(SettingError, match=r"^The exporter cannot .* SLUICEWAY_EXPORTER_PORT"):
            async with serve_metrics(settings):
                pass


async def test_the_command_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    environment = {key: each for key, each in os.environ.items() if "SLUICEWAY" not in key}
    environment |= {"SLUICEWAY_LOG_FOLDER": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "infra.exporter"]
    options = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    without = subprocess.Popen(command, env=environment, **options)
    # PostgreSQL is away from the start on.
    away = {
        "SLUICEWAY_MONITOR_DATABASE_URL": "postgresql://a:b@127.0.0.1:1/c",
        "SLUICEWAY_EXPORTER_PORT": "0",
    }
    with subprocess.Popen(command, env=environment | away, **options) as process:
        try:
            said = await asyncio.to_thread(process.stdout.readline)
            assert said.startswith("Metrics are at http://127.0.0.1:")
            async with aiohttp.ClientSession() as session, session.get(said.split()[-1]) as answer:
                assert answer.status == 200
                assert "\nsluiceway_database_up 0.0\n" in await answer.text()
            process.send_signal(signal.SIGTERM)
            _, complaint = await asyncio.to_thread(process.communicate, timeout=60)
            assert (process.returncode, complaint) == (0, "")
        finally:
            process.kill()
    _, complaint = without.communicate(timeout=60)
    assert without.returncode == 1
    [sentence] = complaint.splitlines()
    assert sentence.startswith("No database is named: set SLUICEWAY_MONITOR_DATABASE_URL")
