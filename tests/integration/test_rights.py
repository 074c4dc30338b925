"""What the roles may not do, tried one by one."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import pytest

from deployments.bootstrap import bootstrap
from schemas.datasets import DATASETS

REFUSED = asyncpg.InsufficientPrivilegeError


@pytest.fixture
async def reader(database) -> AsyncIterator[asyncpg.Connection]:
    """A connection as the dashboard's role."""
    connection = await asyncpg.connect(database.reader_url)
    yield connection
    await connection.close()


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda each: each.spec.table)
async def test_the_reader_reads_every_column_but_personal_ones(
    dataset, reader: asyncpg.Connection
) -> None:
    tables = [f"staging.{dataset.spec.table}"]
    tables += await reader.fetchval(
        "SELECT array_agg('warehouse.' || table_name) FROM metadata.warehouse_tables"
        " WHERE dataset = $1",
        dataset.spec.table,
    )
    personal = {each.name for each in dataset.spec.columns if each.pii}
    for table in tables:
        named = await reader.fetch(
            "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0",
            table,
        )
        names = {row["attname"] for row in named}
        assert personal <= names
        await reader.fetch(f"SELECT count(*) FROM {table}")  # noqa: S608 - of the catalogue
        for name in names:
            statement = f'SELECT "{name}" FROM {table}'  # noqa: S608 - of the catalogue
            if name in personal | {"_extra", "_row_hash"}:
                with pytest.raises(REFUSED):
                    await reader.fetch(statement)
            else:
                await reader.fetch(statement)
        with pytest.raises(REFUSED):
            await reader.fetch(f"SELECT t FROM {table} AS t")  # noqa: S608 - of the catalogue


@pytest.mark.parametrize("rows", [1, 50_000])
async def test_nor_does_it_read_them_from_a_batch_of_its_own_table(
    reader: asyncpg.Connection, load: Callable, tmp_path: Path, rows: int
) -> None:
    path = tmp_path / "customers.csv"
    lines = (f"{number},Ann,2024-01-01" for number in range(1, rows + 1))
    path.write_text("\n".join(["customer_id,name,signup_date", *lines, ""]))
    await load(path)
    assert await reader.fetchval("SELECT count(customer_id) FROM staging.customers") == rows
    children = await reader.fetch(
        "SELECT inhrelid::regclass::text FROM pg_inherits"
        " WHERE inhparent = 'staging.customers'::regclass"
    )
    assert len(children) == (rows > 1)
    for table in ("staging.customers", *(each[0] for each in children)):
        with pytest.raises(REFUSED):
            await reader.fetch(f"SELECT name FROM {table}")  # noqa: S608 - of the catalogue


async def test_of_a_file_without_a_contract_the_reader_sees_where_it_came_from_alone(
    reader: asyncpg.Connection, load: Callable, tmp_path: Path
) -> None:
    path = tmp_path / "people.csv"
    path.write_text("email\nann@example.com\n")
    await load(path)
    assert await reader.fetchval("SELECT _source FROM staging.people") == str(path)
    for name in ("email", "_extra", "_row_hash"):
        with pytest.raises(REFUSED):
            await reader.fetch(f"SELECT {name} FROM staging.people")  # noqa: S608 - above


async def test_a_column_that_becomes_personal_is_read_no_more(
    database, reader: asyncpg.Connection
) -> None:
    owner = await asyncpg.connect(database.owner_url)
    try:
        await owner.execute(
            "CREATE TABLE staging.customers__b1 () INHERITS (staging.customers);"
            "GRANT SELECT ON staging.customers__b1, warehouse.dim_customers TO sluiceway_reader"
        )
    finally:
        await owner.close()
    tables = ("staging.customers__b1", "warehouse.dim_customers")
    for table in tables:
        await reader.fetch(f"SELECT email FROM {table}")  # noqa: S608 - above
    await bootstrap(database.owner_url)
    for table in tables:
        with pytest.raises(REFUSED):
            await reader.fetch(f"SELECT email FROM {table}")  # noqa: S608 - above


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO warehouse.dim_date (date_key) VALUES ('1999-01-01')",
        "UPDATE metadata.pipeline_executions SET status = 'SUCCESS'",
        "DELETE FROM metadata.pipeline_logs",
        "TRUNCATE metadata.pipeline_logs",
        "CREATE TABLE metadata.mine (x int)",
        "CREATE TABLE staging.mine (x int)",
        "CREATE TABLE public.mine (x int)",
        "SELECT metadata.prune('pipeline_logs', '2020-01-01', 0, 1)",
        "SELECT warehouse.open_first_load('fact_sales_data')",
        "COPY metadata.pipeline_logs TO PROGRAM 'true'",
        "SELECT pg_read_file('postgresql.conf')",
        "SET ROLE sluiceway_loader",
    ],
)
async def test_the_reader_changes_nothing(reader: asyncpg.Connection, statement: str) -> None:
    with pytest.raises(REFUSED):
        await reader.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM warehouse.dim_customers",
        "TRUNCATE warehouse.fact_sales_data",
        "DROP TABLE warehouse.dim_customers",
        "ALTER TABLE warehouse.dim_customers ADD COLUMN x int",
        "CREATE TABLE warehouse.mine (x int)",
        "CREATE TABLE metadata.mine (x int)",
        "CREATE TABLE public.mine (x int)",
        "CREATE SCHEMA mine",
        "DELETE FROM metadata.pipeline_executions",
        "DELETE FROM metadata.quarantine",
        "UPDATE metadata.rollup_executions SET executions = 0",
        "INSERT INTO metadata.warehouse_tables VALUES ('x', 'x', '{x}', 'x')",
        "SELECT metadata.set_maintenance(NULL, NULL, now(), now() + '1 hour', 'x', 'x')",
        "SET ROLE sluiceway_reader",
        "COPY warehouse.dim_customers TO PROGRAM 'true'",
    ],
)
async def test_the_loader_changes_no_table_and_deletes_nothing_in_the_warehouse(
    pool, statement: str
) -> None:
    async with pool.acquire() as connection:
        with pytest.raises(REFUSED):
            await connection.execute(statement)
