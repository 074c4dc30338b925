"""Messages that may be personal: encrypted among the dead letters, and replayed all the same."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import pytest

from deployments.bootstrap import bootstrap
from infra.cell_keys import make_key, read_key_ring
from infra.postgres.connection import Pool
from infra.settings import Settings, read_settings
from schemas.dataset import Dataset, Role, column
from schemas.errors import SettingError
from tasks.consume import Consumer
from tasks.letter_choice import Choice
from tasks.letter_outcomes import Outcome
from tasks.replay_dead_letters import Replay, replay_dead_letters
from tasks.replay_tables import tabulate_letters
from tasks.sealing import Sealing

SECRET = "Ada Byron-Marker"


class People(Dataset, table="people", role=Role.DIMENSION, key=("person_id",)):
    """Who is written about."""

    person_id: int = column(ge=1)
    name: str = column(pii=True)
    age: int = column(ge=0)


class MendedPeople(Dataset, table="people", role=Role.DIMENSION, key=("person_id",)):
    """Who is written about, whatever their age."""

    person_id: int = column(ge=1)
    name: str = column(pii=True)
    age: int = column(ge=-100)


class Readings(Dataset, table="readings", role=Role.FACT, key=("reading_id",)):
    """What a sensor measured: of nobody."""

    reading_id: int = column(ge=1)
    value: int = column(ge=0)


STRICT = {"people": People.spec, "readings": Readings.spec}
MENDED = {"people": MendedPeople.spec, "readings": Readings.spec}


def envelope(source: str, **payload: object) -> bytes:
    time = "2026-11-20T12:00:00Z"
    return json.dumps({"source": source, "timestamp": time, "payload": payload}).encode()


def person(number: int, age: int = -1, name: str = SECRET) -> bytes:
    return envelope("people", person_id=number, name=name, age=age)


@pytest.fixture
async def owner(database) -> Any:
    await bootstrap(database.owner_url, datasets=(People, Readings))
    connection = await asyncpg.connect(database.owner_url)
    yield connection
    await connection.close()


@pytest.fixture
def group(owner, make_group) -> Any:
    return make_group(STRICT)


@pytest.fixture
def replay(pool: Pool, execution_id: int) -> Callable:
    async def run(*, dry_run: bool = False, **chosen: Any) -> Replay:
        return await replay_dead_letters(
            pool, MENDED, Choice(**chosen), execution_id=execution_id, dry_run=dry_run
        )

    return run


@pytest.fixture
def set_keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable]:
    """Called with keys of cells: they are those of the settings."""

    def use(*keys: str) -> None:
        monkeypatch.setenv("SLUICEWAY_CELL_KEYS", ",".join(keys))
        read_settings.cache_clear()

    yield use
    read_settings.cache_clear()


async def letters(owner: asyncpg.Connection) -> list[asyncpg.Record]:
    return await owner.fetch("SELECT * FROM metadata.dead_letters ORDER BY id")


async def dump(owner: asyncpg.Connection) -> bytes:
    """Return all that stands in the rows of metadata, bytea as it is."""
    tables = await owner.fetch(
        "SELECT oid::regclass::text AS name FROM pg_class"
        " WHERE relnamespace = 'metadata'::regnamespace AND relkind = 'r'"
    )
    rows = [
        value
        for table in tables
        for row in await owner.fetch(f"SELECT * FROM {table['name']}")  # noqa: S608 - a name of the catalogue
        for value in row.values()
    ]
    return b"\n".join(each if isinstance(each, bytes) else str(each).encode() for each in rows)


async def test_what_may_be_personal_is_encrypted_and_what_is_not_is_kept_as_it_is(
    group, owner
) -> None:
    impersonal = envelope("readings", reading_id=1, value=-1, note="as it is")
    await group.load(
        *(person(1), f'{{"{SECRET}'.encode(), envelope("rubbish", name=SECRET)),
        *(None, impersonal),
    )

    mistyped, broken, unknown, tombstone, plain = await letters(owner)

    assert [each["is_sealed"] for each in (mistyped, broken, unknown, tombstone, plain)] == [
        *(True,) * 4,
        False,
    ]
    assert (plain["message_key"], plain["message_value"]) == (b"key", impersonal)
    assert tombstone["message_value"] is None
    head = b"\x01" + read_key_ring().current_id
    assert {each[name][:5] for each in (mistyped, broken, unknown)
            for name in ("message_key", "message_value")} == {head}  # fmt: skip
    said = await dump(owner)
    assert SECRET.encode() not in said
    assert impersonal in said


async def test_an_encrypted_letter_is_replayed_like_any_other(group, owner, replay) -> None:
    await group.load(person(1), person(2, age=2), envelope("readings", reading_id=1, value=-1))

    done = await replay()

    assert done.total == {Outcome.LOADED: 1, Outcome.FAILED: 1}
    assert [tuple(row) for row in await owner.fetch(
        "SELECT person_id, age FROM warehouse.dim_people ORDER BY 1"
    )] == [(1, -1), (2, 2)]  # fmt: skip
    assert SECRET.encode() not in await dump(owner)


async def test_a_letter_of_an_old_key_is_replayed_and_one_without_its_key_waits(
    group, owner, replay, set_keys
) -> None:
    old, new = make_key("old"), make_key("new")
    set_keys(old)
    await group.load(person(1))
    set_keys(new)
    # As if the old key had been taken away when all but the letters were rewritten.
    await owner.execute("DELETE FROM metadata.key_proof")
    await group.load(person(2))

    planned = await replay(dry_run=True)
    done = await replay()

    alone = "1 more are left alone: they are encrypted with a key that is not set"
    assert alone in str(planned)
    assert (planned.plan.letters, planned.plan.keyless) == (1, 1)
    assert [row["left alone"] for row in tabulate_letters(planned)] == [1]
    assert (done.total, done.busy) == ({Outcome.LOADED: 1}, 0)
    assert "1 are left alone: they are encrypted with a key that is not set" in str(done)
    waiting, _ = await letters(owner)
    assert (waiting["outcome"], waiting["attempts"]) == (None, 0)
    set_keys(new, old)
    assert (await replay()).total == {Outcome.LOADED: 1}
    assert [row["person_id"] for row in await owner.fetch(
        "SELECT person_id FROM warehouse.dim_people ORDER BY 1"
    )] == [1, 2]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        "message_value = set_byte(message_value, 30, get_byte(message_value, 30) # 1)",
        "message_value = message_key",
    ],
)
async def test_a_changed_letter_fails_with_a_reason_and_the_others_are_loaded(
    group, owner, replay, change: str
) -> None:
    await group.load(person(1), person(2), person(3))
    await owner.execute(f"UPDATE metadata.dead_letters SET {change} WHERE message_offset = 1")  # noqa: S608 - of this test

    done = await replay()

    assert done.total == {Outcome.LOADED: 2, Outcome.FAILED: 1}
    assert done.new_reasons == {"unreadable": 1}
    _, changed, _ = await letters(owner)
    assert (changed["outcome"], changed["reason"]) == ("failed", "unreadable")
    assert changed["detail"].startswith(
        "A cell of dead_letters.message_value is not what was written there"
    )
    assert json.loads(changed["earlier_reasons"])[0]["reason"].startswith("age: greater")


async def test_without_keys_a_consumer_says_so_before_it_begins(
    pool: Pool, replay, set_keys
) -> None:
    set_keys()
    with pytest.raises(SettingError, match=r"^SLUICEWAY_CELL_KEYS is not set, and a dataset has"):
        Consumer(pool, Settings(kafka_bootstrap_servers="127.0.0.1:1"), STRICT)
    with pytest.raises(SettingError, match="SLUICEWAY_CELL_KEYS is not set"):
        await replay()
    assert Sealing({"readings": Readings.spec}).ring_for(None) is None


async def test_an_address_that_stands_as_a_messages_source_is_kept_encrypted_alone(
    group, owner
) -> None:
    await group.load(
        b'{"source": "ann.marker@mail.example", "timestamp": "2026-01-01T00:00:00Z", "payload": {}}'
    )
    [letter] = await letters(owner)
    assert letter["reason"] == "no_contract"
    assert letter["is_sealed"]
    assert b"ann.marker" not in await dump(owner)
