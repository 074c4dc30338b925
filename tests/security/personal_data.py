"""Personal data: what whoever has the database, its files or an old key learns of a person.

The same people are loaded twice over TLS, by contracts that differ in `pii=True` alone: what an
attack finds of the unguarded, and not of the guarded, is what that word protects.
"""

import base64
import json
import mmap
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import polars as pl
from pydantic import SecretStr

from infra.cell_encryption import KEY_BYTES, CellError, KeyRing, Place
from infra.cell_keys import read_key_ring
from infra.postgres.connection import Pool, connect
from infra.postgres.identifiers import qualify
from infra.settings import read_settings
from schemas.dataset import Dataset
from tasks.clean import ROW_HASH, Tally, bind, clean
from tasks.discover_files import discover_files
from tasks.forget_person import Request, forget_person
from tasks.load import Order, Outcome
from tasks.load_file import load_found
from tasks.rotate_keys import require_readable, rotate_keys
from tasks.sealing import DEAD_LETTERS, QUARANTINED, VALUE
from tasks.subject import name_subject
from tests.integration.conftest import Group
from tests.security.claim import Area, Claim, FoiledError
from tests.security.contracts import Guarded, Unguarded
from tests.security.roles import undone
from tests.security.session import Session

NOTE = "a note of no matter"
FORGED = "Mallory"
_TABLES = """
    SELECT schemaname, tablename FROM pg_tables
    WHERE schemaname IN ('metadata', 'warehouse', 'staging') ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class People:
    """One of the two datasets, and the marker that stands in each of its rows."""

    dataset: type[Dataset]
    marker: str
    """The name of the first person."""
    neighbour: str
    """The name of another one."""
    connection: asyncpg.Connection
    """The owner's."""
    data_folder: Path
    server_log: Path
    ring: KeyRing

    @property
    def is_guarded(self) -> bool:
        """Whether its columns are personal."""
        return self.dataset is Guarded

    @property
    def table(self) -> str:
        """Its table in the warehouse."""
        return qualify("warehouse", f"dim_{self.dataset.spec.table}")

    def place(self, column: str) -> Place:
        """Return where a column's cells stand."""
        return Place(self.dataset.spec.table, column)

    async def read(self, column: str, *, ring: KeyRing | None = None) -> str:
        """Return what the first person's row holds, as the platform reads it."""
        value = await self.connection.fetchval(
            f"SELECT {column} FROM {self.table} WHERE person_id = 1"  # noqa: S608 - ours
        )
        if not self.is_guarded:
            return str(value)
        return (ring or self.ring).open(value, self.place(column)).decode()


@dataclass(frozen=True, slots=True)
class Stage:
    """Both."""

    guarded: People
    unguarded: People
    loader_url: str
    eraser_url: str


@asynccontextmanager
async def open_stage(session: Session) -> AsyncIterator[Stage]:
    """Load both by file and by message, and see that the platform reads what it wrote."""
    server = await session.postgres()
    connection = await connect(session.url())
    try:
        found = [
            People(
                dataset,
                f"marker-{secrets.token_hex(12)}",
                f"marker-{secrets.token_hex(12)}",
                connection,
                server.cluster.folder,
                server.log,
                read_key_ring(),
            )
            for dataset in (Guarded, Unguarded)
        ]
        async with Pool(session.url("sluiceway_loader")) as pool:
            for each in found:
                await _load(pool, session.folder / each.dataset.spec.table, each)
        for each in found:
            if await each.read("name") != each.marker:
                raise RuntimeError(f"{each.table} does not hold what was loaded")
        await connection.execute("CHECKPOINT")
        yield Stage(*found, session.url("sluiceway_loader"), session.url("sluiceway_eraser"))
    finally:
        await connection.close()


async def _load(pool: Pool, folder: Path, people: People) -> None:
    """Load rows that are taken, rows that are refused, and a message that is."""
    folder.mkdir()
    spec, marker = people.dataset.spec, people.marker
    lines = (
        "person_id,name,note",
        f"1,{marker},{NOTE}",
        f"x,{marker},{NOTE}",
        # Too long a name: the reason could show it.
        f"2,{marker * 3},{NOTE}",
        f"3,{marker},{NOTE},one cell too many,{marker}",
        f"4,{people.neighbour},{NOTE}",
        f"y,{people.neighbour},{NOTE}",
    )
    (folder / f"{spec.table}.csv").write_text("\n".join([*lines, ""]))
    async with pool.acquire() as connection:
        run = await connection.fetchval(
            "INSERT INTO metadata.pipeline_executions (pipeline_name) VALUES ('security')"
            " RETURNING id"
        )
    [file], _ = discover_files(folder, [spec])
    report = await load_found(pool, file, Order(run, str(file.path), file.table, spec))
    if (report.outcome, report.ledger.inserted, report.ledger.quarantined) != (
        Outcome.LOADED,
        2,
        4,
    ):
        raise RuntimeError(f"{file.path} was not loaded as it should be: {report.ledger}")
    messages = (
        {
            "source": spec.table,
            "timestamp": "2026-01-31T00:00:00Z",
            "payload": {"person_id": "x", "name": name, "note": NOTE},
        }
        for name in (marker, people.neighbour)
    )
    group = Group(pool, run, {spec.table: spec})
    batch = await group.load(*(json.dumps(each).encode() for each in messages))
    buried = await people.connection.fetchval(
        "SELECT count(*) FROM metadata.dead_letters WHERE source = $1", spec.table
    )
    if buried != 2:
        raise RuntimeError(f"{buried} of 2 messages became dead letters: {batch}")


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


async def forge(people: People) -> str:
    """Return what is read of a cell that was changed where it stands."""
    async with undone(people.connection):
        if people.is_guarded:
            await people.connection.execute(
                f"UPDATE {people.table} SET name = set_byte(name, length(name) - 20,"  # noqa: S608 - ours
                " get_byte(name, length(name) - 20) # 1) WHERE person_id = 1"
            )
        else:
            await people.connection.execute(
                f"UPDATE {people.table} SET name = $1 WHERE person_id = 1",  # noqa: S608 - ours
                FORGED,
            )
        return f"the name is read as {await people.read('name')}, and nobody notices"


async def move_to_column(people: People) -> str:
    """Return what is read of a cell that was copied over one of another column."""
    async with undone(people.connection):
        await people.connection.execute(
            f"UPDATE {people.table} SET name = note WHERE person_id = 1"  # noqa: S608 - ours
        )
        return f"the name is read as '{await people.read('name')}', and nobody notices"


async def move_to_table(people: People) -> str:
    """Return what is read of a cell that was copied over one of another table."""
    text = "somebody else's name"
    given = (
        people.ring.seal(text.encode(), Place("customers", "name")) if people.is_guarded else text
    )
    async with undone(people.connection):
        await people.connection.execute(
            f"UPDATE {people.table} SET name = $1 WHERE person_id = 1",  # noqa: S608 - ours
            given,
        )
        return f"the name is read as '{await people.read('name')}', and nobody notices"


async def read_without_key(people: People) -> str:
    """Return what is read with keys that are not the ones the cells were written with."""
    return f"the name is {await people.read('name', ring=_other_ring())}"


async def read_with_old_key(target: tuple[Stage, bool]) -> str:
    """Return what a key of yesterday, which somebody has got hold of, reads in the database.

    target: the stage, and whether `rotate_keys` has run with a key of today.
    """
    stage, is_rotated = target
    settings = read_settings()
    old, index = _first_key(settings.cell_keys), _first_key(settings.index_keys)
    new = secrets.token_bytes(KEY_BYTES)
    rotated, back = (KeyRing(keys, [index]) for keys in ([new, old], [old, new]))
    people = stage.guarded
    async with Pool(stage.loader_url) as pool:
        try:
            if is_rotated:
                require_readable(await rotate_keys(pool, [Guarded.spec], rotated))
                await people.read("name", ring=rotated)
            return f"the name is {await people.read('name', ring=KeyRing([old], [index]))}"
        finally:
            await rotate_keys(pool, [Guarded.spec], back)


def _first_key(setting: SecretStr) -> bytes:
    return base64.b64decode(setting.get_secret_value().partition("=")[2])


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


def _other_ring() -> KeyRing:
    return KeyRing([secrets.token_bytes(KEY_BYTES)], [secrets.token_bytes(KEY_BYTES)])


def _of_both(
    name: str,
    tried: str,
    attack: Callable[[People], Awaitable[str]],
    repelled_by: type[BaseException] = FoiledError,
    saying: str = "",
) -> Claim:
    return Claim(
        name,
        tried,
        attack,
        lambda stage: stage.guarded,
        lambda stage: stage.unguarded,
        repelled_by,
        saying,
    )


CLAIMS = (
    _of_both(
        "store", "search PostgreSQL's files for a person's name, as a thief would", search_files
    ),
    _of_both(
        "tables", "search every table for a person's name, as an operator could", search_tables
    ),
    _of_both(
        "quarantine",
        "search the rows that were refused",
        search_kept("metadata.quarantine", "dataset"),
        saying="none shows it",
    ),
    _of_both(
        "dead-letters",
        "search the messages that were refused",
        search_kept("metadata.dead_letters", "source"),
        saying="none shows it",
    ),
    _of_both(
        "tampered-cell",
        "change a byte of a cell where it stands",
        forge,
        CellError,
        "not what was written there",
    ),
    _of_both(
        "cell-of-another-column",
        "copy a cell over one of another column",
        move_to_column,
        CellError,
        "comes from another column",
    ),
    _of_both(
        "cell-of-another-table",
        "copy a cell over one of another table",
        move_to_table,
        CellError,
        "comes from another column",
    ),
    _of_both(
        "missing-key",
        "read the database without its keys",
        read_without_key,
        CellError,
        "written with a key that is not set",
    ),
    Claim(
        "old-key",
        "read with an old key, after the cells were written anew",
        read_with_old_key,
        lambda stage: (stage, True),
        lambda stage: (stage, False),
        CellError,
        "written with a key that is not set",
    ),
    _of_both(
        "guess-by-row-hash",
        "try a guess of a person's data against the hash of their row",
        confirm_by_hash,
        saying="it is keyed",
    ),
    Claim(
        "guess-by-index",
        "try a guess of a name against the index, without its key",
        confirm_by_index,
        lambda stage: (stage.guarded, _other_ring()),
        lambda stage: (stage.guarded, stage.guarded.ring),
        saying="made with another key",
    ),
    Claim(
        "forgotten-person",
        "look with all keys for a person whom `forget_person` was asked to forget",
        find_forgotten,
        lambda stage: (stage, True),
        lambda stage: (stage, False),
        saying="None of them is left",
    ),
)
AREA = Area("personal_data", "Personal data in the database", open_stage, CLAIMS)
