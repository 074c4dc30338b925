"""The overview: what is wrong stands on top, and the figures are those of the rows."""

import datetime as dt
from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest

from dash_app.pages import overview as page
from dash_app.queries import overview as ask
from dash_app.reader import AwayError
from dash_app.view import View

NOW = dt.datetime(2026, 3, 10, 12, 0, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)


@pytest.fixture
def noon(view) -> View:
    """The viewer, at a known moment."""
    return replace(view, now=NOW)


async def run(loader, name="daily", *, ago=HOUR, seconds=10.0, status="SUCCESS", error=None) -> int:
    start = NOW - ago
    end = None if status == "RUNNING" else start + dt.timedelta(seconds=seconds)
    return await loader.fetchval(
        """
        INSERT INTO metadata.pipeline_executions
            (pipeline_name, status, start_time, end_time, error_message, records_processed)
        VALUES ($1, $2, $3, $4, $5, 7) RETURNING id
        """,
        name,
        status,
        start,
        end,
        error,
    )


async def count(loader, execution, dataset="customers", *, at=NOW - HOUR, loaded=9, bad=1) -> None:
    batch = await loader.fetchval(
        """
        INSERT INTO metadata.source_files
            (execution_id, load_id, dataset, path, status, contracted, recorded_at)
        VALUES ($1, gen_random_uuid(), $2, $2 || '.csv', 'LOADED', true, $3) RETURNING id
        """,
        execution,
        dataset,
        at,
    )
    await loader.execute(
        """
        INSERT INTO metadata.dataset_counts
            (execution_id, batch_id, dataset, source, read, inserted, updated, unchanged,
             superseded, duplicates, quarantined, recorded_at)
        VALUES ($1, $2, $3, $3 || '.csv', $4::bigint + $5, $4, 0, 0, 0, 0, $5, $6)
        """,
        execution,
        batch,
        dataset,
        loaded,
        bad,
        at,
    )


async def lag(loader, seconds: float, *, partition=0, at=NOW) -> None:
    await loader.execute(
        "INSERT INTO metadata.stream_offsets (consumer_group, topic, partition, next_offset)"
        " VALUES ('g', 'data-stream', $1, 5) ON CONFLICT DO NOTHING",
        partition,
    )
    await loader.execute(
        "INSERT INTO metadata.stream_lag VALUES ('g', 'data-stream', $1, $2, 42, $3)",
        partition,
        at,
        seconds,
    )


async def test_an_empty_platform_has_no_problem_and_says_what_to_do(noon, read) -> None:
    assert "Nothing is wrong that is known of" in read(await page.draw_problems(noon))
    assert "prefect deployment run" in read(await page.draw_runs(noon, "24h")).replace("<br>", " ")
    assert "prefect deployment run" in read(await page.draw_runs(noon, "1y")).replace("<br>", " ")
    assert "No run began" in read(await page.draw_timeline(noon)).replace("<br>", " ")
    assert "never loaded" in read(await page.draw_freshness(noon))
    assert "no consumer has reported" in read(await page.draw_now(noon))


async def test_a_pipeline_whose_newest_run_failed_is_an_open_problem(noon, loader, read) -> None:
    await run(loader, "mended", ago=2 * HOUR, status="FAILED", error="it broke")
    await run(loader, "mended", ago=HOUR)
    failed = await run(loader, "broken", ago=2 * HOUR, status="FAILED", error="<b>no</b> disk")
    await run(loader, "broken", ago=HOUR, status="RUNNING")
    said = read(await page.draw_problems(noon))
    assert "broken failed: <b>no</b> disk" in said
    assert f"/runs/{failed}" in said
    assert "mended" not in said


async def test_success_rate_and_durations_are_those_of_the_ended_runs(noon, loader) -> None:
    for seconds in range(1, 101):
        await run(loader, seconds=seconds, status="FAILED" if seconds > 90 else "SUCCESS")
    await run(loader, status="RUNNING")
    await run(loader, ago=30 * HOUR, seconds=5000)
    found = await ask.summarise_recent(noon.reader, NOW - DAY)
    assert (found.ended, found.succeeded) == (100, 90)
    assert found.average_seconds == pytest.approx(50.5)
    assert found.p95_seconds == pytest.approx(95.05)


async def test_a_year_is_read_from_rollups_and_agrees_with_its_runs(noon, loader) -> None:
    for seconds in range(1, 101):
        ago = dt.timedelta(days=3 * seconds)
        await run(loader, ago=ago, seconds=seconds, status="FAILED" if seconds > 90 else "SUCCESS")
    await run(loader, ago=400 * DAY, seconds=5000)
    found = await ask.summarise_days(noon.reader, (NOW - 364 * DAY).date())
    assert (found.ended, found.succeeded) == (100, 90)
    assert found.average_seconds == pytest.approx(50.5)
    assert found.p95_seconds == pytest.approx(95, rel=0.05)


async def test_a_year_without_runs_has_no_rate(noon, read) -> None:
    found = await ask.summarise_days(noon.reader, (NOW - 364 * DAY).date())
    assert found == ask.Summary(0, 0, None, None)
    assert "0 runs" in read(await page.draw_rates(noon, "1y"))


async def test_one_failure_in_thousands_is_not_shown_as_all_well(noon, loader, read) -> None:
    await loader.execute(
        """
        INSERT INTO metadata.pipeline_executions (pipeline_name, status, start_time, end_time)
        SELECT 'daily', CASE WHEN n = 1 THEN 'FAILED' ELSE 'SUCCESS' END, $1, $1
        FROM generate_series(1, 5000) AS n
        """,
        NOW - HOUR,
    )
    said = read(await page.draw_rates(noon, "24h"))
    assert "99.9 %" in said
    assert "1 failed" in said
    assert "/runs?status=FAILED" in said


async def test_today_begins_at_the_viewers_midnight(noon, loader, read) -> None:
    await run(loader, ago=16 * HOUR)  # 20:00 UTC of the day before
    tokyo = replace(noon, zone=ZoneInfo("Asia/Tokyo"))  # where that was 05:00 of today
    assert "Runs today 1 since" in read(await page.draw_now(tokyo))
    london = replace(noon, zone=ZoneInfo("Europe/London"))
    assert "Runs today 0 since" in read(await page.draw_now(london))


async def test_hours_stand_in_the_viewers_zone(noon, loader) -> None:
    await run(loader, ago=dt.timedelta(minutes=90))  # 10:30 UTC
    figure = await page.draw_runs(noon, "24h")
    assert figure["data"][0]["x"] == ["2026-03-10 15:30:00.000"]  # the hour 10:00 UTC in Kolkata
    assert figure["data"][0]["customdata"] == ["2026-03-10 10:00 UTC"]
    in_utc = await page.draw_runs(replace(noon, zone=ZoneInfo("UTC")), "24h")
    assert "customdata" not in in_utc["data"][0]


async def test_a_stale_dataset_is_a_problem_and_a_fresh_one_is_not(noon, loader, read) -> None:
    execution = await run(loader)
    await count(loader, execution, "customers", at=NOW - 27 * HOUR)
    await count(loader, execution, "products", at=NOW - 25 * HOUR)
    said = read(await page.draw_problems(noon))
    assert "customers is older than it promises to be" in said
    assert "products" not in said
    assert "✕ stale" in read(await page.draw_freshness(noon))


@pytest.mark.parametrize(
    ("path", "is_stale"), [("customers.csv", True), ("https://crm.example/customers", False)]
)
async def test_an_api_that_says_the_same_is_news_and_the_same_file_is_none(
    path, is_stale, noon, loader, read
) -> None:
    execution = await run(loader)
    await count(loader, execution, "customers", at=NOW - 27 * HOUR)
    await loader.execute(
        """
        INSERT INTO metadata.source_files
            (execution_id, load_id, dataset, path, status, contracted, recorded_at)
        VALUES ($1, gen_random_uuid(), 'customers', $3, 'UNCHANGED', true, $2)
        """,
        execution,
        NOW - HOUR,
        path,
    )
    assert ("customers is older" in read(await page.draw_problems(noon))) == is_stale


async def test_a_load_of_refused_rows_alone_keeps_nothing_fresh(noon, loader, read) -> None:
    execution = await run(loader)
    await count(loader, execution, "customers", at=NOW - 27 * HOUR)
    await count(loader, execution, "customers", loaded=0, bad=5)
    await count(loader, execution, "products", loaded=0, bad=5)
    assert "customers is older" in read(await page.draw_problems(noon))
    assert await ask.find_last_loads(noon.reader) == {"customers": NOW - 27 * HOUR}


async def test_how_long_the_stream_ran_is_no_duration(noon, loader) -> None:
    await run(loader, seconds=10)
    await run(loader, ask.ALWAYS_ON, ago=9 * HOUR, seconds=30_000)
    recent = await ask.summarise_recent(noon.reader, NOW - DAY)
    assert (recent.ended, recent.average_seconds, recent.p95_seconds) == (2, 10, 10)
    days = await ask.summarise_days(noon.reader, (NOW - DAY).date())
    assert (days.ended, days.average_seconds) == (2, 10)
    assert days.p95_seconds == pytest.approx(10, rel=0.05)
    [bar] = (await page.draw_durations(noon, "7d"))["data"]
    assert bar["y"] == [10]


async def test_lag_is_the_newest_of_each_partition(noon, loader, read) -> None:
    await lag(loader, 300.0, at=NOW - dt.timedelta(minutes=5))
    await lag(loader, 2.0, at=NOW)
    assert "behind" not in read(await page.draw_problems(noon))
    assert "2.0 s" in read(await page.draw_now(noon))
    await lag(loader, 90.0, partition=1)
    said = read(await page.draw_problems(noon))
    assert "1 min 30 s behind in 1 partition(s) of data-stream" in said
    assert "/stream" in said


async def test_a_lag_that_nobody_measured_lately_says_nothing_about_now(noon, loader, read) -> None:
    await lag(loader, 300.0, at=NOW - 2 * HOUR)
    assert "behind" not in read(await page.draw_problems(noon))
    assert "no consumer has reported" in read(await page.draw_now(noon))


async def test_dead_letters_and_bad_components_are_problems(noon, loader, read) -> None:
    await loader.executemany(
        """
        INSERT INTO metadata.dead_letters
            (consumer_group, topic, partition, message_offset, reason, detail, buried_at,
             outcome)
        VALUES ('g', 't', 0, $1, 'no_json', '', $2, $3)
        """,
        [
            (1, NOW - HOUR, None),
            (2, NOW - HOUR, "loaded"),
            (3, NOW - 2 * DAY, None),
            (4, NOW - HOUR, "failed"),
        ],
    )
    await loader.executemany(
        "INSERT INTO metadata.health_checks (checked_at, component, status, detail)"
        " VALUES ($1, $2, $3, 'disk is full')",
        [
            (NOW - dt.timedelta(minutes=2), "kafka", "BAD"),
            (NOW - dt.timedelta(minutes=1), "kafka", "GOOD"),
            (NOW - dt.timedelta(minutes=1), "postgres", "BAD"),
        ],
    )
    said = read(await page.draw_problems(noon))
    assert "2 dead letters of the last day" in said
    assert "postgres: disk is full" in said
    assert "kafka" not in said


async def test_rows_by_day_come_with_what_is_not_folded_yet(noon, loader) -> None:
    execution = await run(loader)
    await count(loader, execution, loaded=9, bad=1)
    await count(loader, execution, loaded=1, bad=2, at=NOW - 3 * DAY)
    figure = await page.draw_rows(noon, "7d")
    loaded, quarantined = figure["data"]
    assert dict(zip(loaded["x"], loaded["y"], strict=True)) == {"2026-03-07": 1, "2026-03-10": 9}
    assert list(quarantined["y"]) == [2, 1]


async def test_the_timeline_shows_a_run_under_way_until_now(noon, loader) -> None:
    await run(loader, ago=HOUR, status="RUNNING")
    [bar] = (await page.draw_timeline(noon))["data"]
    assert bar["x"] == [3_600_000]
    assert bar["marker"]["pattern"]["shape"] == "/"


async def test_without_a_database_the_question_fails_with_a_sentence(noon, gone) -> None:
    with pytest.raises(AwayError, match=r"database is away\. PostgreSQL at .* cannot be reached"):
        await page.draw_problems(replace(noon, reader=gone))


@pytest.mark.parametrize("given", ["", "1h", "24h'; DROP", "30d"])
def test_any_range_in_the_address_gives_a_page(given, read) -> None:
    assert "Is all well now?" in read(page.lay_out(range=given, other="x"))
