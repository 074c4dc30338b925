"""What a load leaves of itself for later ones, against a real PostgreSQL."""

import datetime as dt
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pandas as pd
import pytest
from structlog.testing import capture_logs

from deployments.bootstrap import bootstrap
from infra.postgres.connection import Pool
from infra.settings import Settings
from schemas.dataset import Dataset, Role, column
from schemas.datasets import ApiUsers, Customers
from schemas.errors import RefusedError, TransientError
from tasks import keep_profile, stream_days
from tasks.anomalies import Anomaly
from tasks.consume import Consumer
from tasks.extract_api import Fetched
from tasks.load import Order, Outcome
from tasks.load_endpoint import load_fetched
from tasks.message_rows import make_rows
from tasks.profile import LoadProfile
from tasks.record import Execution
from tasks.steps import load_frame
from tasks.stream_days import StreamDays, close_days
from tasks.watch_stream import StreamWatch

HEADER = "order_id,customer_id,product_id,order_date,quantity,unit_price,discount,channel\n"
SALES = HEADER + "".join(
    f"{number},{number % 7 + 1},3,2024-0{number % 9 + 1}-11,{number},{price},{discount},web\n"
    for number, price, discount in (
        *((5, "1234.50", ".5"), (6, "0.99", "1e-5"), (7, "100", "0"), (8, "9.99", "")),
        *((9, "17", "0.25"), (9, "17", "0.25"), (10_001, "1", "0")),
    )
)


async def profiles(pool: Pool) -> list[Any]:
    async with pool.acquire() as connection:
        return await connection.fetch(
            """
            SELECT p.*, f.path FROM metadata.load_profiles AS p
            LEFT JOIN metadata.source_files AS f ON f.id = p.batch_id ORDER BY p.id
            """
        )


async def test_a_file_leaves_one_profile_that_says_what_postgresql_says_of_its_rows(
    tmp_path: Path, pool: Pool, load, execution_id: int
) -> None:
    path = tmp_path / "sales_data_2025-01-31.csv"
    path.write_text(SALES)
    report = await load(path)
    [profile] = await profiles(pool)
    assert (profile["path"], profile["execution_id"]) == (str(path), execution_id)
    assert (profile["dataset"], profile["feed"], profile["day"]) == (
        *("sales_data", "sales_data.csv"),
        None,
    )
    assert (profile["read"], profile["duplicates"], profile["quarantined"]) == (7, 1, 1)
    columns = json.loads(profile["columns"])
    assert set(columns) == set(HEADER.strip().split(","))
    assert {each["rows"] for each in columns.values()} == {7}
    assert (columns["discount"]["missing"], columns["quantity"]["missing"]) == (1, 0)
    async with pool.acquire() as connection:
        for name, said in columns.items():
            [row] = await connection.fetch(
                f'SELECT min("{name}")::text, max("{name}")::text, count(DISTINCT "{name}")'  # noqa: S608 - the contract's own names
                " FROM staging.sales_data"
            )
            if name == "channel":
                assert (said["minimum"], said["maximum"], said["distinct"]) == (None, None, 1)
            else:
                assert (said["minimum"], said["maximum"]) == tuple(row)[:2]
                assert said["distinct"] in {row["count"], None}
        uncounted = {name for name, said in columns.items() if said["distinct"] is None}
        assert uncounted == {"unit_price", "discount"}
    assert report.notes == ()
    # An unchanged file is no load, and the next day's file is of the same feed.
    await load(path)
    path.rename(tmp_path / "sales_data_2025-02-01.csv")
    await load(tmp_path / "sales_data_2025-02-01.csv")
    assert [each["feed"] for each in await profiles(pool)] == ["sales_data.csv"] * 2


async def test_personal_values_are_in_no_profile(
    tmp_path: Path, pool: Pool, load, execution_id: int
) -> None:
    path = tmp_path / "customers.csv"
    path.write_text(
        "customer_id,name,email,signup_date\n1,Zoë Zebra,zoe@zebra.example,2024-01-01\n"
    )
    await load(path)
    users = Fetched(
        records=(
            {
                **dict.fromkeys(("name", "username"), "Yuri Yak"),
                "id": 1,
                "email": "yuri@yak.example",
                "address_geo_lat": 51.5074,
            },
        ),
        sha256="1",
        pages=1,
        fetched_at=dt.datetime.now(dt.UTC),
        notes=(),
    )
    order = Order(execution_id, "https://api.example/users", "api_users", ApiUsers.spec)
    await load_fetched(pool, users, order)
    of_file, of_answer = await profiles(pool)
    assert of_answer["feed"] == "https://api.example/users"
    geo = json.loads(of_answer["columns"])["address_geo_lat"]
    assert (geo["rows"], geo["missing"], geo["minimum"], geo["maximum"]) == (1, 0, None, None)
    for said in (of_file["columns"], of_answer["columns"]):
        assert not [each for each in ("Z", "zoe", "Yak", "yuri", "51") if each in said]


async def test_a_source_without_a_contract_and_a_frame_leave_theirs_too(
    tmp_path: Path, pool: Pool, load, execution_id: int
) -> None:
    path = tmp_path / "weather.csv"
    path.write_text("city,degrees\nOslo,1\nRome,\n")
    await load(path)
    day_one = "2024-01-01"
    frame = pd.DataFrame({"customer_id": [1, 2], "name": ["Ann", None], "signup_date": day_one})
    for day in (1, 2):
        await load_frame.fn(
            *(pool, frame, Customers), execution_id=execution_id, name=f"crm 2025-01-0{day}"
        )
    text, *frames = await profiles(pool)
    assert (text["dataset"], text["feed"], text["read"]) == ("weather", "weather.csv", 2)
    assert json.loads(text["columns"])["degrees"] == {
        "rows": 2,
        "missing": 1,
        "mistyped": 0,
        "distinct": 1,
        "minimum": None,
        "maximum": None,
    }
    assert [(each["feed"], each["quarantined"]) for each in frames] == [("crm", 1)] * 2


async def test_a_load_that_is_rolled_back_leaves_none(tmp_path: Path, pool: Pool, load) -> None:
    path = tmp_path / "customers.csv"
    path.write_text("customer_id,name,signup_date\n" + "x,Ann,2024-01-01\n" * 30)
    with pytest.raises(RefusedError):
        await load(path)
    assert await profiles(pool) == []


async def fail_in_postgresql(connection: asyncpg.Connection, *_: object, **__: object) -> Any:
    return await connection.fetchval("SELECT 1 / 0")


async def fail_in_python(*_: object, **__: object) -> Any:
    raise KeyError("a row of history that nobody foresaw")


async def find_odd(
    connection: object, profile: LoadProfile, *_: object, at: dt.datetime | None = None
) -> list[Anomaly]:
    summary = f"{profile.read} rows came, at {at}"
    odd = Anomaly(
        *(profile.dataset, profile.feed, None, "volume", "warning"),
        *(float(profile.read), 1.0, 0.0, 2.0, summary),
    )
    return [odd]


@pytest.mark.parametrize("judge", [fail_in_postgresql, fail_in_python])
async def test_a_fault_in_the_judging_costs_no_load_and_is_told(
    tmp_path: Path, pool: Pool, load, monkeypatch: pytest.MonkeyPatch, judge
) -> None:
    monkeypatch.setattr(keep_profile, "judge_load", judge)
    path = tmp_path / "sales_data.csv"
    path.write_text(SALES)
    with capture_logs() as logs:
        report = await load(path)
    assert (report.outcome, report.ledger.inserted) == (Outcome.LOADED, 5)
    assert [(each["event"], each["log_level"]) for each in logs] == [
        ("a load could not be judged", "error")
    ]
    assert len(await profiles(pool)) == 1


async def test_a_connection_that_breaks_while_it_is_judged_is_no_fault_of_the_judging(
    tmp_path: Path, pool: Pool, load, database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def break_connection(connection: asyncpg.Connection, *_: object, **__: object) -> Any:
        owner = await asyncpg.connect(database.owner_url)
        process_id = await connection.fetchval("SELECT pg_backend_pid()")
        await owner.execute("SELECT pg_terminate_backend($1)", process_id)
        await owner.close()
        return await connection.fetchval("SELECT 1")

    monkeypatch.setattr(keep_profile, "judge_load", break_connection)
    path = tmp_path / "sales_data.csv"
    path.write_text(SALES)
    with capture_logs() as logs, pytest.raises(TransientError, match="PostgreSQL went away"):
        await load(path)
    assert logs == []
    monkeypatch.setattr(keep_profile, "judge_load", find_odd)
    assert (await load(path)).ledger.inserted == 5


async def test_a_fault_in_the_writing_of_a_profile_costs_no_load_either(
    tmp_path: Path, pool: Pool, load, database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keep_profile, "judge_load", find_odd)
    owner = await asyncpg.connect(database.owner_url)
    await owner.execute("ALTER TABLE metadata.load_profiles ADD CHECK (read > 100)")
    path = tmp_path / "sales_data.csv"
    path.write_text(SALES)
    with capture_logs() as logs:
        report = await load(path)
    assert (report.outcome, report.ledger.inserted) == (Outcome.LOADED, 5)
    assert report.notes == ("anomaly (warning): 7 rows came, at None",)
    assert [each["event"] for each in logs] == ["a load's profile could not be written"]
    assert await owner.fetchval("SELECT count(*) FROM metadata.load_profiles") == 0
    # What was found is not lost with it.
    found = "SELECT summary, batch_id, was_refused FROM metadata.anomalies"
    batch = await owner.fetchval("SELECT max(id) FROM metadata.source_files")
    assert [tuple(row) for row in await owner.fetch(found)] == [
        ("7 rows came, at None", batch, False)
    ]
    await owner.close()


class Notes(Dataset, table="notes", role=Role.STAGING):
    """What people wrote."""

    text: str = column(str_length={"max_value": 5})
    stars: int = column(ge=0)
    written_on: dt.date = column(nullable=True)
    author_age: int = column(nullable=True, pii=True)


SPECS = {"notes": Notes.spec}
MONDAY = dt.datetime(2026, 11, 16, 12, 0, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def note(text: str, stars: int, written_on: str = "", age: int = 47) -> bytes:
    payload = {"text": text, "stars": stars, "written_on": written_on, "author_age": age}
    envelope = {"source": "notes", "timestamp": "2026-11-20T12:00:00Z", "payload": payload}
    return json.dumps(envelope).encode()


@pytest.fixture
async def owner(database) -> AsyncIterator[asyncpg.Connection]:
    await bootstrap(database.owner_url, datasets=(Notes,))
    connection = await asyncpg.connect(database.owner_url)
    yield connection
    await connection.close()


@pytest.fixture
def bring(owner, pool: Pool, session, execution_id: int, make_feed) -> Any:
    """Load messages as one micro-batch, and take note of it."""
    feed = make_feed(session, execution_id, SPECS)

    async def load_and_note(days: StreamDays, *values: bytes, now: dt.datetime = MONDAY) -> None:
        batch = await feed.take(*values)
        days.add(await feed.load(batch), make_rows(batch.messages, SPECS), now=now)

    return load_and_note


async def write(pool: Pool, days: StreamDays, execution_id: int) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await days.write(connection, execution_id=execution_id)
    days.profiles.clear()


async def close(pool: Pool, now: dt.datetime) -> list[str]:
    async with pool.acquire() as connection:
        return await close_days(connection, SPECS, execution_id=7, now=now)


async def test_a_day_of_the_stream_is_one_profile_of_all_consumers_and_is_judged_once(
    pool: Pool, bring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keep_profile, "judge_load", find_odd)
    one, other = StreamDays(), StreamDays()
    await bring(one, note("a", 9, "2025-02-01"), note("too long", 1), note("b", 3))
    await write(pool, one, 1)
    await bring(one, note("c", 10))
    await bring(one, note("c", 1), now=MONDAY + DAY)
    await write(pool, one, 1)
    await bring(other, note("d", 0, "1999-12-31"), note("e", 5))
    await write(pool, other, 2)
    # The day is over, but a consumer may have something to write yet.
    assert await close(pool, dt.datetime(2026, 11, 17, 0, 9, tzinfo=dt.UTC)) == []
    assert await profiles(pool) == []
    notes = await close(pool, dt.datetime(2026, 11, 17, 0, 10, tzinfo=dt.UTC))
    end = dt.datetime(2026, 11, 16, 23, 59, 59, 999_999, tzinfo=dt.UTC)
    assert notes == [f"notes on 2026-11-16 (UTC): anomaly (warning): 6 rows came, at {end}"]
    assert await close(pool, MONDAY + DAY) == []
    [monday] = await profiles(pool)
    assert (monday["dataset"], monday["feed"], monday["day"], monday["profiled_at"]) == (
        *("notes", "data-stream", MONDAY.date(), end),
    )
    assert (monday["execution_id"], monday["batch_id"]) == (7, None)
    assert (monday["read"], monday["duplicates"], monday["quarantined"]) == (6, 0, 1)
    nothing = {"mistyped": 0, "distinct": None}
    assert json.loads(monday["columns"]) == {
        "text": {"rows": 6, "missing": 0, "minimum": None, "maximum": None} | nothing,
        "stars": {"rows": 6, "missing": 0, "minimum": "0", "maximum": "10"} | nothing,
        "written_on": {
            "rows": 6,
            "missing": 4,
            "minimum": "1999-12-31",
            "maximum": "2025-02-01",
            **nothing,
        },
        "author_age": {"rows": 6, "missing": 0, "minimum": None, "maximum": None} | nothing,
    }
    # What was written too late is added, and the day is not judged again.
    await bring(other, note("f", 11))
    await write(pool, other, 2)
    assert await close(pool, MONDAY + DAY) == []
    [monday] = await profiles(pool)
    assert monday["read"] == 7
    assert json.loads(monday["columns"])["stars"]["maximum"] == "11"
    # Tuesday is a profile of its own.
    assert len(await close(pool, MONDAY + 2 * DAY)) == 1
    assert [each["read"] for each in await profiles(pool)] == [7, 1]
    async with pool.acquire() as connection:
        assert await connection.fetchval("SELECT count(*) FROM metadata.stream_days") == 0
        assert await connection.fetchval("SELECT count(*) FROM metadata.anomalies") == 2


async def test_days_are_closed_by_one_while_others_go_on(
    pool: Pool, bring, owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    days = StreamDays()
    await bring(days, note("a", 1))
    await write(pool, days, 1)
    frozen = StreamDays()
    await bring(frozen, note("b", 2))
    await write(pool, frozen, 2)
    await bring(frozen, note("b", 2))
    later = MONDAY + DAY
    async with owner.transaction():
        # One that froze amid its write is not waited for, and is added once it thaws.
        await frozen.write(owner, execution_id=2)
        await close(pool, later)
        assert [each["read"] for each in await profiles(pool)] == [1]
        await bring(days, note("c", 3))
        await write(pool, days, 1)
        async with pool.acquire() as another, another.transaction():
            closing = stream_days._LOCK_CLASS, stream_days._DAYS_LOCK  # noqa: SLF001 - what another holds
            assert await another.fetchval("SELECT pg_try_advisory_xact_lock($1, $2)", *closing)
            await close(pool, later)
            assert [each["read"] for each in await profiles(pool)] == [1]
    await close(pool, later)
    assert [each["read"] for each in await profiles(pool)] == [4]


async def test_what_could_not_be_written_is_written_with_what_comes_next(pool: Pool, bring) -> None:
    failed, days = StreamDays(), StreamDays()
    await bring(failed, note("a", 1), note("b", 5))
    await bring(days, note("c", 3))
    await bring(days, note("d", 4), now=MONDAY + DAY)
    days.take_back(failed)
    await write(pool, days, 1)
    await close(pool, MONDAY + 2 * DAY)
    found = [(each["day"], each["read"]) for each in await profiles(pool)]
    assert found == [(MONDAY.date(), 3), ((MONDAY + DAY).date(), 1)]
    assert json.loads((await profiles(pool))[0]["columns"])["stars"]["maximum"] == "5"


async def test_a_consumers_watch_writes_its_days_once_and_closes_those_that_are_over(
    pool: Pool, bring, owner, session, execution_id: int, make_feed, monkeypatch
) -> None:
    monkeypatch.setattr(keep_profile, "judge_load", find_odd)
    earlier = dt.datetime.now(dt.UTC) - 2 * DAY
    left = StreamDays()
    await bring(left, note("a", 1), now=earlier)
    await write(pool, left, 99)
    settings = Settings(kafka_bootstrap_servers="127.0.0.1:9")
    execution = Execution(execution_id, "test")
    watch = StreamWatch(pool, settings, execution)
    consumer = Consumer(pool, settings, SPECS)
    feed = make_feed(session, execution_id, SPECS)

    async def load(*values: bytes) -> None:
        batch = await feed.take(*values)
        watch.note(await feed.load(batch), make_rows(batch.messages, SPECS))

    await load(note("b", 2), note("c", 3))
    # What PostgreSQL does not take is kept, with all that belongs to it, and written once.
    await owner.execute(
        "ALTER TABLE metadata.stream_days ADD CONSTRAINT large CHECK (read > 9) NOT VALID"
    )
    with pytest.raises(asyncpg.CheckViolationError):
        await watch.write_end(consumer)
    assert await owner.fetchval("SELECT count(*) FROM metadata.quality_results") == 0
    await owner.execute("ALTER TABLE metadata.stream_days DROP CONSTRAINT large")
    # A day that cannot be closed, for whatever reason, is told, and fails nothing.
    spoil = "UPDATE metadata.stream_days SET columns = {} WHERE execution_id = 99"
    await owner.execute(spoil.format("""'{"text": {"rows": 1}}'"""))
    with capture_logs() as logs:
        await watch.write_end(consumer)
        await watch.write_end(consumer)
    told = [each["event"] for each in logs if each["log_level"] == "error"]
    assert told == ["a day of the stream that is over cannot be judged"]
    assert await profiles(pool) == []
    await owner.execute(spoil.format("'{}'"))
    monkeypatch.setattr(watch, "_close_from", 0.0)
    await load(note("d", 4))
    await watch.write_end(consumer)
    await watch.write_end(consumer)
    today = "SELECT execution_id, read FROM metadata.stream_days WHERE day > $1"
    [open_day] = await owner.fetch(today, earlier.date())
    assert tuple(open_day) == (execution_id, 3)
    checked = "SELECT sum(checked) FROM metadata.quality_results WHERE column_name = 'text'"
    assert await owner.fetchval(checked) == 3
    [closed] = await profiles(pool)
    assert (closed["day"], closed["read"], closed["execution_id"]) == (
        *(earlier.date(), 1, execution_id),
    )
    [warning] = execution.warnings
    assert warning.startswith(f"notes on {earlier.date()} (UTC): anomaly (warning): 1 rows came")
    await consumer.source.stop()
