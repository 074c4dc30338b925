"""Producing files and answers: what is sent, what is remembered, and what becomes of the rest."""

import asyncio
import datetime as dt
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from infra.cell_keys import read_key_ring
from infra.kafka.producer import Producer
from infra.local.ports import choose_port
from infra.postgres.connection import Pool
from infra.settings import Settings
from schemas.datasets import DATASETS, ApiUsers
from schemas.errors import RefusedError, TransientError
from tasks import produce_source
from tasks.discover_files import discover_files
from tasks.extract_api import Fetched
from tasks.json_records import read_json
from tasks.load import Outcome as LoadOutcome
from tasks.produce_source import Outcome, Produced, Shipment, produce_answer, produce_file
from tasks.sealing import KEY, QUARANTINED, UNSENT_MESSAGES, VALUE, open_column

SALES = "order_id,customer_id,product_id,order_date,quantity,unit_price"
Produce = Callable[..., Awaitable[Produced]]


@pytest.fixture
async def topic(embedded_broker, messages) -> str:
    name = f"source-{os.urandom(4).hex()}"
    await messages(embedded_broker.bootstrap_servers).create(name, partitions=3)
    return name


@pytest.fixture
async def producer(embedded_broker) -> AsyncIterator[Producer]:
    settings = Settings(kafka_bootstrap_servers=embedded_broker.bootstrap_servers)
    async with Producer(settings, max_message_bytes=5_000) as opened:
        yield opened


@pytest.fixture
def produce(pool: Pool, producer: Producer, execution_id: int, topic: str) -> Produce:
    """Produce one file as the flow does."""

    async def produce_path(path: Path, *, to: str = topic, **further: Any) -> Produced:
        found, _ = discover_files(path.parent, [each.spec for each in DATASETS])
        [one] = [each for each in found if each.path == path]
        shipment = Shipment(execution_id, to, str(path), one.table, one.spec)
        return await produce_file(pool, further.pop("producer", producer), one, shipment, **further)

    return produce_path


@pytest.fixture
def read(embedded_broker, messages, topic: str) -> Callable[[], Awaitable[list[Any]]]:
    """Return the envelopes in the topic."""

    async def read_topic() -> list[Any]:
        values = await messages(embedded_broker.bootstrap_servers).read(topic)
        return [json.loads(value) for value in values]

    return read_topic


async def fetch(pool: Pool, query: str, *arguments: object) -> list[Any]:
    async with pool.acquire() as connection:
        return await connection.fetch(query, *arguments)


def write_sales(folder: Path, *rows: str, name: str = "sales_data.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([SALES, *rows]) + "\n")
    return path


def fetched_users(*records: str, sha256: str = "a" * 64) -> Fetched:
    return Fetched(
        tuple(read_json(each) for each in records),
        sha256,
        1,
        dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        ("page 1 is short",),
    )


async def test_a_file_is_produced_once_and_again_when_it_changed_or_is_forced(
    tmp_path: Path, pool: Pool, produce: Produce, topic: str, read
) -> None:
    path = write_sales(tmp_path, "1,1,7,2024-06-01,2,1.50", "2,2,7,2024-06-02,,1.00")
    first = await produce(path)
    again = await produce(path)
    assert (first.outcome, first.read, first.sent) == (Outcome.PRODUCED, 2, 2)
    assert (again.outcome, again.read, again.sent) == (Outcome.UNCHANGED, 0, 0)
    assert again.message.startswith("unchanged since it was produced on ")
    modified_at = dt.datetime.fromtimestamp(path.stat().st_mtime, tz=dt.UTC)
    by_order = {each["payload"]["order_id"]: each for each in await read()}
    assert by_order["2"] == {
        "source": "sales_data",
        "timestamp": modified_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "payload": {
            "order_id": "2",
            "customer_id": "2",
            "product_id": "7",
            "order_date": "2024-06-02",
            "quantity": None,
            "unit_price": "1.00",
        },
    }
    assert len(by_order) == len(await read()) == 2
    forced = await produce(path, force=True)
    write_sales(tmp_path, "1,1,7,2024-06-01,3,1.50")
    changed = await produce(path)
    assert [each.sent for each in (forced, changed)] == [2, 1]
    assert len(await read()) == 5
    entries = await fetch(pool, "SELECT * FROM metadata.source_files ORDER BY id")
    assert [(each["path"], each["status"], each["rows"]) for each in entries] == [
        (f"kafka:{topic}:{path}", "LOADED", rows) for rows in (2, 2, 1)
    ]


async def test_what_was_produced_counts_for_its_topic_alone_and_for_no_load(
    tmp_path: Path, pool: Pool, produce: Produce, load, embedded_broker, messages
) -> None:
    older = write_sales(tmp_path, "1,1,7,2024-06-01,2,1.50")
    os.utime(older, (1_000_000_000, 1_000_000_000))
    newer = write_sales(tmp_path, "1,1,7,2024-06-01,9,1.50", name="sales_data_2.csv")
    await produce(newer)
    other = f"other-{os.urandom(4).hex()}"
    await messages(embedded_broker.bootstrap_servers).create(other)
    assert (await produce(newer, to=other)).outcome is Outcome.PRODUCED
    # The newer file is on its way through Kafka; until it arrives, the older one is the newest.
    report = await load(older)
    assert (report.outcome, report.ledger.inserted) == (LoadOutcome.LOADED, 1)
    assert (await load(newer)).ledger.updated == 1
    assert (await produce(older)).outcome is Outcome.PRODUCED
    [late] = await fetch(
        pool, "SELECT count(*) FROM metadata.source_files WHERE modified_at IS NOT NULL"
    )
    assert late["count"] == 2


async def test_a_row_without_cells_goes_to_quarantine_and_into_the_warnings(
    tmp_path: Path, pool: Pool, produce: Produce, topic: str
) -> None:
    path = write_sales(tmp_path, "1,1,7,2024-06-01,2,1.50", "2,2", "3,3,7,2024-06-02,1,1.00")
    report = await produce(path)
    assert (report.read, report.sent, report.quarantined, report.refused) == (3, 2, 1, 0)
    assert report.notes == ("1 row is no message but in quarantine (column_count)",)
    [row] = await fetch(pool, "SELECT * FROM metadata.quarantine")
    assert (row["line"], row["rule"], row["raw"]) == (3, "column_count", "2,2")
    assert (row["source"], row["dataset"]) == (f"kafka:{topic}:{path}", "sales_data")
    [entry] = await fetch(pool, "SELECT id, notes FROM metadata.source_files")
    assert (row["batch_id"], entry["notes"]) == (entry["id"], [*report.notes])


async def test_a_broken_row_of_persons_is_encrypted(
    tmp_path: Path, pool: Pool, produce: Produce
) -> None:
    path = tmp_path / "customers.csv"
    path.write_text("customer_id,name,signup_date\n1,Ada Byron-Marker\n")
    report = await produce(path)
    assert (report.sent, report.quarantined) == (0, 1)
    [row] = await fetch(pool, "SELECT raw, raw_sealed FROM metadata.quarantine")
    assert row["raw"] is None
    assert read_key_ring().open(row["raw_sealed"], QUARANTINED) == b"1,Ada Byron-Marker"


async def test_a_message_that_is_too_large_is_kept_and_the_others_are_sent(
    tmp_path: Path, pool: Pool, produce: Produce, execution_id: int, topic: str, read
) -> None:
    path = tmp_path / "notes.csv"
    path.write_text(f"id,text\n1,{'x' * 6_000}\n2,y\n")
    report = await produce(path)
    assert (report.read, report.sent, report.refused, report.hopeless) == (2, 1, 1, 1)
    assert report.notes == (
        "there is no contract for it: its messages will be dead letters",
        "1 messages are too large for Kafka and kept in metadata.unsent_messages",
    )
    [row] = await fetch(pool, "SELECT * FROM metadata.unsent_messages")
    # Nobody can tell what is in it: there is no contract.
    assert row["is_sealed"]
    key, value = (open_column(read_key_ring(), UNSENT_MESSAGES, row, each) for each in (KEY, VALUE))
    assert json.loads(value or b"")["payload"]["id"] == "1"
    assert (key or b"").startswith(b"notes:#")
    assert (row["execution_id"], row["topic"], row["source"]) == (execution_id, topic, "notes")
    assert (row["reason"], row["attempts"], row["sent_at"]) == ("too_large", 1, None)
    assert "this producer sends 5,000" in row["detail"]
    assert [each["payload"]["id"] for each in await read()] == ["2"]
    assert (await produce(path)).outcome is Outcome.UNCHANGED


async def test_an_answer_with_nothing_new_is_not_sent_twice(
    pool: Pool, producer: Producer, execution_id: int, topic: str, read
) -> None:
    shipment = Shipment(
        execution_id, topic, "http://example.test/users", "api_users", ApiUsers.spec
    )
    users = fetched_users('{"id":1,"name":"Ann","score":1.50}', "3")
    first = await produce_answer(pool, producer, users, shipment)
    again = await produce_answer(pool, producer, users, shipment)
    forced = await produce_answer(pool, producer, users, shipment, force=True)
    other = await produce_answer(
        pool, producer, fetched_users('{"id":2}', sha256="b" * 64), shipment
    )
    assert [each.sent for each in (first, again, forced, other)] == [2, 0, 2, 1]
    assert again.outcome is Outcome.UNCHANGED
    assert first.notes == ("page 1 is short",)
    found = await read()
    assert len(found) == 5
    assert {each["timestamp"] for each in found} == {"2026-01-02T00:00:00.000000Z"}
    assert sorted(json.dumps(each["payload"]) for each in found) == [
        *(["3"] * 2),
        '{"id": 1, "name": "Ann", "score": 1.5}',
        '{"id": 1, "name": "Ann", "score": 1.5}',
        '{"id": 2}',
    ]


async def test_while_kafka_is_away_nothing_is_recorded_as_produced(
    tmp_path: Path, pool: Pool, produce: Produce
) -> None:
    path = write_sales(tmp_path, "1,1,7,2024-06-01,2,1.50")
    away = Settings(kafka_bootstrap_servers=f"127.0.0.1:{choose_port()}")
    async with Producer(away) as producer:
        with pytest.raises(TransientError, match="cannot be reached"):
            await produce(path, producer=producer)
    assert await fetch(pool, "SELECT FROM metadata.source_files") == []
    assert (await produce(path)).sent == 1


@asynccontextmanager
async def at_the_quarantine(database) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """Hold up who writes to the quarantine; what is called returns, once there is one, its pid."""
    owner = await asyncpg.connect(database.owner_url)

    async def wait() -> int:
        for _ in range(3_000):
            if pid := await owner.fetchval(
                "SELECT pid FROM pg_locks"
                " WHERE NOT granted AND relation = 'metadata.quarantine'::regclass"
            ):
                return int(pid)
            await asyncio.sleep(0.01)
        pytest.fail("Nobody wrote to the quarantine within 30 s.")

    try:
        await owner.execute("BEGIN; LOCK TABLE metadata.quarantine")
        yield wait
        await owner.execute("ROLLBACK")
    finally:
        await owner.close()


async def test_a_run_that_dies_under_way_leaves_nothing_and_the_next_sends_all(
    tmp_path: Path, database, pool: Pool, produce: Produce, read
) -> None:
    path = write_sales(tmp_path, "1,1,7,2024-06-01,2,1.50", "2,2")
    async with at_the_quarantine(database) as wait:
        dying = asyncio.create_task(produce(path))
        await wait()
        # By then the messages are in Kafka.
        assert len(await read()) == 1
        dying.cancel()
        await asyncio.wait([dying])
    assert await fetch(pool, "SELECT FROM metadata.source_files") == []
    report = await produce(path)
    assert (report.sent, report.quarantined) == (1, 1)
    assert len(await read()) == 2


async def test_a_postgresql_that_is_lost_under_way_is_an_error_that_may_pass(
    tmp_path: Path, database, pool: Pool, produce: Produce
) -> None:
    path = write_sales(tmp_path, "1,1,7,2024-06-01,2,1.50", "2,2")
    async with at_the_quarantine(database) as wait:
        cut_off = asyncio.create_task(produce(path))
        pid = await wait()
        await fetch(pool, "SELECT pg_terminate_backend($1)", pid)
        with pytest.raises(TransientError, match=r"PostgreSQL went away while .* being produced"):
            await cut_off
    assert await fetch(pool, "SELECT FROM metadata.source_files") == []
    assert (await produce(path)).sent == 1


async def test_a_file_that_cannot_be_read_is_refused_and_noted(
    tmp_path: Path, pool: Pool, produce: Produce, topic: str
) -> None:
    path = tmp_path / "sales_data.csv"
    path.write_text("\n\n")
    with pytest.raises(RefusedError, match="blank lines only") as error:
        await produce(path)
    [entry] = await fetch(pool, "SELECT path, status, message FROM metadata.source_files")
    assert dict(entry) == {
        "path": f"kafka:{topic}:{path}",
        "status": "REFUSED",
        "message": str(error.value),
    }


async def test_a_file_that_changes_while_it_is_read_is_not_taken_for_produced(
    tmp_path: Path, pool: Pool, produce: Produce
) -> None:
    rows = [f"{number},1,7,2024-06-01,2,1.50" for number in range(1, 300_001)]
    path = write_sales(tmp_path, *rows)
    told: list[int] = []

    def touch(read_bytes: int) -> None:
        told.append(read_bytes)
        path.write_text(SALES + "\n")

    with pytest.raises(TransientError, match="changed while it was being read"):
        await produce(path, on_progress=touch)
    assert told
    assert await fetch(pool, "SELECT FROM metadata.source_files") == []


async def test_more_refusals_than_can_be_kept_aside_leave_the_source_to_the_next_run(
    tmp_path: Path, pool: Pool, produce: Produce, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(produce_source, "MAX_REFUSED", 0)
    monkeypatch.setattr(produce_source, "FOR_A_PERSON", ())
    path = tmp_path / "notes.csv"
    path.write_text(f"id,text\n1,{'x' * 6_000}\n2,y\n")
    with pytest.raises(TransientError, match="All of it is produced again by the next run"):
        await produce(path)
    for table in ("source_files", "unsent_messages"):
        assert await fetch(pool, f"SELECT FROM metadata.{table}") == []
