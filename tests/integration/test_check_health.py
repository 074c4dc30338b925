"""Health checks written down: outages of PostgreSQL itself, events once an outage, maintenance."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from infra.health.finding import Check, Finding, Result, Status
from infra.health.postgres import check_postgres
from infra.health.record import write_results
from infra.local.postgres import Postgres
from infra.settings import Settings
from schemas.errors import TransientError
from tasks.check_health import HealthWatch, check_health, make_checks

NOON = dt.datetime(2026, 11, 20, 12, 0, 3, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)


@pytest.fixture(scope="module")
def own_server(embedded_server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A PostgreSQL that these tests may stop and freeze."""
    folder = tmp_path_factory.mktemp("health") / "data"
    with Postgres(folder, settings=embedded_server.postgres.settings) as postgres:
        yield type(embedded_server)(postgres)


@pytest.fixture
async def own_database(own_server) -> AsyncIterator[Any]:
    made = await own_server.create()
    yield made
    await own_server.drop(made)


@pytest.fixture
async def loader(database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.loader_url)
    yield connection
    await connection.close()


@pytest.fixture
async def owner(database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.owner_url)
    yield connection
    await connection.close()


class Parts:
    """Parts of a platform whose state is set by hand: a letter by component, G, B or U."""

    def __init__(self, **states: str) -> None:
        self.states = states

    @property
    def checks(self) -> dict[str, Check]:
        return {name: self._make(name) for name in self.states}

    def _make(self, name: str) -> Check:
        async def check() -> Finding:
            status = {"G": Status.GOOD, "B": Status.BAD, "U": Status.UNKNOWN}[self.states[name]]
            return Finding(status, f"{name} says {status}.")

        return check


Look = Callable[[str], Awaitable[None]]


@pytest.fixture
def look(database) -> Callable[..., Awaitable[None]]:
    """Called with letters: finds the component so, minute by minute from noon on.

    Each time by a process of its own, as if it had been restarted.
    """
    settings = Settings(database_url=database.loader_url, health_alert_after=3)
    taken: dict[str, int] = {}

    async def go_on(letters: str, component: str = "kafka") -> None:
        for letter in letters:
            taken[component] = taken.get(component, -1) + 1
            parts = Parts(**{component: letter})
            watch = HealthWatch(settings, database.loader_url, checks=parts.checks)
            await watch.look(NOON + taken[component] * MINUTE)

    return go_on


async def read_events(connection: asyncpg.Connection) -> list[tuple[str, str, str]]:
    """Return kind, problem and the minute after noon of each event, in their order."""
    rows = await connection.fetch("SELECT * FROM metadata.alert_events ORDER BY id")
    return [
        (row["kind"], row["problem"], str((row["happened_at"] - NOON) // MINUTE)) for row in rows
    ]


async def maintain(
    owner: asyncpg.Connection, component: str | None, first: int, after: int
) -> None:
    """Cover the minutes from the first up to the one after with maintenance."""
    await owner.fetchval(
        "SELECT metadata.set_maintenance(NULL, $1, $2, $3, 'a new release', 'otto')",
        component,
        NOON.replace(second=0) + first * MINUTE,
        NOON.replace(second=0) + after * MINUTE,
    )


# --- what is written ---------------------------------------------------------------------------


async def test_each_component_has_a_row_of_the_same_time(database, loader) -> None:
    settings = Settings(database_url=database.loader_url)
    parts = Parts(postgres="G", kafka="B", workers="U")
    results = await HealthWatch(settings, database.loader_url, checks=parts.checks).look(NOON)
    rows = await loader.fetch("SELECT * FROM metadata.health_checks ORDER BY id")
    assert [(row["component"], row["status"], row["detail"]) for row in rows] == [
        ("postgres", "GOOD", "postgres says GOOD."),
        ("kafka", "BAD", "kafka says BAD."),
        ("workers", "UNKNOWN", "workers says UNKNOWN."),
    ]
    assert {row["checked_at"] for row in rows} == {NOON}
    assert all(row["latency_seconds"] >= 0 for row in rows)
    assert [each.component for each in results] == ["postgres", "kafka", "workers"]
    uptime = await loader.fetch("SELECT * FROM metadata.rollup_uptime ORDER BY component")
    assert [(row["component"], row["good"], row["bad"], row["unknown"]) for row in uptime] == [
        ("kafka", 0, 1, 0),
        ("postgres", 1, 0, 0),
        ("workers", 0, 0, 1),
    ]


async def test_only_what_is_configured_is_looked_at(database, tmp_path: Path) -> None:
    always = ["postgres", "disk", "memory", "cpu"]
    bare = Settings(database_url=database.loader_url)
    assert list(make_checks(bare, database.loader_url)) == always
    whole = Settings(
        database_url=database.loader_url,
        kafka_bootstrap_servers="127.0.0.1:1",
        dashboard_port=8050,
        health_certificates=(str(tmp_path / "x.pem"),),
    )
    assert set(make_checks(whole, database.loader_url)) == {
        *always,
        "kafka",
        "dashboard",
        "certificates",
    }


async def test_this_machine_and_its_postgresql_are_looked_at_once(
    database, loader, tmp_path: Path
) -> None:
    settings = Settings(
        database_url=database.loader_url,
        log_folder=tmp_path,
        raw_folder=tmp_path,
        health_free_disk_percent=0,
        health_free_memory_percent=0,
    )
    results = await check_health(settings, database.loader_url)
    assert {each.component: each.status for each in results} == dict.fromkeys(
        ("postgres", "disk", "memory", "cpu"), Status.GOOD
    )
    said = {each.component: each.detail for each in results}
    assert said["disk"].startswith("Free: ")
    assert "data of PostgreSQL" in said["disk"]
    assert "GB free for its data" in said["postgres"]
    assert await loader.fetchval("SELECT count(*) FROM metadata.health_checks") == 4


# --- PostgreSQL is away ------------------------------------------------------------------------


def watch_postgres(database: Any) -> HealthWatch:
    """Return what looks at that PostgreSQL for real, and at a kafka that works."""
    settings = Settings(database_url=database.loader_url, health_timeout_seconds=0.5)
    checks: dict[str, Check] = {
        "postgres": lambda: check_postgres(database.loader_url),
        **Parts(kafka="G").checks,
    }
    return HealthWatch(settings, database.loader_url, checks=checks, write_seconds=0.5)


async def read_uptime(database: Any) -> dict[str, tuple[int, int, int]]:
    connection = await asyncpg.connect(database.loader_url)
    rows = await connection.fetch("SELECT * FROM metadata.rollup_uptime")
    await connection.close()
    return {row["component"]: (row["good"], row["bad"], row["unknown"]) for row in rows}


async def test_an_outage_of_postgresql_is_written_once_it_is_back(own_database) -> None:
    watch = watch_postgres(own_database)
    await watch.look(NOON)
    own_database.server.stop()
    for number in range(1, 5):
        with pytest.raises(TransientError, match="waits until PostgreSQL is back"):
            await watch.look(NOON + number * MINUTE)
    assert watch.waiting == 4
    own_database.server.start()
    await watch.look(NOON + 5 * MINUTE)
    assert watch.waiting == 0
    # Bad, and not unknown; kafka was good all the while.
    assert await read_uptime(own_database) == {"postgres": (2, 4, 0), "kafka": (6, 0, 0)}
    connection = await asyncpg.connect(own_database.loader_url)
    assert await read_events(connection) == [
        ("health", "component:postgres", "3"),
        ("recovery", "component:postgres", "5"),
    ]
    summaries = await connection.fetch("SELECT summary FROM metadata.alert_events ORDER BY id")
    await connection.close()
    down, up = (row["summary"] for row in summaries)
    assert down.startswith("postgres is BAD since 12:01 UTC (3 checks): PostgreSQL at 127.0.0.1:")
    assert up == "postgres is GOOD again after 4 minutes"


async def test_a_frozen_postgresql_is_bad_and_holds_nobody_up(own_database) -> None:
    watch = watch_postgres(own_database)
    await watch.look(NOON)
    frozen = own_database.server.cluster.find_processes()
    for process in frozen:
        process.suspend()
    try:
        with pytest.raises(TransientError, match="waits until PostgreSQL is back"):
            await watch.look(NOON + MINUTE)
    finally:
        for process in frozen:
            process.resume()
    await watch.look(NOON + 2 * MINUTE)
    assert await read_uptime(own_database) == {"postgres": (2, 1, 0), "kafka": (3, 0, 0)}


async def test_what_waits_is_bounded_and_the_newest_is_kept(
    own_database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.check_health.KEPT_TURNS", 3)
    watch = watch_postgres(own_database)
    own_database.server.stop()
    for number in range(5):
        with pytest.raises(TransientError):
            await watch.look(NOON + number * MINUTE)
    assert watch.waiting == 3
    own_database.server.start()
    await watch.look(NOON + 5 * MINUTE)
    assert await read_uptime(own_database) == {"postgres": (1, 2, 0), "kafka": (3, 0, 0)}


async def test_results_that_postgresql_refuses_wait_too(database, owner) -> None:
    await owner.execute("REVOKE INSERT ON metadata.alert_events FROM sluiceway_loader")
    settings = Settings(database_url=database.loader_url, health_alert_after=1)
    watch = HealthWatch(settings, database.loader_url, checks=Parts(kafka="B").checks)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await watch.look(NOON)
    # Rows and events stand or fall together.
    assert await owner.fetchval("SELECT count(*) FROM metadata.health_checks") == 0
    await owner.execute("GRANT INSERT ON metadata.alert_events TO sluiceway_loader")
    await watch.look(NOON + MINUTE)
    assert await owner.fetchval("SELECT count(*) FROM metadata.health_checks") == 2
    assert await read_events(owner) == [("health", "component:kafka", "0")]


# --- events ------------------------------------------------------------------------------------


async def test_an_outage_is_told_once_and_its_end_once(look, loader) -> None:
    await look("GBBBBBBGGB")
    assert await read_events(loader) == [
        ("health", "component:kafka", "3"),
        ("recovery", "component:kafka", "7"),
    ]
    [down, up] = await loader.fetch("SELECT * FROM metadata.alert_events ORDER BY id")
    assert (down["severity"], up["severity"]) == ("error", "info")
    assert down["summary"] == "kafka is BAD since 12:01 UTC (3 checks): kafka says BAD."
    assert up["summary"] == "kafka is GOOD again after 6 minutes"


async def test_less_than_three_in_a_row_is_not_told(look, loader) -> None:
    await look("BBGBBGBUBG")
    assert await read_events(loader) == []


async def test_unknown_neither_begins_nor_ends_an_outage(look, loader) -> None:
    await look("UUUU")
    assert await read_events(loader) == []
    await look("BUBUUB")
    assert await read_events(loader) == [("health", "component:kafka", "9")]
    await look("UUUBU")
    assert len(await read_events(loader)) == 1
    await look("G")
    assert (await read_events(loader))[1:] == [("recovery", "component:kafka", "15")]


async def test_each_outage_is_told(look, loader) -> None:
    await look("BBBGBBGBBBG")
    assert [(kind, at) for kind, _, at in await read_events(loader)] == [
        ("health", "2"),
        ("recovery", "3"),
        ("health", "9"),
        ("recovery", "10"),
    ]


async def test_components_are_told_apart(look, loader) -> None:
    await look("BB", "kafka")
    await look("BB", "disk")
    await look("B", "kafka")
    assert await read_events(loader) == [("health", "component:kafka", "2")]


@pytest.mark.parametrize("component", ["kafka", None])
async def test_maintenance_is_no_outage(component: str | None, look, owner) -> None:
    await maintain(owner, component, 1, 6)
    await look("GBBBBB")
    assert await read_events(owner) == []
    # What is still bad afterwards is one, from its end on.
    await look("BBB")
    assert await read_events(owner) == [("health", "component:kafka", "8")]


async def test_maintenance_of_another_part_hides_nothing(look, owner) -> None:
    await maintain(owner, "disk", 0, 60)
    await look("BBB")
    assert await read_events(owner) == [("health", "component:kafka", "2")]


async def test_an_outage_does_not_end_within_maintenance(look, owner) -> None:
    await maintain(owner, "kafka", 3, 6)
    await look("BBBGGG")
    assert len(await read_events(owner)) == 1
    await look("G")
    assert (await read_events(owner))[1:] == [("recovery", "component:kafka", "6")]


async def test_two_checkers_side_by_side_tell_once(database, loader) -> None:
    settings = Settings(database_url=database.loader_url, health_alert_after=3)
    parts = Parts(kafka="B")
    watches = [HealthWatch(settings, database.loader_url, checks=parts.checks) for _ in range(2)]

    async def pass_minutes(numbers: Sequence[int]) -> None:
        for number in numbers:
            at = NOON + number * MINUTE
            await asyncio.gather(
                *(each.look(at + dt.timedelta(seconds=2 * i)) for i, each in enumerate(watches))
            )

    await pass_minutes([0, 1])
    assert await read_events(loader) == []
    await pass_minutes([2, 3])
    parts.states["kafka"] = "G"
    await pass_minutes([4, 5])
    assert await read_events(loader) == [
        ("health", "component:kafka", "2"),
        ("recovery", "component:kafka", "4"),
    ]
    assert await loader.fetchval("SELECT count(*) FROM metadata.health_checks") == 12
    assert await loader.fetchval("SELECT bad FROM metadata.rollup_uptime") == 4


async def test_a_checker_waits_for_what_another_is_about_to_tell(database, loader, owner) -> None:
    # Uptime's own lock makes them wait too, but nobody should have to know that.
    await owner.execute("ALTER TABLE metadata.health_checks DISABLE TRIGGER count_new")
    results = [
        Result("kafka", Status.BAD, 0.1, "It is gone.", NOON + number * MINUTE)
        for number in range(3)
    ]
    second = await asyncpg.connect(database.loader_url)
    async with loader.transaction():
        assert len(await write_results(loader, results, alert_after=3)) == 1
        other = asyncio.create_task(write_results(second, results, alert_after=3))
        async with asyncio.timeout(30):
            while not await owner.fetchval(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = $1",
                second.get_server_pid(),
            ):
                assert not other.done()
                await asyncio.sleep(0.01)
    assert await other == []
    await second.close()


async def test_two_checkers_whose_postgresql_was_away_tell_once(own_database) -> None:
    watches = [watch_postgres(own_database) for _ in range(2)]
    own_database.server.stop()
    for number in range(4):
        for each in watches:
            with pytest.raises(TransientError):
                await each.look(NOON + number * MINUTE)
    own_database.server.start()
    for each in watches:
        await each.look(NOON + 4 * MINUTE)
    assert await read_uptime(own_database) == {"postgres": (1, 4, 0), "kafka": (5, 0, 0)}
    connection = await asyncpg.connect(own_database.loader_url)
    assert [kind for kind, _, _ in await read_events(connection)] == ["health", "recovery"]
    await connection.close()


# --- feeds that stopped coming -----------------------------------------------------------------


async def test_a_feed_that_stopped_coming_is_told_by_the_hour(
    database, loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    await loader.execute(
        """
        INSERT INTO metadata.load_profiles
            (execution_id, dataset, feed, read, duplicates, quarantined, columns, profiled_at)
        SELECT 1, 'sales_data', 'sales.csv', 1000, 0, 0, '{}',
            $1::timestamptz - n * interval '1 day'
        FROM generate_series(10, 70) AS n
        """,
        NOON,
    )
    settings = Settings(database_url=database.loader_url)
    watch = HealthWatch(settings, database.loader_url, checks=Parts(disk="G").checks)

    async def count() -> int:
        found: int = await loader.fetchval("SELECT count(*) FROM metadata.anomalies")
        return found

    await watch.look(NOON)
    assert await count() >= 1
    assert (
        await loader.fetchval(
            "SELECT count(*) FROM metadata.alert_events WHERE problem = 'dataset:sales_data'"
        )
        == 1
    )
    # Nobody looks again before an hour has passed.
    await loader.execute("UPDATE metadata.anomalies SET detected_at = detected_at - interval '1 y'")
    before = await count()
    await watch.look(NOON + MINUTE)
    assert await count() == before
    monkeypatch.setattr("tasks.check_health.SILENCE_SECONDS", 0)
    await watch.look(NOON + 2 * MINUTE)
    assert await count() > before


async def test_feeds_that_cannot_be_judged_end_no_check(database, owner) -> None:
    await owner.execute("DROP TABLE metadata.load_profiles CASCADE")
    settings = Settings(database_url=database.loader_url)
    watch = HealthWatch(settings, database.loader_url, checks=Parts(disk="G").checks)
    await watch.look(NOON)
    assert await owner.fetchval("SELECT count(*) FROM metadata.health_checks") == 1
