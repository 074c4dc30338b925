"""After a rotation every cell is of the new key, whatever was loaded meanwhile; none is lost."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import polars as pl
import pytest

from infra.cell_encryption import CellError, KeyRing, Place
from infra.cell_keys import make_key, read_key_ring
from infra.postgres.connection import Pool
from infra.settings import Settings, read_settings
from schemas.datasets import DATASETS
from schemas.errors import TerminalError
from tasks.landing import KEPT_ROWS
from tasks.merge import lock_dataset
from tasks.rotate_keys import Rotation, require_readable, rotate_keys
from tasks.sealing import KEY, QUARANTINED, UNSENT_MESSAGES, VALUE, seal_message

SPECS = [each.spec for each in DATASETS]
OLD, NEW, OTHER = (make_key(name) for name in ("old", "new", "other"))
OLD_INDEX, NEW_INDEX = (make_key(name) for name in ("old", "new"))
NAME, EMAIL = Place("customers", "name"), Place("customers", "email")
WAITING = """
    SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def make_ring(keys: str, index_keys: str = OLD_INDEX) -> KeyRing:
    return read_key_ring(Settings(cell_keys=keys, index_keys=index_keys))


@pytest.fixture(autouse=True)
def use_keys(monkeypatch: pytest.MonkeyPatch) -> Callable[..., KeyRing]:
    """Set the keys that loads write with from now on; at first the old ones."""

    def use(keys: str, index_keys: str = OLD_INDEX) -> KeyRing:
        monkeypatch.setenv("SLUICEWAY_CELL_KEYS", keys)
        monkeypatch.setenv("SLUICEWAY_INDEX_KEYS", index_keys)
        read_settings.cache_clear()
        return make_ring(keys, index_keys)

    use(OLD)
    return use


@pytest.fixture(autouse=True)
def forget_settings() -> Iterator[None]:
    yield
    read_settings.cache_clear()


@pytest.fixture
async def owner(database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.owner_url)
    yield connection
    await connection.close()


@pytest.fixture
def load_customers(load: Callable, tmp_path: Path) -> Callable:
    """Load customers of these numbers; their mails say how often they came."""
    loads = iter(range(1, 1000))

    async def call(numbers: range, *broken: str) -> None:
        time = next(loads)
        path = tmp_path / f"customers_{time:03}.csv"
        lines = (
            f"{number},Person {number},{number}@{time}.example,2024-01-01" for number in numbers
        )
        path.write_text("\n".join(["customer_id,name,email,signup_date", *lines, *broken, ""]))
        await load(path)

    return call


@pytest.fixture
async def everything(load_customers: Callable, make_group: Callable, pool: Pool) -> None:
    """Cells of the old key in every place there is."""
    await load_customers(range(1, 301), "301,,nobody@example.com,2024-01-01")
    specs = {each.table: each for each in SPECS}
    payload = {"customer_id": 301, "name": "", "signup_date": "2024-01-01"}
    value = {"source": "customers", "timestamp": "2026-11-20T12:00:00Z", "payload": payload}
    await make_group(specs).load(json.dumps(value).encode())
    key, sealed, _ = seal_message(make_ring(OLD), UNSENT_MESSAGES, b"k", b"unsent")
    async with pool.acquire() as connection:
        await connection.execute(
            "INSERT INTO metadata.unsent_messages (execution_id, topic, source, message_key,"
            " message_value, is_sealed, reason, detail)"
            " VALUES (1, 't', 'customers', $1, $2, true, 'x', 'x'),"
            " (1, 't', 'products', 'in', 'clear', false, 'x', 'x')",
            key,
            sealed,
        )


def by_key(rotation: Rotation) -> dict[str, int]:
    counts: dict[str, int] = {}
    for (_, _, key), count in rotation.cells.items():
        counts[key] = counts.get(key, 0) + count
    return counts


async def read_people(
    connection: asyncpg.Connection, ring: KeyRing, table: str = "warehouse.dim_customers"
) -> dict[int, tuple[str, str]]:
    rows = await connection.fetch(f"SELECT customer_id, name, email FROM {table}")  # noqa: S608 - above
    return {
        row["customer_id"]: (
            ring.open(row["name"], NAME).decode(),
            ring.open(row["email"], EMAIL).decode(),
        )
        for row in rows
    }


async def test_every_cell_is_of_the_new_key_and_says_the_same(
    everything: None, pool: Pool, owner: asyncpg.Connection, use_keys: Callable
) -> None:
    old = make_ring(OLD)
    before = await read_people(owner, old)
    columns = (
        "SELECT customer_key, _name_index, _email_index, _row_hash, _batch_id, _version"
        " FROM warehouse.dim_customers ORDER BY 1"
    )
    others = await owner.fetch(columns)
    ring = use_keys(f"{NEW},{OLD}")

    counted = await rotate_keys(pool, SPECS, ring, dry_run=True)
    # Names and mails, staged and merged; a quarantined row; a letter and a message with their keys.
    assert by_key(counted) == {old.current_id.hex(): 4 * 300 + 1 + 2 + 2}
    assert counted.left == 1205
    rotation = await rotate_keys(pool, SPECS, ring)
    assert by_key(rotation) == {ring.current_id.hex(): 1205}
    assert rotation.rows == {
        "staging.customers": 300,
        "warehouse.dim_customers": 300,
        "metadata.quarantine": 1,
        "metadata.dead_letters": 1,
        "metadata.unsent_messages": 1,
    }
    assert str(rotation) == (
        "603 rows are rewritten. There are cells: 1,205 of key "
        f"{ring.current_id.hex()} (the current one)."
    )

    alone = use_keys(NEW)
    assert await read_people(owner, alone) == before
    assert await read_people(owner, alone, "staging.customers") == before
    assert await owner.fetch(columns) == others
    raw = await owner.fetchval("SELECT raw_sealed FROM metadata.quarantine")
    assert alone.open(raw, QUARANTINED).decode().startswith("301,,nobody@")
    messages = await owner.fetch(
        "SELECT is_sealed, message_key, message_value FROM metadata.unsent_messages ORDER BY id"
    )
    assert messages[1] == (False, b"in", b"clear")
    place = [Place(UNSENT_MESSAGES, each) for each in (KEY, VALUE)]
    assert [alone.open(cell, each) for cell, each in zip(messages[0][1:], place, strict=True)] == [
        b"k",
        b"unsent",
    ]
    again = await rotate_keys(pool, SPECS, alone)
    assert (again.rows.total(), again.left) == (0, 0)


async def test_batches_in_tables_of_their_own_are_rewritten_too(
    load_customers: Callable, pool: Pool, owner: asyncpg.Connection, use_keys: Callable
) -> None:
    await load_customers(range(1, KEPT_ROWS + 1))
    [child] = await owner.fetchval("SELECT array_agg(inhrelid::regclass::text) FROM pg_inherits")
    rotation = await rotate_keys(pool, SPECS, use_keys(f"{NEW},{OLD}"))
    assert rotation.rows == {child: KEPT_ROWS, "warehouse.dim_customers": KEPT_ROWS}
    assert rotation.left == 0
    people = await read_people(owner, use_keys(NEW))
    assert people == {
        number: (f"Person {number}", f"{number}@1.example") for number in range(1, KEPT_ROWS + 1)
    }


async def test_a_file_that_comes_again_is_unchanged_after_a_new_cell_key(
    everything: None, pool: Pool, load: Callable, use_keys: Callable, tmp_path: Path
) -> None:
    await rotate_keys(pool, SPECS, use_keys(f"{NEW},{OLD}"))
    use_keys(NEW)
    report = await load(tmp_path / "customers_001.csv", force=True)
    assert (report.ledger.unchanged, report.ledger.updated) == (300, 0)


async def test_loads_and_the_rotation_do_not_harm_each_other(
    load_customers: Callable, pool: Pool, owner: asyncpg.Connection, use_keys: Callable
) -> None:
    await load_customers(range(1, 3001))
    ring = use_keys(f"{NEW},{OLD}")
    loaded = asyncio.Event()

    async def keep_rotating() -> int:
        rows = 0
        while not loaded.is_set():
            rows += (await rotate_keys(pool, SPECS, ring, pages=2)).rows.total()
        return rows + (await rotate_keys(pool, SPECS, ring, pages=2)).rows.total()

    rotating = asyncio.create_task(keep_rotating())
    for first in (1, 501, 1001, 2001):
        # Some change, some are new, and others stay as the rotation writes them.
        await load_customers(range(first, first + 1500))
    loaded.set()
    assert await rotating > 0
    people = await read_people(owner, use_keys(NEW))
    assert people == {
        number: (f"Person {number}", f"{number}@{time}.example")
        for number in range(1, 3501)
        for time in [
            max(
                t
                for t, first in ((1, 1), (2, 1), (3, 501), (4, 1001), (5, 2001))
                if first <= number < first + (3000 if t == 1 else 1500)
            )
        ]
    }


async def test_a_row_stays_where_a_load_has_seen_it(
    everything: None, pool: Pool, owner: asyncpg.Connection, use_keys: Callable
) -> None:
    ring = use_keys(f"{NEW},{OLD}")
    async with pool.acquire() as connection:
        async with connection.transaction():
            await lock_dataset(connection, "customers")
            place = await connection.fetchval(
                "SELECT ctid FROM warehouse.dim_customers WHERE customer_id = 7"
            )
            rotating = asyncio.create_task(rotate_keys(pool, SPECS, ring))
            while not await owner.fetchval(WAITING):
                assert not rotating.done()
                await asyncio.sleep(0.01)
            status = await connection.execute(
                "UPDATE warehouse.dim_customers SET city = 'Oslo' WHERE ctid = $1", place
            )
            assert status == "UPDATE 1"
        rotation = await rotating
    assert rotation.left == 0
    assert (await read_people(owner, use_keys(NEW)))[7][0] == "Person 7"


async def test_what_others_have_locked_is_left_to_a_later_pass(
    everything: None, pool: Pool, owner: asyncpg.Connection, use_keys: Callable
) -> None:
    ring = use_keys(f"{NEW},{OLD}")
    transaction = owner.transaction()
    await transaction.start()
    await owner.execute("SELECT FROM metadata.unsent_messages FOR UPDATE")
    rotation = await rotate_keys(pool, SPECS, ring)
    assert {table for (table, _, key) in rotation.cells if key != rotation.current} == {
        "metadata.unsent_messages"
    }
    assert rotation.left == 2
    await transaction.rollback()
    assert (await rotate_keys(pool, SPECS, ring)).rows == {"metadata.unsent_messages": 1}


async def test_what_was_interrupted_goes_on_where_it_was(
    everything: None, pool: Pool, owner: asyncpg.Connection, use_keys: Callable
) -> None:
    ring = use_keys(f"{NEW},{OLD}")
    await owner.execute(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'not now'; END $$;"
        "CREATE TRIGGER fail BEFORE UPDATE ON warehouse.dim_customers"
        " FOR EACH ROW WHEN (OLD.customer_id = 300) EXECUTE FUNCTION fail()"
    )
    with pytest.raises(asyncpg.RaiseError, match="not now"):
        await rotate_keys(pool, SPECS, ring, pages=1)
    done = await owner.fetchval(
        "SELECT count(*) FROM warehouse.dim_customers WHERE substr(name, 2, 4) = $1",
        ring.current_id,
    )
    assert 0 < done < 300
    await owner.execute("DROP TRIGGER fail ON warehouse.dim_customers")
    rotation = await rotate_keys(pool, SPECS, ring, pages=1)
    assert rotation.rows["warehouse.dim_customers"] == 300 - done
    assert (rotation.rows["staging.customers"], rotation.left) == (0, 0)


async def test_indexes_are_made_anew_where_there_are_several_index_keys(
    everything: None, pool: Pool, owner: asyncpg.Connection, use_keys: Callable
) -> None:
    ring = use_keys(OLD, f"{NEW_INDEX},{OLD_INDEX}")
    find = "SELECT customer_id FROM warehouse.dim_customers WHERE _name_index = ANY($1)"
    assert await owner.fetch(find, ring.find_by("Person 7", NAME)) == [(7,)]
    rotation = await rotate_keys(pool, SPECS, ring)
    assert rotation.rows == {"staging.customers": 300, "warehouse.dim_customers": 300}
    alone = use_keys(OLD, NEW_INDEX)
    assert await owner.fetch(find, alone.find_by("Person 7", NAME)) == [(7,)]
    assert await owner.fetch(find, make_ring(OLD, OLD_INDEX).find_by("Person 7", NAME)) == []
    assert (await rotate_keys(pool, SPECS, ring)).rows.total() == 0
    staged = pl.Series(
        await owner.fetchval("SELECT array_agg(_email_index) FROM staging.customers")
    )
    expected = alone.index(pl.Series([f"{number}@1.example" for number in range(1, 301)]), EMAIL)
    assert sorted(staged) == sorted(expected)


async def test_a_file_that_comes_again_is_updated_once_after_a_new_index_key(
    everything: None, pool: Pool, load: Callable, use_keys: Callable, tmp_path: Path
) -> None:
    await rotate_keys(pool, SPECS, use_keys(OLD, f"{NEW_INDEX},{OLD_INDEX}"))
    use_keys(OLD, NEW_INDEX)
    for updated in (300, 0):
        report = await load(tmp_path / "customers_001.csv", force=True)
        assert (report.ledger.updated, report.ledger.unchanged) == (updated, 300 - updated)


async def test_what_cannot_be_read_is_named_and_the_rest_is_done(
    everything: None, pool: Pool, owner: asyncpg.Connection, use_keys: Callable
) -> None:
    other, ring = make_ring(OTHER), use_keys(f"{NEW},{OLD}")
    tampered = make_ring(OLD).seal(b"x", EMAIL)
    await owner.execute(
        "UPDATE warehouse.dim_customers SET name = $1 WHERE customer_id < 4", other.seal(b"x", NAME)
    )
    await owner.execute(
        "UPDATE warehouse.dim_customers SET email = $1 WHERE customer_id = 9",
        tampered[:-1] + bytes([tampered[-1] ^ 1]),
    )
    rotation = await rotate_keys(pool, SPECS, ring)
    assert rotation.left == 4
    assert rotation.rows["warehouse.dim_customers"] == 300
    with pytest.raises(TerminalError) as error:
        require_readable(rotation)
    assert str(error.value).startswith(
        "Some cells cannot be read: "
        f"1 of warehouse.dim_customers.email (key {make_ring(OLD).current_id.hex()}); "
        f"3 of warehouse.dim_customers.name (key {other.current_id.hex()}): "
    )
    require_readable(await rotate_keys(pool, [], ring))
    with pytest.raises(CellError):
        await read_people(owner, ring)
