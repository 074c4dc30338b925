"""A database as it is after a month: files really loaded, and around them what time brings."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg

from infra.postgres.connection import Pool
from schemas.datasets import DATASETS
from tasks.discover_files import discover_files
from tasks.load import Order
from tasks.load_file import load_found
from tasks.record import record_execution

CUSTOMERS = 40
PRODUCTS = 12
SALES = 240
ERROR = "returns_2026.csv: column quantity is missing"
TRACEBACK = """Traceback (most recent call last):
  File "tasks/load_file.py", line 61, in noting_refusal
    return await find_settled(pool, order) or await load()
schemas.errors.RefusedError: returns_2026.csv: column quantity is missing
"""
LETTER = "amount: 'twelve' is no number"
ODD = "customers: 1,204 rows came, and 2,400 were expected"
SENT_BACK = "554 mailbox unavailable"
LOG_LINE = "the broker gave no answer in time"

_RUNS = """
INSERT INTO metadata.pipeline_executions
    (pipeline_name, status, records_processed, start_time, end_time, error_message,
     error_traceback, host, process_id, flow_run_id)
SELECT name, status, records, began, began + took, CASE status WHEN 'FAILED' THEN $1 END,
    CASE status WHEN 'FAILED' THEN $2 END, 'worker-1', 4000 + n, gen_random_uuid()
FROM (VALUES ('daily_etl_pipeline', 1), ('kafka_data_ingestion', 2), ('replay_topic', 3))
    AS pipeline (name, place),
    generate_series(1, 120) AS n,
    LATERAL (
        SELECT CASE WHEN (n + place * 3) % 8 = 4 THEN 'FAILED' ELSE 'SUCCESS' END AS status,
            n * 37 % 900 * 11 AS records,
            now() - n * n * INTERVAL '3 minutes' - place * INTERVAL '41 seconds' AS began,
            (2 + n % 13 * 7) * INTERVAL '1 second' AS took
    ) AS run
ORDER BY began
"""
_FAILED_NOW = """
INSERT INTO metadata.pipeline_executions
    (pipeline_name, status, start_time, end_time, error_message, error_traceback, host, process_id)
VALUES ('replay_topic', 'FAILED', now() - INTERVAL '90 seconds', now() - INTERVAL '80 seconds',
    $1, $2, 'worker-1', 4711)
RETURNING id
"""
_RUNNING = """
INSERT INTO metadata.pipeline_executions
    (pipeline_name, records_processed, start_time, host, process_id)
VALUES ('stream_processing_pipeline', 52341, now() - INTERVAL '3 hours', 'worker-2', 4712)
RETURNING id
"""
_REFUSED = """
INSERT INTO metadata.source_files
    (execution_id, load_id, dataset, path, status, contracted, contract_version, message)
VALUES ($1, gen_random_uuid(), 'sales_data', '/data/raw/returns_2026.csv', 'REFUSED', true, 'v1',
    $2)
"""
_LOGS = """
INSERT INTO metadata.pipeline_logs (logged_at, level, pipeline_name, execution_id, event, fields)
SELECT now() - n * INTERVAL '40 seconds',
    CASE WHEN n % 11 = 3 THEN 'ERROR' WHEN n % 7 = 2 THEN 'WARNING' ELSE 'INFO' END,
    CASE WHEN n % 3 = 0 THEN 'replay_topic' ELSE 'stream_processing_pipeline' END,
    CASE WHEN n % 3 = 0 THEN $1::bigint ELSE $2::bigint END,
    CASE WHEN n % 11 = 3 THEN $3 WHEN n % 7 = 2 THEN 'a batch waits for PostgreSQL'
        ELSE 'batch ' || n || ' is committed' END,
    jsonb_build_object('batch_id', n, 'seconds', round(n % 9 / 10.0, 1))
FROM generate_series(1, 500) AS n
"""
_HEALTH = """
INSERT INTO metadata.health_checks (checked_at, component, status, latency_seconds, detail)
SELECT now() - n * INTERVAL '1 minute', component,
    CASE WHEN component = 'kafka' AND n < 6 THEN 'BAD' WHEN n % 97 = 5 THEN 'UNKNOWN'
        ELSE 'GOOD' END,
    CASE WHEN component = 'kafka' AND n < 6 THEN NULL ELSE 0.002 + n % 10 / 1000.0 END,
    CASE WHEN component = 'kafka' AND n < 6 THEN 'no broker answers at 127.0.0.1:9092' END
FROM unnest(ARRAY['disk', 'kafka', 'postgres', 'prefect']) AS component,
    generate_series(0, 400) AS n
ORDER BY 1
"""
_MAINTENANCE = """
INSERT INTO metadata.maintenance_windows (component, starts_at, ends_at, reason, created_by)
VALUES ('postgres', now() - INTERVAL '3 hours', now() - INTERVAL '2 hours', 'minor upgrade', 'otto')
"""
_OFFSETS = """
INSERT INTO metadata.stream_offsets (consumer_group, topic, partition, next_offset, epoch, owner)
SELECT 'stream_processor_group', 'data-stream', p, 90000 + p, 3, 'worker-2:4712'
FROM generate_series(0, 2) AS p
"""
_LAG = """
INSERT INTO metadata.stream_lag
SELECT 'stream_processor_group', 'data-stream', p, now() - n * INTERVAL '20 seconds',
    CASE WHEN p = 1 THEN 4000 + n ELSE n % 5 END,
    CASE WHEN p = 1 THEN 95 + n / 10.0 ELSE n % 5 / 10.0 END
FROM generate_series(0, 2) AS p, generate_series(0, 300) AS n
"""
_BATCHES = """
INSERT INTO metadata.stream_batches
    (execution_id, consumer_group, topic, partitions, messages, loaded, dead, flush_seconds,
     committed_at, first_offsets, next_offsets, size_bytes)
SELECT $1, 'stream_processor_group', 'data-stream', ARRAY[n % 3], 500 + n, 499 + n, 1,
    0.05 + n % 10 / 100.0, now() - n * INTERVAL '25 seconds', ARRAY[n * 500], ARRAY[n * 501 + 500],
    200000
FROM generate_series(1, 300) AS n
"""
_LETTERS = """
INSERT INTO metadata.dead_letters
    (consumer_group, topic, partition, message_offset, source, reason, detail, message_value,
     execution_id, batch_id, buried_at, message_time)
SELECT 'stream_processor_group', 'data-stream', n % 3, n * 100,
    CASE WHEN n % 4 = 0 THEN NULL ELSE 'sales_data' END,
    CASE WHEN n % 4 = 0 THEN 'invalid_json' ELSE 'type' END,
    CASE WHEN n % 4 = 0 THEN 'no JSON: it ends in mid-text' ELSE $2 END,
    '{"source": "sales_data"}'::bytea, $1::bigint, n, now() - n * INTERVAL '4 minutes',
    now() - n * INTERVAL '4 minutes'
FROM generate_series(1, 160) AS n
"""
_BAD_ROWS = """
INSERT INTO metadata.quarantine
    (execution_id, batch_id, dataset, source, line, rule, column_name, reason, raw,
     contract_version, quarantined_at)
SELECT $1::bigint, (SELECT max(id) FROM metadata.source_files), 'products',
    '/data/raw/products.csv', n + 1,
    CASE WHEN n % 3 = 0 THEN 'isin' ELSE 'ge' END, CASE WHEN n % 3 = 0 THEN 'category' ELSE 'price'
    END, CASE WHEN n % 3 = 0 THEN 'category: ''weapons'' is not one of those allowed'
    ELSE 'price: -1 is less than 0' END,
    n || ',Teapot ' || n || ',weapons,-1,0.4,true', 'v1', now() - n * INTERVAL '13 minutes'
FROM generate_series(1, 260) AS n
"""
_QUALITY = """
INSERT INTO metadata.quality_results
    (execution_id, batch_id, dataset, column_name, rule, checked, failed, statistics, recorded_at)
SELECT $1::bigint, (SELECT max(id) FROM metadata.source_files), dataset, column_name, rule, 1000,
    n * share % 90, CASE rule WHEN 'completeness' THEN '{"filled": 3, "mistyped": 1}' ELSE '{}'
    END::jsonb, now() - n * INTERVAL '20 hours'
FROM (VALUES ('products', 'price', 'ge', 3), ('products', 'category', 'isin', 7),
        ('customers', 'email', 'completeness', 11), ('sales_data', 'quantity', 'ge', 1))
    AS given (dataset, column_name, rule, share),
    generate_series(1, 30) AS n
"""
_PROFILES = """
INSERT INTO metadata.load_profiles
    (execution_id, batch_id, dataset, feed, read, duplicates, quarantined, columns, profiled_at)
SELECT $1::bigint, n, dataset, feed, read, n % 7, n % 5, (
        SELECT jsonb_object_agg(name, jsonb_build_object('rows', read, 'missing',
            read * share * (10 + n % 4) / 1000, 'mistyped', n % 3, 'distinct', read / 3,
            'minimum', least, 'maximum', most))
        FROM (VALUES ('customer_id', 0, '1', '40'), ('name', 0, NULL, NULL), ('email', 4, NULL,
                NULL), ('city', 9, 'Agra', 'Pune'), ('credit_limit', 14, '0.00', '9120.50'))
            AS given (name, share, least, most)
    ), now() - n * INTERVAL '24 hours'
FROM (VALUES ('customers', 'customers.csv', 2400), ('customers', 'customers_api', 300))
    AS given (dataset, feed, usual),
    generate_series(0, 80) AS n,
    LATERAL (
        SELECT CASE WHEN n = 1 AND usual > 1000 THEN 1204 ELSE usual + n * 13 % 90 END AS read
    ) AS came
ORDER BY n DESC
"""
_ODD = """
INSERT INTO metadata.anomalies
    (dataset, feed, column_name, rule, severity, observed, expected, low, high, summary,
     execution_id, was_refused, detected_at)
SELECT 'customers', 'customers.csv', name, rule, severity, observed, expected, low, high, summary,
    $1, was_refused, now() - days * INTERVAL '1 day' - INTERVAL '20 minutes'
FROM (VALUES
    (0, NULL, 'volume', 'error', 1204, 2400, 2100, 2700, $2, true),
    (0, 'city', 'null_rate', 'warning', 0.24, 0.09, NULL, 0.12,
        'customers.city: 24 % of the cells are missing, and 9 % were expected', false),
    (9, 'credit_limit', 'mistyped_rate', 'warning', 0.04, 0.001, NULL, 0.01,
        'customers.credit_limit: 4 % of the cells are of another type', false),
    (30, NULL, 'freshness', 'error', 190000, 86400, NULL, 93600,
        'customers: the load before came 2 d 4 h ago', false)
) AS given (days, name, rule, severity, observed, expected, low, high, summary, was_refused)
"""
_MAILS = """
INSERT INTO metadata.mail_outbox
    (problem, subject, body_text, body_html, attempts, last_error, created_at, sent_at,
     abandoned_at)
SELECT 'pipeline:replay_topic', 'replay_topic failed', 'It failed.', '<p>It failed.</p>',
    CASE WHEN n < 4 THEN 5 ELSE 1 END,
    CASE WHEN n < 4 THEN $1 || ' <ops@example.org>' END,
    now() - n * INTERVAL '40 minutes', CASE WHEN n > 3 THEN now() - n * INTERVAL '39 minutes' END,
    CASE WHEN n = 3 THEN now() - INTERVAL '10 minutes' END
FROM generate_series(1, 30) AS n
"""
_JANITOR = """
INSERT INTO metadata.janitor_acts (act, execution_id, pipeline_name, reason, acted_at)
VALUES ('marked dead', $1, 'replay_topic', 'process 4711 on worker-1 is gone',
        now() - INTERVAL '70 seconds'),
    ('cancelled late', NULL, 'daily_etl_pipeline', 'a newer start of the deployment waits',
        now() - INTERVAL '3 hours')
"""


@dataclass(frozen=True, slots=True)
class History:
    """What a test needs to know of what is in the database."""

    loaded_run: int
    """A run of the daily pipeline that loaded files."""
    failed_run: int
    """The newest ended run of replay_topic."""
    running: int
    owner_url: str

    async def execute(self, statement: str, *given: object) -> None:
        """Change the database while it is looked at."""
        connection = await asyncpg.connect(self.owner_url)
        try:
            await connection.execute(statement, *given)
        finally:
            await connection.close()

    async def fetchval(self, query: str, *given: object) -> object:
        """Return what PostgreSQL says."""
        connection = await asyncpg.connect(self.owner_url)
        try:
            return await connection.fetchval(query, *given)
        finally:
            await connection.close()


async def fill(loader_url: str, owner_url: str) -> History:
    """Leave a month's runs, loads, checks, messages and lines."""
    connection = await asyncpg.connect(owner_url)
    try:
        await connection.execute(_RUNS, ERROR, TRACEBACK)
        loaded = await _load_files(loader_url)
        failed = await connection.fetchval(_FAILED_NOW, ERROR, TRACEBACK)
        running = await connection.fetchval(_RUNNING)
        await connection.execute(_REFUSED, failed, ERROR)
        await connection.execute(_LOGS, failed, running, LOG_LINE)
        for statement in (_HEALTH, _MAINTENANCE, _OFFSETS, _LAG):
            await connection.execute(statement)
        await connection.execute(_BATCHES, running)
        await connection.execute(_LETTERS, running, LETTER)
        await connection.execute(_BAD_ROWS, loaded)
        await connection.execute(_QUALITY, loaded)
        await connection.execute(_PROFILES, loaded)
        await connection.execute(_ODD, loaded, ODD)
        await connection.execute(_MAILS, SENT_BACK)
        await connection.execute(_JANITOR, failed)
        await connection.execute("ANALYZE")
    finally:
        await connection.close()
    return History(loaded, failed, running, owner_url)


async def _load_files(loader_url: str) -> int:
    """Load a file of each kind as the daily pipeline does; returns the run's id."""
    with TemporaryDirectory() as folder:
        for name, text in _files().items():
            (Path(folder) / name).write_text(text)
        found, _ = discover_files(Path(folder), [each.spec for each in DATASETS])
        async with (
            Pool(loader_url) as pool,
            record_execution(pool, "daily_etl_pipeline") as execution,
        ):
            for one in found:
                order = Order(execution.id, str(one.path), one.table, one.spec)
                await load_found(pool, one, order)
            execution.records_processed = CUSTOMERS + PRODUCTS + SALES
    return execution.id


def _files() -> dict[str, str]:
    day = dt.date(2026, 1, 1)
    customers = [
        f"{n},Person {n},person{n}@example.com,Pune,IN,2024-02-{n % 28 + 1:02d},{n * 100}"
        for n in range(1, CUSTOMERS + 1)
    ]
    products = [f"{n},Teapot {n},garden,{n}.50,0.4,true" for n in range(1, PRODUCTS + 1)]
    sales = [
        f"{n},{n % CUSTOMERS + 1},{n % PRODUCTS + 1},{day + dt.timedelta(days=n % 200)},"
        # Every fortieth breaks its contract.
        f"{0 if n % 40 == 0 else n % 9 + 1},9.99,0.1,web"
        for n in range(1, SALES + 1)
    ]
    cards = [f"{n},gold,{n * 10}" for n in range(1, 20)]
    return {
        "customers.csv": "\n".join(
            ["customer_id,name,email,city,country,signup_date,credit_limit", *customers, ""]
        ),
        "products.csv": "\n".join(
            ["product_id,name,category,price,weight_kg,active", *products, ""]
        ),
        "sales_data.csv": "\n".join(
            [
                "order_id,customer_id,product_id,order_date,quantity,unit_price,discount,channel",
                *sales,
                "",
            ]
        ),
        "loyalty_cards.csv": "\n".join(["card,level,points", *cards, ""]),
    }
