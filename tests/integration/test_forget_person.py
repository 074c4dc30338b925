"""One person is erased from every table, nobody else is, and what is counted stays true."""

import asyncio
import datetime as dt
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import polars as pl
import pytest

from deployments.bootstrap import bootstrap
from infra.cell_encryption import CellError, KeyRing
from infra.cell_keys import make_key, read_key_ring
from infra.postgres.connection import Pool
from infra.redaction import redact
from infra.settings import Settings
from schemas.dataset import Dataset, History, Role, Spec, column
from schemas.datasets import DATASETS
from schemas.errors import SettingError, TerminalError
from tasks.extract_frame import from_frame
from tasks.find_person import Found, find_person
from tasks.forget_person import Erasure, Request, forget_person
from tasks.load import Order, load_source
from tasks.merge import lock_dataset
from tasks.sealing import UNSENT_MESSAGES, seal_message
from tasks.subject import STDIN, name_subject, read_value

ROOT = Path(__file__).parents[2]
ANN = "ann@example.com"
TICKET = "ticket 4711"


class Guests(
    Dataset, table="guests", role=Role.DIMENSION, key=("guest_id",), history=History.KEEP_VERSIONS
):
    """A dimension that keeps versions."""

    guest_id: int = column(ge=1)
    email: str = column(pii=True, nullable=True)
    room: str = column(nullable=True)


class Visits(Dataset, table="visits", role=Role.FACT, key=("visit_id",)):
    """A fact with a personal column of its own."""

    visit_id: int = column(ge=1)
    guest_id: int = column(ge=1, references=Guests)
    email: str = column(pii=True, nullable=True)


class Newsletter(Dataset, table="newsletter", role=Role.STAGING, key=()):
    """Addresses that stay in staging."""

    email: str = column(pii=True)


OWN = (Guests, Visits, Newsletter)


@pytest.fixture
async def eraser(database) -> AsyncIterator[Pool]:
    async with Pool(database.eraser_url, size=2) as opened:
        yield opened


@pytest.fixture
async def owner(database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.owner_url)
    yield connection
    await connection.close()


@pytest.fixture
def ring() -> KeyRing:
    return read_key_ring()


@pytest.fixture
def forget(eraser: Pool, ring: KeyRing) -> Callable:
    """Forget whom the value names; for real unless told otherwise."""

    async def call(
        dataset: str = "customers",
        named: str = "email",
        value: str = ANN,
        *,
        specs: tuple[type[Dataset], ...] = DATASETS,
        dry_run: bool = False,
        several: bool = False,
        only_here: bool = False,
    ) -> Erasure:
        every = [each.spec for each in specs]
        subject = name_subject(every, dataset, named, value, only_here=only_here)
        request = Request(subject, TICKET, several=several, dry_run=dry_run)
        return await forget_person(eraser, every, ring, request)

    return call


@pytest.fixture
def find(pool: Pool, ring: KeyRing) -> Callable:
    async def call(dataset: str = "customers", named: str = "email", value: str = ANN) -> Found:
        specs = [each.spec for each in DATASETS]
        async with pool.acquire() as connection:
            subject = name_subject(specs, dataset, named, value)
            return await find_person(connection, specs, ring, subject)

    return call


@pytest.fixture
async def everywhere(
    load: Callable, make_group: Callable, pool: Pool, ring: KeyRing, tmp_path: Path
) -> None:
    """Customers 1 to 3, of whom 1 is Ann, in every place that a row can come to."""

    async def put(name: str, *lines: str, day: int = 1) -> None:
        path = tmp_path / name
        path.write_text("\n".join((*lines, "")))
        moment = dt.datetime(2026, 1, day, tzinfo=dt.UTC).timestamp()
        os.utime(path, (moment, moment))
        await load(path)

    header = "customer_id,name,email,city,signup_date"
    await put(
        "customers_1.csv",
        header,
        f"1,Ann Lee,{ANN},Oslo,2024-01-01",
        "2,Joann,joann@example.com,Rome,2024-01-01",
        "3,Bob,bob@example.com,Riga,2024-01-01",
    )
    # Her row of today says nothing of the address that she asks with.
    await put(
        "customers_2.csv",
        header,
        "1,Ann Lee,lee@example.org,Bergen,2024-01-01",
        f"4,,{ANN},Nowhere,2024-01-01",
        "1,Ann Lee,no address,Nowhere,2024-01-01",
        "2,,joann@example.com,Nowhere,2024-01-01",
        day=2,
    )
    await put(
        "sales_data.csv",
        "order_id,customer_id,product_id,order_date,quantity,unit_price,channel",
        "1,1,1,2024-05-01,2,3.50,web",
        "2,1,1,2024-05-02,3,3.50,web",
        "3,2,1,2024-05-03,5,3.50,web",
    )
    await put("people.csv", "who,note", f"{ANN.upper()},x", "joann@example.com,y", f"z,see {ANN}.")
    specs = {each.spec.table: each.spec for each in DATASETS}
    await make_group(specs).load(
        message({"customer_id": 1, "name": "", "signup_date": "2024-01-01"}),
        message({"customer_id": 2, "name": "", "signup_date": "2024-01-01"}),
        message({"who": {"mail": ANN}}, source="nobody_knows"),
        b"no JSON, but " + ANN.encode(),
        b"no JSON of anybody",
    )
    async with pool.acquire() as connection:
        for number in (1, 2):
            value = message({"customer_id": number, "name": "x" * 20})
            key, sealed, is_sealed = seal_message(
                ring, UNSENT_MESSAGES, f"customers:{number}".encode(), value
            )
            await connection.execute(
                "INSERT INTO metadata.unsent_messages (execution_id, topic, source, message_key,"
                " message_value, is_sealed, reason, detail)"
                " VALUES (1, 't', 'customers', $1, $2, $3, 'too_large', 'x')",
                key,
                sealed,
                is_sealed,
            )


def message(payload: dict[str, object], source: str = "customers") -> bytes:
    time = "2026-11-20T12:00:00Z"
    return json.dumps({"source": source, "timestamp": time, "payload": payload}).encode()


ALL = {
    "customers": {
        "metadata.dead_letters": 1,
        "metadata.quarantine": 2,
        "metadata.unsent_messages": 1,
        "staging.customers": 2,
        "warehouse.dim_customers": 1,
    },
    "": {"metadata.dead_letters": 2, "staging.people": 2},
}
"""Where Ann stands."""


def places(erasure: Erasure) -> dict[str, dict[str, int]]:
    return {dataset: counts for dataset, counts in erasure.counts.items() if counts}


async def snapshot(owner: asyncpg.Connection) -> dict[str, list[str]]:
    tables = await owner.fetch(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
        " WHERE schemaname IN ('staging', 'warehouse') OR tablename IN"
        " ('quarantine', 'dead_letters', 'unsent_messages', 'erasures')"
    )
    return {
        name: sorted(row[0] for row in await owner.fetch(f"SELECT t::text FROM {name} AS t"))  # noqa: S608 - the catalogue's
        for (name,) in tables
    }


async def test_a_person_is_gone_from_everywhere_and_nobody_else_is(
    everywhere: None, forget: Callable, owner: asyncpg.Connection, find: Callable
) -> None:
    before = await snapshot(owner)
    dry = await forget(dry_run=True)
    assert places(dry) == ALL
    assert str(dry) == "11 rows about this person would be erased."
    assert await snapshot(owner) == before

    erasure = await forget()
    assert places(erasure) == ALL
    after = await snapshot(owner)
    lost = {name: len(before[name]) - len(after[name]) for name in before}
    assert {name: count for name, count in lost.items() if count} == {
        "metadata.dead_letters": 3,
        "metadata.quarantine": 2,
        "metadata.unsent_messages": 1,
        "metadata.erasures": -2,
        "staging.customers": 2,
        "staging.people": 2,
    }
    # What is left was there before, but for Ann's member.
    for name in before:
        assert len(set(after[name]) - set(before[name])) == {
            "warehouse.dim_customers": 1,
            "metadata.erasures": 2,
        }.get(name, 0)
    found = await find()
    assert (found.rows, found.elsewhere) == ({}, {"metadata.erasures (forgotten before)": 2})
    assert (await find(value="bob@example.com")).rows["warehouse.dim_customers"][0]["name"] == "Bob"


async def test_facts_still_join_a_member_of_whom_nothing_is_known(
    everywhere: None, forget: Callable, owner: asyncpg.Connection
) -> None:
    counted = """
        SELECT customer_id, count(*), sum(quantity) FROM warehouse.fact_sales_data
        JOIN warehouse.dim_customers USING (customer_key) GROUP BY 1 ORDER BY 1
    """
    before = await owner.fetch(counted)
    await forget()
    assert await owner.fetch(counted) == before
    member = await owner.fetchrow("SELECT * FROM warehouse.dim_customers WHERE customer_id = 1")
    assert member is not None
    known = {name for name, value in member.items() if value is not None}
    assert known == {
        "customer_key", "customer_id", "_is_inferred", "_batch_id", "_version", "_line",
        "_row_hash",
    }  # fmt: skip
    assert (member["_is_inferred"], member["_row_hash"]) == (True, 0)


async def test_the_record_says_what_was_done_and_not_to_whom(
    everywhere: None, forget: Callable, owner: asyncpg.Connection, ring: KeyRing
) -> None:
    await forget()
    rows = await owner.fetch("SELECT * FROM metadata.erasures ORDER BY dataset")
    assert {row["dataset"]: json.loads(row["counts"]) for row in rows} == {
        "customers": ALL["customers"],
        None: ALL[""],
    }
    specs = [each.spec for each in DATASETS]
    [digest] = name_subject(specs, "customers", "email", ANN).digests(ring)
    assert {row["subject_index"] for row in rows} == {digest}
    assert {(row["column_name"], row["requested_by"]) for row in rows} == {("email", TICKET)}
    assert ANN not in str([dict(row) for row in rows]).lower()


async def test_a_second_time_finds_nothing_and_says_so(
    everywhere: None, forget: Callable, owner: asyncpg.Connection
) -> None:
    await forget()
    again = await forget()
    assert places(again) == {}
    assert str(again) == "Nothing of this person is there."
    last = await owner.fetchrow("SELECT * FROM metadata.erasures ORDER BY id DESC LIMIT 1")
    assert (last["dataset"], last["counts"]) == ("customers", "{}")


async def test_an_older_file_does_not_bring_the_person_back(
    everywhere: None, forget: Callable, load: Callable, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    await forget()
    report = await load(tmp_path / "customers_1.csv", force=True)
    assert report.ledger.superseded == 1
    city = "SELECT city FROM warehouse.dim_customers WHERE customer_id = 1"
    assert await owner.fetchval(city) is None
    # A newer one does: whoever wants to stay away has to leave the source first.
    path = tmp_path / "customers_3.csv"
    path.write_text("customer_id,name,city,signup_date\n1,Ann,Lima,2024-01-01\n")
    await load(path)
    assert await owner.fetchval(city) == "Lima"


async def test_a_value_of_several_members_is_refused_until_it_is_said_so(
    load: Callable, forget: Callable, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    path = tmp_path / "customers.csv"
    lines = (f"{number},Ann Lee,2024-01-01" for number in (5, 17))
    path.write_text("\n".join(["customer_id,name,signup_date", *lines, ""]))
    await load(path)
    before = await snapshot(owner)
    with pytest.raises(
        TerminalError, match=r"2 members of customers \(17, 5\).*by its customer_id"
    ):
        await forget(named="name", value="Ann Lee")
    assert await snapshot(owner) == before
    erasure = await forget(named="customer_id", value=" 17 ")
    assert erasure.counts["customers"] == {"staging.customers": 1, "warehouse.dim_customers": 1}
    assert await owner.fetch(
        "SELECT customer_id, name IS NULL FROM warehouse.dim_customers ORDER BY 1"
    ) == [(5, False), (17, True)]
    path.write_text("customer_id,name,signup_date\n6,Ann Lee,2024-01-01\n")
    await load(path)
    erasure = await forget(named="name", value="Ann Lee", several=True)
    assert erasure.counts["customers"] == {"staging.customers": 2, "warehouse.dim_customers": 2}


@pytest.fixture
async def own(database, load_frame_of: Callable) -> None:
    """Guests who changed rooms, their visits and a newsletter."""
    await bootstrap(database.owner_url, datasets=OWN)
    guests = [(1, ANN, "101"), (2, "bob@example.com", "102")]
    await load_frame_of(Guests, guests)
    await load_frame_of(Guests, [(1, ANN, "201")])
    await load_frame_of(
        Visits,
        [(1, 1, "delivery@example.net"), (2, 2, "bob@example.com"), (3, 2, ANN), (4, 1, None)],
    )
    await load_frame_of(Newsletter, [(ANN,), ("bob@example.com",), (ANN,)])


@pytest.fixture
def load_frame_of(pool: Pool, execution_id: int) -> Callable:
    """Load rows of a contract of a test's own."""

    async def call(dataset: type[Dataset], rows: list[tuple[object, ...]]) -> None:
        spec = dataset.spec
        frame = pl.DataFrame(rows, schema=list(spec.names), orient="row")
        await load_source(pool, from_frame(frame), Order(execution_id, "frame", spec.table, spec))

    return call


@pytest.mark.parametrize(
    "value", [r"O'Neil (x) [y]*+?{2}|^$ \1\.", "%_'; DROP TABLE staging.people; --", "Åsa-Lena"]
)
async def test_a_value_is_text_whatever_it_holds(
    load: Callable, forget: Callable, owner: asyncpg.Connection, tmp_path: Path, value: str
) -> None:
    path = tmp_path / "people.csv"
    path.write_text(f'who\n"{value}"\n"x, {value}, y"\nO\'Neil\n')
    await load(path)
    erasure = await forget(named="name", value=value)
    assert places(erasure) == {"": {"staging.people": 2}}
    assert await owner.fetch("SELECT who FROM staging.people") == [("O'Neil",)]


async def test_facts_of_the_person_go_and_every_version_is_anonymous(
    own: None, forget: Callable, owner: asyncpg.Connection
) -> None:
    erasure = await forget("guests", specs=OWN)
    assert places(erasure) == {
        # By their own address, or for pointing to the member.
        "visits": {"staging.visits": 3, "warehouse.fact_visits": 3},
        "guests": {"staging.guests": 2, "warehouse.dim_guests": 2},
        "newsletter": {"staging.newsletter": 2},
    }
    assert await owner.fetch("SELECT visit_id FROM warehouse.fact_visits") == [(2,)]
    versions = await owner.fetch(
        "SELECT guest_id, num_nonnulls(email, _email_index, room), count(*)"
        " FROM warehouse.dim_guests GROUP BY 1, 2 ORDER BY 1"
    )
    assert versions == [(1, 0, 2), (2, 3, 1)]


async def test_other_datasets_are_left_alone_where_the_value_is_somebody_elses(
    own: None, forget: Callable
) -> None:
    erasure = await forget("newsletter", specs=OWN, only_here=True)
    assert places(erasure) == {"newsletter": {"staging.newsletter": 2}}


async def test_it_is_all_or_nothing_of_a_dataset(
    everywhere: None, forget: Callable, owner: asyncpg.Connection
) -> None:
    before = await snapshot(owner)
    await owner.execute(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'not now'; END $$;"
        "CREATE TRIGGER fail BEFORE UPDATE ON warehouse.dim_customers"
        " FOR EACH ROW EXECUTE FUNCTION fail()"
    )
    with pytest.raises(asyncpg.RaiseError, match="not now"):
        await forget()
    assert await snapshot(owner) == before


async def test_facts_go_first_so_that_an_interrupted_run_finds_the_rest(
    own: None, forget: Callable, owner: asyncpg.Connection
) -> None:
    await owner.execute(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'not now'; END $$;"
        "CREATE TRIGGER fail BEFORE UPDATE ON warehouse.dim_guests"
        " FOR EACH ROW EXECUTE FUNCTION fail()"
    )
    with pytest.raises(asyncpg.RaiseError, match="not now"):
        await forget("guests", specs=OWN)
    assert await owner.fetchval("SELECT count(*) FROM warehouse.fact_visits") == 1
    await owner.execute("DROP TRIGGER fail ON warehouse.dim_guests")
    erasure = await forget("guests", specs=OWN)
    assert erasure.counts["guests"] == {"staging.guests": 2, "warehouse.dim_guests": 2}


async def test_it_waits_for_a_load_of_the_dataset(
    everywhere: None, forget: Callable, pool: Pool, owner: asyncpg.Connection
) -> None:
    async with pool.acquire() as connection:
        async with connection.transaction():
            await lock_dataset(connection, "customers")
            forgetting = asyncio.create_task(forget())
            waiting = """
                SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            """
            while not await owner.fetchval(waiting):
                assert not forgetting.done()
                await asyncio.sleep(0.01)
        assert places(await forgetting) == ALL


async def test_what_cannot_be_opened_is_not_taken_for_searched(
    everywhere: None, eraser: Pool, owner: asyncpg.Connection
) -> None:
    before = await snapshot(owner)
    other = Settings(cell_keys=make_key("new"), index_keys=os.environ["SLUICEWAY_INDEX_KEYS"])
    specs = [each.spec for each in DATASETS]
    subject = name_subject(specs, "customers", "email", ANN)
    with pytest.raises(CellError, match=r"quarantine\.raw was written with a key that is not set"):
        await forget_person(
            eraser, specs, read_key_ring(other), Request(subject, TICKET, dry_run=False)
        )
    assert await snapshot(owner) == before


async def test_a_person_is_shown_decrypted_with_where_else_they_stand(
    everywhere: None, find: Callable
) -> None:
    found = await find()
    [row] = found.rows["warehouse.dim_customers"]
    assert (row["name"], row["email"], row["city"]) == ("Ann Lee", "lee@example.org", "Bergen")
    assert found.elsewhere == {
        "staging.customers": 2,
        "warehouse.fact_sales_data (points to customers)": 2,
        "metadata.quarantine": 2,
        "metadata.dead_letters": 3,
        "metadata.unsent_messages": 1,
        "staging.people": 2,
    }
    assert (await find(named="customer_id", value="2")).rows["warehouse.dim_customers"][0][
        "email"
    ] == "joann@example.com"


async def test_the_command_reads_the_value_from_its_input(everywhere: None, database) -> None:
    command = [sys.executable, "-m", "tasks.find_person", "customers"]
    environment = os.environ | {"SLUICEWAY_DATABASE_URL": database.loader_url, "COLUMNS": "300"}

    async def run(column: str, value: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(
            subprocess.run,
            [*command, column],
            input=value,
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    shown = await run("email", f"{ANN}\n")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "lee@example.org" in shown.stdout
    assert "metadata.dead_letters: 3" in shown.stdout
    refused = await run("city", f"{ANN}\n")
    assert refused.returncode == 1
    assert refused.stderr == (
        "'city' finds nobody in customers: name one of name, email, customer_id.\n"
    )


@pytest.mark.parametrize(
    ("dataset", "named", "value", "said"),
    [
        ("nothing", "email", ANN, "'nothing' is no dataset with personal columns"),
        ("products", "name", "Lamp", "'products' is no dataset with personal columns"),
        ("customers", "customer_id", "one", "The value is no integer"),
        ("customers", "email", "  ", "or it is empty"),
    ],
)
def test_who_cannot_be_meant_is_told_so(dataset: str, named: str, value: str, said: str) -> None:
    specs: list[Spec] = [each.spec for each in DATASETS]
    with pytest.raises(TerminalError, match=said):
        name_subject(specs, dataset, named, value)


async def test_the_value_is_read_from_a_file_and_is_never_a_parameter(tmp_path: Path) -> None:
    path = tmp_path / "value"
    path.write_text(f" {ANN}\n")
    assert await read_value(str(path), None) == ANN
    for given, said in (
        ((None, None), "Say where the person's value is, once"),
        ((STDIN, "block"), "Say where the person's value is, once"),
        ((str(tmp_path / "none"), None), "cannot be read"),
    ):
        with pytest.raises(SettingError, match=said):
            await read_value(*given)
    path.write_text("\n")
    with pytest.raises(SettingError, match="is empty"):
        await read_value(str(path), None)


async def test_no_text_that_is_shown_holds_the_value() -> None:
    specs = [each.spec for each in DATASETS]
    subject = name_subject(specs, "customers", "name", "Wilhelmine Unusual")
    assert "Wilhelmine" not in repr(subject)
    assert "Wilhelmine" not in redact("an error about Wilhelmine Unusual, of all people")
