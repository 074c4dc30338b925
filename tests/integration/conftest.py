"""Loading files and looking at what came of it."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from infra.postgres.connection import Pool
from schemas.datasets import DATASETS
from tasks.discover_files import discover_files
from tasks.load import Order, Report
from tasks.load_file import load_found

Load = Callable[..., Awaitable[Report]]


@pytest.fixture
async def execution_id(pool: Pool) -> int:
    """A run for loads to belong to."""
    async with pool.acquire() as connection:
        identity: int = await connection.fetchval(
            "INSERT INTO metadata.pipeline_executions (pipeline_name) VALUES ('test') RETURNING id"
        )
    return identity


@pytest.fixture
def load(pool: Pool, execution_id: int) -> Load:
    """Load one file as the daily flow does, by the contract that its name asks for."""

    async def load_path(path: Path, *, force: bool = False) -> Report:
        specs = [each.spec for each in DATASETS]
        found, notes = discover_files(path.parent, specs)
        [one] = [each for each in found if each.path == path.absolute()] or [None]
        assert one is not None, notes
        order = Order(execution_id, str(one.path), one.table, one.spec)
        return await load_found(pool, one, order, force=force)

    return load_path
