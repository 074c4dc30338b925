"""A backup restored into an empty server has the same rows; whoever finds it sees none of them."""

from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from deployments.backup import make_backup, restore_backup
from infra.local.postgres import Postgres
from infra.sealed_file import SealedError, make_key, read_key
from schemas.errors import TerminalError

KEY = read_key(make_key(), "KEY")
MARKER = "marker-7f3a91"
_TABLES = """
    SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
    WHERE schemaname IN ('metadata', 'warehouse', 'staging') OR tablename = 'alembic_version'
    ORDER BY 1
"""


async def read_all(url: str) -> dict[str, tuple[int, str]]:
    """Return each table's height and a checksum of its rows."""
    connection = await asyncpg.connect(url)
    try:
        return {
            name: tuple(
                await connection.fetchrow(
                    f"SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {name} AS t"  # noqa: S608, E501 - quoted by format()
                )
            )
            for [name] in await connection.fetch(_TABLES)
        }
    finally:
        await connection.close()


@pytest.fixture
async def filled(database, load, tmp_path: Path) -> str:
    """A database with rows of every kind, one of them with a marker; its owner's address."""
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "customers.csv").write_text(
        f"customer_id,name,city,signup_date\n1,Ann,{MARKER},2024-01-01\nx,Bo,{MARKER},2024-01-01\n"
    )
    await load(folder / "customers.csv")
    return database.owner_url


@pytest.fixture
def other_server(tmp_path: Path) -> Iterator[Postgres]:
    """A server that knows neither our roles nor our tables."""
    with Postgres(tmp_path / "other" / "data", settings={"fsync": "off"}) as postgres:
        yield postgres


async def test_a_restored_database_is_the_one_that_was_backed_up(
    filled: str, other_server: Postgres, tmp_path: Path
) -> None:
    file = tmp_path / "backup"
    await _leave_large_object(filled)
    size = await make_backup(filled, file, KEY)
    assert size > 0
    other_server.ensure_role("new_owner", "pw", options="CREATEROLE")
    other_server.ensure_database("restored", owner="new_owner")
    url = other_server.url("restored", user="new_owner", password="pw")
    await restore_backup(url, file, KEY)
    before, after = await read_all(filled), await read_all(url)
    assert after == before
    assert before["warehouse.dim_customers"][0] == 1
    # What roles may do came along.
    connection = await asyncpg.connect(url)
    try:
        for role, may in (("sluiceway_reader", False), ("sluiceway_loader", True)):
            assert may == await connection.fetchval(
                "SELECT has_table_privilege($1, 'warehouse.dim_customers', 'INSERT')", role
            )
        assert await connection.fetch(
            "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'staging'"
        ) == [("sluiceway_loader",)]
        assert await connection.fetchval("SELECT count(*) FROM pg_largeobject_metadata") == 0
        # It looks into tables of the loader's, and would run what the loader left there.
        assert (
            await connection.fetchval(
                "SELECT proowner::regrole::text FROM pg_proc WHERE proname = 'find_uncontracted'"
            )
            == "sluiceway_loader"
        )
    finally:
        await connection.close()
    with pytest.raises(TerminalError, match="not empty"):
        await restore_backup(url, file, KEY)


async def _leave_large_object(url: str) -> None:
    """Leave one as any role of another platform could: it is no reason to have no backup."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SELECT lo_from_bytea(0, 'x')")
    finally:
        await connection.close()


async def test_a_backup_shows_nothing_of_what_is_in_it(filled: str, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    await make_backup(filled, file, KEY)
    assert file.stat().st_mode & 0o077 == 0
    content = file.read_bytes()
    assert MARKER.encode() not in content
    assert b"PGDMP" not in content


async def test_a_damaged_backup_restores_nothing(
    filled: str, embedded_server, tmp_path: Path
) -> None:
    file = tmp_path / "backup"
    await make_backup(filled, file, KEY)
    content = file.read_bytes()
    empty = embedded_server.postgres
    empty.ensure_database("empty", owner="postgres")
    url = empty.url("empty")
    for damaged in (content[:-1], content[:2000] + b"?" + content[2001:]):
        file.write_bytes(damaged)
        with pytest.raises(SealedError, match="not what was written"):
            await restore_backup(url, file, KEY)
    assert await read_all(url) == {}


async def test_what_pg_dump_says_is_told_and_no_file_is_left(filled: str, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "pg_dump").write_text(
        "#!/bin/sh\n[ $1 = --version ] && exit; echo half; echo 'it broke' >&2; exit 3\n"
    )
    (programs / "pg_dump").chmod(0o755)
    with pytest.raises(TerminalError, match="it broke"):
        await make_backup(filled, tmp_path / "backup", KEY, programs=programs)
    assert [path.name for path in tmp_path.iterdir() if "backup" in path.name] == []


async def test_no_backup_is_overwritten(filled: str, tmp_path: Path) -> None:
    (tmp_path / "backup").write_text("an earlier one")
    with pytest.raises(TerminalError, match="there already"):
        await make_backup(filled, tmp_path / "backup", KEY)
