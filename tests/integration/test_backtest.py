"""A back-test says what the live rules would have said, and nothing else."""

import datetime as dt

import pytest

from infra.postgres.connection import Connection, Pool
from schemas.datasets import Customers, Sales
from schemas.errors import TerminalError
from tasks.anomaly_rules import RULES
from tasks.backtest_anomalies import COLUMNS, backtest_anomalies, describe, main, report_backtest
from tasks.judge_load import judge_load
from tasks.profile import LoadProfile

DAY = dt.timedelta(days=1)
MISSED = 50
"""The day on which nothing comes."""
UNTIL = dt.datetime(2026, 6, 15, tzinfo=dt.UTC)


async def live_through(connection: Connection, count: int) -> list[tuple[object, ...]]:
    """Judge each load as it comes, then write its profile; returns what was said, in order."""
    said = []
    for place in [each for each in range(count) if each != MISSED]:
        at = UNTIL - (count - place) * DAY + dt.timedelta(hours=2)
        for spec, feed in ((Customers.spec, "customers.csv"), (Sales.spec, "sales_*.csv")):
            rows = 400 if (place, feed) == (55, "sales_*.csv") else 1_000 + place
            profile = LoadProfile(spec.table, feed, rows, 200 * (place == 57), 0, ())
            found = await judge_load(connection, profile, spec, at=at)
            said += [
                (at, *(each.dataset, each.rule, each.severity, each.summary)) for each in found
            ]
            await connection.execute(
                """
                INSERT INTO metadata.load_profiles
                    (execution_id, dataset, feed, read, duplicates, quarantined, columns,
                    profiled_at)
                VALUES (1, $1, $2, $3, $4, 0, '{}', $5)
                """,
                *(profile.dataset, feed, rows, profile.duplicates, at),
            )
    return said


async def test_it_finds_what_the_live_rules_found(pool: Pool) -> None:
    async with pool.acquire() as connection:
        said = await live_through(connection, 60)
        assert {each[2] for each in said} == {"freshness", "volume", "duplicate_rate"}
        frame, loads = await backtest_anomalies(connection, until=UNTIL)
        assert tuple(frame.columns) == COLUMNS
        assert loads == 118
        replayed = frame[["at", "dataset", "rule", "severity", "summary"]]
        assert list(replayed.itertuples(index=False, name=None)) == said

        of_sales, loads = await backtest_anomalies(
            connection, dataset="sales_data", rule="volume", until=UNTIL
        )
        assert (loads, list(of_sales["observed"])) == (59, [400.0])
        # What came before the time is history to it, and not judged.
        few, loads = await backtest_anomalies(connection, days=4, until=UNTIL)
        assert (loads, set(few["rule"])) == (8, {"duplicate_rate"})
        assert await connection.fetchval("SELECT count(*) FROM metadata.anomalies") == 0

        none, loads = await backtest_anomalies(connection, dataset="nothing", until=UNTIL)
        assert (len(none), loads) == (0, 0)


async def test_a_day_of_a_stream_breaks_no_promise(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await live_through(connection, 60)
        frame, _ = await backtest_anomalies(connection, dataset="customers", until=UNTIL)
        assert "the contract promises" in frame["summary"].iloc[0]
        await connection.execute("UPDATE metadata.load_profiles SET day = profiled_at::date")
        frame, _ = await backtest_anomalies(connection, dataset="customers", until=UNTIL)
        # By its own rhythm a day is missing all the same.
        assert "the contract promises" not in " ".join(frame["summary"])
        assert "the next comes within 24 hours" in frame["summary"].iloc[0]


async def test_it_says_when_each_rule_would_have_fired(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await live_through(connection, 60)
        frame, loads = await backtest_anomalies(connection, dataset="sales_data", until=UNTIL)
    text = describe(frame, loads, ["volume", "null_rate"])
    assert text == (
        "volume: 1 times in 59 loads\n"
        "  would have fired on 2026-06-10 02:00 (error): sales_data: 400 rows, 62 % below the "
        f"{frame[frame['rule'] == 'volume']['expected'].item():,.0f} that Wednesdays usually "
        "bring\n"
        "null_rate: 0 times in 59 loads\n"
    )


async def test_it_reports_or_says_that_there_is_nothing(database, pool: Pool) -> None:
    with pytest.raises(TerminalError, match="No load of 'sales_data' was recorded in the last 90"):
        await report_backtest(database.loader_url, dataset="sales_data")
    async with pool.acquire() as connection:
        await connection.execute(
            """
            INSERT INTO metadata.load_profiles
                (execution_id, dataset, feed, read, duplicates, quarantined, columns)
            VALUES (1, 'sales_data', 'sales.csv', 5, 0, 0, '{}')
            """
        )
    text = await report_backtest(database.loader_url, rule="volume")
    assert text == "volume: 0 times in 1 loads\n"
    assert len((await report_backtest(database.loader_url)).splitlines()) == len(RULES)


def test_the_command_refuses_no_days(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["--days", "0"])
    assert "--days must be between 1 and 3650" in capsys.readouterr().err
