"""What tests share: a real PostgreSQL with a database for each test that asks, and brokers."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import hypothesis
import pytest

from deployments.bootstrap import bootstrap
from infra.local.embedded_broker import EmbeddedBroker
from infra.local.java import find_java
from infra.local.kafka import ApacheKafka
from infra.local.kafka_jars import find_jars
from infra.local.postgres import Postgres
from infra.postgres.connection import Pool
from schemas.errors import TerminalError
from tests.keys import provide_keys

# How long an example takes says how busy the machine is, and nothing about the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

provide_keys()

LOADER_PASSWORD = "only for tests"
READER_PASSWORD = "only for tests too"
MONITOR_PASSWORD = "only for tests as well"
ERASER_PASSWORD = "only for tests once more"
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
}
DEBIAN_BIN = Path("/usr/lib/postgresql/15/bin")


def skip_or_fail(reason: str) -> None:
    """Skip a test visibly; where everything has to be there, as in CI, fail it."""
    if os.environ.get("SLUICEWAY_REQUIRE_SYSTEM") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@dataclass(frozen=True)
class Database:
    """One test's database, with roles, metadata and the datasets' tables in place."""

    server: Postgres
    name: str

    @property
    def owner_url(self) -> str:
        return self.server.url(self.name)

    @property
    def loader_url(self) -> str:
        return self.server.url(self.name, user="sluiceway_loader", password=LOADER_PASSWORD)

    @property
    def reader_url(self) -> str:
        return self.server.url(self.name, user="sluiceway_reader", password=READER_PASSWORD)

    @property
    def monitor_url(self) -> str:
        return self.server.url(self.name, user="sluiceway_monitor", password=MONITOR_PASSWORD)

    @property
    def eraser_url(self) -> str:
        return self.server.url(self.name, user="sluiceway_eraser", password=ERASER_PASSWORD)


class Server:
    """A running PostgreSQL with a template to copy databases from."""

    def __init__(self, server: Postgres) -> None:
        self.postgres = server
        self._serial = itertools.count(1)
        asyncio.run(self._make_template())

    async def _make_template(self) -> None:
        await self._run("CREATE DATABASE template_sluiceway")
        await bootstrap(
            self.postgres.url("template_sluiceway"),
            loader_password=LOADER_PASSWORD,
            reader_password=READER_PASSWORD,
            monitor_password=MONITOR_PASSWORD,
            eraser_password=ERASER_PASSWORD,
        )

    async def create(self) -> Database:
        name = f"test_{next(self._serial)}"
        await self._run(
            f"CREATE DATABASE {name} TEMPLATE template_sluiceway",
            # A database's own rights are not copied with it.
            f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC",
            f"GRANT TEMPORARY ON DATABASE {name} TO sluiceway_loader",
        )
        return Database(self.postgres, name)

    async def drop(self, database: Database) -> None:
        await self._run(f"DROP DATABASE IF EXISTS {database.name} WITH (FORCE)")

    async def _run(self, *statements: str) -> None:
        connection = await asyncpg.connect(self.postgres.url("postgres"))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()


@pytest.fixture(scope="session")
def embedded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The PostgreSQL of the wheel, without fsync: these tests do not pull the plug."""
    folder = tmp_path_factory.mktemp("postgres") / "data"
    with Postgres(folder, settings=FAST) as postgres:
        yield Server(postgres)


@pytest.fixture(scope="session")
def debian_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Debian's PostgreSQL 15, the oldest that is promised to work."""
    if not (DEBIAN_BIN / "postgres").exists():
        skip_or_fail("PostgreSQL 15 is not installed: run `make system-packages`")
    folder = tmp_path_factory.mktemp("postgres15") / "data"
    with Postgres(folder, bin_folder=DEBIAN_BIN, settings=FAST) as postgres:
        yield Server(postgres)


@pytest.fixture(scope="session")
def embedded_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """The embedded broker, for tests that leave it running and use topics of their own."""
    with EmbeddedBroker(tmp_path_factory.mktemp("broker") / "data") as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka_programs() -> None:
    """Whatever an Apache Kafka of a test's own needs."""
    try:
        find_jars()
        find_java()
    except TerminalError as error:
        skip_or_fail(str(error))  # it names the command that gets them


@pytest.fixture(scope="session")
def apache_kafka(
    kafka_programs: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApacheKafka]:
    """An Apache Kafka of one node, for tests that leave it running and use topics of their own."""
    with ApacheKafka(tmp_path_factory.mktemp("kafka")) as kafka:
        yield kafka


@pytest.fixture
async def database(embedded_server: Server) -> AsyncIterator[Database]:
    """A database of the test's own."""
    made = await embedded_server.create()
    yield made
    await embedded_server.drop(made)


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    """A pool on the test's database, as the loader."""
    async with Pool(database.loader_url) as opened:
        yield opened
