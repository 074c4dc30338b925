"""Uptime by period: against a count by hand, and as a person gets it from the command line."""

import csv
import datetime as dt
import io
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from infra.uptime import HEADER, UNITS, Unit, Uptime, find_uptime, write_csv
from schemas.errors import TerminalError, TransientError
from tasks.report_uptime import name_period, print_table, report_uptime

ROOT = Path(__file__).parents[2]
MINUTE = dt.timedelta(minutes=1)
HOUR = dt.timedelta(hours=1)


def utc(*parts: int) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=dt.UTC)  # type: ignore[arg-type, misc] # year, month, day, …


@pytest.fixture
async def owner(database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.owner_url)
    yield connection
    await connection.close()


async def check(owner: asyncpg.Connection, component: str, start: dt.datetime, states: str) -> None:
    """Write a check for each letter, G, B or U, a minute apart; a dot is none."""
    names = {"G": "GOOD", "B": "BAD", "U": "UNKNOWN"}
    rows = [
        (start + number * MINUTE, component, names[letter])
        for number, letter in enumerate(states)
        if letter in names
    ]
    await owner.execute(
        "INSERT INTO metadata.health_checks (checked_at, component, status)"
        " SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::text[])",
        *(list(each) for each in zip(*rows, strict=True)),
    )


async def maintain(
    owner: asyncpg.Connection, component: str | None, start: dt.datetime, end: dt.datetime
) -> None:
    await owner.fetchval(
        "SELECT metadata.set_maintenance(NULL, $1, $2, $3, 'a new release', 'otto')",
        component,
        start,
        end,
    )


async def come_to_maintain(
    owner: asyncpg.Connection, component: str | None, start: dt.datetime, end: dt.datetime
) -> None:
    """Leave a window as it is that was set before it began: nothing was counted since."""
    await owner.execute(
        """
        INSERT INTO metadata.maintenance_windows (component, starts_at, ends_at, reason, created_by)
        VALUES ($1, $2, $3, 'a new release', 'otto')
        """,
        component,
        start,
        end,
    )


def figures(uptime: Uptime) -> tuple[int, int, int, int]:
    return uptime.good, uptime.bad, uptime.unknown, uptime.maintenance


async def test_minutes_by_hour_with_the_missing_ones_unknown(owner) -> None:
    start = utc(2025, 3, 1, 10, 30)
    await check(owner, "kafka", start, "G" * 20 + "B" * 3 + "U" * 2 + "." * 4 + "G" * 31)
    found = await find_uptime(
        owner, "hour", begin=utc(2025, 3, 1, 8), end=utc(2025, 3, 2), now=utc(2025, 3, 1, 12, 30)
    )
    assert [(each.begin.hour, *figures(each)) for each in found] == [
        # From its first check on.
        (10, 21, 3, 6, 0),
        # An hour, and half of one, in which hardly anybody checked.
        (11, 30, 0, 30, 0),
        (12, 0, 0, 30, 0),
    ]
    first, second, third = found
    assert (first.expected, first.share, first.percent) == (30, 21 / 30, "70.000")
    assert first.allowed == pytest.approx(0.15)
    assert first.left == pytest.approx(0.15 - 9)
    assert (second.expected, second.percent) == (60, "50.000")
    # Of the hour under way half is expected; its budget is that of the whole.
    assert (third.expected, third.percent) == (30, "0.000")
    assert third.allowed == pytest.approx(0.3)


async def test_maintenance_is_set_apart_also_where_no_check_followed(owner) -> None:
    start = utc(2025, 3, 1, 10)
    await check(owner, "kafka", start, "G" * 60)
    await check(owner, "disk", start, "G" * 60)
    await maintain(owner, None, utc(2025, 3, 1, 10, 40), utc(2025, 3, 1, 10, 50))
    await come_to_maintain(owner, "kafka", utc(2025, 3, 1, 11, 15), utc(2025, 3, 1, 12, 5))
    found = await find_uptime(
        owner, "hour", begin=start, end=utc(2025, 3, 1, 13), now=utc(2025, 3, 1, 12, 30)
    )
    assert [(each.component, each.begin.hour, *figures(each)) for each in found] == [
        ("disk", 10, 50, 0, 0, 10),
        ("disk", 11, 0, 0, 60, 0),
        ("disk", 12, 0, 0, 30, 0),
        ("kafka", 10, 50, 0, 0, 10),
        ("kafka", 11, 0, 0, 15, 45),
        ("kafka", 12, 0, 0, 25, 5),
    ]
    assert found[0].percent == "100.000"
    assert found[0].expected == 50
    assert found[0].allowed == pytest.approx(0.25)


async def test_a_period_that_was_all_maintenance_has_no_uptime(owner) -> None:
    await check(owner, "kafka", utc(2025, 3, 1, 10), "G" * 60)
    await maintain(owner, "kafka", utc(2025, 3, 1, 10), utc(2025, 3, 1, 11))
    [found] = await find_uptime(
        owner,
        "hour",
        begin=utc(2025, 3, 1, 10),
        end=utc(2025, 3, 1, 11),
        now=utc(2025, 3, 2),
        component="kafka",
    )
    assert (found.share, found.percent, found.expected, found.left) == (None, "", 0, 0)


async def test_months_and_quarters_are_those_of_utc(owner) -> None:
    await check(owner, "disk", utc(2024, 12, 31, 23, 58), "GBGG")
    now = utc(2025, 4, 1, 0, 1)
    months = await find_uptime(owner, "month", begin=utc(2024, 1, 1), end=now, now=now)
    assert [(each.begin, each.end) for each in months] == [
        (utc(2024, 12, 1), utc(2025, 1, 1)),
        (utc(2025, 1, 1), utc(2025, 2, 1)),
        (utc(2025, 2, 1), utc(2025, 3, 1)),
        (utc(2025, 3, 1), utc(2025, 4, 1)),
        (utc(2025, 4, 1), utc(2025, 5, 1)),
    ]
    assert [figures(each) for each in months] == [
        (1, 1, 0, 0),
        (2, 0, 31 * 1440 - 2, 0),
        (0, 0, 28 * 1440, 0),
        (0, 0, 31 * 1440, 0),
        (0, 0, 1, 0),
    ]
    # 99.5 % of a month of 31 days leave 223.2 minutes.
    assert months[1].allowed == pytest.approx(223.2)
    quarters = await find_uptime(owner, "quarter", begin=utc(2025, 2, 3), end=now, now=now)
    assert [(each.begin, *figures(each)) for each in quarters] == [
        (utc(2025, 1, 1), 2, 0, 90 * 1440 - 2, 0),
        (utc(2025, 4, 1), 0, 0, 1, 0),
    ]
    assert quarters[0].allowed == pytest.approx(648)


async def test_what_misses_the_target_never_seems_to_reach_it() -> None:
    def percent(good: int, bad: int) -> str:
        return Uptime("x", utc(2025, 1, 1), utc(2025, 2, 1), good, bad, 0, 0, 0.0).percent

    assert percent(199_000, 1000) == "99.500"
    assert percent(198_999, 1001) == "99.499"
    assert percent(99_999, 1) == "99.999"
    assert percent(999_999, 1) == "99.999"
    assert percent(7, 0) == "100.000"


@pytest.mark.parametrize("seed", [1, 2])
async def test_every_unit_adds_up_to_a_count_minute_by_minute(owner, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - no secret
    start = utc(2025, 1, 31, 20, 17)
    length = 9 * 60
    states = "".join(chance.choices("GBU.", (80, 5, 5, 10), k=length - 1))
    await check(owner, "kafka", start, f"G{states}")
    now = start + (length + 90) * MINUTE
    windows = []
    for _ in range(4):
        begin = start + chance.randrange(length + 60) * MINUTE + chance.randrange(60) * MINUTE / 60
        windows.append((begin, begin + chance.randrange(1, 70) * MINUTE))
        await maintain(owner, "kafka", *windows[-1])
    for begin, end in ((length + 20, length + 50), (length + 40, length + 200)):
        windows.append((start + begin * MINUTE, start + end * MINUTE))
        await come_to_maintain(owner, "kafka", *windows[-1])
    expected = dict.fromkeys(("G", "B", "U", "M"), 0)
    for number in range(length + 90):
        at = start + number * MINUTE
        letter = f"G{states}"[number] if number < length else "."
        is_maintained = any(begin < at + MINUTE and end > at for begin, end in windows)
        expected["M" if is_maintained else letter.replace(".", "U")] += 1
    for unit in UNITS:
        found = await find_uptime(owner, unit, begin=utc(2025, 1, 1), end=now, now=now)
        assert tuple(map(sum, zip(*map(figures, found), strict=True))) == tuple(expected.values())


async def test_the_csv_file_says_it_all(owner) -> None:
    await check(owner, "kafka", utc(2025, 3, 1, 10), "G" * 59 + "B")
    found = await find_uptime(
        owner, "hour", begin=utc(2025, 3, 1, 10), end=utc(2025, 3, 1, 11), now=utc(2025, 3, 1, 11)
    )
    rows = list(csv.DictReader(io.StringIO(write_csv(found))))
    assert rows == [
        {
            "component": "kafka",
            "begin": "2025-03-01T10:00:00+00:00",
            "end": "2025-03-01T11:00:00+00:00",
            "good_minutes": "59",
            "bad_minutes": "1",
            "unknown_minutes": "0",
            "maintenance_minutes": "0",
            "expected_minutes": "60",
            "uptime_percent": "98.333",
            "target_percent": "99.5",
            "budget_minutes": "0.3",
            "budget_minutes_left": "-0.7",
        }
    ]
    assert tuple(rows[0]) == HEADER


async def test_a_report_of_nothing_says_why(database) -> None:
    with pytest.raises(TerminalError, match="There is no check of 'kafka' in this time"):
        await report_uptime(database.loader_url, "month", component="kafka")
    with pytest.raises(TransientError, match="cannot be reached"):
        await report_uptime("postgresql://x@127.0.0.1:1/x", "month")


async def test_times_the_wrong_way_round_are_said_to_be_so(database) -> None:
    begin, end = (dt.datetime(2026, 11, day, tzinfo=dt.UTC) for day in (20, 1))
    far = dt.datetime(9000, 1, 1, tzinfo=dt.UTC)
    with pytest.raises(TerminalError, match="Nothing lies between 2026-11-20 00:00 and 2026-11-01"):
        await report_uptime(database.loader_url, "day", begin=begin, end=end)
    with pytest.raises(TerminalError, match="Nothing lies between"):
        await report_uptime(database.loader_url, "day", begin=far)


@pytest.mark.parametrize(
    ("unit", "name"),
    [
        ("hour", "2026-11-05 17:00"),
        ("day", "2026-11-05"),
        ("month", "2026-11"),
        ("quarter", "2026 Q4"),
    ],
)
def test_periods_have_names(unit: Unit, name: str) -> None:
    assert name_period(utc(2026, 11, 5, 17), unit) == name


async def test_the_table_has_a_line_for_each_period(
    owner, database, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    await check(owner, "kafka", utc(2025, 3, 1, 10), "G" * 60)
    await maintain(owner, "kafka", utc(2025, 3, 1, 11), utc(2025, 3, 1, 12))
    found = await report_uptime(
        database.loader_url, "hour", end=utc(2025, 3, 1, 12), now=utc(2025, 3, 1, 13)
    )
    print_table(found, "hour")
    shown = capsys.readouterr().out
    assert "Uptime against 99.5 %" in shown
    [first, second] = [
        " ".join(line.replace("│", " ").split()) for line in shown.splitlines() if "kafka" in line
    ]
    assert first == "kafka 2025-03-01 10:00 100.000 % 60 0 0 0 60 0.3 min"
    assert second == "kafka 2025-03-01 11:00 maintenance 0 0 0 60 0 0.0 min"


async def test_the_command_writes_a_file_and_ends_in_a_sentence(
    owner, database, tmp_path: Path
) -> None:
    now = dt.datetime.now(dt.UTC).replace(second=1, microsecond=0)
    await check(owner, "kafka", now - 2 * MINUTE, "GG")
    environment = {key: value for key, value in os.environ.items() if "SLUICEWAY" not in key}
    environment |= {"SLUICEWAY_DATABASE_URL": database.loader_url, "PYTHONPATH": str(ROOT)}
    options = [["--csv", "uptime.csv"], ["--component", "caffeine"]]
    written, refused = [
        subprocess.Popen(
            [sys.executable, "-m", "tasks.report_uptime", *given],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for given in options
    ]
    assert written.communicate(timeout=120) == ("", "")
    [*_, last] = csv.DictReader(io.StringIO((tmp_path / "uptime.csv").read_text()))
    assert last["component"] == "kafka"
    assert int(last["good_minutes"]) >= 1
    _, problem = refused.communicate(timeout=120)
    assert refused.returncode == 1
    assert problem.startswith("There is no check of 'caffeine' in this time: ")
