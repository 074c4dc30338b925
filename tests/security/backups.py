"""Backups: whoever finds one reads nothing, and whoever changes one is found out.

The same acts on a plain `pg_dump` show what the sealing adds.
"""

import asyncio
import itertools
import secrets
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from deployments.backup import make_backup, restore_backup
from infra.local.postgres import Postgres
from infra.postgres.connection import connect
from infra.sealed_file import CHUNK_BYTES, MAGIC, SealedError, make_key, read_key
from tests.conftest import DEBIAN_BIN
from tests.security.claim import Area, Claim, FoiledError
from tests.security.session import Session

TABLE = "metadata.pipeline_executions"
_NAMED_BYTES = len(MAGIC) + 8
"""Of a sealed file: until the name of its key ends."""
_HEAD_BYTES = _NAMED_BYTES + 7
_TAG_BYTES = 16
Change = Callable[[bytes, "Stage"], bytes]


@dataclass(frozen=True, slots=True)
class Stage:
    """A sealed and a plain backup of the platform's database, with a marker in it."""

    session: Session
    server: Postgres
    marker: str
    key: bytes
    sealed: Path
    plain: Path
    foreign: bytes
    """A backup of the same database under another key."""
    _serial: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def empty_database(self) -> str:
        """Return the address of a database with nothing in it."""
        name = f"restored_{next(self._serial)}"
        self.server.ensure_database(name)
        return self.session.url(database=name)


@dataclass(frozen=True, slots=True)
class Restore:
    """A backup that somebody has changed, to be restored."""

    stage: Stage
    is_sealed: bool
    change: Change


@asynccontextmanager
async def open_stage(session: Session) -> AsyncIterator[Stage]:
    """Make both, and see that the sealed one can be restored."""
    server = await session.postgres()
    marker = f"marker-{secrets.token_hex(12)}"
    connection = await connect(session.url())
    try:
        await connection.execute(
            f"INSERT INTO {TABLE} (pipeline_name) VALUES ($1)",  # noqa: S608 - a constant
            marker,
        )
        # More than one chunk, so that there is a seam to cut at.
        await connection.execute(
            "CREATE TABLE public.ballast AS"
            " SELECT md5(random()::text) AS line FROM generate_series(1, 100000)"
        )
    finally:
        await connection.close()
    folder = session.folder / "backups"
    folder.mkdir()
    key, other = (read_key(make_key(), "KEY") for _ in range(2))
    sealed, foreign, plain = (folder / name for name in ("sealed", "foreign", "plain.sql"))
    await make_backup(session.url(), sealed, key, programs=DEBIAN_BIN)
    await make_backup(session.url(), foreign, other, programs=DEBIAN_BIN)
    await asyncio.to_thread(_dump, session.url(), plain)
    yield Stage(session, server, marker, key, sealed, plain, foreign.read_bytes())


def _dump(url: str, file: Path) -> None:
    _run(url, "pg_dump", "--no-owner", "--file", str(file))


def _run(url: str, program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs on the database, over TLS that is checked."""
    password = urlsplit(url).password or ""
    done = subprocess.run(
        [
            str(DEBIAN_BIN / program),
            *arguments,
            "--no-password",
            f"--dbname={url.replace(f':{password}@', '@')}",
        ],
        env={"PGPASSWORD": password, "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
        # What a shell would give the file, whatever this one was started from.
        umask=0o022,
    )
    if done.returncode:
        raise RuntimeError(f"{program}: {done.stderr.strip()[:300]}")


async def restore(given: Restore) -> str:
    """Return what stands in the database that a changed backup was restored into."""
    stage = given.stage
    source = stage.sealed if given.is_sealed else stage.plain
    changed = source.with_name(f"changed-{source.name}")
    changed.write_bytes(given.change(source.read_bytes(), stage))
    url = stage.empty_database()
    if given.is_sealed:
        try:
            await restore_backup(url, changed, stage.key, programs=DEBIAN_BIN)
        except SealedError:
            await _expect_nothing(url)
            raise
    else:
        await asyncio.to_thread(_run, url, "psql", "--no-psqlrc", "--quiet", "--file", str(changed))
    return await _tell(url, stage.marker)


async def _tell(url: str, marker: str) -> str:
    connection = await connect(url)
    try:
        rows = await connection.fetchval(f"SELECT count(*) FROM {TABLE}")  # noqa: S608 - a constant
        same = await connection.fetchval(
            f"SELECT count(*) FROM {TABLE} WHERE pipeline_name = $1",  # noqa: S608 - as above
            marker,
        )
    finally:
        await connection.close()
    return f"it is restored without a word: {rows} runs, {same} of them as it was backed up"


async def _expect_nothing(url: str) -> None:
    connection = await connect(url)
    try:
        left = await connection.fetchval(
            "SELECT count(*) FROM pg_namespace WHERE nspname IN ('metadata', 'warehouse')"
        )
    finally:
        await connection.close()
    if left:
        raise RuntimeError("the backup was refused after a part of it was restored")


async def search(target: tuple[Stage, Path]) -> str:
    """Return that the marker can be read in the file."""
    stage, file = target
    content = file.read_bytes()
    if stage.marker.encode() in content or b"pipeline_executions" in content:
        return "the file shows tables and rows"
    raise FoiledError(f"{len(content)} bytes show neither a row nor the name of a table")


async def read_by_others(target: tuple[Stage, Path]) -> str:
    """Return that others on the machine may read the file."""
    _, file = target
    mode = file.stat().st_mode & 0o777
    if mode & 0o077:
        return f"its mode is {mode:o}"
    raise FoiledError(f"its mode is {mode:o}")


def _flip(content: bytes, stage: Stage) -> bytes:
    """Change a run's name where it can be found, and else a bit in the middle."""
    marker = stage.marker.encode()
    if marker in content:
        return content.replace(marker, marker[::-1])
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def _cut(content: bytes, _: Stage) -> bytes:
    """Leave the end out: in a plain dump from the row on that holds the marker."""
    return content[:-1000]


def _cut_at_seam(content: bytes, stage: Stage) -> bytes:
    """Leave whole chunks out at the end; of a plain dump, its last lines."""
    if stage.marker.encode() in content:
        return _cut(content, stage)
    kept = _HEAD_BYTES + CHUNK_BYTES + _TAG_BYTES
    if len(content) <= kept:
        raise RuntimeError("the backup is one chunk: it has no seam")
    return content[:kept]


def _replace(content: bytes, stage: Stage) -> bytes:
    """Put another backup in its place."""
    if stage.marker.encode() in content:
        return content.replace(stage.marker.encode(), b"of another place")
    return stage.foreign


def _forge_head(content: bytes, stage: Stage) -> bytes:
    """Put another backup in its place, under the name of the right key."""
    if stage.marker.encode() in content:
        return content.replace(stage.marker.encode(), b"of another place")
    return content[:_NAMED_BYTES] + stage.foreign[_NAMED_BYTES:]


def _change_claim(name: str, tried: str, change: Change, saying: str) -> Claim:
    return Claim(
        name,
        tried,
        restore,
        lambda stage: Restore(stage, is_sealed=True, change=change),
        lambda stage: Restore(stage, is_sealed=False, change=change),
        SealedError,
        saying,
    )


CLAIMS = (
    _change_claim(
        "changed", "change a backup, then wait for it to be restored", _flip, "was changed"
    ),
    _change_claim("cut-short", "leave out the end of a backup", _cut, "the end is missing"),
    _change_claim(
        "cut-at-a-seam",
        "leave out the last chunks of a backup, each of which is whole",
        _cut_at_seam,
        "the end is missing",
    ),
    _change_claim(
        "foreign", "put another backup in its place", _replace, "sealed with another key"
    ),
    _change_claim(
        "foreign-under-its-name",
        "put another backup in its place, with the head of the right one",
        _forge_head,
        "is not what was written",
    ),
    Claim(
        "unreadable",
        "read a backup that was left lying about",
        search,
        lambda stage: (stage, stage.sealed),
        lambda stage: (stage, stage.plain),
    ),
    Claim(
        "private",
        "open a backup as another user of the machine",
        read_by_others,
        lambda stage: (stage, stage.sealed),
        lambda stage: (stage, stage.plain),
    ),
)
AREA = Area("backups", "Backups", open_stage, CLAIMS)
