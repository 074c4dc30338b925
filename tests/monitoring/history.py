"""A history with something of everything: real runs and loads, and rows of what needs a broker."""

import asyncio
from pathlib import Path

import asyncpg

from infra.postgres.connection import Pool
from schemas.datasets import DATASETS
from schemas.errors import TerminalError
from tasks.anomalies import Anomaly, write_anomalies
from tasks.discover_files import discover_files
from tasks.load import Order
from tasks.load_file import load_found
from tasks.record import record_execution
from tests.conftest import Database

DAILY = "daily_etl_pipeline"
COMPONENTS = (
    *("postgres", "kafka", "prefect", "workers", "dashboard"),
    *("disk", "memory", "cpu", "certificates"),
)
_CUSTOMER = "customer_id,name,email,city,country,signup_date,credit_limit\n"
_SALE = "order_id,customer_id,product_id,order_date,quantity,unit_price,discount,channel\n"


def add_turn(database: Database, folder: Path, turn: int) -> str:
    """Add what a quarter of an hour of work leaves; returns what the run that failed at last said.

    Counters rise with each turn. The last run of the daily pipeline is always one that failed.
    """
    return asyncio.run(_add_turn(database, folder, turn))


async def _add_turn(database: Database, folder: Path, turn: int) -> str:
    raw = folder / f"raw{turn}"
    raw.mkdir()
    first = 1000 * turn
    (raw / "customers.csv").write_text(
        _CUSTOMER
        + "".join(
            f"{first + n},Ada Lovelace,ada{n}@example.org,London,UK,2020-01-02,5\n"
            for n in range(20)
        ),
        encoding="utf-8",
    )
    sales = [f"{first + n},{first + n},1,2024-01-01,{n},9.99,0,web\n" for n in range(20)]
    # Of quantity 0, and the second one twice.
    (raw / "sales_data.csv").write_text(_SALE + "".join([*sales, sales[1]]), encoding="utf-8")
    bad = folder / f"bad{turn}"
    bad.mkdir()
    (bad / "sales_data.csv").write_text("order_id,quantity\n1,2\n", encoding="utf-8")
    async with Pool(database.loader_url) as pool:
        async with record_execution(pool, "kafka_data_ingestion") as run:
            run.records_processed = 17
        async with record_execution(pool, DAILY) as run:
            run.records_processed = await _load(pool, run.id, raw)
            await _find_odd(pool, run.id)
        said = ""
        try:
            async with record_execution(pool, DAILY) as run:
                await _load(pool, run.id, bad)
        except TerminalError as error:
            said = str(error)
    owner = await asyncpg.connect(database.owner_url)
    try:
        await _add_rows(owner, turn)
    finally:
        await owner.close()
    return said


async def mend(database: Database) -> None:
    """Let the daily pipeline succeed."""
    async with Pool(database.loader_url) as pool, record_execution(pool, DAILY):
        pass


async def _load(pool: Pool, execution_id: int, folder: Path) -> int:
    found, _ = discover_files(folder, [each.spec for each in DATASETS])
    reports = [
        await load_found(pool, each, Order(execution_id, str(each.path), each.table, each.spec))
        for each in sorted(found, key=lambda each: each.table)
    ]
    return sum(report.ledger.read for report in reports)


async def _find_odd(pool: Pool, execution_id: int) -> None:
    odd = Anomaly(
        *("sales_data", "sales_data", None, "volume", "error"),
        *(21.0, 1000.0, 900.0, None, "21 rows came where 900 or more were to be expected"),
    )
    async with pool.acquire() as connection, connection.transaction():
        await write_anomalies(
            connection, [odd], execution_id=execution_id, batch_id=None, was_refused=False
        )


async def _add_rows(owner: asyncpg.Connection, turn: int) -> None:
    await owner.execute(
        """
        INSERT INTO metadata.health_checks (checked_at, component, status, latency_seconds)
        SELECT now() - n * interval '1 minute', component,
            CASE WHEN n = 30 AND component = 'kafka' THEN 'BAD' ELSE 'GOOD' END, 0.01 * n
        FROM unnest($1::text[]) AS component,
            generate_series(0, CASE WHEN $2 = 1 THEN 70 ELSE 0 END) AS n
        """,
        COMPONENTS,
        turn,
    )
    await owner.execute(
        """
        INSERT INTO metadata.stream_offsets (consumer_group, topic, partition, next_offset)
        SELECT 'stream_processor_group', 'data-stream', n, 0 FROM generate_series(0, 1) AS n
        ON CONFLICT DO NOTHING
        """
    )
    await owner.execute(
        """
        INSERT INTO metadata.stream_lag
            (consumer_group, topic, partition, measured_at, lag_messages, lag_seconds)
        SELECT consumer_group, topic, partition, clock_timestamp(), 40 + partition, 2.5
        FROM metadata.stream_offsets
        """
    )
    await owner.execute(
        """
        INSERT INTO metadata.stream_batches
            (consumer_group, topic, partitions, messages, loaded, dead, skipped, flush_seconds)
        SELECT 'stream_processor_group', 'data-stream', '{0,1}', 100, 97, 2, 1, 0.1
        FROM generate_series(1, 3)
        """
    )
    await owner.execute(
        """
        INSERT INTO metadata.dead_letters
            (consumer_group, topic, partition, message_offset, reason, detail, outcome)
        SELECT 'stream_processor_group', 'data-stream', 0, 10 * $1::int + n,
            CASE WHEN n = 0 THEN 'no JSON' ELSE 'quantity: at least 1' END, 'a test',
            CASE WHEN n = 5 THEN 'loaded' END
        FROM generate_series(0, 5) AS n
        """,
        turn,
    )
    await owner.execute(
        "INSERT INTO metadata.janitor_acts (act, reason) VALUES ('marked dead', 'a test')"
    )
    await owner.execute(
        """
        INSERT INTO metadata.pipeline_executions (pipeline_name)
        VALUES ('stream_processing_pipeline'), ('stream_processing_pipeline')
        """
    )
    # One consumer of this turn goes on, the other has died.
    await owner.execute(
        """
        UPDATE metadata.pipeline_executions
        SET status = 'FAILED', end_time = clock_timestamp(), error_message = 'a test'
        WHERE id = (SELECT max(id) FROM metadata.pipeline_executions)
        """
    )
