"""Personal columns in the database: encrypted, found, compared, and never in clear."""

import base64
import datetime as dt
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import pandas as pd
import pytest

import tasks.load
import tasks.merge
from deployments.bootstrap import bootstrap
from infra.cell_encryption import CellError, KeyRing, Place
from infra.cell_keys import read_key_ring
from infra.postgres.connection import Pool
from infra.settings import read_settings
from schemas.dataset import Dataset, History, Role, Spec, column
from schemas.errors import SettingError
from tasks.key_proof import prove_keys, renew_proof
from tasks.load import Report
from tasks.steps import load_frame

EARLY = dt.date(1850, 1, 2)
"""Before the calendar begins: were it no personal date, it would be added to dim_date."""
MARKER = "marker.person@mail.example"
Load = Callable[..., Awaitable[Report]]


class Visits(Dataset, table="visits", role=Role.FACT, key=("visit_id",)):
    """One row per visit."""

    visit_id: int = column()
    email: str = column(pii=True, nullable=True)
    birthday: dt.date = column(pii=True, nullable=True)
    city: str = column(nullable=True)


class Members(
    Dataset, table="members", role=Role.DIMENSION, key=("id",), history=History.KEEP_VERSIONS
):
    """One row per member."""

    id: int = column()
    email: str = column(pii=True)


SPECS: Mapping[str, Spec] = {each.spec.table: each.spec for each in (Visits, Members)}
EMAIL = Place("visits", "email")


@pytest.fixture
async def prepared(database) -> AsyncIterator[Pool]:
    await bootstrap(database.owner_url, datasets=(Visits, Members))
    async with Pool(database.loader_url) as pool:
        yield pool


@pytest.fixture
def take(prepared: Pool) -> Load:
    async def load(dataset: type[Dataset], rows: list[dict[str, Any]]) -> Report:
        async with prepared.acquire() as connection:
            execution_id = await connection.fetchval(
                "INSERT INTO metadata.pipeline_executions (pipeline_name) VALUES ('t') RETURNING id"
            )
        return await load_frame.fn(prepared, pd.DataFrame(rows), dataset, execution_id=execution_id)

    return load


async def fetch(pool: Pool, query: str, *given: object) -> list[Any]:
    async with pool.acquire() as connection:
        return await connection.fetch(query, *given)


async def dump(pool: Pool) -> str:
    """Return every table of the platform's schemas as text, cells of bytes as what they hold."""
    parts = []
    for [table] in await fetch(
        pool,
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
        " WHERE schemaname IN ('staging', 'warehouse', 'metadata')",
    ):
        for row in await fetch(pool, f"SELECT * FROM {table}"):  # noqa: S608 - of the catalogue
            parts += [
                value.decode("latin-1") if isinstance(value, bytes) else str(value)
                for value in row.values()
            ]
    return "\n".join(parts)


def visit(number: int, email: str | None, **more: Any) -> dict[str, Any]:
    return {"visit_id": number, "email": email, "city": "Ulm", **more}


async def test_cells_are_encrypted_found_and_no_value_stands_anywhere(
    prepared: Pool, take: Load
) -> None:
    rows = [visit(1, MARKER), visit(2, MARKER), visit(3, None), visit("four", MARKER)]
    report = await take(Visits, rows)
    assert (report.ledger.inserted, report.ledger.quarantined) == (3, 1)
    keys = read_key_ring()
    for table in ("staging.visits", "warehouse.fact_visits"):
        found = await fetch(
            prepared,
            f"SELECT email, visit_id FROM {table} WHERE _email_index = $1 ORDER BY visit_id",  # noqa: S608
            keys.find_by(MARKER, EMAIL)[0],
        )
        assert [row["visit_id"] for row in found] == [1, 2]
        assert [keys.open(row["email"], EMAIL).decode() for row in found] == [MARKER] * 2
        assert found[0]["email"] != found[1]["email"]
        [empty] = await fetch(prepared, f"SELECT * FROM {table} WHERE visit_id = 3")  # noqa: S608
        assert (empty["email"], empty["_email_index"]) == (None, None)
    text = await dump(prepared)
    assert MARKER not in text
    assert "Ulm" in text


async def test_the_same_rows_again_are_recognised_and_a_changed_value_is_a_change(
    prepared: Pool, take: Load
) -> None:
    await take(Visits, [visit(1, MARKER), visit(2, "b@c.example")])
    before = await fetch(prepared, "SELECT * FROM warehouse.fact_visits ORDER BY 1")
    again = await take(Visits, [visit(1, MARKER), visit(2, "b@c.example")])
    assert (again.ledger.unchanged, again.ledger.updated) == (2, 0)
    assert await fetch(prepared, "SELECT * FROM warehouse.fact_visits ORDER BY 1") == before
    other = await take(Visits, [visit(1, "new@c.example"), visit(2, "b@c.example")])
    assert (other.ledger.unchanged, other.ledger.updated) == (1, 1)
    for email, found in ((MARKER, []), ("new@c.example", [1])):
        index = read_key_ring().find_by(email, EMAIL)[0]
        rows = await fetch(
            prepared, "SELECT visit_id FROM warehouse.fact_visits WHERE _email_index = $1", index
        )
        assert [row["visit_id"] for row in rows] == found


async def test_the_first_load_of_many_rows_leaves_the_index_that_finds_persons(
    prepared: Pool, take: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.merge, "BULK_ROWS", 1)
    indexes = """
        SELECT indexdef FROM pg_indexes WHERE schemaname = 'warehouse' AND tablename = 'fact_visits'
        ORDER BY 1
    """
    before = await fetch(prepared, indexes)
    assert sum("_index)" in row["indexdef"] for row in before) == 2
    await take(Visits, [visit(1, MARKER), visit(2, None)])
    assert await fetch(prepared, indexes) == before


async def test_versions_keep_the_cells_of_their_time(prepared: Pool, take: Load) -> None:
    await take(Members, [{"id": 1, "email": "old@c.example"}])
    await take(Members, [{"id": 1, "email": "new@c.example"}])
    rows = await fetch(prepared, "SELECT email FROM warehouse.dim_members ORDER BY valid_from")
    place = Place("members", "email")
    said = [read_key_ring().open(row["email"], place).decode() for row in rows]
    assert said == ["old@c.example", "new@c.example"]


async def test_without_keys_nothing_is_loaded_and_the_sentence_names_the_setting(
    prepared: Pool, take: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Spec) -> None:
        raise SettingError("SLUICEWAY_CELL_KEYS is not set")

    monkeypatch.setattr(tasks.load, "key_ring_for", refuse)
    with pytest.raises(SettingError, match="SLUICEWAY_CELL_KEYS is not set"):
        await take(Visits, [visit(1, MARKER)])
    assert MARKER not in await dump(prepared)
    assert await fetch(prepared, "SELECT FROM staging.visits") == []


async def test_a_cell_that_was_changed_or_moved_in_the_database_is_not_read(
    database, prepared: Pool, take: Load
) -> None:
    await take(Visits, [visit(1, MARKER, birthday=EARLY), visit(2, "b@c.example")])
    keys = read_key_ring()
    async with Pool(database.owner_url, size=2) as owner:
        await fetch(
            owner,
            "UPDATE warehouse.fact_visits SET email = birthday WHERE visit_id = 1",
        )
        await fetch(
            owner,
            "UPDATE warehouse.fact_visits SET email = set_byte(email, 20, get_byte(email, 20) # 1)"
            " WHERE visit_id = 2",
        )
    for row in await fetch(prepared, "SELECT email FROM warehouse.fact_visits"):
        with pytest.raises(CellError, match=r"visits\.email is not what was written there"):
            keys.open(row["email"], EMAIL)
    foreign = KeyRing([bytes([7]) * 32], [bytes([8]) * 32])
    [row] = await fetch(prepared, "SELECT email FROM staging.visits WHERE visit_id = 1")
    with pytest.raises(CellError, match="written with a key that is not set"):
        foreign.open(row["email"], EMAIL)


async def test_messages_are_encrypted_by_the_same_contract(
    prepared: Pool, session, execution_id: int, make_feed
) -> None:
    feed = make_feed(session, execution_id, SPECS)
    values = [
        json.dumps(
            {
                "source": "visits",
                "timestamp": f"2026-01-01T00:00:0{number}Z",
                "payload": {"visit_id": number, "email": email, "birthday": str(EARLY)},
            }
        ).encode()
        for number, email in ((1, MARKER), (2, MARKER), (1, MARKER), (3, None))
    ]
    await session.prepare(SPECS.values())
    report = await feed.load(await feed.take(*values))
    assert report.ledgers["visits"].duplicates == 1
    index = read_key_ring().find_by(MARKER, EMAIL)[0]
    for table, found in (("staging.visits", [1, 1, 2]), ("warehouse.fact_visits", [1, 2])):
        rows = await fetch(
            prepared,
            f"SELECT visit_id FROM {table} WHERE _email_index = $1 ORDER BY 1",  # noqa: S608
            index,
        )
        assert [row["visit_id"] for row in rows] == found
    assert MARKER not in await dump(prepared)
    assert not await fetch(prepared, "SELECT FROM warehouse.dim_date WHERE date_key = $1", EARLY)


async def test_other_keys_than_those_of_the_database_are_refused_and_nothing_is_loaded(
    prepared: Pool, take: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    await take(Visits, [visit(1, MARKER)])
    cells, index, others = bytes([7]) * 32, bytes([8]) * 32, bytes([9]) * 32
    ours = read_key_ring()
    for ring, said in (
        (KeyRing([cells], [index]), "SLUICEWAY_CELL_KEYS lacks the key that this database's"),
        (ring_of(cells=None, index=others), "SLUICEWAY_INDEX_KEYS lacks the key that this"),
    ):
        monkeypatch.setattr(tasks.load, "key_ring_for", lambda *_, ring=ring: ring)
        with pytest.raises(SettingError, match=said):
            await take(Visits, [visit(2, "b@c.example")])
    assert await fetch(prepared, "SELECT visit_id FROM warehouse.fact_visits") == [(1,)]
    # Old keys behind new ones are enough; once all is rewritten, the new ones are.
    new = ring_of(cells=cells, index=others)
    async with prepared.acquire() as connection:
        await prove_keys(connection, new)
        await renew_proof(connection, new)
        with pytest.raises(SettingError, match="SLUICEWAY_CELL_KEYS lacks"):
            await prove_keys(connection, ours)
        await prove_keys(connection, KeyRing([cells], [others]))


def ring_of(*, cells: bytes | None, index: bytes) -> KeyRing:
    """Return a ring whose new keys, where there are any, stand before those of the settings."""
    settings = read_settings()
    [old_cells] = parse_keys(settings.cell_keys.get_secret_value())
    [old_index] = parse_keys(settings.index_keys.get_secret_value())
    if cells is None:
        return KeyRing([old_cells], [index])
    return KeyRing([cells, old_cells], [index, old_index])


def parse_keys(text: str) -> list[bytes]:
    return [base64.b64decode(each.partition("=")[2]) for each in text.split(",")]
