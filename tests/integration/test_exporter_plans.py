"""What a scrape asks is found by an index, however large the history is."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from infra.exporter.scraper import GROUPS, Group, make_pool
from infra.exporter.sheet import Sheet
from tests.bench.dashboard_history import Size, fill
from tests.conftest import Database
from tests.exporter_scrapes import now
from tests.integration.dash_app.test_plans import Asked, Watched, find_faults

SIZE = replace(Size.of(20_000), health_minutes=5_000, lines=100, batches=2000, letters=20_000)
INDEXES = {
    "running": "pipeline_executions_pipeline_name_idx",
    "freshness": "dataset_counts_dataset_recorded_at_idx",
    "lag": "stream_lag_pkey",
    "letters": "dead_letters_id_idx",
    "components": "health_checks_component_checked_at_idx",
}


@pytest.fixture(scope="module")
def history(embedded_server) -> Iterator[Database]:
    """A database with a year of history, in a few seconds."""
    made = asyncio.run(embedded_server.create())
    asyncio.run(fill(made.owner_url, SIZE, until=now()))
    yield made
    asyncio.run(embedded_server.drop(made))


@pytest.mark.parametrize("name", GROUPS)
async def test_a_group_goes_by_an_index(history: Database, name: str) -> None:
    read: Group = GROUPS[name]
    asked: list[Asked] = []
    async with make_pool(history.monitor_url) as pool, pool.acquire() as connection:
        await read(Sheet(), Watched(connection, asked))  # type: ignore[arg-type]
        assert asked
        found = find_faults(connection, asked, INDEXES.get(name, ""))
        faults = [fault async for fault in found]
    assert not faults, "\n\n".join(faults)
