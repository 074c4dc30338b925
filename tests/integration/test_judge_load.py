"""Loads judged by the profiles that PostgreSQL holds, and what is written of it."""

import datetime as dt
import json
from collections.abc import AsyncIterator
from dataclasses import asdict, replace

import pytest

from infra.postgres.connection import Connection, Pool
from schemas.datasets import Sales
from tasks.anomalies import Anomaly, write_anomalies
from tasks.anomaly_rules import COLUMNS_READ, LOADS_READ
from tasks.judge_load import judge_load
from tasks.judge_silence import judge_silence, tell_silence
from tasks.load_history import read_history
from tasks.profile import ColumnProfile, LoadProfile

DAY = dt.timedelta(days=1)
HOUR = dt.timedelta(hours=1)
NOW = dt.datetime(2026, 6, 15, 2, tzinfo=dt.UTC)
"""A Monday."""
PROMISED = Sales.spec
"""26 hours."""
SPEC = replace(Sales.spec, freshness=None)


def profile(rows: int = 50_000, *, feed: str = "sales_*.csv", missing: int = 2_500) -> LoadProfile:
    channel = ColumnProfile("channel", rows, missing, 0, 3, "phone", "web")
    return LoadProfile("sales_data", feed, rows, 0, 0, (channel,))


async def write(
    connection: Connection, profile: LoadProfile, *times: dt.datetime, quarantined: int = 0
) -> None:
    columns = json.dumps({each.column: asdict(each) for each in profile.columns})
    await connection.executemany(
        """
        INSERT INTO metadata.load_profiles
            (execution_id, dataset, feed, read, duplicates, quarantined, columns, profiled_at)
        VALUES (1, $1, $2, $3, 0, $4, $5, $6)
        """,
        [
            (profile.dataset, profile.feed, profile.read, quarantined, columns, each)
            for each in times
        ],
    )


def days(count: int, *, until: dt.datetime = NOW) -> list[dt.datetime]:
    """Return that many days before, without the day itself."""
    return [until - back * DAY for back in range(count, 0, -1)]


@pytest.fixture
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    async with pool.acquire() as lent:
        yield lent


async def test_a_load_is_compared_with_the_earlier_ones_of_its_feed(connection) -> None:
    await write(connection, profile(), *days(42))
    await write(connection, profile(1_000, feed="other_*.csv", missing=50), *days(42))
    assert await judge_load(connection, profile(), SPEC, at=NOW) == []
    [found] = await judge_load(connection, profile(24_800, missing=1_240), SPEC, at=NOW)
    assert found == Anomaly(
        dataset="sales_data",
        feed="sales_*.csv",
        column=None,
        rule="volume",
        severity="error",
        observed=24_800,
        expected=pytest.approx(50_000),
        low=pytest.approx(40_900, rel=0.02),
        high=pytest.approx(61_100, rel=0.02),
        summary="sales_data: 24,800 rows, 50 % below the 50,000 that Mondays usually bring",
    )
    [nulls] = await judge_load(connection, profile(missing=5_000), SPEC, at=NOW)
    assert (nulls.rule, nulls.column) == ("null_rate", "channel")
    assert not {"phone", "web"} & set(nulls.summary.split())
    # Neither what came later nor the first load of a feed is compared with anything.
    assert await judge_load(connection, profile(24_800), SPEC, at=NOW - 60 * DAY) == []
    assert await judge_load(connection, profile(1, feed="new"), SPEC, at=NOW) == []


async def test_what_is_read_is_bounded_and_in_order(connection) -> None:
    times = [NOW - back * HOUR for back in range(LOADS_READ + 50, 0, -1)]
    await write(connection, profile(), *times)
    history = await read_history(connection, "sales_data", "sales_*.csv", before=NOW)
    assert [each.at for each in history] == times[50:]
    assert [bool(each.columns) for each in history].count(True) == COLUMNS_READ
    assert all(each.columns for each in history[-COLUMNS_READ:])


async def test_the_history_is_read_by_its_index(connection) -> None:
    await write(connection, profile(), *(NOW - back * HOUR for back in range(3_000)))
    await write(connection, profile(feed="b"), *(NOW - back * HOUR for back in range(3_000)))
    await connection.execute("SET enable_sort = off")
    plan = await connection.fetch(
        "EXPLAIN SELECT columns FROM metadata.load_profiles"
        " WHERE dataset = 'sales_data' AND feed = 'b' AND profiled_at < now()"
        " ORDER BY profiled_at DESC LIMIT 1000"
    )
    text = "\n".join(row[0] for row in plan)
    assert "load_profiles_dataset_feed_profiled_at_idx" in text
    assert "Sort" not in text


async def test_anomalies_are_rows_and_one_event(connection, execution_id: int) -> None:
    await write(connection, profile(), *days(42))
    found = await judge_load(connection, profile(20_000, missing=2_000), SPEC, at=NOW)
    assert [each.rule for each in found] == ["volume", "null_rate"]
    await write_anomalies(
        connection, found[::-1], execution_id=execution_id, batch_id=7, was_refused=True
    )
    rows = await connection.fetch("SELECT * FROM metadata.anomalies ORDER BY id")
    assert [(row["rule"], row["column_name"], row["severity"]) for row in rows] == [
        ("null_rate", "channel", "warning"),
        ("volume", None, "error"),
    ]
    for row, each in zip(rows, found[::-1], strict=True):
        assert (row["dataset"], row["feed"], row["summary"]) == (
            *(each.dataset, each.feed, each.summary),
        )
        assert (row["observed"], row["expected"], row["low"], row["high"]) == (
            *(each.observed, each.expected, each.low, each.high),
        )
        assert (row["execution_id"], row["batch_id"], row["was_refused"]) == (execution_id, 7, True)
    [event] = await connection.fetch("SELECT * FROM metadata.alert_events WHERE kind = 'anomaly'")
    assert (event["problem"], event["severity"]) == ("dataset:sales_data", "error")
    assert event["summary"] == f"{found[0].summary} (and 1 more); the load was not merged"
    detail = json.loads(event["detail"])
    assert [each["rule"] for each in detail["anomalies"]] == ["volume", "null_rate"]
    assert (detail["batch_id"], detail["was_refused"]) == (7, True)
    assert (event["execution_id"], event["handled_at"]) == (execution_id, None)


async def test_each_dataset_has_an_event_and_nothing_has_none(connection) -> None:
    await write_anomalies(connection, [], execution_id=1, batch_id=None, was_refused=False)
    assert await connection.fetchval("SELECT count(*) FROM metadata.alert_events") == 0
    one = Anomaly(*("b", "f", None, "volume", "warning"), 1, None, None, None, "b: odd")
    two = replace(one, dataset="a", summary="a: odd")
    await write_anomalies(
        connection, [one, two, one], execution_id=None, batch_id=None, was_refused=False, at=NOW
    )
    events = await connection.fetch("SELECT * FROM metadata.alert_events ORDER BY problem")
    assert [(row["problem"], row["summary"], row["happened_at"]) for row in events] == [
        ("dataset:a", "a: odd", NOW),
        ("dataset:b", "b: odd (and 1 more)", NOW),
    ]


async def test_a_silence_is_told_once(connection) -> None:
    await write(connection, profile(), *days(42))
    late = NOW + 12 * HOUR
    assert await tell_silence(connection, [SPEC], NOW + HOUR) == []
    [found] = await tell_silence(connection, [SPEC], late)
    assert found.summary == (
        "sales_data: nothing came for 36 hours, where after a Sunday's load the next comes within "
        "24 hours"
    )
    for hours in range(1, 4):
        assert await tell_silence(connection, [SPEC], late + hours * HOUR) == []
    assert await connection.fetchval("SELECT count(*) FROM metadata.alert_events") == 1
    # The load that comes at last is not told of again, and a second silence is one of its own.
    come = late + 6 * HOUR
    assert await judge_load(connection, profile(), SPEC, at=come) == []
    await write(connection, profile(), come)
    assert [each.rule for each in await tell_silence(connection, [SPEC], come + 3 * DAY)] == [
        "freshness"
    ]


async def test_a_late_load_is_told_where_nobody_looked_meanwhile(connection) -> None:
    await write(connection, profile(), *days(42))
    late = NOW + DAY
    found = await judge_load(connection, profile(), SPEC, at=late)
    assert [(each.rule, each.severity) for each in found] == [("freshness", "warning")]
    await write_anomalies(
        connection, found, execution_id=1, batch_id=None, was_refused=False, at=late + HOUR
    )
    await write(connection, profile(), late)
    # That was about the load, not about the silence that follows it.
    assert len(await tell_silence(connection, [SPEC], late + 3 * DAY)) == 1


async def test_a_broken_promise_is_an_error_without_any_history(connection) -> None:
    assert await judge_silence(connection, [PROMISED], NOW) == []
    await write(connection, profile(), NOW)
    assert await tell_silence(connection, [PROMISED], NOW + 25 * HOUR) == []
    [found] = await tell_silence(connection, [PROMISED], NOW + 27 * HOUR)
    assert (found.severity, found.high) == ("error", 26 * 3600)
    assert await tell_silence(connection, [PROMISED], NOW + 28 * HOUR) == []
    assert await judge_load(connection, profile(), PROMISED, at=NOW + 30 * HOUR) == []


async def test_a_load_after_a_broken_promise_says_so(connection) -> None:
    await write(connection, profile(), NOW)
    [found] = await judge_load(connection, profile(), PROMISED, at=NOW + 30 * HOUR)
    assert (found.rule, found.severity) == ("freshness", "warning")
    assert await judge_load(connection, profile(), PROMISED, at=NOW + 20 * HOUR) == []


async def test_a_silence_that_was_a_warning_is_told_again_as_an_error(connection) -> None:
    await write(connection, profile(), *days(42))
    spec = replace(SPEC, freshness=4 * DAY)
    assert [each.severity for each in await tell_silence(connection, [spec], NOW + DAY)] == [
        "warning"
    ]
    assert await tell_silence(connection, [spec], NOW + 2 * DAY) == []
    assert [each.severity for each in await tell_silence(connection, [spec], NOW + 5 * DAY)] == [
        "error"
    ]
    assert await tell_silence(connection, [spec], NOW + 6 * DAY) == []


async def test_one_feed_of_several_may_be_silent(connection) -> None:
    await write(connection, profile(feed="east"), *days(42))
    await write(connection, profile(feed="west"), *days(39, until=NOW - 3 * DAY))
    [found] = await judge_silence(connection, [SPEC], NOW)
    assert found.feed == "west"
    # The promise is the dataset's: news of the other feed keep it.
    [kept] = await judge_silence(connection, [PROMISED], NOW)
    assert (kept.feed, kept.severity) == ("west", "warning")


async def test_a_load_of_which_every_row_was_rejected_is_no_news(connection) -> None:
    await write(connection, profile(), NOW)
    await write(connection, profile(), NOW + 20 * HOUR, quarantined=50_000)
    assert len(await judge_silence(connection, [PROMISED], NOW + 27 * HOUR)) == 1


async def test_an_api_that_says_that_nothing_changed_is_not_silent(
    connection, execution_id: int
) -> None:
    await write(connection, profile(), *days(42))
    looked = NOW + DAY
    for path, is_heard in (("/raw/sales.csv", False), ("https://shop.example/sales", True)):
        await connection.execute(
            """
            INSERT INTO metadata.source_files
                (execution_id, load_id, path, dataset, status, contracted, recorded_at)
            VALUES ($1, gen_random_uuid(), $2, 'sales_data', 'UNCHANGED', true, $3)
            """,
            *(execution_id, path, looked),
        )
        found = await judge_silence(connection, [PROMISED], looked + 2 * HOUR)
        assert bool(found) is not is_heard


async def test_a_stream_is_heard_before_its_day_is_over(connection) -> None:
    stream = profile(feed="stream")
    ends = [NOW.replace(hour=0) - back * DAY - dt.timedelta(microseconds=1) for back in range(42)]
    await write(connection, stream, *ends)
    await connection.execute("UPDATE metadata.load_profiles SET day = profiled_at::date")
    promised = replace(SPEC, freshness=HOUR)
    today = NOW + 10 * HOUR
    assert len(await judge_silence(connection, [promised], today)) == 1
    await connection.execute(
        """
        INSERT INTO metadata.stream_days
            (execution_id, dataset, feed, day, read, duplicates, quarantined, columns, written_at)
        VALUES (1, 'sales_data', 'stream', $1, 5, 0, 0, '{}', $2)
        """,
        *(NOW.date(), today - HOUR / 2),
    )
    assert await judge_silence(connection, [promised], today) == []
    # Of an hour without a message, and by its rhythm not before more than a day.
    assert len(await judge_silence(connection, [promised], today + 2 * HOUR)) == 1
    assert await judge_silence(connection, [SPEC], today + 24 * HOUR) == []
    assert len(await judge_silence(connection, [SPEC], today + 40 * HOUR)) == 1
    # That a day's end is a day after the one before is no broken promise.
    assert await judge_load(connection, stream, promised, at=ends[0] + DAY) == []
