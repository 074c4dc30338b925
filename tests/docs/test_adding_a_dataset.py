"""docs/adding-a-dataset.md does what it says: its class, its file, its outcome."""

import datetime as dt
import re
import sys
import types
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import schemas.datasets
from deployments.bootstrap import bootstrap
from infra.postgres.connection import Pool
from schemas.dataset import Dataset
from tasks.discover_files import discover_files
from tasks.load import Order
from tasks.load_file import load_found

PAGE = (Path(__file__).parents[2] / "docs" / "adding-a-dataset.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(found) == 1, f"the page has {len(found)} blocks of {language}"
    return found[0]


@pytest.fixture
def suppliers() -> type[Dataset]:
    """The page's class, defined where the page says to define it."""
    module = types.ModuleType("page")
    module.__dict__.update(vars(schemas.datasets))
    sys.modules["page"] = module
    source = block("python")
    exec(compile(source, "adding-a-dataset.md", "exec"), module.__dict__)  # noqa: S102 - our own page
    made: type[Dataset] = module.__dict__["Suppliers"]
    return made


@pytest.fixture
async def prepared(database, suppliers: type[Dataset]) -> AsyncIterator[Pool]:
    await bootstrap(database.owner_url, datasets=(*schemas.datasets.DATASETS, suppliers))
    async with Pool(database.loader_url) as pool:
        yield pool


async def test_the_page_does_what_it_says(
    prepared: Pool, suppliers: type[Dataset], tmp_path: Path
) -> None:
    (tmp_path / "suppliers.csv").write_text(block("csv"), encoding="utf-8")
    [found], _ = discover_files(tmp_path, [suppliers.spec])
    async with prepared.acquire() as connection:
        execution_id = await connection.fetchval(
            "INSERT INTO metadata.pipeline_executions (pipeline_name) VALUES ('t') RETURNING id"
        )
        report = await load_found(
            prepared, found, Order(execution_id, str(found.path), found.table, found.spec)
        )
        quarantined = await connection.fetch(
            "SELECT line, reason FROM metadata.quarantine ORDER BY line"
        )
        loaded = await connection.fetch(
            "SELECT supplier_id, name, since, rating FROM warehouse.dim_suppliers ORDER BY 1"
        )
        emails = await connection.fetchval(
            "SELECT count(*) FROM warehouse.dim_suppliers WHERE email IS NULL"
        )
    assert (report.ledger.read, report.ledger.inserted, report.ledger.quarantined) == (4, 2, 2)
    assert [f"{row['line']} {row['reason']}" for row in quarantined] == block(
        "quarantine"
    ).splitlines()
    assert [" ".join(str(value) for value in row) for row in loaded] == block(
        "warehouse"
    ).splitlines()
    assert emails == 1
    assert loaded[0]["since"] == dt.date(2021, 3, 1)


def test_the_class_keywords_of_the_page_are_those_of_the_code() -> None:
    named = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    taken = set(Dataset.__init_subclass__.__func__.__kwdefaults__) | {"table", "role"}
    assert set(named) == taken
