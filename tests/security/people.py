"""The people of whom nothing is to be learned, loaded by file and by message, over TLS.

They are loaded twice, by contracts that differ in `pii=True` alone: what an attack finds of the
unguarded, and not of the guarded, is what that word protects.
"""

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from infra.cell_encryption import KeyRing, Place
from infra.cell_keys import read_key_ring
from infra.postgres.connection import Pool, connect
from infra.postgres.identifiers import qualify
from schemas.dataset import Dataset
from tasks.discover_files import discover_files
from tasks.load import Order, Outcome
from tasks.load_file import load_found
from tests.integration.conftest import Group
from tests.security.contracts import Guarded, Unguarded
from tests.security.session import Session

NOTE = "a note of no matter"


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
        f"2,{marker} {marker} {marker},{NOTE}",
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
