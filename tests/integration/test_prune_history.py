"""What is past its retention goes, what is needed stays, and no figure by day changes."""

import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from infra.postgres.connection import Pool
from infra.settings import Settings
from tasks.load import Outcome
from tasks.prune_history import prune_old_rows, retentions

LONG_AGO = "clock_timestamp() - interval '1000 days'"
PRODUCTS = "product_id,name,category,price,weight_kg,active\n{},Pen,toys,1.00,0.1,true\n"

OLD_AND_NEW = {
    "pipeline_logs": "(logged_at, level, pipeline_name, event) VALUES ({}, 'INFO', 'p', 'e')",
    "health_checks": "(checked_at, component, status) VALUES ({}, 'kafka', 'GOOD')",
    "quality_results": "(recorded_at, execution_id, batch_id, dataset, rule, checked, failed)"
    " VALUES ({}, 1, 1, 'd', 'r', 10, 1)",
    "alert_events": "(happened_at, kind, problem, severity, summary, handled_at)"
    " VALUES ({0}, 'failure', 'p', 'error', 's', {0})",
    "mail_outbox": "(created_at, problem, subject, body_text, body_html, sent_at)"
    " VALUES ({0}, 'p', 's', 't', 'h', {0})",
    "quarantine": "(quarantined_at, execution_id, batch_id, dataset, source, line, rule, reason,"
    " raw) VALUES ({}, 1, 1, 'd', 's', 1, 'r', 'r', 'x')",
    "dead_letters": "(buried_at, consumer_group, topic, partition, message_offset, reason, detail,"
    " relayed_at) VALUES ({0}, 'g', 't', 0, {1}, 'r', 'd', {0})",
    "unsent_messages": "(refused_at, execution_id, topic, source, message_value, reason, detail,"
    " sent_at) VALUES ({0}, 1, 't', 's', '', 'r', 'd', {0})",
    "stream_batches": "(committed_at, consumer_group, topic, partitions, messages, loaded, dead,"
    " flush_seconds) VALUES ({}, 'g', 't', '{{0}}', 1, 1, 0, 0.1)",
    "stream_counts": "(recorded_at, execution_id, batch_id, dataset, source, read, inserted,"
    " updated, unchanged, superseded, duplicates, quarantined)"
    " VALUES ({0}, $1, 1000000 + {1}, 'd', 't', 1, 1, 0, 0, 0, 0, 0)",
    "load_profiles": "(profiled_at, execution_id, dataset, feed, read, duplicates, quarantined,"
    " columns) VALUES ({}, 1, 'd', 'f', 1, 0, 0, '{{}}')",
    "anomalies": "(detected_at, dataset, feed, rule, severity, observed, summary)"
    " VALUES ({}, 'd', 'f', 'volume', 'error', 1, 's')",
    "janitor_acts": "(acted_at, act, reason) VALUES ({}, 'marked dead', 'r')",
}
TABLES = {"stream_counts": "dataset_counts"}


@pytest.fixture
async def owner(database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.owner_url)
    yield connection
    await connection.close()


async def add(owner: asyncpg.Connection, name: str, when: str, serial: int, run: int) -> None:
    statement = f"INSERT INTO metadata.{TABLES.get(name, name)} " + OLD_AND_NEW[name].format(
        when, serial
    )
    await owner.execute(statement, *([run] if "$1" in statement else []))


@pytest.mark.parametrize("name", OLD_AND_NEW)
async def test_old_rows_go_and_new_ones_stay(
    name: str, owner: asyncpg.Connection, pool: Pool, execution_id: int
) -> None:
    for serial in range(3):
        await add(owner, name, LONG_AGO, serial, execution_id)
    await add(owner, name, "clock_timestamp()", 3, execution_id)
    assert await prune_old_rows(pool, Settings()) == {name: 3}
    table = TABLES.get(name, name)
    left = await owner.fetchval(f"SELECT count(*) FROM metadata.{table}")  # noqa: S608 - above
    assert left == 1
    assert await prune_old_rows(pool, Settings()) == {}


@pytest.mark.parametrize(
    "undone",
    [
        "alert_events SET handled_at = NULL",
        "mail_outbox SET sent_at = NULL",
        "dead_letters SET relayed_at = NULL",
        "unsent_messages SET sent_at = NULL",
    ],
)
async def test_what_is_not_done_yet_is_kept_however_old(
    undone: str, owner: asyncpg.Connection, pool: Pool
) -> None:
    name = undone.split(" ", 1)[0]
    await add(owner, name, LONG_AGO, 0, 1)
    await owner.execute(f"UPDATE metadata.{undone}")
    assert await prune_old_rows(pool, Settings()) == {}


async def test_everything_that_is_known_has_a_retention(owner: asyncpg.Connection) -> None:
    names = {name for name, _ in retentions(Settings())}
    assert names == {*OLD_AND_NEW, "dataset_counts", "source_files", "pipeline_executions"}


async def test_a_file_that_was_loaded_long_ago_is_still_known_as_unchanged(
    owner: asyncpg.Connection, pool: Pool, tmp_path: Path, load
) -> None:
    path = tmp_path / "products.csv"
    for content in ("1", "2", "3"):
        path.write_text(PRODUCTS.format(content))
        assert (await load(path)).outcome is Outcome.LOADED
    before = await owner.fetch("SELECT * FROM metadata.daily_counts ORDER BY 1, 2, 3")
    # As if it all had been done long ago, by a run that is over.
    for table, column in (
        ("source_files", "recorded_at"),
        ("dataset_counts", "recorded_at"),
        ("pipeline_executions", "start_time"),
    ):
        await owner.execute(
            f"ALTER TABLE metadata.{table} DISABLE TRIGGER USER;"  # noqa: S608 - names above
            f"UPDATE metadata.{table} SET {column} = {LONG_AGO};"
            f"ALTER TABLE metadata.{table} ENABLE TRIGGER USER"
        )
    await owner.execute(
        "UPDATE metadata.pipeline_executions SET status = 'SUCCESS', end_time = start_time"
    )
    deleted = await prune_old_rows(pool, Settings())
    assert (deleted["staging"], deleted["dataset_counts"], deleted["source_files"]) == (3, 3, 2)
    assert (await load(path)).outcome is Outcome.UNCHANGED
    assert await owner.fetch("SELECT * FROM metadata.daily_counts ORDER BY 1, 2, 3") == before
    # The run that a kept line belongs to is kept with it.
    assert await owner.fetchval("SELECT count(*) FROM metadata.pipeline_executions") == 1


async def test_a_run_goes_with_all_that_it_did_and_its_figures_stay(
    owner: asyncpg.Connection, pool: Pool
) -> None:
    for status, end in (("SUCCESS", "start_time"), ("RUNNING", "NULL")):
        await owner.execute(
            "INSERT INTO metadata.pipeline_executions (pipeline_name, start_time, status,"  # noqa: S608 - texts above
            f" end_time) SELECT 'p', start_time, '{status}', {end}"
            f" FROM (SELECT {LONG_AGO} AS start_time) AS t"
        )
    assert await prune_old_rows(pool, Settings()) == {"pipeline_executions": 1}
    assert await owner.fetchval("SELECT status FROM metadata.pipeline_executions") == "RUNNING"
    assert await owner.fetchval("SELECT sum(executions) FROM metadata.rollup_executions") == 1


async def test_many_rows_go_block_by_block(
    owner: asyncpg.Connection, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.prune_history.BLOCK_ROWS", 7)
    for when, count in ((LONG_AGO, 40), ("clock_timestamp()", 20)):
        await owner.execute(
            "INSERT INTO metadata.pipeline_logs (logged_at, level, pipeline_name, event)"  # noqa: S608 - texts above
            f" SELECT {when}, 'INFO', 'p', 'e' FROM generate_series(1, {count})"
        )
    assert await prune_old_rows(pool, Settings()) == {"pipeline_logs": 40}


async def test_nobody_can_prune_what_is_younger_than_a_day_or_not_to_be_pruned(pool: Pool) -> None:
    now = dt.datetime.now(dt.UTC)
    async with pool.acquire() as connection:
        with pytest.raises(asyncpg.RaiseError, match="younger than a day"):
            await connection.fetchrow(
                "SELECT metadata.prune('pipeline_logs', $1, 0, 10)", now - dt.timedelta(hours=23)
            )
        with pytest.raises(asyncpg.RaiseError, match="nothing that can be pruned"):
            await connection.fetchrow(
                "SELECT metadata.prune('stream_offsets', $1, 0, 10)", now - dt.timedelta(days=9)
            )
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("DELETE FROM metadata.pipeline_executions")
