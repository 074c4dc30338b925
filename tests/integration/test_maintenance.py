"""Uptime by hour: a minute is counted once, as what was found in it, or as maintenance."""

import asyncio
import datetime as dt
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import asyncpg
import pytest

NOON = dt.datetime(2025, 11, 20, 12, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
HOUR = dt.timedelta(hours=1)
Uptime = dict[tuple[dt.datetime, str], tuple[int, int, int, int]]
"""Good, bad, unknown and maintenance minutes by hour and component."""


@pytest.fixture
async def owner(database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.owner_url)
    yield connection
    await connection.close()


@pytest.fixture
async def loader(database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.loader_url)
    yield connection
    await connection.close()


@pytest.fixture
async def reader(database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.reader_url)
    yield connection
    await connection.close()


async def check(
    connection: asyncpg.Connection,
    component: str,
    statuses: str,
    *,
    start: dt.datetime = NOON,
    apart: dt.timedelta = MINUTE,
) -> None:
    """Write a check for each letter, G, B or U, in one statement; a dot is none."""
    names = {"G": "GOOD", "B": "BAD", "U": "UNKNOWN"}
    checks = [
        (start + place * apart, component, names[letter])
        for place, letter in enumerate(statuses)
        if letter in names
    ]
    await add_checks(connection, checks)


async def add_checks(
    connection: asyncpg.Connection, checks: Sequence[tuple[dt.datetime, str, str]]
) -> None:
    await connection.execute(
        "INSERT INTO metadata.health_checks (checked_at, component, status)"
        " SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::text[])",
        *(list(each) for each in zip(*checks, strict=True)),
    )


async def maintain(
    connection: asyncpg.Connection,
    start: dt.datetime | None,
    end: dt.datetime | None,
    component: str | None = None,
    *,
    changes: int | None = None,
    reason: str = "a new release",
    by: str = "otto",
) -> int:
    async with connection.transaction():
        # The reader's own are read-only unless they say so.
        await connection.execute("SET TRANSACTION READ WRITE")
        window: int = await connection.fetchval(
            "SELECT metadata.set_maintenance($1, $2, $3, $4, $5, $6)",
            changes,
            component,
            start,
            end,
            reason,
            by,
        )
    return window


async def read_uptime(connection: asyncpg.Connection) -> Uptime:
    rows = await connection.fetch("SELECT * FROM metadata.rollup_uptime")
    return {
        (row["hour"], row["component"]): (
            row["good"],
            row["bad"],
            row["unknown"],
            row["maintenance"],
        )
        for row in rows
    }


def floor(moment: dt.datetime, unit: dt.timedelta) -> dt.datetime:
    return moment - (moment - dt.datetime(2000, 1, 1, tzinfo=dt.UTC)) % unit


async def count_minutes(connection: asyncpg.Connection, pruned: Iterable[Any] = ()) -> Uptime:
    """Return what uptime is by the checks and the windows, minute by minute."""
    checks = await connection.fetch("SELECT * FROM metadata.health_checks")
    windows = await connection.fetch("SELECT * FROM metadata.maintenance_windows")
    said: dict[tuple[str, dt.datetime], set[str]] = defaultdict(set)
    for each in [*checks, *pruned]:
        said[each["component"], floor(each["checked_at"], MINUTE)].add(each["status"])
    found: dict[tuple[dt.datetime, str], list[int]] = defaultdict(lambda: [0] * 4)
    for component in {component for component, _ in said}:
        minutes = [minute for name, minute in said if name == component]
        maintained = set()
        for window in windows:
            if window["component"] not in {None, component}:
                continue
            minute = floor(window["starts_at"], MINUTE)
            while minute < window["ends_at"]:
                if minutes and min(minutes) <= minute:
                    maintained.add(minute)
                minute += MINUTE
        for minute in maintained | set(minutes):
            statuses = said.get((component, minute), set())
            place = (
                3
                if minute in maintained
                else 1
                if "BAD" in statuses
                else 0
                if "GOOD" in statuses
                else 2
            )
            found[floor(minute, HOUR), component][place] += 1
    return {key: (each[0], each[1], each[2], each[3]) for key, each in found.items()}


async def test_a_minute_is_bad_if_any_check_in_it_was_else_good_if_any_was(loader, reader) -> None:
    await loader.execute("SET timezone = 'Asia/Kolkata'")
    await check(loader, "kafka", "GGBGUUUUU.BU", apart=MINUTE / 3)
    await check(loader, "disk", "G")
    assert await read_uptime(reader) == {
        (NOON, "kafka"): (1, 2, 1, 0),
        (NOON, "disk"): (1, 0, 0, 0),
    }
    assert await read_uptime(reader) == await count_minutes(reader)


async def test_late_corrected_and_moved_checks_are_counted_where_they_belong(loader) -> None:
    await check(loader, "kafka", "GG")
    await check(loader, "kafka", "B", start=NOON + HOUR)
    await check(loader, "kafka", "UB", start=NOON - 3 * HOUR)
    assert await read_uptime(loader) == {
        (NOON - 3 * HOUR, "kafka"): (0, 1, 1, 0),
        (NOON, "kafka"): (2, 0, 0, 0),
        (NOON + HOUR, "kafka"): (0, 1, 0, 0),
    }
    await loader.execute(
        "UPDATE metadata.health_checks SET status = 'GOOD', checked_at = checked_at - $1::interval"
        " WHERE checked_at = $2",
        dt.timedelta(minutes=30),
        NOON + HOUR,
    )
    await loader.execute(
        "UPDATE metadata.health_checks SET component = 'disk' WHERE status = 'UNKNOWN'"
    )
    assert await read_uptime(loader) == {
        (NOON - 3 * HOUR, "kafka"): (0, 1, 0, 0),
        (NOON - 3 * HOUR, "disk"): (0, 0, 1, 0),
        (NOON, "kafka"): (3, 0, 0, 0),
    }


async def test_a_window_counts_its_minutes_whatever_was_found_in_them(loader, reader) -> None:
    for component in ("kafka", "disk"):
        await check(loader, component, "G" * 10 + "B" * 10 + "." * 5)
    # From within the minute 8 until within the minute 22, which nobody checked.
    window = NOON + 8.5 * MINUTE, NOON + 22.5 * MINUTE
    await maintain(reader, *window, "kafka")
    assert await read_uptime(reader) == {
        (NOON, "kafka"): (8, 0, 0, 15),
        (NOON, "disk"): (10, 10, 0, 0),
    }
    # Checks that come late are within it too; a window of everything covers the same minutes once.
    await check(loader, "kafka", "BB", start=NOON + 12 * MINUTE)
    await maintain(reader, *window)
    assert await read_uptime(reader) == {
        (NOON, "kafka"): (8, 0, 0, 15),
        (NOON, "disk"): (8, 0, 0, 15),
    }


async def test_a_window_that_is_ended_early_or_moved_gives_its_minutes_back(loader, reader) -> None:
    await check(loader, "kafka", "G" * 150)
    await check(loader, "disk", "G" * 150)
    window = await maintain(reader, NOON + 30 * MINUTE, NOON + 130 * MINUTE)
    assert await read_uptime(reader) == {
        (NOON + hour * HOUR, component): minutes
        for component in ("kafka", "disk")
        for hour, minutes in enumerate([(30, 0, 0, 30), (0, 0, 0, 60), (20, 0, 0, 10)])
    }
    same = await maintain(
        reader, NOON + 30 * MINUTE, NOON + 70 * MINUTE, "kafka", changes=window, by="olga"
    )
    assert same == window
    assert await read_uptime(reader) == {
        (NOON, "kafka"): (30, 0, 0, 30),
        (NOON + HOUR, "kafka"): (50, 0, 0, 10),
        (NOON + 2 * HOUR, "kafka"): (30, 0, 0, 0),
        (NOON, "disk"): (60, 0, 0, 0),
        (NOON + HOUR, "disk"): (60, 0, 0, 0),
        (NOON + 2 * HOUR, "disk"): (30, 0, 0, 0),
    }
    row = await reader.fetchrow("SELECT * FROM metadata.maintenance_windows")
    assert (row["component"], row["created_by"], row["changed_by"]) == ("kafka", "otto", "olga")


async def test_hours_in_which_nobody_checked_are_maintenance_when_checks_come_again(
    loader, reader
) -> None:
    """As when the machine that checks is maintained itself."""
    await check(loader, "kafka", "G" * 10)
    await maintain(reader, NOON - 5 * HOUR, NOON + 3 * HOUR + 5 * MINUTE)
    assert await read_uptime(reader) == {
        (NOON, "kafka"): (0, 0, 0, 60),
        (NOON + HOUR, "kafka"): (0, 0, 0, 60),
        (NOON + 2 * HOUR, "kafka"): (0, 0, 0, 60),
        (NOON + 3 * HOUR, "kafka"): (0, 0, 0, 5),
    }
    # What nobody expected to be checked yet was not maintained either.
    await check(loader, "disk", "G", start=NOON + 20 * MINUTE)
    await check(loader, "disk", "GG", start=NOON + 4 * HOUR)
    found = await read_uptime(reader)
    assert found == await count_minutes(reader)
    assert found[NOON + 2 * HOUR, "disk"] == (0, 0, 0, 60)
    assert found[NOON, "disk"] == (0, 0, 0, 40)
    assert (NOON - HOUR, "disk") not in found


async def test_a_window_counts_up_to_now_and_goes_on_with_the_checks(loader, reader, owner) -> None:
    now = await owner.fetchval("SELECT date_trunc('hour', clock_timestamp(), 'UTC')")
    await check(loader, "kafka", "GG", start=now - HOUR)
    await maintain(reader, now - HOUR, now + 5 * HOUR)
    found = await read_uptime(reader)
    assert found[now - HOUR, "kafka"] == (0, 0, 0, 60)
    assert max(hour for hour, _ in found) <= now
    elapsed = await owner.fetchval("SELECT clock_timestamp()") - now
    assert found.get((now, "kafka"), (0, 0, 0, 0))[3] <= elapsed / MINUTE
    # A check that is an hour ahead says that the time until then has passed for its component.
    await check(loader, "kafka", "G", start=now + HOUR)
    found = await read_uptime(reader)
    assert (found[now, "kafka"], found[now + HOUR, "kafka"]) == ((0, 0, 0, 60), (0, 0, 0, 1))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"reason": " "}, "Say why: a maintenance window needs a reason."),
        ({"by": ""}, "A maintenance window needs the name of who sets it."),
        ({"end": None}, "A maintenance window needs a start and an end."),
        ({"end": dt.datetime.max.replace(tzinfo=dt.UTC)}, "A maintenance window needs a start"),
        ({"end": NOON}, "A maintenance window must end after it starts."),
        ({"end": NOON + dt.timedelta(days=30, seconds=1)}, "A maintenance window lasts at most"),
        ({"changes": 7}, "There is no maintenance window 7."),
    ],
)
async def test_what_makes_no_sense_is_refused_with_a_sentence(
    reader, given: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(asyncpg.RaiseError) as caught:
        await maintain(reader, **({"start": NOON, "end": NOON + HOUR} | given))
    assert str(caught.value).startswith(sentence)
    assert await reader.fetchval("SELECT count(*) FROM metadata.maintenance_windows") == 0


async def test_the_longest_window_is_taken(loader, reader) -> None:
    await check(loader, "kafka", "G")
    await maintain(reader, NOON, NOON + dt.timedelta(days=30))
    assert await read_uptime(reader) == await count_minutes(reader)


async def test_what_was_pruned_is_not_counted_again(loader, reader, owner) -> None:
    for day in range(3):
        await check(loader, "kafka", "GB" * 40, start=NOON + dt.timedelta(days=day))
    before = await read_uptime(reader)
    second = NOON + dt.timedelta(days=1)
    await owner.execute(
        "DELETE FROM metadata.health_checks WHERE checked_at < $1", second + 90 * MINUTE / 2
    )
    assert await read_uptime(reader) == before
    # Neither a window nor a late check takes away what only the rollup knows.
    await maintain(reader, NOON, second + 3 * HOUR)
    await check(loader, "kafka", "B")
    await check(loader, "kafka", "B", start=second + HOUR)
    assert await read_uptime(reader) == before
    await maintain(reader, NOON + dt.timedelta(days=2), NOON + dt.timedelta(days=2, hours=1))
    changed = await read_uptime(reader)
    assert changed.pop((NOON + dt.timedelta(days=2), "kafka")) == (0, 0, 0, 60)
    assert changed.items() < before.items()


async def test_a_check_of_today_that_is_deleted_does_not_end_the_counting(loader, owner) -> None:
    now = await owner.fetchval("SELECT clock_timestamp()")
    await check(loader, "kafka", "B", start=now)
    await owner.execute("DELETE FROM metadata.health_checks")
    assert [each[1] for each in (await read_uptime(owner)).values()] == [1]
    await check(loader, "kafka", "GG", start=now, apart=dt.timedelta(0))
    assert [each[:2] for each in (await read_uptime(owner)).values()] == [(1, 0)]


async def test_two_that_check_at_once_do_not_miss_each_other(database, loader) -> None:
    other = await asyncpg.connect(database.loader_url)
    try:
        async with asyncio.TaskGroup() as group, loader.transaction():
            await check(loader, "kafka", "G")
            await check(loader, "disk", "G")
            waiting = group.create_task(check(other, "kafka", ".G"))
            while not await loader.fetchval(
                "SELECT EXISTS (SELECT FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)"
                " WHERE NOT granted AND a.datname = current_database())"
            ):
                assert not waiting.done()
                await asyncio.sleep(0.005)
    finally:
        await other.close()
    assert await read_uptime(loader) == {
        (NOON, "kafka"): (2, 0, 0, 0),
        (NOON, "disk"): (1, 0, 0, 0),
    }


@pytest.fixture(params=["embedded_server", "debian_server"])
def place(request: pytest.FixtureRequest) -> Any:
    """Both servers that are promised to work."""
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("seed", range(2))
async def test_whatever_is_checked_and_maintained_uptime_says_the_same(place, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - it draws what is tried
    made = await place.create()
    loader = await asyncpg.connect(made.loader_url)
    reader = await asyncpg.connect(made.reader_url)
    windows: list[int] = []

    def moment(hours: int) -> dt.datetime:
        return NOON + dt.timedelta(seconds=chance.randrange(hours * 3600))

    components = ("kafka", "disk", "api")
    try:
        for _ in range(60):
            match chance.randrange(4):
                case 0:
                    start = moment(60)
                    component = chance.choice([None, *components])
                    end = start + dt.timedelta(seconds=chance.randint(1, 20_000))
                    changes = chance.choice([None, *windows])
                    windows.append(await maintain(reader, start, end, component, changes=changes))
                case 1:
                    await loader.execute(
                        "UPDATE metadata.health_checks SET checked_at = checked_at + $1,"
                        " component = $2 WHERE id % 7 = $3",
                        dt.timedelta(minutes=chance.randint(-300, 300)),
                        chance.choice(components),
                        chance.randrange(7),
                    )
                case _:
                    checks = [
                        (moment(60), chance.choice(components), chance.choice(STATUSES))
                        for _ in range(chance.randint(1, 20))
                    ]
                    await add_checks(loader, checks)
            found, expected = await read_uptime(reader), await count_minutes(reader)
            # After the last check of a component, its maintenance is counted when it is looked at.
            assert settle(found, expected) == settle(expected, expected)
    finally:
        await loader.close()
        await reader.close()
        await place.drop(made)


STATUSES = ("GOOD", "BAD", "UNKNOWN")


def settle(found: Uptime, expected: Uptime) -> Uptime:
    """Return the hours up to the last one of each component that has a check in it."""
    last = {
        component: max(
            (
                hour
                for (hour, name), each in expected.items()
                if name == component and any(each[:3])
            ),
            default=NOON,
        )
        for _, component in expected
    }
    return {key: each for key, each in found.items() if key[0] <= last.get(key[1], NOON)}
