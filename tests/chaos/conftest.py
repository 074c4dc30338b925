"""A PostgreSQL that may be killed: its own server, with everything on that makes commits last."""

import asyncio
from collections.abc import Iterator

import pytest

from deployments.bootstrap import bootstrap
from infra.local.postgres import Postgres

PASSWORD = "only for tests"


@pytest.fixture
def durable_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server with a database `chaos`, ready for the loader."""
    folder = tmp_path_factory.mktemp("durable") / "data"
    with Postgres(folder) as server:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            assert server.execute(f"SHOW {setting}") == "on"
        server.ensure_database("chaos")
        asyncio.run(bootstrap(server.url("chaos"), loader_password=PASSWORD))
        yield server


@pytest.fixture
def loader_url(durable_server: Postgres) -> str:
    """The database `chaos`, as the loader."""
    return durable_server.url("chaos", user="sluiceway_loader", password=PASSWORD)
