"""Loads that looked odd, on the quality page, the overview and the page of their run."""

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest

from dash_app.pages import overview, quality, run_results
from dash_app.pages.anomaly_table import show_figure
from dash_app.queries import anomalies as ask
from dash_app.view import View

NOW = dt.datetime(2026, 3, 10, 12, 0, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def noon(view) -> View:
    """The viewer, at a known moment."""
    return replace(view, now=NOW)


async def find_odd(loader, summary: str, **given: Any) -> None:
    values = {
        "dataset": "sales_data",
        "feed": "sales_data.csv",
        "column_name": None,
        "rule": "volume",
        "severity": "error",
        "observed": 1200.0,
        "expected": 2400.0,
        "low": 2100.0,
        "high": 2700.0,
        "execution_id": 7,
        "batch_id": 1,
        "was_refused": False,
        "detected_at": NOW - HOUR,
        "summary": summary,
    } | given
    names = ", ".join(values)
    places = ", ".join(f"${place}" for place in range(1, len(values) + 1))
    await loader.execute(
        f"INSERT INTO metadata.anomalies ({names}) VALUES ({places})",  # noqa: S608 - the test's own names
        *values.values(),
    )


async def test_each_anomaly_stands_with_what_was_found_and_expected(noon, loader, read) -> None:
    await find_odd(loader, "half of the rows came")
    said = read(await quality.draw_anomalies(noon, None, "30d"))
    assert "✕ error" in said
    assert "half of the rows came" in said
    assert "1,200 2,400 2,100 to 2,700" in said
    assert "✓ merged" in said
    assert "/runs/7" in said
    assert "/quality?dataset=sales_data" in said
    assert "2026-03-10 11:00:00 UTC" in said


async def test_a_refused_load_and_a_warning_are_told_by_sign_and_word(noon, loader, read) -> None:
    await find_odd(
        loader,
        "many cities are missing",
        rule="null_rate",
        column_name="city",
        severity="warning",
        observed=0.0004,
        expected=None,
        low=None,
        high=0.25,
        was_refused=True,
    )
    said = read(await quality.draw_anomalies(noon, "sales_data", "7d"))
    assert "! warning" in said
    assert "city missing cells < 0.1 % - 25.0 % or less ✕ refused /runs/7" in said


async def test_a_feed_that_is_silent_has_no_load(noon, loader, read) -> None:
    silence = {"rule": "freshness", "execution_id": None, "batch_id": None, "observed": 97_200.0}
    await find_odd(loader, "27 hours without news", **silence)
    await find_odd(loader, "a feed is late", severity="warning", **silence)
    said = read(await quality.draw_anomalies(noon, None, "7d"))
    assert "1 d 3 h" in said
    assert "merged" not in said
    assert "/runs/" not in said
    # Whether the dataset is stale now, another line of the overview tells.
    said = read(await overview.draw_problems(noon))
    assert "without news" not in said
    assert "1 warning about loads" in said


async def test_dataset_and_time_choose_and_the_newest_stand_first(noon, loader, read) -> None:
    await find_odd(loader, "first", detected_at=NOW - 2 * DAY)
    await find_odd(loader, "second", dataset="customers")
    await find_odd(loader, "long ago", detected_at=NOW - 20 * DAY)
    said = read(await quality.draw_anomalies(noon, None, "7d"))
    assert said.index("second") < said.index("first")
    assert "long ago" not in said
    assert "long ago" in read(await quality.draw_anomalies(noon, None, "30d"))
    said = read(await quality.draw_anomalies(noon, "customers", "30d"))
    assert "second" in said
    assert "first" not in said


async def test_without_anomalies_it_is_said_why(noon, read) -> None:
    said = read(await quality.draw_anomalies(noon, "nobody's\0", "7d"))
    assert "No load looked odd in this time." in said


async def test_of_very_many_the_newest_are_listed(noon, loader, read) -> None:
    for number in range(ask.SHOWN + 1):
        await find_odd(loader, f"odd {number:03}", detected_at=NOW - number * HOUR / 100)
    said = read(await quality.draw_anomalies(noon, None, "7d"))
    assert f"odd {ask.SHOWN - 1:03}" in said
    assert f"odd {ask.SHOWN:03}" not in said


@pytest.mark.parametrize(
    ("rule", "figure", "text"),
    [
        ("volume", 1234.0, "1,234"),
        ("freshness", 7500.0, "2 h 05 min"),
        ("null_rate", 0.125, "12.5 %"),
        ("duplicate_rate", 0.0, "0.0 %"),
        ("a rule of tomorrow", 0.5, "50.0 %"),
        ("volume", None, "-"),
    ],
)
def test_a_figure_is_in_its_rules_unit(rule, figure, text) -> None:
    assert show_figure(rule, figure) == text


async def test_errors_of_the_last_day_are_problems_a_line_a_load(noon, loader, read) -> None:
    await find_odd(loader, "half of the rows came")
    await find_odd(loader, "cities are missing", rule="null_rate", column_name="city")
    await find_odd(loader, "yesterday's", detected_at=NOW - 25 * HOUR)
    await find_odd(loader, "another load", batch_id=2, was_refused=True)
    said = read(await overview.draw_problems(noon))
    assert "(and 1 more)" in said
    assert "✕ error" in said
    assert "✕ refused /quality?dataset=sales_data another load" in said
    assert "yesterday's" not in said
    assert "warning" not in said


async def test_warnings_are_counted_by_load_where_no_error_says_more(noon, loader, read) -> None:
    for batch in (1, 1, 2, 3):
        await find_odd(loader, "a bit", severity="warning", batch_id=batch)
    await find_odd(loader, "very odd", batch_id=3)
    said = read(await overview.draw_problems(noon))
    assert "! warning" in said
    assert "2 warnings about loads of the last day" in said
    assert "a bit" not in said
    assert "Nothing is wrong" not in said


async def test_very_many_odd_loads_leave_room_for_other_problems(noon, loader, read) -> None:
    for batch in range(9):
        await find_odd(loader, f"load {batch} is odd", batch_id=batch)
    said = read(await overview.draw_problems(noon))
    assert said.count("is odd") == 5
    assert "4 more odd loads of the last day" in said


async def refuse(
    loader, path: str, *, at: dt.datetime, status="REFUSED", dataset="sales_data"
) -> int:
    run: int = await loader.fetchval(
        "INSERT INTO metadata.pipeline_executions (pipeline_name) VALUES ('daily') RETURNING id"
    )
    await loader.execute(
        """
        INSERT INTO metadata.source_files
            (execution_id, load_id, dataset, path, status, contracted, message, recorded_at)
        VALUES ($1, gen_random_uuid(), $2, $3, $4, true, 'column quantity is missing', $5)
        """,
        run,
        dataset,
        path,
        status,
        at,
    )
    return run


async def test_a_refused_source_is_a_problem_until_it_is_looked_at_again(
    noon, loader, read
) -> None:
    run = await refuse(loader, "/in/sales_1.csv", at=NOW - 2 * HOUR)
    await refuse(loader, "/in/sales_2.csv", at=NOW - 30 * HOUR)
    await refuse(loader, "/in/other.csv", at=NOW - HOUR, dataset="a_file_of_nobody")
    said = read(await overview.draw_problems(noon))
    assert "sales_1.csv was refused: column quantity is missing" in said
    assert f"/runs/{run}" in said
    assert "sales_2" not in said
    assert "other.csv was refused" in said
    await refuse(loader, "/in/sales_1.csv", at=NOW - HOUR, status="LOADED")
    assert "sales_1" not in read(await overview.draw_problems(noon))


async def test_a_load_refused_for_being_odd_is_one_problem(noon, loader, read) -> None:
    run = await refuse(loader, "/in/sales.csv", at=NOW - HOUR)
    await find_odd(loader, "half of the rows came", execution_id=run, was_refused=True)
    said = read(await overview.draw_problems(noon))
    assert said.count("✕ refused") == 1
    assert "half of the rows came" in said


async def test_a_run_shows_the_anomalies_of_its_own_loads(noon, loader, read) -> None:
    await find_odd(loader, "half of the rows came", execution_id=12)
    await find_odd(loader, "of another run", execution_id=13)
    said = read(await run_results.draw_quality(noon, 12))
    assert "half of the rows came" in said
    assert "of another run" not in said
    assert "No rule was checked." not in said


async def test_what_others_wrote_is_text(noon, loader, read) -> None:
    await find_odd(
        loader, HOSTILE, dataset=HOSTILE, feed=HOSTILE, column_name=HOSTILE, rule=HOSTILE
    )
    for drawn in (
        await quality.draw_anomalies(noon, None, "7d"),
        await overview.draw_problems(noon),
        await run_results.draw_quality(noon, 7),
    ):
        assert HOSTILE in read(drawn)
