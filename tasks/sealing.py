"""Rows and messages that are kept whole: encrypted where they may say something of a person.

What was rejected stands in `metadata` until somebody has seen to it. Of a dataset with personal
columns it is encrypted before it leaves the process, and so is a message that no contract is known
for: nobody can tell what is in it.
"""

from collections.abc import Mapping

import asyncpg

from infra.cell_encryption import CELL_OVERHEAD_BYTES, CellError, KeyRing, Place
from infra.cell_keys import has_personal_columns, key_ring_for, read_key_ring
from infra.settings import Settings, read_settings
from schemas.dataset import Spec
from schemas.datasets import DATASETS

QUARANTINED = Place("quarantine", "raw")
DEAD_LETTERS = "dead_letters"
UNSENT_MESSAGES = "unsent_messages"
KEY, VALUE = "message_key", "message_value"
VALUE_BYTES = f"(octet_length({VALUE}) - {CELL_OVERHEAD_BYTES} * is_sealed::integer)"
"""The SQL of how long a message was, encrypted or not."""
UNREADABLE = "unreadable"
"""The reason of a message that is not what was encrypted, or whose key is not set."""


class Sealing:
    """Whose dead letters are encrypted: those of no contract that is known to be impersonal."""

    def __init__(self, specs: Mapping[str, Spec]) -> None:
        """Take the contracts by the name that a message's `source` gives.

        Raises SettingError where one of them has personal columns and no keys are set. Where none
        has, nothing is encrypted.
        """
        self._ring = key_ring_for(*specs.values())
        self._plain = {
            name
            for source, spec in specs.items()
            if not has_personal_columns([spec])
            for name in (source, spec.table)
        }

    def ring_for(self, source: str | None) -> KeyRing | None:
        """Return what a letter of that source is encrypted with; None: it stays as it is."""
        return None if source in self._plain else self._ring


def find_key_ring(settings: Settings | None = None) -> KeyRing | None:
    """Return the ring of the settings, None where no key is set; raises SettingError for half."""
    settings = settings or read_settings()
    given = settings.cell_keys.get_secret_value() + settings.index_keys.get_secret_value()
    return read_key_ring(settings) if given.strip() else None


def ring_for_source(spec: Spec | None) -> KeyRing | None:
    """Return what the messages of a source are kept encrypted with; None: they stay as they are.

    spec: its contract, if it has one. Raises SettingError where that has personal columns and no
    keys are set.
    """
    if spec is not None:
        return key_ring_for(spec)
    return find_key_ring() if has_personal_columns(each.spec for each in DATASETS) else None


def seal_message(
    ring: KeyRing | None, table: str, key: bytes | None, value: bytes | None
) -> tuple[bytes | None, bytes | None, bool]:
    """Return a message's key and value as the table keeps them, and whether that is encrypted."""
    if ring is None:
        return key, value, False
    return (
        None if key is None else ring.seal(key, Place(table, KEY)),
        None if value is None else ring.seal(value, Place(table, VALUE)),
        True,
    )


def open_column(ring: KeyRing | None, table: str, row: asyncpg.Record, column: str) -> bytes | None:
    """Return KEY or VALUE of a row as it was; raises CellError where it cannot be read.

    row: with `is_sealed` and that column.
    """
    kept: bytes | None = row[column]
    if kept is None or not row["is_sealed"]:
        return kept
    if ring is None:
        raise CellError(
            f"A cell of {table}.{column} is encrypted, and no key is set: set SLUICEWAY_CELL_KEYS "
            "and SLUICEWAY_INDEX_KEYS as they were when it was written."
        )
    return ring.open(kept, Place(table, column))


def has_key(parameter: str) -> str:
    """Return the SQL of whether a message's row is not encrypted, or with a key that is set.

    parameter: `$n`, which is given `key_ids`.
    """
    written_with = f"substr(coalesce({VALUE}, {KEY}), 2, 4)"
    return f"(NOT is_sealed OR coalesce({written_with} = ANY({parameter}::bytea[]), true))"


def key_ids(ring: KeyRing | None) -> list[bytes]:
    """Return the ids of the keys that are set."""
    return [] if ring is None else ring.ids
