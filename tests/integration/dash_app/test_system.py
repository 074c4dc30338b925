"""The system's page over a real PostgreSQL."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from dash_app.access.users import OperatorsOnlyError, Role, User, enter, leave
from dash_app.moments import MomentError, read_moment
from dash_app.pages import maintenance_windows, system, system_maintenance, system_uptime
from dash_app.pages.maintenance_windows import read_end
from dash_app.pages.system_uptime import Period, make_periods, reckon
from dash_app.queries import system as ask
from dash_app.queries.system import Minutes, WindowError
from dash_app.reader import AwayError
from dash_app.view import View
from schemas.errors import SluicewayError

HOSTILE = "<script>alert(1)</script>"
# In the middle of a month and of a quarter, an hour and 20 minutes into a day.
NOW = dt.datetime(2026, 5, 14, 1, 20, 30, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)


@pytest.fixture
def then(view) -> View:
    """A look at the page at that moment."""
    return replace(view, now=NOW)


@pytest.fixture
def as_operator() -> Iterator[None]:
    enter(User("otto", Role.OPERATOR))
    yield
    leave()


@pytest.fixture
def as_viewer() -> Iterator[None]:
    enter(User("eve", Role.VIEWER))
    yield
    leave()


async def _check(loader, component, first, last, status="GOOD", detail=None):
    """One check a minute, from first up to and with last."""
    await loader.execute(
        """
        INSERT INTO metadata.health_checks
            (checked_at, component, status, latency_seconds, detail)
        SELECT at, $1, $4, 0.0123, $5
        FROM generate_series($2::timestamptz, $3, interval '1 minute') AS at
        """,
        component,
        first,
        last,
        status,
        detail,
    )


async def _uptimes(then, component="database"):
    lives = await ask.find_lives(then.reader)
    periods = make_periods(then.now)
    found = await ask.sum_minutes(then.reader, lives, [each.begin for each in periods], then.now)
    sums = {each.since: each for each in found if each.component == component}
    return {each.name: reckon(sums[each.begin], each, then.now) for each in periods}


async def test_what_is_not_recorded_is_said_to_be_so(view, read) -> None:
    assert "Not recorded yet" in read(await system.draw_checks(view))
    assert "Not recorded yet" in read(await system_uptime.draw_uptime(view))
    figure = await system_uptime.draw_chart(view, None, "24h")
    assert "Not recorded yet" in figure["layout"]["annotations"][0]["text"]


async def test_the_newest_check_of_each_part_shows(view, loader, read) -> None:
    await _check(loader, "broker", view.now - 3 * MINUTE, view.now, "BAD", HOSTILE)
    await _check(loader, "database", view.now - 3 * MINUTE, view.now - 2 * MINUTE)
    await _check(loader, "mail", view.now - 60 * MINUTE, view.now - 59 * MINUTE, detail="sent")
    drawn = await system.draw_checks(view)
    rows = [read(row) for row in drawn.children.children[2].children]
    assert "✕ bad" in " ".join(rows[0].split())
    assert HOSTILE in rows[0]
    assert "12.3 ms" in rows[1]
    assert "✓ good" in " ".join(rows[1].split())
    # What was good an hour ago is not called good now.
    assert "? unknown" in " ".join(rows[2].split())
    assert "Nobody checks it any more; the last check was good: sent" in rows[2]


async def test_uptime_counts_what_nobody_checked_as_not_good(then, loader) -> None:
    first = NOW.replace(hour=0, minute=0, second=5)
    # 40 minutes good, 10 bad, and 30 in which nobody checked.
    await _check(loader, "database", first, first + 39 * MINUTE)
    await _check(loader, "database", first + 40 * MINUTE, first + 49 * MINUTE, "BAD")
    found = await _uptimes(then)
    for name in ("Today", "7 days", "30 days", "This month", "This quarter"):
        uptime = found[name]
        assert (uptime.expected, uptime.good, uptime.bad) == (80, 40, 10), name
        assert (uptime.unknown, uptime.maintenance) == (30, 0), name
        assert uptime.share == pytest.approx(0.5), name
    # Today's budget is that of the whole day, and the quarter's that of its rest from then on.
    assert found["Today"].allowed == pytest.approx(0.005 * 1440)
    assert found["Today"].left == pytest.approx(7.2 - 40)
    assert found["This quarter"].allowed == pytest.approx(0.005 * 1440 * 48)


async def test_maintenance_is_set_apart(then, loader, as_operator) -> None:
    first = NOW.replace(hour=0, minute=0, second=5)
    await _check(loader, "database", first, first + 29 * MINUTE)
    await _check(loader, "database", first + 30 * MINUTE, first + 59 * MINUTE, "BAD")
    await _check(loader, "database", first + 60 * MINUTE, first + 79 * MINUTE)
    await _check(loader, "broker", first, first + 79 * MINUTE)
    begin = NOW.replace(hour=0, minute=30, second=0)
    said = await maintenance_windows.set_window(
        replace(then, zone=ZoneInfo("UTC")), "database", "2026-05-14 00:30", "45 min", "new disk"
    )
    assert "overlaps" not in said
    assert "database from 2026-05-14 00:30:00 until 2026-05-14 01:15:00" in said
    uptime = (await _uptimes(then))["Today"]
    assert (uptime.expected, uptime.good, uptime.bad, uptime.maintenance) == (80, 35, 0, 45)
    assert uptime.share == 1
    assert uptime.allowed == pytest.approx(0.005 * (1440 - 45))
    other = (await _uptimes(then, "broker"))["Today"]
    assert (other.good, other.maintenance) == (80, 0)
    [window] = await ask.find_windows(then.reader, begin)
    assert (window["created_by"], window["reason"]) == ("otto", "new disk")


async def test_windows_that_overlap_are_set_and_said_to(then, loader, as_operator) -> None:
    here = replace(then, zone=ZoneInfo("UTC"))
    for name in ("database", "broker"):
        await _check(loader, name, NOW - 30 * MINUTE, NOW)
    for part, reason in (("broker", "its own"), (None, "new rack"), ("database", HOSTILE)):
        said = await maintenance_windows.set_window(here, part, "2026-05-15", "2 h", reason)
    assert "overlaps with that of everything from 2026-05-15 00:00:00 until" in said
    assert "(new rack); a minute in several counts once." in said
    said = await maintenance_windows.set_window(here, None, "2026-05-15 01:59", "2 h", "more")
    assert "that of broker" in said
    assert "(its own) and 2 more;" in said
    # One after the other is no overlap, and what was called off covers nothing.
    said = await maintenance_windows.set_window(here, "broker", "2026-05-15 03:59", "2 h", "next")
    assert "overlaps" not in said
    rows = await ask.find_windows(then.reader, NOW)
    next_ = next(row["id"] for row in rows if row["reason"] == "next")
    await maintenance_windows.end_window(here, next_)
    said = await maintenance_windows.set_window(here, "broker", "2026-05-15 03:59", "2 h", "again")
    assert "overlaps" not in said


async def test_maintenance_shows_while_nobody_checks_in_it(then, database, loader) -> None:
    first = NOW.replace(hour=0, minute=0, second=5)
    await _check(loader, "database", first, first + 19 * MINUTE)
    # As somebody planned it before: no check has come since it began.
    owner = await asyncpg.connect(database.owner_url)
    await owner.execute(
        """
        INSERT INTO metadata.maintenance_windows
            (component, starts_at, ends_at, reason, created_by)
        VALUES (NULL, $1, $2, 'moving', 'otto'), ('database', $1, $2, 'moving', 'otto'),
               ('broker', '2000-01-01', '2030-01-01', 'not ours', 'otto')
        """,
        NOW.replace(minute=20, hour=0, second=0),
        NOW + dt.timedelta(hours=5),
    )
    await owner.close()
    uptime = (await _uptimes(then))["Today"]
    assert (uptime.expected, uptime.good, uptime.maintenance) == (80, 20, 60)
    assert uptime.share == 1


def test_what_misses_the_target_never_seems_to_reach_it() -> None:
    assert system_uptime.percent(0.99499999) == "99.49 %"
    assert system_uptime.percent(0.995) == "99.50 %"
    assert system_uptime.percent(0.99999) == "99.99 %"
    assert system_uptime.percent(1.0) == "100.00 %"
    assert system_uptime.percent(0.2899) == "28.99 %"


def test_periods_are_whole_ones_in_utc() -> None:
    now = dt.datetime(2026, 11, 30, 23, 30, tzinfo=ZoneInfo("America/New_York"))
    found = {each.name: (each.begin, each.end) for each in make_periods(now)}
    assert found["Today"][0] == dt.datetime(2026, 12, 1, tzinfo=dt.UTC)
    assert found["7 days"][0] == dt.datetime(2026, 11, 24, 4, tzinfo=dt.UTC)
    assert found["This month"][1] == dt.datetime(2027, 1, 1, tzinfo=dt.UTC)
    assert found["This quarter"] == (
        dt.datetime(2026, 10, 1, tzinfo=dt.UTC),
        dt.datetime(2027, 1, 1, tzinfo=dt.UTC),
    )


def test_a_minute_that_is_still_going_on_may_be_good_already() -> None:
    period = Period("Today", NOW - 10 * MINUTE, NOW + 10 * MINUTE)
    found = Minutes("x", period.begin, period.begin, good=11, bad=0, unknown=0, maintenance=0)
    uptime = reckon(found, period, NOW)
    assert (uptime.expected, uptime.unknown, uptime.share) == (11, 0, 1)


async def test_the_chart_holds_every_minute_once(then, loader) -> None:
    first = NOW.replace(hour=0, minute=30, second=0)
    await _check(loader, "database", first, first + 9 * MINUTE)
    await _check(loader, "database", first + 10 * MINUTE, first + 14 * MINUTE, "BAD")
    await _check(loader, "broker", NOW.replace(minute=0), NOW)
    figure = await system_uptime.draw_chart(then, None, "24h")
    shown = {each["name"]: each["y"][-3:] for each in figure["data"]}
    # At 00 and 01 o'clock; the broker is expected from 01:00 on, up to the minute under way.
    assert shown == {
        "good": [0, 10, 21],
        "bad": [0, 5, 0],
        "unknown": [0, 15, 20],
        "maintenance": [0, 0, 0],
    }
    assert figure["data"][0]["x"][-1] == "2026-05-14 06:30:00.000"
    assert len({each["marker"]["pattern"]["shape"] for each in figure["data"]}) == 4
    one = await system_uptime.draw_chart(then, "broker", "30d")
    assert {each["name"]: each["y"][-1] for each in one["data"]}["good"] == 21
    assert one["data"][0]["x"][-1] == "2026-05-14"
    assert len(one["data"][0]["x"]) == 30


async def test_the_table_shows_uptime_with_what_is_left(then, loader, read) -> None:
    first = NOW.replace(hour=0, minute=0, second=5)
    await _check(loader, "database", first, first + 79 * MINUTE)
    await _check(loader, HOSTILE, first, first + 9 * MINUTE)
    shown = read(await system_uptime.draw_uptime(then))
    assert "100.00 %" in shown
    assert "7.2 min left" in shown
    assert "12.50 %" in shown
    assert "62.8 min overdrawn" in shown
    assert "10 good, 0 bad, 70 unknown and 0 maintenance of 80 minutes" in shown
    assert HOSTILE in shown


async def test_a_viewer_reaches_no_window(view, loader, as_viewer, read) -> None:
    assert await system_maintenance.draw_form(view) is None
    assert await system_maintenance.draw_zone(view) is None
    with pytest.raises(OperatorsOnlyError):
        await maintenance_windows.set_window(view, None, "", "2 h", "mischief")
    with pytest.raises(OperatorsOnlyError):
        await maintenance_windows.end_window(view, 1)
    assert await ask.find_windows(view.reader, view.now - dt.timedelta(days=9999)) == []


async def test_nobody_at_all_reaches_no_window(view) -> None:
    with pytest.raises(PermissionError):
        await maintenance_windows.set_window(view, None, "", "2 h", "mischief")


async def test_windows_are_planned_run_and_are_ended(operator, view, as_operator, read) -> None:
    later = (operator.now + dt.timedelta(days=1)).astimezone(operator.zone)
    await maintenance_windows.set_window(operator, None, "", "2 h", HOSTILE)
    await maintenance_windows.set_window(operator, "", f"{later:%Y-%m-%d %H:%M}", "1 d", "planned")
    planned, running = await ask.find_windows(operator.reader, operator.now)
    assert maintenance_windows.judge(running, operator.now) == "RUNNING"
    assert maintenance_windows.judge(planned, operator.now) == "PLANNED"
    drawn = await system_maintenance.draw_windows(operator)
    shown = read(drawn)
    assert HOSTILE in shown
    assert "everything" in shown
    assert "End now" in shown
    assert "Call off" in shown
    assert "End now" not in read(await system_maintenance.draw_windows(view))

    soon = replace(operator, now=operator.now + dt.timedelta(minutes=5))
    assert "Ended" in await maintenance_windows.end_window(soon, running["id"])
    assert "Called off" in await maintenance_windows.end_window(soon, planned["id"])
    planned, running = await ask.find_windows(operator.reader, operator.now)
    assert running["ends_at"] == soon.now
    assert (running["starts_at"], running["changed_by"]) == (operator.now, "otto")
    assert maintenance_windows.judge(planned, soon.now) == "CANCELLED"
    for each in (planned, running):
        with pytest.raises(WindowError, match="over already"):
            await maintenance_windows.end_window(soon, each["id"])
    assert "End now" not in read(await system_maintenance.draw_windows(soon))


@pytest.mark.parametrize("window_id", [12345, None, "1; DROP TABLE x", True, 2**70])
async def test_a_window_that_is_not_there_cannot_be_ended(operator, as_operator, window_id) -> None:
    with pytest.raises(WindowError, match="no such"):
        await maintenance_windows.end_window(operator, window_id)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("", "", "", "why"), "Say until when"),
        (("", "", "2 h", " "), "needs a reason"),
        (("", "2026-05-14 14:00", "2026-05-14 13:00", "why"), "must end after it starts"),
        (("", "", "31 d", "why"), "at most 30 days"),
        (("", "2026-01-01", "2026-03-01", "why"), "at most 30 days"),
        (("", "tomorrow", "2 h", "why"), "From: 'tomorrow' is no time"),
        (("", "", "25:00", "why"), "Until: there is no such time"),
        (("", "0001-01-01", "2 h", "why"), "From: there is no such time"),
        (("nonsense", "", "2 h", "why"), "no part called nonsense"),
        ((["a"], {}, 7, None), "no part called|no time"),
    ],
)
async def test_what_makes_no_window_is_answered_with_a_sentence(
    operator, as_operator, given, sentence
) -> None:
    with pytest.raises(SluicewayError, match=sentence):
        await maintenance_windows.set_window(operator, *given)
    assert await ask.find_windows(operator.reader, operator.now - dt.timedelta(days=9999)) == []


def test_times_are_read_in_the_viewers_zone() -> None:
    kolkata, berlin = ZoneInfo("Asia/Kolkata"), ZoneInfo("Europe/Berlin")
    assert read_moment(" now ", NOW, kolkata, "From") == NOW
    assert read_moment("", NOW, kolkata, "From") == NOW
    # 06:50 there.
    assert read_moment("9:05", NOW, kolkata, "From") == NOW.replace(hour=3, minute=35, second=0)
    assert read_moment("2026-05-14T09:05:30", NOW, kolkata, "From") == NOW.replace(
        hour=3, minute=35
    )
    assert read_moment("2026-05-14", NOW, kolkata, "From") == dt.datetime(
        2026, 5, 13, 18, 30, tzinfo=dt.UTC
    )
    assert read_end("90 min", NOW, NOW, kolkata) == NOW + 90 * MINUTE
    assert read_end("+2h", NOW, NOW, kolkata) == NOW + 120 * MINUTE
    # Of an hour that comes twice the first is meant; one that does not come is none.
    assert read_moment("2026-10-25 02:30", NOW, berlin, "From") == dt.datetime(
        2026, 10, 25, 0, 30, tzinfo=dt.UTC
    )
    with pytest.raises(MomentError, match="leave out"):
        read_moment("2026-03-29 02:30", NOW, berlin, "From")


async def test_the_form_names_the_parts_there_are(operator, loader, read) -> None:
    await _check(loader, "broker", operator.now, operator.now)
    form = await system_maintenance.draw_form(operator)
    select, *_, button = form.children[1].children
    assert select.data == ["broker"]
    assert button.id == "maintenance-set"
    assert "Asia/Kolkata" in read(await system_maintenance.draw_zone(operator))


async def test_resources_name_whose_they_are(view, loader, read) -> None:
    connections = read(await system.draw_connections(view))
    assert "sluiceway_reader" in connections
    assert "sluiceway_loader" in connections
    assert "not shown to this role" in connections
    assert " of 200 of max_connections" in connections
    server = read(await system.draw_server(view))
    assert "MB" in server
    assert "18." in server or "15." in server
    pool = read(await system.draw_pool(view))
    assert "0 of 8" in pool
    async with view.reader.connection():
        assert "1 of 8" in read(await system.draw_pool(view))
    host = read(await system.draw_host(view))
    for word in ("CPU", "Memory in use", "Disk in use"):
        assert word in host


async def test_each_part_fails_with_a_sentence_where_the_database_is_gone(view, gone) -> None:
    away = replace(view, reader=gone)
    for draw in (
        system.draw_checks,
        system.draw_server,
        system.draw_connections,
        system_uptime.draw_uptime,
        system_maintenance.draw_windows,
    ):
        with pytest.raises(AwayError, match="cannot be reached"):
            await draw(away)
    # These two ask no database.
    assert await system.draw_host(away)
    assert await system.draw_pool(away)


@pytest.mark.parametrize("given", [{}, {"component": "x", "uptime": "y", "other": "1"}])
def test_the_page_takes_whatever_stands_in_the_address(given, read) -> None:
    assert "Are the parts alive?" in read(system.lay_out(**given))
