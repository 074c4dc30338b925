"""Rollups keep themselves: they say what the rows say, whoever wrote them, and in what order."""

import asyncio
import datetime as dt
import math
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy.ext.asyncio import create_async_engine

from deployments.bootstrap import bootstrap
from infra.postgres.connection import Pool
from infra.postgres.migrate import MIGRATIONS
from infra.settings import Settings
from tasks import watch_stream
from tasks.consume import Consumer
from tasks.record import Execution, hold_execution, record_execution
from tasks.watch_stream import StreamWatch

NOON = dt.datetime(2025, 11, 20, 12, tzinfo=dt.UTC)
TODAY = NOON.date()
TERMS = ("read", "inserted", "updated", "unchanged", "superseded", "duplicates", "quarantined")
STATES = ("RUNNING", "SUCCESS", "FAILED")


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
async def another(database) -> AsyncIterator[asyncpg.Connection]:
    """One more of the loader's, that is refused what it would have to wait for."""
    connection = await asyncpg.connect(
        database.loader_url, server_settings={"lock_timeout": "100ms"}
    )
    yield connection
    await connection.close()


@pytest.fixture
async def reader(database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.reader_url)
    yield connection
    await connection.close()


async def add_run(
    connection: asyncpg.Connection,
    status: str = "SUCCESS",
    *,
    start: dt.datetime = NOON,
    seconds: float = 1.5,
    rows: int = 10,
    pipeline: str = "p",
) -> int:
    end = None if status == "RUNNING" else start + dt.timedelta(seconds=seconds)
    added: int = await connection.fetchval(
        """
        INSERT INTO metadata.pipeline_executions
            (pipeline_name, status, start_time, end_time, records_processed)
        VALUES ($1, $2, $3, $4, $5) RETURNING id
        """,
        pipeline,
        status,
        start,
        end,
        rows,
    )
    return added


async def read_executions(connection: asyncpg.Connection) -> dict[tuple[Any, ...], Any]:
    """Return executions, rows and seconds by day, pipeline and status."""
    rows = await connection.fetch("SELECT * FROM metadata.rollup_executions WHERE executions <> 0")
    return {tuple(row)[:3]: (row[3], row[4], pytest.approx(row[5], abs=1e-3)) for row in rows}


async def read_durations(connection: asyncpg.Connection) -> dict[tuple[Any, ...], int]:
    rows = await connection.fetch("SELECT * FROM metadata.rollup_durations WHERE executions <> 0")
    return {tuple(row)[:3]: row[3] for row in rows}


async def agrees(connection: asyncpg.Connection, pruned: Iterable[asyncpg.Record] = ()) -> None:
    """Fail where the rollups of runs differ from the runs, and those that were pruned."""
    kept = await connection.fetch("SELECT * FROM metadata.pipeline_executions")
    figures: dict[tuple[Any, ...], list[float]] = defaultdict(lambda: [0, 0, 0.0])
    durations = Counter[tuple[Any, ...]]()
    for run in [*kept, *pruned]:
        if run["status"] == "RUNNING":
            continue
        day, seconds = run["start_time"].date(), (run["end_time"] - run["start_time"]) / SECOND
        figure = figures[day, run["pipeline_name"], run["status"]]
        figure[0] += 1
        figure[1] += run["records_processed"]
        figure[2] += seconds
        bucket = math.floor(8 * math.log2(max(seconds, 0.001)))
        durations[day, run["pipeline_name"], bucket] += 1
    assert await read_executions(connection) == {key: tuple(each) for key, each in figures.items()}
    assert await read_durations(connection) == dict(durations)


SECOND = dt.timedelta(seconds=1)


async def until_waiting(connection: asyncpg.Connection, sessions: int) -> None:
    """Return when so many sessions of this database wait for a lock."""
    waiting = (
        "SELECT count(*) >= $1 FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(30):
        while not await connection.fetchval(waiting, sessions):  # noqa: ASYNC110 - it rings no bell
            await asyncio.sleep(0.005)


async def test_a_run_is_counted_when_it_ended_by_the_day_of_its_start_in_utc(loader) -> None:
    await loader.execute("SET timezone = 'Asia/Kolkata'")
    late = dt.datetime(2025, 11, 20, 23, 59, 59, tzinfo=dt.UTC)
    await add_run(loader, start=late, seconds=3.0, rows=5)
    await add_run(loader, start=late, seconds=5.0, rows=6)
    await add_run(loader, "FAILED", start=late, seconds=0.0, rows=0)
    await add_run(loader, "RUNNING", start=late)
    assert await read_executions(loader) == {
        (TODAY, "p", "SUCCESS"): (2, 11, 8.0),
        (TODAY, "p", "FAILED"): (1, 0, 0.0),
    }
    # 2^(12/8) is 2.8 s, 2^(18/8) is 4.8 s; a run of no time counts as one of a millisecond.
    assert await read_durations(loader) == {
        (TODAY, "p", 12): 1,
        (TODAY, "p", 18): 1,
        (TODAY, "p", -80): 1,
    }


async def test_a_bucket_begins_with_its_least_duration(owner) -> None:
    bucket = "SELECT metadata.duration_bucket(make_interval(secs => $1))"
    for octave in range(-6, 22):
        assert await owner.fetchval(bucket, 2.0**octave) == 8 * octave
        assert await owner.fetchval(bucket, 2.0**octave - 1e-6) == 8 * octave - 1


async def test_a_run_that_goes_on_writes_nothing(loader) -> None:
    running = Execution(await add_run(loader, "RUNNING"), "p")
    await add_run(loader)
    versions = (
        "SELECT ctid, xmin FROM metadata.rollup_executions"
        " UNION ALL SELECT ctid, xmin FROM metadata.rollup_durations"
    )
    before = await loader.fetch(versions)
    for running.records_processed in range(5):
        await hold_execution(loader, running)
    await loader.execute("UPDATE metadata.pipeline_executions SET warnings = '{late}'")
    assert await loader.fetch(versions) == before
    assert len(before) == 2


async def test_a_run_that_was_taken_for_dead_is_counted_once(loader) -> None:
    end = "UPDATE metadata.pipeline_executions SET status = $2, end_time = $3 WHERE id = $1"
    run = Execution(await add_run(loader, "RUNNING"), "p", records_processed=3)
    await loader.execute(end, run.id, "FAILED", NOON + 2 * SECOND)
    assert await read_executions(loader) == {(TODAY, "p", "FAILED"): (1, 10, 2.0)}
    await hold_execution(loader, run)
    assert await read_executions(loader) == {}
    await loader.execute(end, run.id, "SUCCESS", NOON + 4 * SECOND)
    assert await read_executions(loader) == {(TODAY, "p", "SUCCESS"): (1, 3, 4.0)}
    assert await read_durations(loader) == {(TODAY, "p", 16): 1}


async def test_a_start_that_is_corrected_over_midnight_moves_the_run(loader) -> None:
    run = await add_run(loader, seconds=4.0)
    await loader.execute(
        "UPDATE metadata.pipeline_executions SET start_time = start_time - interval '12 hours 4 s'"
        " WHERE id = $1",
        run,
    )
    yesterday = TODAY - dt.timedelta(days=1)
    assert await read_executions(loader) == {(yesterday, "p", "SUCCESS"): (1, 10, 43208.0)}
    await agrees(loader)


CHANGES = (
    "SET status = 'RUNNING', end_time = NULL",
    "SET status = 'SUCCESS', end_time = start_time + $1::integer * interval '37 ms'",
    "SET status = 'FAILED', end_time = start_time + $1::integer * interval '91 s'",
    "SET start_time = start_time - $1::integer * interval '7 minutes'",
    "SET records_processed = records_processed + $1::integer",
    "SET pipeline_name = 'p' || $1::integer % 4",
    "SET parameters = to_jsonb($1::integer)",
)


async def change_runs(connection: asyncpg.Connection, chance: random.Random) -> None:
    """Add some runs, or change some, in one statement."""
    if chance.random() < 0.4:
        runs = [
            (
                f"p{chance.randrange(4)}",
                status := chance.choice(STATES),
                start := NOON + dt.timedelta(minutes=chance.randrange(3000)),
                None
                if status == "RUNNING"
                else start + dt.timedelta(milliseconds=chance.randrange(10**6)),
                chance.randrange(1000),
            )
            for _ in range(chance.randint(1, 6))
        ]
        await connection.execute(
            """
            INSERT INTO metadata.pipeline_executions
                (pipeline_name, status, start_time, end_time, records_processed)
            SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[],
                                 $5::bigint[])
            """,
            *(list(each) for each in zip(*runs, strict=True)),
        )
        return
    change = chance.choice(CHANGES)
    # An end stays after its start, and only a run that ended has one.
    await connection.execute(
        f"UPDATE metadata.pipeline_executions {change} WHERE id % 5 = $2"
        if "$1" in change
        else f"UPDATE metadata.pipeline_executions {change} WHERE id % 5 = $2 + 0 * $1::integer",
        chance.randrange(1, 400),
        chance.randrange(5),
    )


@pytest.fixture(params=["embedded_server", "debian_server"])
def place(request: pytest.FixtureRequest) -> Any:
    """Both servers that are promised to work."""
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("seed", range(2))
async def test_whatever_is_done_to_runs_the_rollups_say_the_same(place, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - it draws what is tried
    made = await place.create()
    loader = await asyncpg.connect(made.loader_url)
    owner = await asyncpg.connect(made.owner_url)
    pruned: list[asyncpg.Record] = []
    try:
        for _ in range(40):
            await change_runs(loader, chance)
            if chance.random() < 0.1:
                pruned += await owner.fetch(
                    "DELETE FROM metadata.pipeline_executions WHERE id % 11 = $1 RETURNING *",
                    chance.randrange(11),
                )
            await agrees(owner, pruned)
    finally:
        await loader.close()
        await owner.close()
        await place.drop(made)
    assert pruned


async def test_runs_that_end_at_once_in_another_order_do_not_lock_each_other_out(
    database, owner, loader, reader
) -> None:
    for name in "abc":
        await add_run(loader, pipeline=name)
    end_all = """
        INSERT INTO metadata.pipeline_executions (pipeline_name, status, start_time, end_time)
        SELECT name, 'SUCCESS', $2, $2 FROM unnest($1::text[]) AS name
    """
    blocked = [await asyncpg.connect(database.loader_url) for _ in range(2)]
    try:
        async with asyncio.TaskGroup() as group, owner.transaction():
            await owner.execute(
                "UPDATE metadata.rollup_executions SET executions = executions"
                " WHERE pipeline_name = 'c'"
            )
            for connection, names in zip(blocked, (["a", "c", "b"], ["b", "c", "a"]), strict=True):
                group.create_task(connection.execute(end_all, names, NOON))
            await until_waiting(loader, 2)
    finally:
        for each in blocked:
            await each.close()
    await agrees(owner)


async def add_counts(  # one ledger, as a load or a batch writes it
    connection: asyncpg.Connection,
    run: int,
    dataset: str,
    *,
    source: str = "a file",
    day: dt.datetime = NOON,
    terms: Sequence[int] = (1, 2, 3, 4, 5, 6),
) -> int:
    batch: int = await connection.fetchval("SELECT nextval('metadata.source_files_id_seq')")
    await connection.execute(
        """
        INSERT INTO metadata.dataset_counts
            (execution_id, batch_id, dataset, source, recorded_at, read, inserted, updated,
             unchanged, superseded, duplicates, quarantined)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
        """,
        run,
        batch,
        dataset,
        source,
        day,
        sum(terms),
        *terms,
    )
    return batch


async def read_counts(
    connection: asyncpg.Connection, table: str = "daily_counts"
) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """Return read, loaded, superseded, duplicates and quarantined by day, dataset and source."""
    rows = await connection.fetch(f"SELECT * FROM metadata.{table}")  # noqa: S608 - a constant
    found = {tuple(row)[:3]: tuple(row)[3:] for row in rows}
    return {key: each for key, each in found.items() if any(each)}


async def count_ledgers(
    connection: asyncpg.Connection,
) -> dict[tuple[Any, ...], tuple[int, ...]]:
    """Return the same from the ledgers themselves."""
    found: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * 5)
    for row in await connection.fetch("SELECT * FROM metadata.dataset_counts"):
        read, inserted, updated, unchanged, *others = (row[term] for term in TERMS)
        key = row["recorded_at"].date(), row["dataset"], row["source"]
        terms = (read, inserted + updated + unchanged, *others)
        found[key] = [a + b for a, b in zip(found[key], terms, strict=True)]
    return {key: tuple(each) for key, each in found.items()}


async def test_rows_are_counted_at_once_and_folded_later(loader, reader) -> None:
    run = await add_run(loader)
    await loader.execute("SET timezone = 'Asia/Kolkata'")
    late = NOON.replace(hour=23)
    await add_counts(loader, run, "sales", day=late)
    await add_counts(loader, run, "sales", day=late, terms=(10, 0, 0, 0, 0, 1))
    await add_counts(loader, run, "customers", source="data-stream")
    expected = {
        (TODAY, "sales", "a file"): (32, 16, 4, 5, 7),
        (TODAY, "customers", "data-stream"): (21, 6, 4, 5, 6),
    }
    assert await read_counts(reader) == expected
    assert await read_counts(reader, "rollup_counts") == {}
    assert await loader.fetchval("SELECT metadata.fold_counts()") == 3
    assert await loader.fetchval("SELECT metadata.fold_counts()") == 0
    assert await read_counts(reader) == expected
    assert await read_counts(reader, "rollup_counts") == expected
    assert await reader.fetchval("SELECT count(*) FROM metadata.counts_pending") == 0


async def test_a_ledger_that_is_corrected_or_pruned(loader, owner) -> None:
    run = await add_run(loader)
    await add_counts(loader, run, "sales")
    await add_counts(loader, run, "sales", source="another file")
    await loader.execute("SELECT metadata.fold_counts()")
    await loader.execute(
        "UPDATE metadata.dataset_counts SET recorded_at = recorded_at - interval '1 day',"
        " read = read + 1, inserted = inserted + 1 WHERE source = 'a file'"
    )
    yesterday = TODAY - dt.timedelta(days=1)
    expected = {
        (yesterday, "sales", "a file"): (22, 7, 4, 5, 6),
        (TODAY, "sales", "another file"): (21, 6, 4, 5, 6),
    }
    for _ in range(2):
        assert await read_counts(owner) == expected
        await loader.execute("SELECT metadata.fold_counts()")
    await owner.execute("DELETE FROM metadata.dataset_counts")
    assert await read_counts(owner) == expected


async def test_loads_that_count_in_another_order_wait_for_nobody(loader, another) -> None:
    run = await add_run(loader)
    for dataset in ("customers", "sales"):
        await add_counts(loader, run, dataset)
    await loader.execute("SELECT metadata.fold_counts()")
    async with loader.transaction(), another.transaction():
        await add_counts(loader, run, "customers")
        await add_counts(another, run, "sales")
        await add_counts(loader, run, "sales")
        await add_counts(another, run, "customers")
    await loader.execute("SELECT metadata.fold_counts()")
    assert await read_counts(loader) == await count_ledgers(loader)


async def test_who_folds_while_another_does_leaves_it_to_the_other(loader, another) -> None:
    run = await add_run(loader)
    await add_counts(loader, run, "sales")
    async with loader.transaction():
        assert await loader.fetchval("SELECT metadata.fold_counts()") == 1
        await add_counts(another, run, "sales")
        assert await another.fetchval("SELECT metadata.fold_counts()") == 0
    assert await another.fetchval("SELECT metadata.fold_counts()") == 1
    assert await read_counts(loader) == await count_ledgers(loader)


async def test_folding_while_others_load_loses_and_doubles_nothing(database, loader) -> None:
    run = await add_run(loader)

    async def load(seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - it draws what is tried
        connection = await asyncpg.connect(database.loader_url)
        for _ in range(25):
            transaction = connection.transaction()
            await transaction.start()
            for _ in range(chance.randint(1, 4)):
                day = NOON + dt.timedelta(days=chance.randrange(3))
                await add_counts(connection, run, chance.choice("abc"), day=day)
            await (transaction.rollback if chance.random() < 0.2 else transaction.commit)()
        await connection.close()

    folded = 0

    async def fold(tasks: list[asyncio.Task[None]]) -> None:
        nonlocal folded
        connection = await asyncpg.connect(database.loader_url)
        while not all(task.done() for task in tasks):
            folded += await connection.fetchval("SELECT metadata.fold_counts()")
        await connection.close()

    async with asyncio.TaskGroup() as group:
        loads = [group.create_task(load(seed)) for seed in range(3)]
        group.create_task(fold(loads))
        group.create_task(fold(loads))
    assert folded > 0
    expected = await count_ledgers(loader)
    assert await read_counts(loader) == expected
    await loader.execute("SELECT metadata.fold_counts()")
    assert await read_counts(loader, "rollup_counts") == expected


async def test_what_rules_found_is_counted_by_day(loader, reader) -> None:
    add = """
        INSERT INTO metadata.quality_results
            (execution_id, batch_id, dataset, column_name, rule, checked, failed, statistics,
             recorded_at)
        VALUES (1, 1, 'sales', $1, $2, $3, $4, $5, $6)
    """
    await loader.executemany(
        add,
        [
            ("city", "completeness", 10, 4, '{"filled": 3, "mistyped": 1, "mean": 2.5}', NOON),
            ("city", "completeness", 20, 0, '{"filled": 2}', NOON),
            ("city", "completeness", 5, 1, '{"filled": "many"}', NOON + dt.timedelta(days=1)),
            (None, "dates in order", 10, 2, "{}", NOON),
        ],
    )
    daily = "SELECT * FROM metadata.daily_quality ORDER BY day, column_name"
    expected = [
        (TODAY, "sales", "city", "completeness", 30, 4, 5, 1),
        (TODAY, "sales", None, "dates in order", 10, 2, 0, 0),
        (TODAY + dt.timedelta(days=1), "sales", "city", "completeness", 5, 1, 0, 0),
    ]
    assert [tuple(row) for row in await reader.fetch(daily)] == expected
    assert await loader.fetchval("SELECT metadata.fold_counts()") == 4
    assert [tuple(row) for row in await reader.fetch(daily)] == expected
    await loader.execute("UPDATE metadata.quality_results SET failed = 3 WHERE failed = 2")
    await loader.execute("SELECT metadata.fold_counts()")
    expected[1] = (TODAY, "sales", None, "dates in order", 10, 3, 0, 0)
    assert [tuple(row) for row in await reader.fetch(daily)] == expected


async def test_nobody_but_the_owner_may_write_a_figure(loader, reader) -> None:
    figures = """
        SELECT c.relname FROM pg_class AS c
        WHERE c.relnamespace = 'metadata'::regnamespace AND c.relkind IN ('r', 'v')
            AND (c.relname ~ '^(rollup|daily|pruned)_|_pending$'
                OR c.relname = 'maintenance_windows')
            AND {} has_table_privilege(c.oid, '{}') ORDER BY 1
    """
    functions = """
        SELECT proname FROM pg_proc WHERE pronamespace = 'metadata'::regnamespace
            AND provolatile = 'v' AND has_function_privilege(oid, 'EXECUTE')
    """
    rights = (
        (loader, ["find_uncontracted", "fold_counts", "prune"]),
        (reader, ["set_maintenance"]),
    )
    for connection, allowed in rights:
        assert await connection.fetch(figures.format("NOT", "SELECT")) == []
        assert len(await connection.fetch(figures.format("", "SELECT"))) == 11
        assert await connection.fetch(figures.format("", "INSERT, UPDATE, DELETE, TRUNCATE")) == []
        assert sorted(row[0] for row in await connection.fetch(functions)) == allowed


async def test_what_each_role_may(loader, reader) -> None:
    maintain = "SELECT metadata.set_maintenance(NULL, NULL, now(), now() + '1 h', 'x', 'otto')"
    fold = "SELECT metadata.fold_counts()"
    await loader.execute(fold)
    await reader.execute(f"BEGIN READ WRITE; {maintain}; COMMIT")
    for connection, refused in ((loader, maintain), (reader, fold)):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"BEGIN READ WRITE; {refused}; COMMIT")
        await connection.execute("ROLLBACK")
    everything = await reader.fetch(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'metadata'"
    )
    assert {row[0] for row in everything} >= {
        "rollup_durations", "rollup_quality", "counts_pending", "daily_counts", "daily_quality",
    }  # fmt: skip
    for (name,) in everything:
        # What a message or a rejected row said is not for the reader, encrypted or not.
        columns = "id" if name in {"quarantine", "dead_letters", "unsent_messages"} else "*"
        await reader.fetch(f"SELECT {columns} FROM metadata.{name}")  # noqa: S608 - the catalogue's own


async def test_rows_that_were_there_before_the_rollups_are_in_them(embedded_server) -> None:
    postgres, name = embedded_server.postgres, "test_before_rollups"
    control = await asyncpg.connect(postgres.url("postgres"))
    try:
        await control.execute(f"CREATE DATABASE {name}")
        engine = create_async_engine(
            postgres.url(name).replace("postgresql://", "postgresql+asyncpg://", 1)
        )
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        async with engine.begin() as connection:
            config.attributes["connection"] = connection
            await connection.run_sync(lambda at: migrate_to(config, at, "0002"))
        await engine.dispose()
        owner = await asyncpg.connect(postgres.url(name))
        run = await add_run(owner)
        await add_counts(owner, run, "sales")
        await owner.execute(
            "INSERT INTO metadata.health_checks (checked_at, component, status)"
            " VALUES ($1, 'kafka', 'GOOD')",
            NOON,
        )
        await bootstrap(postgres.url(name))
        await agrees(owner)
        assert await read_counts(owner, "rollup_counts") == await count_ledgers(owner)
        uptime = await owner.fetchrow("SELECT hour, component, good FROM metadata.rollup_uptime")
        assert tuple(uptime) == (NOON, "kafka", 1)
        await owner.close()
    finally:
        await control.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await control.close()


def migrate_to(config: Config, connection: Any, version: str) -> None:
    config.attributes["connection"] = connection
    command.upgrade(config, version)


async def test_a_run_folds_what_was_counted_when_it_ends(pool: Pool, loader) -> None:
    async with record_execution(pool, "p") as run:
        await add_counts(loader, run.id, "sales")
        assert await read_counts(loader, "rollup_counts") == {}
    assert await read_counts(loader, "rollup_counts") == await count_ledgers(loader)


async def test_a_run_does_not_fail_by_folding(pool: Pool, owner) -> None:
    await owner.execute("DROP FUNCTION metadata.fold_counts")
    async with record_execution(pool, "p") as run:
        await add_counts(owner, run.id, "sales")
    status = "SELECT status FROM metadata.pipeline_executions WHERE id = $1"
    assert await owner.fetchval(status, run.id) == "SUCCESS"
    assert await read_counts(owner) == await count_ledgers(owner)


async def test_a_consumer_folds_what_was_counted_while_it_runs(
    pool: Pool, loader, execution_id: int, embedded_broker, messages, monkeypatch
) -> None:
    monkeypatch.setattr(watch_stream, "REPORT_SECONDS", 0.01)
    servers = embedded_broker.bootstrap_servers
    await messages(servers).create("folded")
    settings = Settings(kafka_bootstrap_servers=servers, kafka_topic="folded")
    await add_counts(loader, execution_id, "sales")
    consumer = Consumer(pool, settings, {})
    watching = asyncio.create_task(
        StreamWatch(pool, settings, Execution(execution_id, "test")).run(consumer)
    )
    pending = "SELECT count(*) FROM metadata.counts_pending"
    try:
        async with asyncio.timeout(30):
            while await loader.fetchval(pending):  # noqa: ASYNC110 - it rings no bell
                await asyncio.sleep(0.005)
    finally:
        watching.cancel()
        await asyncio.wait([watching])
        await consumer.source.stop()
    assert await read_counts(loader, "rollup_counts") == await count_ledgers(loader)
