"""Metrics say what the tables say, in the formats that Prometheus reads."""

import asyncio
import datetime as dt
import shutil
from collections.abc import AsyncIterator

import asyncpg
import pytest

from infra.exporter.sheet import LONGEST_LABEL, MOST_VALUES, OTHER
from infra.uptime import begin_of, find_uptime
from schemas.datasets import DATASETS
from tests.conftest import Database, skip_or_fail
from tests.exporter_scrapes import OPEN_METRICS, Exporter, fill, now, served

FAMILIES = {
    "sluiceway_runs": "counter",
    "sluiceway_run_duration_seconds": "histogram",
    "sluiceway_records_processed": "counter",
    "sluiceway_last_success_timestamp_seconds": "gauge",
    "sluiceway_last_failure_timestamp_seconds": "gauge",
    "sluiceway_runs_running": "gauge",
    "sluiceway_oldest_run_age_seconds": "gauge",
    "sluiceway_rows_read": "counter",
    "sluiceway_rows_loaded": "counter",
    "sluiceway_rows_superseded": "counter",
    "sluiceway_rows_duplicate": "counter",
    "sluiceway_rows_quarantined": "counter",
    "sluiceway_dataset_last_load_timestamp_seconds": "gauge",
    "sluiceway_dataset_freshness_limit_seconds": "gauge",
    "sluiceway_consumer_lag_messages": "gauge",
    "sluiceway_consumer_lag_seconds": "gauge",
    "sluiceway_consumer_lag_measured_timestamp_seconds": "gauge",
    "sluiceway_stream_messages": "counter",
    "sluiceway_stream_batches": "counter",
    "sluiceway_stream_last_commit_timestamp_seconds": "gauge",
    "sluiceway_dead_letters": "counter",
    "sluiceway_dead_letters_open": "gauge",
    "sluiceway_quality_checked": "counter",
    "sluiceway_quality_failed": "counter",
    "sluiceway_anomalies": "counter",
    "sluiceway_component_up": "gauge",
    "sluiceway_component_checked_timestamp_seconds": "gauge",
    "sluiceway_component_latency_seconds": "gauge",
    "sluiceway_component_minutes": "counter",
    "sluiceway_uptime_ratio": "gauge",
    "sluiceway_uptime_target_ratio": "gauge",
    "sluiceway_in_maintenance": "gauge",
    "sluiceway_alert_events": "counter",
    "sluiceway_mails_waiting": "gauge",
    "sluiceway_mails": "counter",
    "sluiceway_janitor_acts": "counter",
    "sluiceway_database_connections": "gauge",
    "sluiceway_database_connection_limit": "gauge",
    "sluiceway_database_size_bytes": "gauge",
    "sluiceway_database_up": "gauge",
    "sluiceway_exporter_query_seconds": "gauge",
    "sluiceway_exporter_group_up": "gauge",
    "sluiceway_exporter_dropped_series": "gauge",
}

# Each asks the tables themselves, not what the exporter reads.
COUNTED = {
    "sluiceway_runs_total": """
        SELECT pipeline_name, status, count(*) FROM metadata.pipeline_executions
        WHERE status <> 'RUNNING' GROUP BY 1, 2""",
    "sluiceway_run_duration_seconds_count": """
        SELECT pipeline_name, count(*) FROM metadata.pipeline_executions
        WHERE status <> 'RUNNING' GROUP BY 1""",
    "sluiceway_run_duration_seconds_sum": """
        SELECT pipeline_name, sum(extract(epoch FROM end_time - start_time))::float8
        FROM metadata.pipeline_executions WHERE status <> 'RUNNING' GROUP BY 1""",
    "sluiceway_records_processed_total": """
        SELECT pipeline_name, sum(records_processed) FROM metadata.pipeline_executions
        GROUP BY 1""",
    "sluiceway_last_success_timestamp_seconds": """
        SELECT pipeline_name, extract(epoch FROM max(end_time))::float8
        FROM metadata.pipeline_executions WHERE status = 'SUCCESS' GROUP BY 1""",
    "sluiceway_last_failure_timestamp_seconds": """
        SELECT pipeline_name, extract(epoch FROM max(end_time))::float8
        FROM metadata.pipeline_executions WHERE status = 'FAILED' GROUP BY 1""",
    "sluiceway_runs_running": """
        SELECT pipeline_name, count(*) FROM metadata.pipeline_executions
        WHERE status = 'RUNNING' GROUP BY 1""",
    "sluiceway_rows_read_total": """
        SELECT dataset, sum(read) FROM metadata.dataset_counts GROUP BY 1""",
    "sluiceway_rows_loaded_total": """
        SELECT dataset, sum(inserted + updated + unchanged) FROM metadata.dataset_counts
        GROUP BY 1""",
    "sluiceway_rows_superseded_total": """
        SELECT dataset, sum(superseded) FROM metadata.dataset_counts GROUP BY 1""",
    "sluiceway_rows_duplicate_total": """
        SELECT dataset, sum(duplicates) FROM metadata.dataset_counts GROUP BY 1""",
    "sluiceway_rows_quarantined_total": """
        SELECT dataset, sum(quarantined) FROM metadata.dataset_counts GROUP BY 1""",
    "sluiceway_dataset_last_load_timestamp_seconds": """
        SELECT dataset, extract(epoch FROM max(recorded_at))::float8
        FROM metadata.dataset_counts WHERE dataset = 'sales_data' GROUP BY 1""",
    "sluiceway_stream_messages_total": """
        SELECT consumer_group, topic, sum(messages) FROM metadata.stream_batches GROUP BY 1, 2""",
    "sluiceway_stream_batches_total": """
        SELECT consumer_group, topic, count(*) FROM metadata.stream_batches GROUP BY 1, 2""",
    "sluiceway_stream_last_commit_timestamp_seconds": """
        SELECT consumer_group, topic, extract(epoch FROM max(committed_at))::float8
        FROM metadata.stream_batches GROUP BY 1, 2""",
    "sluiceway_dead_letters_total": """
        SELECT reason, count(*) FROM metadata.dead_letters GROUP BY 1""",
    "sluiceway_dead_letters_open": """
        SELECT count(*) FROM metadata.dead_letters WHERE coalesce(outcome, '') <> 'loaded'""",
    "sluiceway_quality_checked_total": """
        SELECT dataset, rule, sum(checked) FROM metadata.quality_results GROUP BY 1, 2""",
    "sluiceway_quality_failed_total": """
        SELECT dataset, rule, sum(failed) FROM metadata.quality_results GROUP BY 1, 2""",
    "sluiceway_anomalies_total": """
        SELECT dataset, rule, severity, count(*) FROM metadata.anomalies GROUP BY 1, 2, 3""",
    "sluiceway_component_checked_timestamp_seconds": """
        SELECT component, extract(epoch FROM max(checked_at))::float8
        FROM metadata.health_checks GROUP BY 1""",
    "sluiceway_alert_events_total": """
        SELECT kind, severity, count(*) FROM metadata.alert_events GROUP BY 1, 2""",
    "sluiceway_mails_total": """
        SELECT CASE WHEN sent_at IS NULL THEN 'abandoned' ELSE 'sent' END, count(*)
        FROM metadata.mail_outbox WHERE coalesce(sent_at, abandoned_at) IS NOT NULL GROUP BY 1""",
    "sluiceway_mails_waiting": """
        SELECT count(*) FROM metadata.mail_outbox WHERE coalesce(sent_at, abandoned_at) IS NULL""",
    "sluiceway_janitor_acts_total": """
        SELECT act, count(*) FROM metadata.janitor_acts GROUP BY 1""",
}


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.owner_url)
    yield connection
    await connection.close()


@pytest.fixture
async def exporter(database: Database) -> AsyncIterator[Exporter]:
    async with served(database.monitor_url) as client:
        yield client


async def test_every_figure_is_what_the_tables_say(exporter: Exporter, owner) -> None:
    await fill(owner)
    for fold in (False, True):
        if fold:
            await owner.execute("SELECT metadata.fold_counts()")
            assert await owner.fetchval("SELECT count(*) FROM metadata.metric_changes") == 0
        scrape = await exporter.scrape()
        for name, query in COUNTED.items():
            rows = await owner.fetch(query)
            said = {key: value for key, value in scrape.of(name).items() if value}
            expected = {tuple(row)[:-1]: pytest.approx(float(row[-1]), abs=1e-3) for row in rows}
            assert expected, name
            assert said == expected, name


async def test_every_family_is_there_with_its_type_and_a_help_text(
    exporter: Exporter, owner
) -> None:
    await fill(owner)
    for accept in ("", OPEN_METRICS):
        scrape = await exporter.scrape(accept=accept)
        assert ("openmetrics" in scrape.content_type) == bool(accept)
        ours = {name: each for name, each in scrape.families.items() if "sluiceway" in name}
        assert {name: each.type for name, each in ours.items()} == FAMILIES
        assert [name for name, each in ours.items() if not each.documentation.endswith(".")] == []
        assert [name for name, each in ours.items() if not each.samples] == []
        assert scrape.value("process_resident_memory_bytes") > 0
        assert set(scrape.of("sluiceway_exporter_group_up").values()) == {1.0}


async def test_what_is_known_is_shown_before_it_happens(exporter: Exporter, owner) -> None:
    await owner.execute("INSERT INTO metadata.pipeline_executions (pipeline_name) VALUES ('p')")
    scrape = await exporter.scrape()
    assert scrape.of("sluiceway_runs_total") == {("p", "SUCCESS"): 0, ("p", "FAILED"): 0}
    assert scrape.of("sluiceway_runs_running") == {("p",): 1}
    assert scrape.of("sluiceway_run_duration_seconds_count") == {("p",): 0}
    tables = {(each.spec.table,) for each in DATASETS}
    assert scrape.of("sluiceway_rows_quarantined_total") == dict.fromkeys(tables, 0)
    assert scrape.of("sluiceway_mails_total") == {("sent",): 0, ("abandoned",): 0}
    anomalies = scrape.of("sluiceway_anomalies_total")
    assert anomalies["sales_data", "volume", "error"] == sum(anomalies.values()) == 0
    promised = {
        (each.spec.table,): each.spec.freshness.total_seconds()
        for each in DATASETS
        if each.spec.freshness
    }
    assert scrape.of("sluiceway_dataset_freshness_limit_seconds") == promised


async def test_durations_fall_into_the_buckets_they_belong_to(exporter: Exporter, owner) -> None:
    seconds = [0.001, 0.1, 0.13, 0.9, 1.0, 1.9, 60, 63.9, 64.1, 5000, 10**7]
    await owner.execute(
        """
        INSERT INTO metadata.pipeline_executions (pipeline_name, status, start_time, end_time)
        SELECT 'p', 'SUCCESS', '2026-01-01', '2026-01-01'::timestamptz + make_interval(secs => s)
        FROM unnest($1::float8[]) AS s
        """,
        seconds,
    )
    scrape = await exporter.scrape()
    buckets = scrape.of("sluiceway_run_duration_seconds_bucket")
    bounds = {float(bound) for bound, _ in buckets}
    assert bounds == {*(2.0**power for power in range(-3, 18)), float("inf")}
    for (bound, _), count in buckets.items():
        # One second exactly is in the rollup's bucket above: its buckets begin with their bound.
        below = sum(each < float(bound) for each in seconds)
        assert count == below, bound


async def test_runs_under_way_have_an_age(exporter: Exporter, owner) -> None:
    await fill(owner)
    ages = (await exporter.scrape()).of("sluiceway_oldest_run_age_seconds")
    assert ages == {("p1",): pytest.approx(5 * 3600, abs=60), ("p0",): 0}


async def test_the_newest_lag_of_each_partition_is_shown(exporter: Exporter, owner) -> None:
    await fill(owner)
    # Of partition 2 nothing was measured; what was measured a week ago is of the past.
    await owner.execute(
        "INSERT INTO metadata.stream_lag VALUES ('g0', 't', 2, now() - interval '8 days', 9, 9)"
    )
    scrape = await exporter.scrape()
    assert scrape.of("sluiceway_consumer_lag_messages") == {
        ("g0", "0", "t"): 98, ("g0", "1", "t"): 99,
    }  # fmt: skip
    assert scrape.of("sluiceway_consumer_lag_seconds") == {
        ("g0", "0", "t"): 8, ("g0", "1", "t"): 9,
    }  # fmt: skip
    newest = await owner.fetchval("SELECT max(measured_at) FROM metadata.stream_lag")
    assert scrape.of("sluiceway_consumer_lag_measured_timestamp_seconds") == {
        ("g0", "t"): pytest.approx(newest.timestamp(), abs=1e-3)
    }


async def test_a_component_is_up_down_or_unknown(exporter: Exporter, owner) -> None:
    await fill(owner)
    await owner.execute(
        "SELECT metadata.set_maintenance(NULL, 'disk', now() - interval '1 minute',"
        " now() + interval '1 hour', 'a release', 'otto')"
    )
    scrape = await exporter.scrape()
    assert scrape.of("sluiceway_component_up") == {("kafka",): 0, ("postgres",): 1}
    assert scrape.of("sluiceway_component_latency_seconds") == {("postgres",): 0.5, ("cpu",): 0.1}
    assert scrape.of("sluiceway_in_maintenance") == {
        ("disk",): 1, ("kafka",): 0, ("postgres",): 0, ("cpu",): 0,
    }  # fmt: skip


async def test_uptime_is_that_of_the_report(exporter: Exporter, owner) -> None:
    await fill(owner)

    async def report() -> dict[tuple[str, ...], float]:
        at = now()
        return {
            (each.component, unit): each.share
            for unit in ("month", "quarter")
            for each in await find_uptime(owner, unit, begin=begin_of(at, unit), end=at, now=at)
            if each.share is not None
        }

    before = await report()
    said = (await exporter.scrape()).of("sluiceway_uptime_ratio")
    after = await report()
    # A minute may have begun in between.
    assert said.keys() == before.keys()
    assert {unit for _, unit in said} == {"month", "quarter"}
    assert [key for key in said if said[key] not in {before[key], after[key]}] == []
    assert said["kafka", "quarter"] < said["postgres", "quarter"]


async def test_the_database_has_a_size(exporter: Exporter, owner) -> None:
    size = await owner.fetchval("SELECT pg_database_size(current_database())")
    said = (await exporter.scrape()).value("sluiceway_database_size_bytes")
    assert said == pytest.approx(size, rel=0.5)


async def test_minutes_that_nobody_checked_are_unknown_once_checks_come_again(
    exporter: Exporter, owner
) -> None:
    add = "INSERT INTO metadata.health_checks (checked_at, component, status) VALUES ($1, $2, $3)"
    hour = dt.datetime(2026, 3, 2, 8, tzinfo=dt.UTC)
    minute = dt.timedelta(minutes=1)
    # From 8:10 on, each minute up to 8:19; then from 10:05 on.
    found = {18: "BAD", 19: "UNKNOWN"}
    checks = [(hour + n * minute, "kafka", found.get(n, "GOOD")) for n in range(10, 20)]
    await owner.executemany(add, checks)
    states = "sluiceway_component_minutes_total"
    assert (await exporter.scrape()).of(states)["kafka", "unknown"] == 1
    await owner.execute(add, hour + 125 * minute, "kafka", "BAD")
    await owner.execute(add, hour + 126 * minute, "kafka", "UNKNOWN")
    assert (await exporter.scrape()).of(states) == {
        ("kafka", "good"): 8,
        ("kafka", "bad"): 2,
        # 41 of the first hour, 60 of the second; of the third only what was checked, so far.
        ("kafka", "unknown"): 102,
        ("kafka", "maintenance"): 0,
    }


async def test_promtool_has_nothing_to_say_against_it(exporter: Exporter, owner) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        skip_or_fail("promtool is not installed: run `make system-packages`")
    await fill(owner)
    text = (await exporter.scrape()).text
    process = await asyncio.create_subprocess_exec(
        promtool,
        *("check", "metrics"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate(text.encode())
    # Uptime is counted by the minute; the count is of minutes, and no duration.
    known = 'sluiceway_component_minutes_total use base unit "seconds" instead of "minutes"'
    assert said.decode().splitlines() == [known]


async def test_however_many_labels_there_are_a_family_stays_small(exporter, owner) -> None:
    hostile = 'a "quoted" \\ one\nof two lines é 中'
    await owner.execute(
        """
        INSERT INTO metadata.dead_letters
            (consumer_group, topic, partition, message_offset, reason, detail)
        SELECT 'g', 't', 0, 0, $1, '' UNION ALL
        SELECT 'g', 't', 0, 1, repeat('x', 5000), ''
        """,
        hostile,
    )
    await owner.execute("SELECT metadata.fold_counts()")
    first = await exporter.scrape()
    assert first.of("sluiceway_dead_letters_total")[(hostile,)] == 1
    await owner.execute(
        """
        INSERT INTO metadata.dead_letters
            (consumer_group, topic, partition, message_offset, reason, detail)
        SELECT 'g', 't', 0, 1 + n, 'reason ' || n, '' FROM generate_series(1, 500) AS n
        """
    )
    for _ in range(2):
        scrape = await exporter.scrape()
        letters = scrape.of("sluiceway_dead_letters_total")
        assert len(letters) == MOST_VALUES + 1
        assert sum(letters.values()) == 502
        assert letters[(OTHER,)] == 302
        # Who came first is shown for himself, and the others stay where they are.
        assert first.of("sluiceway_dead_letters_total").items() <= letters.items()
        assert max(len(reason) for (reason,) in letters) == LONGEST_LABEL
        assert scrape.value("sluiceway_exporter_dropped_series") == 302
        await owner.execute("SELECT metadata.fold_counts()")


async def test_nothing_of_anybodys_data_is_in_it(exporter: Exporter, owner) -> None:
    await fill(owner)
    await owner.execute(
        "UPDATE metadata.pipeline_executions SET error_message = 'a secret',"
        " error_traceback = 'a secret'"
    )
    assert "secret" not in (await exporter.scrape()).text


async def test_the_other_pages_answer(exporter: Exporter) -> None:
    for path, expected in (("/", "Sluiceway exporter"), ("/healthz", "ok")):
        async with exporter.session.get(exporter.address + path) as response:
            assert response.status == 200
            assert expected in await response.text()
