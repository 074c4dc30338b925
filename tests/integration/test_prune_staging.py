"""Staging keeps batches for its retention, and not longer."""

import datetime as dt
from pathlib import Path

from infra.postgres.connection import Pool
from infra.postgres.session_sql import day_table, session_sql
from schemas.datasets import Customers
from tasks.landing import KEPT_ROWS
from tasks.prune_staging import prune_batches

HEADER = "customer_id,name,signup_date\n"


async def test_old_batches_go_and_young_ones_stay(tmp_path: Path, pool: Pool, load) -> None:
    big = tmp_path / "customers_1.csv"
    big.write_text(HEADER + "".join(f"{n},C{n},2024-01-01\n" for n in range(1, KEPT_ROWS + 1)))
    small = tmp_path / "customers_2.csv"
    small.write_text(HEADER + "1,New,2024-01-01\n")
    young = tmp_path / "customers_3.csv"
    young.write_text(HEADER + "2,Young,2024-01-01\n")
    for path in (big, small):
        await load(path)
    async with pool.acquire() as connection:
        await connection.execute(
            "UPDATE metadata.source_files SET recorded_at = recorded_at - interval '31 days'"
        )
    await load(young)
    assert await _staged(pool) == KEPT_ROWS + 2
    assert await prune_batches(pool, retention_days=30) == 2
    assert await _staged(pool) == 1
    assert await prune_batches(pool, retention_days=30) == 0
    async with pool.acquire() as connection:
        children = await connection.fetchval(
            "SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'customers\\_\\_b%'"
        )
        kept = await connection.fetchval("SELECT count(*) FROM warehouse.dim_customers")
    assert (children, kept) == (0, KEPT_ROWS)


async def test_days_of_messages_go_with_their_table(pool: Pool) -> None:
    today = dt.datetime.now(dt.UTC).date()
    sql = session_sql(Customers.spec)
    days = [today - dt.timedelta(days=age) for age in (0, 30, 31, 400)]
    async with pool.acquire() as connection:
        for day in days:
            for statement in sql.create_staged(day_table(Customers.spec, day)):
                await connection.execute(statement)
    assert await prune_batches(pool, retention_days=30) == 2
    async with pool.acquire() as connection:
        left = await connection.fetch(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'customers\\_\\_s%'"
        )
    assert {row["relname"] for row in left} == {day_table(Customers.spec, day) for day in days[:2]}


async def _staged(pool: Pool) -> int:
    async with pool.acquire() as connection:
        count: int = await connection.fetchval("SELECT count(*) FROM staging.customers")
    return count
