"""Personal data: what whoever has the database, its files or an old key learns of a person."""

import base64
import secrets
from collections.abc import Awaitable, Callable

from pydantic import SecretStr

from infra.cell_encryption import KEY_BYTES, CellError, KeyRing, Place
from infra.postgres.connection import Pool
from infra.settings import read_settings
from schemas.errors import SettingError
from tasks.key_proof import prove_keys
from tasks.rotate_keys import require_readable, rotate_keys
from tests.security.claim import Area, Claim, FoiledError
from tests.security.contracts import Guarded
from tests.security.people import People, Stage, open_stage
from tests.security.personal_searches import (
    confirm_by_hash,
    confirm_by_index,
    find_forgotten,
    search_files,
    search_kept,
    search_tables,
)
from tests.security.session import undone

FORGED = "Mallory"


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


async def load_with_other_keys(given: tuple[People, bool]) -> str:
    """Return what becomes of keys that are not the database's, with its proof or without."""
    people, has_proof = given
    async with undone(people.connection):
        if not has_proof:
            await people.connection.execute("DELETE FROM metadata.key_proof")
        await prove_keys(people.connection, _other_ring())
    return "they are taken, and nobody is found by them who was loaded before"


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
        "other-keys",
        "load with keys that are not the database's",
        load_with_other_keys,
        lambda stage: (stage.guarded, True),
        lambda stage: (stage.guarded, False),
        SettingError,
        "SLUICEWAY_CELL_KEYS lacks the key",
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
