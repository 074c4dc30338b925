"""Where a person's data is looked for: in PostgreSQL's files, in its tables, behind its hashes."""

import mmap
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import polars as pl

from infra.cell_encryption import KeyRing, Place
from infra.postgres.connection import Pool
from infra.postgres.identifiers import qualify
from tasks.clean import ROW_HASH, Tally, bind, clean
from tasks.forget_person import Request, forget_person
from tasks.sealing import DEAD_LETTERS, QUARANTINED, VALUE
from tasks.subject import name_subject
from tests.security.claim import FoiledError
from tests.security.contracts import Guarded, Unguarded
from tests.security.people import NOTE, People, Stage

_TABLES = """
    SELECT schemaname, tablename FROM pg_tables
    WHERE schemaname IN ('metadata', 'warehouse', 'staging') ORDER BY 1, 2
"""


async def search_files(people: People) -> str:
    """Return which file of PostgreSQL's has the marker: rows, indexes, write-ahead log, log."""
    marker, searched = people.marker.encode(), 0
    files = [*people.data_folder.rglob("*"), people.server_log]
    for file in files:
        if file.is_file() and file.stat().st_size:
            searched += 1
            if _holds(file, marker):
                return f"{file.relative_to(people.data_folder.parent)} has it"
    raise FoiledError(f"none of {searched} files has it, write-ahead log and server's log included")


def _holds(file: Path, marker: bytes) -> bool:
    with (
        file.open("rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return content.find(marker) >= 0


async def search_tables(people: People) -> str:
    """Return which tables have the marker in any column, in clear or as bytes."""
    patterns = [f"%{people.marker}%", f"%{people.marker.encode().hex()}%"]
    tables = await people.connection.fetch(_TABLES)
    found = [
        f"{schema}.{name}"
        for schema, name in tables
        if await people.connection.fetchval(
            f"SELECT EXISTS (SELECT FROM {qualify(schema, name)} AS t"  # noqa: S608 - of the catalogue
            " WHERE t::text LIKE ANY ($1))",
            patterns,
        )
    ]
    if found:
        return f"{', '.join(found)} have it"
    raise FoiledError(f"none of {len(tables)} tables has it")


def search_kept(table: str, column: str) -> Callable[[People], Awaitable[str]]:
    """Return the search for the marker in what is kept of refused rows or messages."""

    async def search(people: People) -> str:
        rows = await people.connection.fetch(
            f"SELECT t::text AS row FROM {table} AS t WHERE {column} = $1",  # noqa: S608 - ours
            people.dataset.spec.table,
        )
        if not rows:
            raise RuntimeError(f"{table} has no row of {people.dataset.spec.table}")
        marks = (people.marker, people.marker.encode().hex())
        if any(each in row["row"] for row in rows for each in marks):
            return f"a row of {table} has it"
        raise FoiledError(f"{len(rows)} rows are kept in {table}, and none shows it")

    return search


async def confirm_by_hash(people: People) -> str:
    """Return whether a right guess of somebody's data is confirmed by the hash of their row."""
    spec = Unguarded.spec
    guess = pl.DataFrame({"person_id": ["1"], "name": [people.marker], "note": [NOTE]})
    rows, _ = clean(
        guess,
        pl.Series([2], dtype=pl.Int64),
        lambda numbers: [""] * len(numbers),
        spec=spec,
        binding=bind(guess.columns, spec, "a guess"),
        tally=Tally(),
    )
    kept = await people.connection.fetchval(
        f'SELECT "{ROW_HASH}" FROM {people.table} WHERE person_id = 1'  # noqa: S608 - ours
    )
    if rows[ROW_HASH][0] == kept:
        return f"the hash of the guess is the row's: {kept}"
    raise FoiledError("the hash of the right guess is not the row's: it is keyed")


async def confirm_by_index(target: tuple[People, KeyRing]) -> str:
    """Return whether a right guess is confirmed by the index that cells are found by."""
    people, ring = target
    [index] = ring.find_by(people.marker, people.place("name"))
    found = await people.connection.fetchval(
        f"SELECT count(*) FROM {people.table} WHERE _name_index = $1",  # noqa: S608 - ours
        index,
    )
    if found:
        return f"{found} row has the index of the guess"
    raise FoiledError("no row has the index of the right guess, made with another key")


async def find_forgotten(target: tuple[Stage, bool]) -> str:
    """Return where a person's name stands whom somebody has asked to forget.

    With all keys: nothing that is encrypted is hidden from this search.
    target: the stage, and whether `forget_person` has done it. If not, it is the neighbour's.
    """
    stage, is_forgotten = target
    people = stage.guarded
    name = people.marker if is_forgotten else people.neighbour
    subject = name_subject([Guarded.spec], Guarded.spec.table, "name", name)
    request = Request(subject, "the security check", dry_run=not is_forgotten)
    async with Pool(stage.eraser_url) as pool:
        erasure = await forget_person(pool, [Guarded.spec], people.ring, request)
    if not erasure.total:
        raise RuntimeError("nobody of that name was found at all")
    found = [where for where, text in [each async for each in _open_all(people)] if name in text]
    if found:
        return f"{', '.join(sorted(set(found)))} still have it"
    raise FoiledError(f"{erasure} None of them is left, read with all keys")


async def _open_all(people: People) -> AsyncIterator[tuple[str, str]]:
    """Yield every cell of the guarded dataset, with where it stands and what it says."""
    places = [
        (people.table, "name", people.place("name"), ""),
        ("staging.guarded_people", "name", people.place("name"), ""),
        ("metadata.quarantine", "raw_sealed", QUARANTINED, " AND dataset = 'guarded_people'"),
        (
            "metadata.dead_letters",
            "message_value",
            Place(DEAD_LETTERS, VALUE),
            " AND source = 'guarded_people'",
        ),
    ]
    for table, column, place, condition in places:
        rows = await people.connection.fetch(
            f"SELECT {column} AS cell FROM {table} WHERE {column} IS NOT NULL{condition}"  # noqa: S608 - ours
        )
        for row in rows:
            yield table, people.ring.open(row["cell"], place).decode()
