"""Counters never fall: not by pruning, folding, corrections or rebuilding; and hinder nobody."""

import asyncio
import random
from collections.abc import AsyncIterator

import asyncpg
import pytest

from deployments.rebuild_rollups import rebuild_rollups
from tests.conftest import Database
from tests.exporter_scrapes import Exporter, Scrape, fill, served

TABLES = (
    "stream_batches",
    "stream_lag",
    "dead_letters",
    "quality_results",
    "dataset_counts",
    "source_files",
    "health_checks",
    "anomalies",
    "alert_events",
    "janitor_acts",
    "mail_outbox",
    "pipeline_logs",
    "pipeline_executions",
)


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.owner_url)
    yield connection
    await connection.close()


@pytest.fixture
async def loader(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.loader_url)
    yield connection
    await connection.close()


@pytest.fixture
async def exporter(database: Database) -> AsyncIterator[Exporter]:
    async with served(database.monitor_url) as client:
        yield client


def fell(before: Scrape, after: Scrape) -> dict[object, object]:
    """Return what is less than it was, or no longer there."""
    now = after.counters
    return {
        key: (value, now.get(key)) for key, value in before.counters.items()
        if now.get(key, -1) < value
    }  # fmt: skip


async def test_pruning_lowers_no_counter(exporter: Exporter, owner) -> None:
    await fill(owner)
    before = await exporter.scrape()
    assert sum(before.counters.values()) > 1000
    for table in TABLES:
        await owner.execute(f"DELETE FROM metadata.{table}")  # noqa: S608 - constants
        assert (await exporter.scrape()).counters == before.counters, table
    for ended in ("sluiceway_last_success_timestamp_seconds", "sluiceway_runs_total"):
        assert (await exporter.scrape()).of(ended) == before.of(ended) != {}
    await owner.execute("SELECT metadata.fold_counts()")
    assert (await exporter.scrape()).counters == before.counters
    # And they go on from there.
    await fill(owner)
    after = await exporter.scrape()
    assert fell(before, after) == {}
    rose = [key for key, value in after.counters.items() if value > before.counters.get(key, 0)]
    assert {name for name, _ in rose} >= {name for name, _ in before.counters} - {
        # All within a bucket that is there already counts; these just need no more of it.
        "sluiceway_component_minutes_total"
    }


async def test_a_run_that_was_taken_for_dead_lowers_nothing(exporter: Exporter, owner) -> None:
    change = "UPDATE metadata.pipeline_executions SET status = $1, end_time = $2 {} WHERE id = 1"
    await owner.execute("INSERT INTO metadata.pipeline_executions (pipeline_name) VALUES ('p')")
    start = await owner.fetchval("SELECT start_time FROM metadata.pipeline_executions")
    scrapes = [await exporter.scrape()]

    async def write(status: str, seconds: float | None, records: int) -> None:
        end = None
        if seconds is not None:
            end = await owner.fetchval(
                "SELECT $1::timestamptz + make_interval(secs => $2)", start, seconds
            )
        await owner.execute(change.format(", records_processed = $3"), status, end, records)
        scrapes.append(await exporter.scrape())
        assert fell(scrapes[-2], scrapes[-1]) == {}

    await write("RUNNING", None, 100)
    await write("FAILED", 10, 100)
    await write("RUNNING", None, 100)
    await write("RUNNING", None, 250)
    await write("FAILED", 30, 250)
    await write("SUCCESS", 100, 300)
    last = scrapes[-1]
    assert last.of("sluiceway_records_processed_total") == {("p",): 300}
    assert last.of("sluiceway_runs_total") == {("p", "FAILED"): 2, ("p", "SUCCESS"): 1}
    assert last.of("sluiceway_run_duration_seconds_count") == {("p",): 3}
    assert last.of("sluiceway_run_duration_seconds_sum") == {("p",): pytest.approx(140)}
    # Who writes the same end again ends nothing.
    await write("SUCCESS", 100, 300)
    assert scrapes[-1].counters == last.counters


async def test_corrections_lower_nothing(database, exporter: Exporter, owner) -> None:
    await fill(owner)
    scrapes = [await exporter.scrape()]
    for correction in (
        "UPDATE metadata.dataset_counts SET read = read - inserted, inserted = 0",
        "UPDATE metadata.quality_results SET checked = 1, failed = 0",
        "SELECT metadata.fold_counts()",
        "UPDATE metadata.health_checks SET status = 'BAD' WHERE status = 'GOOD'",
        "SELECT metadata.set_maintenance(NULL, NULL, now() - interval '1 day', now(), 'x', 'y')",
        "UPDATE metadata.maintenance_windows SET ends_at = starts_at + interval '1 hour'",
        "UPDATE metadata.mail_outbox SET sent_at = NULL",
        "UPDATE metadata.rollup_executions SET executions = 0",
    ):
        await owner.execute(correction)
        scrapes.append(await exporter.scrape())
        assert fell(scrapes[-2], scrapes[-1]) == {}, correction
    await rebuild_rollups(database.owner_url)
    assert fell(scrapes[-1], await exporter.scrape()) == {}


async def test_a_rebuilding_loses_nothing_that_is_pending(database, exporter, owner) -> None:
    await fill(owner)
    before = await exporter.scrape()
    await rebuild_rollups(database.owner_url)
    assert await owner.fetchval("SELECT count(*) FROM metadata.counts_pending") == 0
    assert (await exporter.scrape()).counters == before.counters


async def test_rows_that_came_behind_the_triggers_are_counted_when_asked(
    exporter: Exporter, database, owner
) -> None:
    await fill(owner)
    before = await exporter.scrape()
    await owner.execute("SELECT metadata.fold_counts()")
    # Half of the batches were told, the others wait to be.
    await fill(owner)
    right = await exporter.scrape()
    for share in ("total = 0", "total = floor(total / 2)", "last_at = NULL"):
        await owner.execute(f"UPDATE metadata.metric_totals SET {share}")  # noqa: S608 - constants
        assert (await exporter.scrape()).counters != before.counters
        await rebuild_rollups(database.owner_url)
        assert await owner.fetchval("SELECT metadata.raise_metric_totals()") == 0
        now = await exporter.scrape()
        assert now.counters == {key: pytest.approx(each) for key, each in right.counters.items()}
        last = "sluiceway_last_success_timestamp_seconds"
        assert now.of(last) == right.of(last) != {}


async def test_who_counts_waits_for_nobody(database: Database, loader) -> None:
    impatient = await asyncpg.connect(
        database.loader_url, server_settings={"lock_timeout": "100ms"}
    )
    add = """
        INSERT INTO metadata.stream_batches
            (consumer_group, topic, partitions, messages, loaded, dead, skipped, flush_seconds)
        VALUES ('g', 't', '{0}', 5, 5, 0, 0, 0.1);
        INSERT INTO metadata.janitor_acts (act, reason) VALUES ('marked dead', 'r');
        INSERT INTO metadata.alert_events (kind, problem, severity, summary)
        VALUES ('health', 'component:x', 'error', 's');
        INSERT INTO metadata.mail_outbox (problem, subject, body_text, body_html)
        VALUES ('p', 's', 't', 'h');
        UPDATE metadata.mail_outbox SET sent_at = now()
        WHERE id = (SELECT max(id) FROM metadata.mail_outbox);
        INSERT INTO metadata.pipeline_executions (pipeline_name, status, end_time)
        VALUES ('one', 'SUCCESS', now());
    """
    try:
        async with loader.transaction():
            await loader.execute(add)
            # Ends of one pipeline's runs wait for each other at its rollup of the day.
            await impatient.execute(add.replace("'one'", "'another'"))
            # Nor does who folds, or who is folded for.
            await impatient.execute("SELECT metadata.fold_counts()")
    finally:
        await impatient.close()


async def test_counting_folding_and_scraping_at_once_loses_and_doubles_nothing(
    database: Database, exporter: Exporter
) -> None:
    done = asyncio.Event()
    seen = [await exporter.scrape()]
    expected = 0

    async def write(seed: int) -> None:
        nonlocal expected
        chance = random.Random(seed)  # noqa: S311 - it draws what is tried
        connection = await asyncpg.connect(database.loader_url)
        turns = 0
        # For as long as it takes until it was scraped in between.
        while turns < 40 or len(seen) < 4:
            turns += 1
            transaction = connection.transaction()
            await transaction.start()
            messages = chance.randint(1, 9)
            await connection.execute(
                "INSERT INTO metadata.stream_batches (consumer_group, topic, partitions, messages,"
                " loaded, dead, skipped, flush_seconds)"
                " VALUES ($1, 't', '{0}', $2, $2, 0, 0, 0.1)",
                chance.choice("abc"),
                messages,
            )
            if chance.random() < 0.2:
                await transaction.rollback()
            else:
                await transaction.commit()
                expected += messages
        await connection.close()

    async def fold() -> None:
        connection = await asyncpg.connect(database.loader_url)
        while not done.is_set():
            await connection.execute("SELECT metadata.fold_counts()")
        await connection.close()

    async def scrape() -> None:
        while not done.is_set():
            seen.append(await exporter.scrape())
            assert fell(seen[-2], seen[-1]) == {}

    async with asyncio.TaskGroup() as group:
        folding = group.create_task(fold())
        group.create_task(scrape())
        await asyncio.gather(*(write(seed) for seed in range(3)))
        done.set()
    assert folding.done()
    said = (await exporter.scrape()).of("sluiceway_stream_messages_total")
    assert sum(said.values()) == expected > 0
