"""Whether the keys of this process are those of the database's personal cells.

Cells of other keys could be written all the same, and nobody would be found by them. So the first
who writes leaves a known text, encrypted and indexed; whoever comes after has to read and find it.
"""

from infra.cell_encryption import CellError, KeyRing, Place
from infra.postgres.connection import Connection
from schemas.errors import SettingError

_TEXT = "sluiceway"
_PLACE = Place("key_proof", "cell")
_ID = slice(1, 5)
"""Of a cell: where it says by which key it was made."""
_READ = "SELECT cell, index FROM metadata.key_proof"


async def prove_keys(connection: Connection, ring: KeyRing, *, may_write: bool = True) -> None:
    """Leave a proof where there is none; raises SettingError where its keys are not in the ring.

    Outside of a transaction: whoever writes the first proof would hold the others up.
    may_write: whether the role may leave one.
    """
    proof = await connection.fetchrow(_READ)
    if proof is None and may_write:
        await connection.execute(
            "INSERT INTO metadata.key_proof (cell, index) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            *_make(ring),
        )
        proof = await connection.fetchrow(_READ)
    if proof is None:
        return
    try:
        ring.open(proof["cell"], _PLACE)
    except CellError:
        raise SettingError(
            "SLUICEWAY_CELL_KEYS lacks the key that this database's personal cells are written "
            f"with (its id is {proof['cell'][_ID].hex()}): set it, behind the key that is to "
            "write, until `rotate_keys` has run."
        ) from None
    if proof["index"] not in ring.find_by(_TEXT, _PLACE):
        raise SettingError(
            "SLUICEWAY_INDEX_KEYS lacks the key that this database's personal cells are found by: "
            "set it, behind the key that is to write, until `rotate_keys` has run."
        )


async def renew_proof(connection: Connection, ring: KeyRing) -> None:
    """Leave a proof of the first keys: the others may then be taken away."""
    await connection.execute(
        """
        INSERT INTO metadata.key_proof (cell, index) VALUES ($1, $2)
        ON CONFLICT (is_only) DO UPDATE
        SET cell = excluded.cell, index = excluded.index, proved_at = clock_timestamp()
        """,
        *_make(ring),
    )


def _make(ring: KeyRing) -> tuple[bytes, bytes]:
    return ring.seal(_TEXT.encode(), _PLACE), ring.find_by(_TEXT, _PLACE)[0]
