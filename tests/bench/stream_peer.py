"""A tool's way of taking a topic into a table, run by the tools' own Python.

It takes a JSON object on standard input, and answers with one. The clock runs from the moment
Kafka is first asked for messages to the last COMMIT in PostgreSQL.
"""
# ruff: noqa: PLC0415 - the imports of one tool must not be charged to another

import asyncio
import datetime as dt
import json
import sys
from decimal import Decimal
from time import perf_counter, process_time
from typing import Any
from urllib.parse import urlsplit

BATCH_MESSAGES = 20_000
FETCH_BYTES = 4 << 20
TABLE = "plain_sales"
COLUMNS = (
    *("order_id", "customer_id", "product_id", "order_date"),
    *("quantity", "unit_price", "discount", "channel"),
)


async def run_faststream(order: dict[str, Any]) -> dict[str, Any]:
    """Take batches by a FastStream subscriber, and COPY each by asyncpg.

    FastStream decodes each message's JSON; Kafka is told the offsets after the COPY.
    """
    import asyncpg
    from faststream import AckPolicy, FastStream
    from faststream.kafka import KafkaBroker
    from first_fetch import FirstFetch

    first = FirstFetch()
    broker = KafkaBroker(order["bootstrap"], apply_types=False)
    app = FastStream(broker)
    pool = await asyncpg.create_pool(order["url"], min_size=1)
    loaded = 0
    answer: dict[str, Any] = {}

    @broker.subscriber(
        order["topic"],
        batch=True,
        max_records=BATCH_MESSAGES,
        max_partition_fetch_bytes=FETCH_BYTES,
        group_id=order["group"],
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.NACK_ON_ERROR,
    )
    async def load(messages: list[dict[str, Any]]) -> None:
        nonlocal loaded
        rows = [
            (
                sale["order_id"],
                sale["customer_id"],
                sale["product_id"],
                dt.date.fromisoformat(sale["order_date"]),
                sale["quantity"],
                Decimal(str(sale["unit_price"])),
                sale["discount"],
                sale["channel"],
            )
            for sale in (message["payload"] for message in messages)
        ]
        async with pool.acquire() as connection:
            await connection.copy_records_to_table(TABLE, records=rows, columns=COLUMNS)
        loaded += len(rows)
        if loaded >= order["messages"]:
            answer["seconds"] = perf_counter() - first.seconds
            answer["cpu_seconds"] = process_time() - first.cpu_seconds
            app.exit()

    await app.run()
    await pool.close()
    return answer | {"messages": loaded}


def run_quix(order: dict[str, Any]) -> dict[str, Any]:
    """Let Quix Streams write the payloads through its PostgreSQL sink."""
    from quixstreams import Application
    from quixstreams.sinks.base import SinkBatch
    from quixstreams.sinks.community.postgresql import PostgreSQLSink

    start: list[tuple[float, float]] = []
    answer: dict[str, Any] = {"messages": 0}

    class WatchedApplication(Application):
        def _on_assign(self, *given: Any) -> None:
            start.append((perf_counter(), process_time()))
            super()._on_assign(*given)

    class WatchedSink(PostgreSQLSink):
        def write(self, batch: SinkBatch) -> None:
            super().write(batch)
            answer["messages"] += batch.size
            answer["seconds"] = perf_counter() - start[0][0]
            answer["cpu_seconds"] = process_time() - start[0][1]

    url = urlsplit(order["url"])
    app = WatchedApplication(
        order["bootstrap"],
        consumer_group=order["group"],
        auto_offset_reset="earliest",
        # As large as the other lanes' batches; by default everything that came in five seconds.
        commit_every=BATCH_MESSAGES,
        loglevel="WARNING",
    )
    sink = WatchedSink(
        host=url.hostname or "",
        port=url.port or 0,
        dbname=url.path.removeprefix("/"),
        user=url.username or "",
        password=url.password or "",
        table_name=TABLE,
    )
    topic = app.topic(order["topic"], key_deserializer="str", value_deserializer="json")
    sales = app.dataframe(topic).apply(lambda message: message["payload"])
    sales.sink(sink)
    app.run(count=order["messages"], collect=False)
    return answer


def main() -> None:
    """Do what the order says, and answer."""
    order = json.load(sys.stdin)
    # The tools print on standard output too, and ours is the answer's.
    answer_to, sys.stdout = sys.stdout, sys.stderr
    if order["lane"] == "faststream":
        answer = asyncio.run(run_faststream(order))
    else:
        answer = run_quix(order)
    json.dump(answer, answer_to)


if __name__ == "__main__":
    main()
