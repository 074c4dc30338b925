"""What the roles may do, and what they may not, tried one by one."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from deployments.bootstrap import bootstrap
from deployments.roles import ROLES, SESSION_SETTINGS
from infra.postgres.layout import index_name
from schemas.datasets import DATASETS

REFUSED = asyncpg.InsufficientPrivilegeError

EVERYBODY_NOT = (
    "CREATE SCHEMA mine",
    "CREATE TABLE public.mine (x int)",
    "CREATE TABLE metadata.mine (x int)",
    "CREATE TABLE warehouse.mine (x int)",
    "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE EXTENSION dblink",
    "CREATE ROLE mine",
    "ALTER ROLE sluiceway_loader CREATEDB",
    "ALTER TABLE warehouse.dim_customers ADD COLUMN x int",
    "ALTER TABLE metadata.quarantine DISABLE TRIGGER ALL",
    "DROP TABLE warehouse.dim_customers",
    "DROP SCHEMA metadata CASCADE",
    "TRUNCATE warehouse.fact_sales_data",
    "TRUNCATE metadata.pipeline_executions",
    "DELETE FROM metadata.pipeline_executions",
    "DELETE FROM warehouse.dim_customers",
    "UPDATE metadata.rollup_executions SET executions = 0",
    "UPDATE metadata.erasures SET requested_by = 'nobody'",
    "DELETE FROM metadata.erasures",
    "INSERT INTO metadata.warehouse_tables VALUES ('x', 'x', '{x}', 'x')",
    "COPY metadata.pipeline_logs TO PROGRAM 'true'",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT pg_reload_conf()",
    "SELECT * FROM pg_authid",
    "GRANT sluiceway_loader TO sluiceway_monitor",
)
"""Of any role but the owner."""
FORBIDDEN = {
    "sluiceway_loader": (
        "CREATE TABLE warehouse.fact_mine (LIKE warehouse.fact_sales_data)",
        "DELETE FROM metadata.quarantine",
        "DELETE FROM metadata.dead_letters",
        "DELETE FROM warehouse.fact_sales_data",
        "INSERT INTO metadata.erasures (column_name) VALUES ('email')",
        "SELECT metadata.set_maintenance(NULL, NULL, now(), now() + '1 hour', 'x', 'x')",
        "SET ROLE sluiceway_reader",
        "SET ROLE sluiceway_eraser",
    ),
    "sluiceway_eraser": (
        "CREATE TABLE staging.mine (x int)",
        "CREATE TEMPORARY TABLE mine (x int)",
        "SELECT email FROM warehouse.dim_customers",
        "SELECT email FROM staging.customers",
        "SELECT city FROM warehouse.dim_customers",
        "SELECT _extra FROM warehouse.dim_customers",
        "SELECT * FROM warehouse.fact_sales_data",
        "SELECT name FROM warehouse.dim_products",
        "SELECT reason FROM metadata.quarantine",
        "SELECT event FROM metadata.pipeline_logs",
        "SELECT error_message FROM metadata.pipeline_executions",
        "INSERT INTO warehouse.fact_sales_data (order_id) VALUES (1)",
        "INSERT INTO warehouse.dim_customers (customer_id) VALUES (1)",
        "INSERT INTO staging.customers (customer_id) VALUES (1)",
        "INSERT INTO metadata.quarantine (raw) VALUES ('x')",
        "INSERT INTO metadata.erasures (erased_at) VALUES ('2020-01-01')",
        "UPDATE warehouse.dim_customers SET customer_id = 1",
        "UPDATE warehouse.dim_customers SET customer_key = DEFAULT",
        "UPDATE warehouse.dim_customers SET _version = now()",
        "UPDATE warehouse.dim_products SET name = NULL",
        "UPDATE warehouse.fact_sales_data SET quantity = 1",
        "UPDATE staging.customers SET email = NULL",
        "UPDATE metadata.quarantine SET raw_sealed = NULL",
        "DELETE FROM warehouse.fact_sales_data",
        "DELETE FROM staging.sales_data",
        "DELETE FROM metadata.pipeline_logs",
        "SELECT warehouse.open_first_load('fact_sales_data')",
        "SELECT metadata.prune('pipeline_logs', '2020-01-01', 0, 1)",
        "SET ROLE sluiceway_loader",
        "SET ROLE sluiceway_reader",
    ),
    "sluiceway_reader": (
        "INSERT INTO warehouse.dim_date (date_key) VALUES ('1999-01-01')",
        "UPDATE metadata.pipeline_executions SET status = 'SUCCESS'",
        "UPDATE warehouse.dim_customers SET city = 'x'",
        "DELETE FROM metadata.pipeline_logs",
        "DELETE FROM staging.customers",
        "CREATE TABLE staging.mine (x int)",
        "CREATE TEMPORARY TABLE mine (x int)",
        "SELECT email FROM warehouse.dim_customers",
        "SELECT _email_index FROM warehouse.dim_customers",
        "SELECT email FROM staging.customers",
        "SELECT raw_sealed FROM metadata.quarantine",
        "SELECT message_value FROM metadata.dead_letters",
        "SELECT message_value FROM metadata.unsent_messages",
        "SELECT subject_index FROM metadata.erasures",
        "SELECT metadata.find_uncontracted('x', false)",
        "SELECT metadata.prune('pipeline_logs', '2020-01-01', 0, 1)",
        "SELECT warehouse.open_first_load('fact_sales_data')",
        "SET ROLE sluiceway_loader",
        "SET ROLE sluiceway_eraser",
    ),
    "sluiceway_monitor": (
        "SELECT city FROM warehouse.dim_customers",
        "SELECT * FROM warehouse.fact_sales_data",
        "SELECT city FROM staging.customers",
        "SELECT reason FROM metadata.quarantine",
        "SELECT detail FROM metadata.dead_letters",
        "SELECT error_message FROM metadata.pipeline_executions",
        "SELECT event FROM metadata.pipeline_logs",
        "SELECT body_text FROM metadata.mail_outbox",
        "SELECT * FROM metadata.erasures",
        "INSERT INTO metadata.health_checks (component) VALUES ('x')",
        "CREATE TEMPORARY TABLE mine (x int)",
        "SELECT metadata.find_uncontracted('x', false)",
        "SET ROLE sluiceway_loader",
        "SET ROLE sluiceway_reader",
    ),
}


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
    hidden = personal | {index_name(each) for each in personal} | {"_extra", "_row_hash"}
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
            if name in hidden:
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


@pytest.mark.parametrize("role", FORBIDDEN)
async def test_a_role_may_not(database, role: str) -> None:
    urls = {
        "sluiceway_loader": database.loader_url,
        "sluiceway_reader": database.reader_url,
        "sluiceway_monitor": database.monitor_url,
        "sluiceway_eraser": database.eraser_url,
    }
    allowed, other = [], {}
    connection = await asyncpg.connect(urls[role])
    try:
        for statement in (*EVERYBODY_NOT, *FORBIDDEN[role]):
            # The reader may ask for transactions that write: grants hold it back, not that alone.
            transaction = connection.transaction()
            await transaction.start()
            try:
                await connection.execute("SET TRANSACTION READ WRITE")
                await connection.execute(statement)
                allowed.append(statement)
            except REFUSED:
                pass
            except asyncpg.PostgresError as error:
                other[statement] = error
            await transaction.rollback()
    finally:
        await connection.close()
    assert (allowed, other) == ([], {})


def test_of_each_role_it_is_tried() -> None:
    assert set(FORBIDDEN) == set(ROLES)


@pytest.fixture(params=["embedded_server", "debian_server"])
def place(request: pytest.FixtureRequest) -> Any:
    """Both servers that are promised to work."""
    return request.getfixturevalue(request.param)


async def test_the_reader_gets_its_settings_whatever_program_logs_in(place: Any) -> None:
    database = await place.create()
    connection = await asyncpg.connect(database.reader_url)
    try:
        for name, value in SESSION_SETTINGS["sluiceway_reader"].items():
            assert await connection.fetchval(
                "SELECT current_setting($1)::interval = $2::text::interval"
                if value.endswith("s")
                else "SELECT current_setting($1) = $2",
                name,
                value,
            )
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await connection.execute("CREATE SCHEMA mine")
    finally:
        await connection.close()
        await place.drop(database)
