"""A file's way into staging and the warehouse, against a real PostgreSQL."""

import os
from pathlib import Path

from infra.postgres.connection import Pool
from infra.sample.generator import make_sample, write_sample
from tasks.load import Outcome
from tests.cells import in_clear


async def test_the_sample_is_loaded_as_its_generator_planted_it(
    tmp_path: Path, pool: Pool, load
) -> None:
    sample = make_sample()
    write_sample(tmp_path, sample)
    for file, name in zip(sample.files, ("customers", "products", "sales_data"), strict=True):
        report = await load(tmp_path / f"{name}.csv")
        planted = file.ledger
        assert report.outcome is Outcome.LOADED
        assert (
            report.ledger.read,
            report.ledger.inserted,
            report.ledger.updated,
            report.ledger.superseded,
            report.ledger.duplicates,
            report.ledger.quarantined,
        ) == (
            planted.read,
            planted.inserted,
            planted.updated,
            planted.superseded,
            planted.duplicates,
            planted.quarantined,
        )
    async with pool.acquire() as connection:
        rows = await connection.fetchval("SELECT count(*) FROM warehouse.fact_sales_data")
        orphans = await connection.fetchval(
            """
            SELECT count(*) FROM warehouse.fact_sales_data AS f
            LEFT JOIN warehouse.dim_customers AS c USING (customer_key)
            LEFT JOIN warehouse.dim_products AS p USING (product_key)
            LEFT JOIN warehouse.dim_date AS d ON d.date_key = f.order_date
            WHERE c.customer_key IS NULL OR p.product_key IS NULL OR d.date_key IS NULL
            """
        )
    assert rows == sample.sales.ledger.inserted
    assert orphans == 0


async def test_a_second_load_of_the_same_file_is_skipped_and_a_forced_one_changes_no_row(
    tmp_path: Path, pool: Pool, load
) -> None:
    path = tmp_path / "customers.csv"
    path.write_text("customer_id,name,signup_date\n1,Ann,2024-01-01\n2,Bo,2024-01-02\n")
    first = await load(path)
    before = await _dump(pool, "warehouse.dim_customers")
    second = await load(path)
    forced = await load(path, force=True)
    assert (first.outcome, second.outcome) == (Outcome.LOADED, Outcome.UNCHANGED)
    assert (forced.ledger.unchanged, forced.ledger.inserted, forced.ledger.updated) == (2, 0, 0)
    assert await _dump(pool, "warehouse.dim_customers") == before


async def test_an_older_file_never_replaces_a_newer_row(tmp_path: Path, pool: Pool, load) -> None:
    new = tmp_path / "customers_2.csv"
    old = tmp_path / "customers_1.csv"
    new.write_text("customer_id,name,signup_date\n1,Newer,2024-01-01\n")
    old.write_text("customer_id,name,signup_date\n1,Older,2024-01-01\n2,Only here,2024-01-01\n")
    os.utime(new, (2_000_000_000, 2_000_000_000))
    os.utime(old, (1_000_000_000, 1_000_000_000))
    await load(new)
    late = await load(old)
    assert (late.ledger.superseded, late.ledger.inserted) == (1, 1)
    names = [row["name"] for row in await _dump(pool, "warehouse.dim_customers")]
    assert sorted(names) == ["Newer", "Only here"]


async def test_a_late_file_does_not_undo_what_a_newer_one_only_confirmed(
    tmp_path: Path, pool: Pool, load
) -> None:
    for serial, name, when in ((1, "Ann", 1), (2, "Ann", 3), (3, "Anna", 2)):
        path = tmp_path / f"customers_{serial}.csv"
        path.write_text(f"customer_id,name,signup_date\n1,{name},2024-01-01\n")
        os.utime(path, (when * 1_000_000_000, when * 1_000_000_000))
        report = await load(path)
    assert report.ledger.superseded == 1
    assert [row["name"] for row in await _dump(pool, "warehouse.dim_customers")] == ["Ann"]


async def test_a_changed_product_becomes_a_version_and_facts_take_the_one_in_effect(
    tmp_path: Path, pool: Pool, load
) -> None:
    header = "product_id,name,category,price\n"
    for day, price in ((10, "1.00"), (20, "2.00")):
        path = tmp_path / "products.csv"
        path.write_text(f"{header}7,Spade,garden,{price}\n")
        stamp = 1_700_000_000 + day * 86_400
        os.utime(path, (stamp, stamp))
        report = await load(path)
    assert report.ledger.updated == 1
    sales = tmp_path / "sales_data.csv"
    sales.write_text(
        "order_id,customer_id,product_id,order_date,quantity,unit_price\n"
        "1,5,7,2023-11-01,1,1.00\n"
        "2,5,7,2024-06-01,1,2.00\n"
    )
    facts = await load(sales)
    assert facts.ledger.inferred == 1
    async with pool.acquire() as connection:
        prices = await connection.fetch(
            """
            SELECT f.order_id, p.price, p.is_current FROM warehouse.fact_sales_data AS f
            JOIN warehouse.dim_products AS p USING (product_key) ORDER BY 1
            """
        )
    assert [(row["order_id"], str(row["price"]), row["is_current"]) for row in prices] == [
        (1, "1.00", False),
        (2, "2.00", True),
    ]


async def test_an_inferred_member_is_completed_by_its_own_row(
    tmp_path: Path, pool: Pool, load
) -> None:
    sales = tmp_path / "sales_data.csv"
    sales.write_text(
        "order_id,customer_id,product_id,order_date,quantity,unit_price\n1,5,7,2024-06-01,1,2.00\n"
    )
    await load(sales)
    before = await _dump(pool, "warehouse.dim_customers")
    customers = tmp_path / "customers.csv"
    customers.write_text("customer_id,name,signup_date\n5,Eve,2024-01-01\n")
    report = await load(customers)
    [after] = await _dump(pool, "warehouse.dim_customers")
    assert before[0]["_is_inferred"]
    assert before[0]["name"] is None
    assert (report.ledger.updated, after["name"], after["_is_inferred"]) == (1, "Eve", False)
    assert after["customer_key"] == before[0]["customer_key"]


async def _dump(pool: Pool, table: str) -> list:
    async with pool.acquire() as connection:
        return in_clear(await connection.fetch(f"SELECT * FROM {table} ORDER BY 1"))  # noqa: S608 - the test's own name
