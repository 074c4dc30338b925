"""Finds a person in what was rejected: quarantined rows, dead letters and unsent messages.

They are encrypted whole, and have no index: each is opened and looked through.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import asyncpg

from infra.cell_encryption import CellError, KeyRing
from infra.postgres.connection import Connection
from infra.postgres.copy import affected
from tasks.mentions import Mentions
from tasks.sealing import (
    DEAD_LETTERS,
    KEY,
    QUARANTINED,
    UNSENT_MESSAGES,
    VALUE,
    open_column,
)

QUARANTINE = "quarantine"
_PAGE_ROWS = 100
"""A message may be a megabyte."""
_QUARANTINED = """
    SELECT id, raw, raw_sealed FROM metadata.quarantine
    WHERE (dataset = ANY($1)) = $2 AND id > $3 ORDER BY id LIMIT $4
"""
_MESSAGES = """
    SELECT id, message_key, message_value, is_sealed FROM metadata.{table}
    WHERE coalesce(source = ANY($1), false) = $2 AND id > $3 ORDER BY id LIMIT $4
"""
_PAGES = {
    QUARANTINE: _QUARANTINED,
    DEAD_LETTERS: _MESSAGES.format(table=DEAD_LETTERS),
    UNSENT_MESSAGES: _MESSAGES.format(table=UNSENT_MESSAGES),
}
_DELETE = "DELETE FROM metadata.{table} WHERE id = ANY($1)"


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose rejects are looked through: those of these datasets, or those of all others."""

    datasets: Collection[str]
    is_theirs: bool = True


@dataclass(frozen=True, slots=True)
class Rejected:
    """What is about the person, by table of the schema metadata."""

    ids: Mapping[str, list[int]] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """Rows by qualified table."""
        return {f"metadata.{table}": len(ids) for table, ids in self.ids.items() if ids}


async def find_rejected(
    connection: Connection, ring: KeyRing | None, mentions: Mentions, scope: Scope
) -> Rejected:
    """Return the rejects that mention the person.

    Raises CellError where one cannot be opened: nobody could say that the person is not in it.
    """
    found: dict[str, list[int]] = {}
    for table, query in _PAGES.items():
        found[table] = []
        last_id = 0
        while page := await connection.fetch(
            query, [*scope.datasets], scope.is_theirs, last_id, _PAGE_ROWS
        ):
            last_id = page[-1]["id"]
            found[table] += [row["id"] for row in page if mentions.are_in(*_open(ring, table, row))]
    return Rejected(found)


async def delete_rejected(connection: Connection, rejected: Rejected) -> dict[str, int]:
    """Delete them; returns how many were still there, by qualified table."""
    deleted = {}
    for table, ids in rejected.ids.items():
        if ids:
            status = await connection.execute(_DELETE.format(table=table), ids)
            deleted[f"metadata.{table}"] = affected(status)
    return {table: count for table, count in deleted.items() if count}


def _open(ring: KeyRing | None, table: str, row: asyncpg.Record) -> tuple[str, str | None]:
    """Return a reject as text, and the key of the message that it was."""
    if table == QUARANTINE:
        sealed: bytes | None = row["raw_sealed"]
        if sealed is None:
            return row["raw"], None
        if ring is None:
            raise CellError(
                "Quarantined rows are encrypted, and no key is set: set SLUICEWAY_CELL_KEYS and "
                "SLUICEWAY_INDEX_KEYS as they were when they were written."
            )
        return ring.open(sealed, QUARANTINED).decode("utf-8", "replace"), None
    key, value = (open_column(ring, table, row, column) for column in (KEY, VALUE))
    return (
        (value or b"").decode("utf-8", "replace"),
        None if key is None else key.decode("utf-8", "replace"),
    )
