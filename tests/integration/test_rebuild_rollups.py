"""Rebuilding: what the kept rows say, while pipelines run, and nothing of what was pruned."""

import asyncio
import datetime as dt
import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from deployments.rebuild_rollups import ROLLUPS, rebuild_rollups
from schemas.errors import SettingError, TransientError

ROOT = Path(__file__).parents[2]
NOON = dt.datetime(2025, 11, 20, 12, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
RAW = ("pipeline_executions", "dataset_counts", "quality_results", "health_checks")


@pytest.fixture
async def owner(database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.owner_url)
    yield connection
    await connection.close()


async def fill(connection: asyncpg.Connection, days: int = 3) -> None:
    """Write runs, ledgers, results and checks of some days, a maintained hour among them."""
    await connection.execute(
        """
        INSERT INTO metadata.pipeline_executions
            (pipeline_name, status, start_time, end_time, records_processed)
        SELECT 'p' || n % 2, CASE WHEN n % 3 = 0 THEN 'FAILED' ELSE 'SUCCESS' END, at,
            at + n * interval '1.7 s', n
        FROM generate_series(0, $1::integer * 8 - 1) AS n,
            LATERAL (SELECT $2::timestamptz + n * interval '3 hours' AS at) AS begun
        """,
        days,
        NOON,
    )
    await connection.execute(
        """
        INSERT INTO metadata.dataset_counts
            (execution_id, batch_id, dataset, source, read, inserted, updated, unchanged,
             superseded, duplicates, quarantined, recorded_at)
        SELECT id, id, 'd' || id % 2, 'a file', 21, 1, 2, 3, 4, 5, 6, start_time
        FROM metadata.pipeline_executions
        """
    )
    await connection.execute(
        """
        INSERT INTO metadata.quality_results
            (execution_id, batch_id, dataset, column_name, rule, checked, failed, statistics,
             recorded_at)
        SELECT id, id, 'd', CASE WHEN id % 2 = 0 THEN 'c' END, 'type', 21, 6, '{"filled": 2}',
            start_time
        FROM metadata.pipeline_executions
        """
    )
    await connection.execute(
        """
        INSERT INTO metadata.health_checks (checked_at, component, status)
        SELECT at, component, 'GOOD' FROM unnest(ARRAY['kafka', 'disk']) AS component,
            generate_series($1::timestamptz, $1 + ($2 * 48 - 1) * interval '30 minutes',
                            interval '30 minutes') AS at
        """,
        NOON,
        days,
    )
    await connection.fetchval(
        "SELECT metadata.set_maintenance(NULL, NULL, $1, $2, 'a release', 'otto')",
        NOON + dt.timedelta(hours=2),
        NOON + dt.timedelta(hours=3),
    )


async def read_rollups(connection: asyncpg.Connection) -> dict[str, dict[Any, Any]]:
    """Return every rollup's rows by their keys, with what is not folded yet."""
    found = {}
    queries = {name: f"SELECT * FROM metadata.{name}" for name in ROLLUPS}  # noqa: S608 - constants
    queries["rollup_counts"] = "SELECT * FROM metadata.daily_counts"
    queries["rollup_quality"] = "SELECT * FROM metadata.daily_quality"
    keys = {"rollup_uptime": 2, "rollup_quality": 4}
    for name, query in queries.items():
        rows = [tuple(row) for row in await connection.fetch(query)]
        size = keys.get(name, 3)
        found[name] = {
            row[:size]: tuple(pytest.approx(each, abs=1e-3) for each in row[size:])
            for row in rows
            if any(row[size:])
        }
    return found


async def spoil(connection: asyncpg.Connection) -> None:
    """Make every rollup wrong in every way: too much, too little, missing, made up."""
    for name, column in (
        ("rollup_executions", "executions"),
        ("rollup_durations", "executions"),
        ("rollup_counts", "read"),
        ("rollup_quality", "failed"),
        ("rollup_uptime", "good"),
    ):
        day = "hour" if name == "rollup_uptime" else "day"
        for statement in (
            f"UPDATE metadata.{name} SET {column} = {column} + 7",  # noqa: S608 - constants
            f"DELETE FROM metadata.{name} WHERE {day} >= '2025-11-22'",  # noqa: S608 - constants
        ):
            await connection.execute(statement)
    await connection.execute(
        "INSERT INTO metadata.rollup_executions VALUES ('2025-11-21', 'nobody', 'FAILED', 1, 1, 1)"
    )
    await connection.execute("UPDATE metadata.counts_pending SET read = read + 1")


async def test_wrong_rollups_are_corrected_and_right_ones_left_alone(database, owner) -> None:
    await fill(owner)
    right = await read_rollups(owner)
    await owner.execute("SELECT metadata.fold_counts()")
    assert await rebuild_rollups(database.owner_url) == dict.fromkeys(ROLLUPS, 0)
    await spoil(owner)
    wrong = await read_rollups(owner)
    assert all(wrong[name] != right[name] for name in ROLLUPS)
    corrected = await rebuild_rollups(database.owner_url)
    assert await read_rollups(owner) == right
    assert corrected["rollup_executions"] == len(right["rollup_executions"]) + 1
    assert corrected["rollup_uptime"] == len(right["rollup_uptime"])
    assert await rebuild_rollups(database.owner_url) == dict.fromkeys(ROLLUPS, 0)


async def test_what_is_pending_is_counted_once(database, owner) -> None:
    await fill(owner)
    right = await read_rollups(owner)
    await rebuild_rollups(database.owner_url)
    assert await owner.fetchval("SELECT count(*) FROM metadata.counts_pending") == 0
    assert await owner.fetchval("SELECT count(*) FROM metadata.quality_pending") == 0
    await owner.execute("SELECT metadata.fold_counts()")
    assert await read_rollups(owner) == right


async def test_rows_written_behind_the_triggers_are_counted(database, owner) -> None:
    await fill(owner)
    right = await read_rollups(owner)
    for name in (*ROLLUPS, "counts_pending", "quality_pending"):
        await owner.execute(f"TRUNCATE metadata.{name}")
    await rebuild_rollups(database.owner_url)
    assert await read_rollups(owner) == right


async def test_what_was_pruned_stays_as_it_is(database, owner) -> None:
    await fill(owner)
    right = await read_rollups(owner)
    # In the middle of the second day: of that day, too, not everything is there any more.
    cut = NOON + DAY
    for name, column in zip(
        reversed(RAW), ("checked_at", "recorded_at", "recorded_at", "start_time"), strict=True
    ):
        await owner.execute(f"DELETE FROM metadata.{name} WHERE {column} < $1", cut)  # noqa: S608 - constants
    for _ in range(2):
        await rebuild_rollups(database.owner_url)
        assert await read_rollups(owner) == right
        await owner.execute("SELECT metadata.fold_counts()")
    # A day that lost nothing is corrected still.
    await owner.execute(
        "UPDATE metadata.rollup_executions SET executions = 99 WHERE day = '2025-11-22'"
    )
    await owner.execute("UPDATE metadata.rollup_uptime SET good = 59 WHERE hour >= '2025-11-22'")
    await rebuild_rollups(database.owner_url)
    assert await read_rollups(owner) == right


async def test_a_rollup_from_before_the_oldest_row_stays_as_it_is(database, owner) -> None:
    old = dt.date(2024, 1, 1)
    hour = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    await owner.execute(
        "INSERT INTO metadata.rollup_executions VALUES ($1, 'p', 'SUCCESS', 5, 5, 5)", old
    )
    await owner.execute("INSERT INTO metadata.rollup_durations VALUES ($1, 'p', 1, 5)", old)
    await owner.execute(
        "INSERT INTO metadata.rollup_counts VALUES ($1, 'd', 's', 1, 1, 1, 1, 1)", old
    )
    await owner.execute(
        "INSERT INTO metadata.rollup_quality VALUES ($1, 'd', 'c', 'r', 1, 1, 1, 1)", old
    )
    await owner.execute(
        "INSERT INTO metadata.rollup_uptime (hour, component, good, bad, unknown, maintenance)"
        " VALUES ($1, 'kafka', 60, 0, 0, 0), ($1, 'a component of old', 60, 0, 0, 0)",
        hour,
    )
    before = await read_rollups(owner)
    await rebuild_rollups(database.owner_url)
    assert await read_rollups(owner) == before
    await fill(owner)
    right = await read_rollups(owner)
    await spoil_recent(owner)
    await rebuild_rollups(database.owner_url)
    assert await read_rollups(owner) == right
    assert all(each.items() <= right[name].items() for name, each in before.items())


async def spoil_recent(connection: asyncpg.Connection) -> None:
    await connection.execute("DELETE FROM metadata.rollup_executions WHERE day > '2025-01-01'")
    await connection.execute("DELETE FROM metadata.rollup_uptime WHERE hour > '2025-01-01'")


async def test_nothing_is_lost_of_what_is_written_meanwhile(database, owner) -> None:
    await fill(owner)

    async def write(seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - it draws what is tried
        connection = await asyncpg.connect(database.loader_url)
        for _ in range(20):
            async with connection.transaction():
                run = await connection.fetchval(
                    "INSERT INTO metadata.pipeline_executions (pipeline_name, start_time)"
                    " VALUES ('meanwhile', $1) RETURNING id",
                    NOON + chance.randrange(3) * DAY,
                )
                await connection.execute(
                    """
                    INSERT INTO metadata.dataset_counts
                        (execution_id, batch_id, dataset, source, read, inserted, updated,
                         unchanged, superseded, duplicates, quarantined, recorded_at)
                    VALUES ($1, nextval('metadata.source_files_id_seq') + 1000, 'd', 's', 1, 1, 0,
                            0, 0, 0, 0, $2)
                    """,
                    run,
                    NOON + chance.randrange(3) * DAY,
                )
                await connection.execute(
                    "INSERT INTO metadata.health_checks (checked_at, component, status)"
                    " VALUES ($1, 'kafka', 'BAD')",
                    NOON + dt.timedelta(minutes=chance.randrange(4000)),
                )
            await connection.execute(
                "UPDATE metadata.pipeline_executions SET status = 'SUCCESS', end_time = start_time"
                " + interval '3 s', records_processed = 1 WHERE id = $1",
                run,
            )
            await connection.execute("SELECT metadata.fold_counts()")
        await connection.close()

    async def rebuild(writers: list[asyncio.Task[None]]) -> None:
        while not all(each.done() for each in writers):
            await rebuild_rollups(database.owner_url)

    async with asyncio.TaskGroup() as group:
        writers = [group.create_task(write(seed)) for seed in range(3)]
        group.create_task(rebuild(writers))
    kept = await read_rollups(owner)
    assert kept["rollup_executions"]
    corrected = await rebuild_rollups(database.owner_url)
    assert await read_rollups(owner) == kept
    # What is only pending is no mistake; these are never pending.
    assert {corrected[f"rollup_{name}"] for name in ("executions", "durations", "uptime")} == {0}


async def test_a_run_that_ends_while_its_rollup_is_rebuilt_waits_and_is_counted(
    database, owner
) -> None:
    await fill(owner)
    loader = await asyncpg.connect(database.loader_url)
    try:
        async with asyncio.TaskGroup() as group, owner.transaction():
            await owner.fetchval("SELECT metadata.rebuild_executions()")
            # To begin and to go on waits for nobody.
            run = await loader.fetchval(
                "INSERT INTO metadata.pipeline_executions (pipeline_name, start_time)"
                " VALUES ('meanwhile', $1) RETURNING id",
                NOON,
            )
            ending = group.create_task(
                loader.execute(
                    "UPDATE metadata.pipeline_executions SET status = 'SUCCESS',"
                    " end_time = start_time WHERE id = $1",
                    run,
                )
            )
            await until_one_waits(owner, ending)
    finally:
        await loader.close()
    counted = "SELECT executions FROM metadata.rollup_executions WHERE pipeline_name = 'meanwhile'"
    assert await owner.fetchval(counted) == 1


async def test_nobody_folds_what_a_rebuilding_does_not_know_of(database, owner) -> None:
    await fill(owner)
    await owner.execute("SELECT metadata.fold_counts()")
    loader = await asyncpg.connect(database.loader_url)
    try:
        async with asyncio.TaskGroup() as group, owner.transaction():
            # Held up between reading the ledgers and writing the rollup.
            await owner.execute(
                "UPDATE metadata.rollup_counts SET read = read WHERE day = '2025-11-20'"
            )
            rebuilding = group.create_task(rebuild_rollups(database.owner_url))
            await until_one_waits(owner, rebuilding)
            await loader.execute(
                """
                INSERT INTO metadata.dataset_counts
                    (execution_id, batch_id, dataset, source, read, inserted, updated, unchanged,
                     superseded, duplicates, quarantined, recorded_at)
                SELECT id, -1, 'd0', 'a file', 1, 1, 0, 0, 0, 0, 0, $1
                FROM metadata.pipeline_executions LIMIT 1
                """,
                NOON + DAY,
            )
            assert await loader.fetchval("SELECT metadata.fold_counts()") == 0
        assert await loader.fetchval("SELECT metadata.fold_counts()") == 1
    finally:
        await loader.close()
    right = await read_rollups(owner)
    assert (await rebuild_rollups(database.owner_url))["rollup_counts"] == 0
    assert await read_rollups(owner) == right


async def until_one_waits(connection: asyncpg.Connection, task: asyncio.Task[Any]) -> None:
    """Return when a session of this database waits for a lock; fail when the task ends instead."""
    waiting = (
        "SELECT EXISTS (SELECT FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)"
        " WHERE NOT granted AND a.datname = current_database())"
    )
    while not await connection.fetchval(waiting):
        assert not task.done()
        await asyncio.sleep(0.005)


async def test_the_wrong_database_or_role_is_a_sentence(database, embedded_server) -> None:
    with pytest.raises(SettingError, match=r"deployments\.bootstrap"):
        await rebuild_rollups(embedded_server.postgres.url("postgres"))
    with pytest.raises(SettingError, match="by their owner only"):
        await rebuild_rollups(database.loader_url)
    with pytest.raises(TransientError, match="cannot be reached"):
        await rebuild_rollups("postgresql://somebody:x@127.0.0.1:9/x")


async def test_the_command_prints_a_line_for_each_rollup(database, owner, tmp_path: Path) -> None:
    await fill(owner)
    await owner.execute("DELETE FROM metadata.rollup_durations")

    def run(owner_url: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "deployments.rebuild_rollups"],
            env=os.environ | {"SLUICEWAY_OWNER_DATABASE_URL": owner_url, "PYTHONPATH": str(ROOT)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    done = await asyncio.to_thread(run, database.owner_url)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == list(ROLLUPS)
    assert lines[1].endswith(" rows corrected")
    assert lines[1] != "rollup_durations: 0 rows corrected"
    refused = await asyncio.to_thread(run, "")
    assert refused.returncode == 1
    assert refused.stderr.startswith("SLUICEWAY_OWNER_DATABASE_URL is not set")
