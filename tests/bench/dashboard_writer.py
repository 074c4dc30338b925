"""Adds rows to a dashboard's database at a steady pace, as a platform at work does.

A process of its own: its order comes as a line of JSON on the standard input, it writes until
that input ends, and then says how many rows it added in which time.
"""

import asyncio
import json
import sys
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter

import asyncpg

ROWS_A_TURN = 10

_START = """
    INSERT INTO metadata.pipeline_executions (pipeline_name, host, process_id)
    VALUES ($1, 'bench', 1) RETURNING id
"""
_END = """
    UPDATE metadata.pipeline_executions
    SET status = CASE WHEN $1 % 40 = 0 THEN 'FAILED' ELSE 'SUCCESS' END,
        error_message = CASE WHEN $1 % 40 = 0 THEN 'the benchmark wanted a failure' END,
        end_time = clock_timestamp(), records_processed = 500
    WHERE id = $1
"""
_LOG = """
    INSERT INTO metadata.pipeline_logs
        (logged_at, level, pipeline_name, execution_id, dataset, event, fields)
    SELECT clock_timestamp(), CASE n WHEN 1 THEN 'WARNING' ELSE 'INFO' END, $1, $2, 'sales_data',
        'loaded', '{"rows": 500}'
    FROM generate_series(1, 3) AS n
"""
_HEALTH = """
    INSERT INTO metadata.health_checks (checked_at, component, status, latency_seconds)
    VALUES (clock_timestamp(), $1, 'GOOD', 0.01)
"""
_LAG = """
    INSERT INTO metadata.stream_lag
    VALUES ('stream_processor_group', 'data-stream', $1::integer, clock_timestamp(), 900, 1.5)
"""
_BATCH = """
    WITH batch AS (
        INSERT INTO metadata.stream_batches
            (execution_id, consumer_group, topic, partitions, messages, loaded, dead, flush_seconds)
        VALUES ($1, 'stream_processor_group', 'data-stream', '{0}', 500, 500, 0, 0.02)
        RETURNING id
    )
    INSERT INTO metadata.dataset_counts
        (execution_id, batch_id, dataset, source, read, inserted, updated, unchanged, superseded,
         duplicates, quarantined)
    SELECT $1, id, 'sales_data', 'data-stream', 500, 500, 0, 0, 0, 0, 0 FROM batch
"""
_RESULT = """
    INSERT INTO metadata.quality_results
        (execution_id, batch_id, dataset, column_name, rule, checked, failed)
    VALUES ($1, 1, 'sales_data', 'quantity', 'completeness', 500, 3)
"""
_PIPELINES = ("check_health", "mark_dead_runs", "kafka_data_ingestion", "daily_etl_pipeline")
_COMPONENTS = ("dashboard", "disk", "kafka", "postgresql", "prefect")


@dataclass(frozen=True, slots=True)
class Order:
    """What to do."""

    url: str
    rows_per_second: int


async def write(order: Order, ended: asyncio.Event) -> int:
    """Return how many rows were added until the event came."""
    connection = await asyncpg.connect(order.url)
    pause = ROWS_A_TURN / order.rows_per_second
    turn = 0
    start = perf_counter()
    try:
        while not ended.is_set():
            await _write_turn(connection, turn)
            turn += 1
            # Behind its time, it catches up without a pause.
            left = start + turn * pause - perf_counter()
            if left > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), left)
    finally:
        await connection.close()
    return turn * ROWS_A_TURN


async def _write_turn(connection: asyncpg.Connection, turn: int) -> None:
    """Add or change ROWS_A_TURN rows, in as many transactions as the platform would."""
    pipeline = _PIPELINES[turn % len(_PIPELINES)]
    execution_id = await connection.fetchval(_START, pipeline)
    await connection.execute(_LOG, pipeline, execution_id)
    await connection.execute(_HEALTH, _COMPONENTS[turn % len(_COMPONENTS)])
    await connection.execute(_LAG, turn % 3)
    await connection.execute(_BATCH, execution_id)
    await connection.execute(_RESULT, execution_id)
    await connection.execute(_END, execution_id)


async def _main() -> None:
    order = Order(**json.loads(sys.stdin.readline()))
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.run_in_executor(None, lambda: (sys.stdin.read(), loop.call_soon_threadsafe(ended.set)))
    start = perf_counter()
    rows = await write(order, ended)
    sys.stdout.write(json.dumps({"rows": rows, "seconds": perf_counter() - start}))


if __name__ == "__main__":
    asyncio.run(_main())
