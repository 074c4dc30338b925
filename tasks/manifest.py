"""The manifest: which sources were loaded as what, and their counts, in the load's transaction."""

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from infra.postgres.connection import Connection
from tasks.clean import Tally, summarise
from tasks.ledger import Ledger
from tasks.source import RowSource


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the manifest while its load is under way."""

    execution_id: int
    load_id: uuid.UUID
    path: str
    table: str
    contract_version: str | None
    """None: a source without a contract."""
    batch_id: int = 0


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the manifest knows of a source that was loaded before."""

    size_bytes: int
    sha256: str
    contract_version: str | None
    recorded_at: dt.datetime


async def open_entry(connection: Connection, entry: Entry) -> Entry:
    """Write the entry's first half, and return it with its batch's number."""
    batch_id = await connection.fetchval(
        """
        INSERT INTO metadata.source_files
            (execution_id, load_id, dataset, path, status, contracted, contract_version)
        VALUES ($1, $2, $3, $4, 'LOADED', $5, $6) RETURNING id
        """,
        entry.execution_id,
        entry.load_id,
        entry.table,
        entry.path,
        entry.contract_version is not None,
        entry.contract_version,
    )
    return replace(entry, batch_id=batch_id)


async def write_entry(
    connection: Connection,
    entry: Entry,
    source: RowSource,
    staged_in: str,
    ledger: Ledger,
    notes: Sequence[str],
    tally: Tally,
) -> None:
    """Complete the entry, and write its ledger and what each rule let through and did not."""
    await connection.execute(
        """
        UPDATE metadata.source_files
        SET size_bytes = $2, sha256 = $3, modified_at = $4, rows = $5, staged_in = $6, notes = $7
        WHERE id = $1
        """,
        entry.batch_id,
        source.size_bytes,
        source.sha256,
        source.modified_at,
        ledger.read,
        staged_in,
        list(notes),
    )
    await connection.execute(
        """
        INSERT INTO metadata.dataset_counts
            (execution_id, batch_id, dataset, source, read, inserted, updated, unchanged,
             superseded, duplicates, quarantined, filled, inferred)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        """,
        entry.execution_id,
        entry.batch_id,
        entry.table,
        entry.path,
        ledger.read,
        ledger.inserted,
        ledger.updated,
        ledger.unchanged,
        ledger.superseded,
        ledger.duplicates,
        ledger.quarantined,
        ledger.filled,
        ledger.inferred,
    )
    await connection.executemany(
        """
        INSERT INTO metadata.quality_results
            (execution_id, batch_id, dataset, column_name, rule, checked, failed, statistics)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        """,
        [
            (entry.execution_id, entry.batch_id, entry.table, column, rule, checked, failed, facts)
            for column, rule, checked, failed, facts in summarise(tally)
        ],
    )


async def settle(
    connection: Connection, load_id: uuid.UUID
) -> tuple[Ledger, tuple[str, ...]] | None:
    """Return what an earlier try with the same id did, if its COMMIT got through after all."""
    row = await connection.fetchrow(
        """
        SELECT f.notes, c.* FROM metadata.source_files AS f
        JOIN metadata.dataset_counts AS c ON c.batch_id = f.id
        WHERE f.load_id = $1
        """,
        load_id,
    )
    if row is None:
        return None
    return Ledger(**{name: row[name] for name in Ledger.__slots__}), tuple(row["notes"])


async def find_loaded(connection: Connection, path: str) -> Loaded | None:
    """Return what the newest load from this path read, if there was one."""
    row = await connection.fetchrow(
        """
        SELECT size_bytes, sha256, contract_version, recorded_at FROM metadata.source_files
        WHERE path = $1 AND status = 'LOADED' ORDER BY id DESC LIMIT 1
        """,
        path,
    )
    return None if row is None else Loaded(**dict(row))


async def is_late(connection: Connection, entry: Entry, version: dt.datetime) -> bool:
    """Tell whether a newer source of the same dataset was loaded before this one."""
    found: bool = await connection.fetchval(
        """
        SELECT EXISTS (
            SELECT FROM metadata.source_files
            WHERE dataset = $1 AND status = 'LOADED' AND id <> $2 AND modified_at > $3
        )
        """,
        entry.table,
        entry.batch_id,
        version,
    )
    return found


async def note_untouched(
    connection: Connection, entry: Entry, status: str, message: str, size_bytes: int | None
) -> int:
    """Write down a source of which nothing was loaded, and return its line's number.

    It was unchanged, or refused.
    """
    line: int = await connection.fetchval(
        """
        INSERT INTO metadata.source_files
            (execution_id, load_id, dataset, path, status, contracted, contract_version,
             message, size_bytes)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING id
        """,
        entry.execution_id,
        entry.load_id,
        entry.table,
        entry.path,
        status,
        entry.contract_version is not None,
        entry.contract_version,
        message,
        size_bytes,
    )
    return line
