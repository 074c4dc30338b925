"""A contract that refuses odd loads: nothing of one is merged, and a person can let it in."""

import datetime as dt
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pandas as pd
import pytest

from deployments.bootstrap import bootstrap
from infra.postgres.connection import Connection, Pool
from schemas.dataset import Dataset, Role, column
from schemas.errors import RefusedError
from tasks import keep_profile
from tasks.anomalies import Anomaly
from tasks.discover_files import Found
from tasks.extract_api import Fetched
from tasks.judge_load import judge_load
from tasks.load import Order, Outcome, Report
from tasks.load_endpoint import load_fetched
from tasks.load_file import load_found
from tasks.profile import ColumnProfile, LoadProfile, write_profile
from tasks.steps import load_frame


class Readings(
    Dataset, table="readings", role=Role.FACT, key=("reading_id",), refuse_anomalies=True
):
    """One row per reading of a meter."""

    reading_id: int = column()
    value: int = column()


class Meters(Dataset, table="meters", role=Role.DIMENSION, key=("meter_id",)):
    """One row per meter."""

    meter_id: int = column()


async def judge_by_the_last(
    connection: Connection, profile: LoadProfile, *_: object, at: object
) -> list[Anomaly]:
    """Find odd what has not as many rows as the feed's last load; serious is less than half."""
    last = await connection.fetchval(
        "SELECT read FROM metadata.load_profiles WHERE dataset = $1 AND feed = $2"
        " ORDER BY id DESC LIMIT 1",
        profile.dataset,
        profile.feed,
    )
    if last is None or profile.read >= last:
        return []
    few = f"{profile.read} rows of {profile.dataset} came instead of {last}."
    limits = float(profile.read), float(last), float(last), None
    common = profile.dataset, profile.feed, None
    found = [Anomaly(*common, "volume", "warning", *limits, few)]
    if profile.read * 2 < last:
        half = f"Less than half of {last} rows came."
        found.insert(0, Anomaly(*common, "volume", "error", *limits, half))
    return found


@pytest.fixture
async def owner(database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncpg.Connection]:
    monkeypatch.setattr(keep_profile, "judge_load", judge_by_the_last)
    await bootstrap(database.owner_url, datasets=(Readings, Meters))
    connection = await asyncpg.connect(database.owner_url)
    yield connection
    await connection.close()


Load = Callable[..., Awaitable[Report]]


def write(path: Path, rows: int, first: int = 1) -> Path:
    lines = "".join(f"{number},{number}\n" for number in range(first, first + rows))
    path.write_text(f"{'meter' if 'meters' in path.name else 'reading'}_id,value\n{lines}")
    return path


@pytest.fixture
def load_path(owner, pool: Pool, execution_id: int) -> Load:
    async def load(path: Path, dataset: type[Dataset] = Readings, **given: Any) -> Report:
        spec = dataset.spec
        order = Order(execution_id, str(path), spec.table, spec)
        return await load_found(pool, Found(path, spec.table, spec), order, **given)

    return load


async def test_an_odd_load_is_rolled_back_and_stands_in_the_manifest_with_what_was_odd(
    tmp_path: Path, owner: asyncpg.Connection, load_path: Load, execution_id: int
) -> None:
    await load_path(write(tmp_path / "readings_1.csv", 10))
    path = write(tmp_path / "readings_2.csv", 4, first=101)
    with pytest.raises(RefusedError) as error:
        await load_path(path)
    assert str(error.value) == (
        f"{path} was not loaded: Less than half of 10 rows came, and the contract Readings refuses "
        "such loads: mend the source, or, if it is right as it is, load it with "
        "--accept-anomalies."
    )
    assert await owner.fetchval("SELECT count(*) FROM warehouse.fact_readings") == 10
    assert await owner.fetchval("SELECT count(*) FROM staging.readings") == 10
    assert await owner.fetchval("SELECT sum(read) FROM metadata.dataset_counts") == 10
    refused = await owner.fetchrow(
        "SELECT id, message, path FROM metadata.source_files WHERE status = 'REFUSED'"
    )
    assert (refused["message"], refused["path"]) == (str(error.value), str(path))
    found = await owner.fetch(
        "SELECT severity, execution_id, batch_id, was_refused FROM metadata.anomalies ORDER BY id"
    )
    assert [tuple(row) for row in found] == [
        ("error", execution_id, refused["id"], True),
        ("warning", execution_id, refused["id"], True),
    ]
    [event] = await owner.fetch("SELECT * FROM metadata.alert_events WHERE kind = 'anomaly'")
    assert (event["problem"], event["severity"]) == ("dataset:readings", "error")
    assert json.loads(event["detail"])["was_refused"] is True
    # What was refused is nothing that others are compared with, and keeps no other source out.
    assert await owner.fetchval("SELECT count(*) FROM metadata.load_profiles") == 1
    assert (await load_path(write(tmp_path / "meters.csv", 3), Meters)).ledger.inserted == 3
    with pytest.raises(RefusedError, match="Less than half of 10 rows came"):
        await load_path(path)
    mended = await load_path(write(path, 12, first=101))
    assert (mended.ledger.inserted, mended.notes) == (12, ())


async def test_what_a_person_accepts_is_loaded_and_is_history_from_then_on(
    tmp_path: Path, owner: asyncpg.Connection, load_path: Load
) -> None:
    await load_path(write(tmp_path / "readings_1.csv", 10))
    path = write(tmp_path / "readings_2.csv", 4, first=101)
    with pytest.raises(RefusedError):
        await load_path(path)
    accepted = await load_path(path, accept_anomalies=True)
    assert (accepted.outcome, accepted.ledger.inserted) == (Outcome.LOADED, 4)
    assert accepted.notes == (
        "anomaly accepted (error): Less than half of 10 rows came.",
        "anomaly (warning): 4 rows of readings came instead of 10.",
    )
    written = await owner.fetchval("SELECT notes FROM metadata.source_files ORDER BY id DESC")
    assert tuple(written) == accepted.notes
    flags = await owner.fetch("SELECT was_refused FROM metadata.anomalies ORDER BY id")
    assert [row[0] for row in flags] == [True, True, False, False]
    # Three are less than half of ten, and more than half of four.
    after = await load_path(write(tmp_path / "readings_3.csv", 3, first=201))
    assert after.notes == ("anomaly (warning): 3 rows of readings came instead of 4.",)


async def test_a_warning_refuses_nothing_and_neither_does_a_contract_that_does_not_say_so(
    tmp_path: Path, owner: asyncpg.Connection, load_path: Load
) -> None:
    await load_path(write(tmp_path / "readings_1.csv", 10))
    few = await load_path(write(tmp_path / "readings_2.csv", 9))
    assert few.notes == ("anomaly (warning): 9 rows of readings came instead of 10.",)
    await load_path(write(tmp_path / "meters_1.csv", 10), Meters)
    lenient = await load_path(write(tmp_path / "meters_2.csv", 1), Meters)
    assert lenient.notes[1:] == (
        "anomaly (error): Less than half of 10 rows came.",
        "anomaly (warning): 1 rows of meters came instead of 10.",
    )
    assert not await owner.fetchval("SELECT bool_or(was_refused) FROM metadata.anomalies")


async def test_answers_and_frames_pass_the_same_gate(
    owner: asyncpg.Connection, pool: Pool, execution_id: int
) -> None:
    spec = Readings.spec

    async def load_answer(rows: int, **given: Any) -> Report:
        records = tuple({"reading_id": number, "value": 1} for number in range(rows))
        fetched = Fetched(records, str(rows), 1, dt.datetime.now(dt.UTC), ())
        order = Order(execution_id, "http://meters.example/readings", spec.table, spec)
        return await load_fetched(pool, fetched, order, **given)

    async def load_a_frame(rows: int, **given: Any) -> Report:
        frame = pd.DataFrame({"reading_id": range(rows), "value": 1})
        return await load_frame.fn(pool, frame, Readings, execution_id=execution_id, **given)

    for load in (load_answer, load_a_frame):
        await load(10)
        with pytest.raises(RefusedError, match="Less than half of 10 rows came"):
            await load(2)
        assert (await load(2, accept_anomalies=True)).ledger.unchanged == 2
    refused = await owner.fetch(
        "SELECT path FROM metadata.source_files WHERE status = 'REFUSED' ORDER BY id"
    )
    assert [row[0] for row in refused] == ["http://meters.example/readings", "frame"]


async def test_a_refusal_stands_even_where_its_anomalies_cannot_be_written(
    tmp_path: Path, owner: asyncpg.Connection, load_path: Load
) -> None:
    await load_path(write(tmp_path / "readings_1.csv", 10))
    await owner.execute("ALTER TABLE metadata.anomalies ADD CHECK (NOT was_refused)")
    with pytest.raises(RefusedError, match="refuses such loads"):
        await load_path(write(tmp_path / "readings_2.csv", 4))
    statuses = "SELECT status FROM metadata.source_files ORDER BY id"
    assert [row[0] for row in await owner.fetch(statuses)] == ["LOADED", "REFUSED"]


async def test_half_the_usual_rows_are_refused_by_what_really_judges(
    tmp_path: Path, owner: asyncpg.Connection, load_path: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keep_profile, "judge_load", judge_load)
    now = dt.datetime.now(dt.UTC)
    for days in range(60, 0, -1):
        columns = (ColumnProfile("value", 1000, 0, 0, None, "1", "1000"),)
        usual = LoadProfile("readings", "readings.csv", 1000 + days % 5, 0, 0, columns)
        at = now - dt.timedelta(days=days)
        await write_profile(owner, usual, execution_id=1, at=at)
    few = write(tmp_path / f"readings_{now:%Y-%m-%d}.csv", 480)
    with pytest.raises(RefusedError, match="480 rows"):
        await load_path(few)
    refused = await owner.fetch("SELECT DISTINCT rule, was_refused FROM metadata.anomalies")
    assert [tuple(row) for row in refused] == [("volume", True)]
    assert (await load_path(write(few, 1003))).notes == ()
