"""Loads one file of the raw folder, unless it was loaded before just as it is."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from infra.logs import tag_lines
from infra.postgres.connection import TRANSIENT, Connection, Pool
from schemas.errors import RefusedError
from tasks.csv_source import SourceFile
from tasks.discover_files import Found
from tasks.extract_csv import CsvFile
from tasks.extract_frame_file import read_frame_file
from tasks.keep_profile import AnomalousLoadError, keep_anomalies
from tasks.load import (
    Order,
    Outcome,
    Progress,
    Report,
    find_settled,
    load_source,
    lost_connection,
)
from tasks.manifest import Loaded, find_loaded, note_untouched
from tasks.source import RowSource


async def load_found(
    pool: Pool,
    found: Found,
    order: Order,
    *,
    force: bool = False,
    accept_anomalies: bool = False,
    on_progress: Progress | None = None,
) -> Report:
    """Leave the file's rows in the database once, and what became of the file in the manifest.

    A file whose bytes and contract are those of its last load is left alone, unless `force`.
    accept_anomalies: load it even if its contract refuses so odd a load.
    Raises what load_source raises; a refused file stands in the manifest with the reason.
    """

    async def load() -> Report:
        async with pool.acquire() as connection:
            before = await find_loaded(connection, order.path)
        if before is not None and not force and await asyncio.to_thread(_is_same, before, found):
            return await _leave_alone(pool, order, before)
        source = await asyncio.to_thread(open_source, found)
        report = await load_source(
            pool, source, order, accept_anomalies=accept_anomalies, on_progress=on_progress
        )
        return replace(report, notes=(*report.notes, *_changes(before, order, force=force)))

    return await noting_refusal(pool, order, load)


async def noting_refusal(pool: Pool, order: Order, load: Callable[[], Awaitable[Report]]) -> Report:
    """Run a load, unless an earlier try with this order did it; a refusal is written down.

    Raises TransientError when PostgreSQL went away, whatever the load was doing with it.
    """
    try:
        try:
            with tag_lines(dataset=order.table):
                return await find_settled(pool, order) or await load()
        except RefusedError as error:
            async with pool.acquire() as connection, connection.transaction():
                await _write_refusal(connection, order, error)
            raise
    except TRANSIENT as error:
        raise lost_connection(order.path, error) from error


async def _write_refusal(connection: Connection, order: Order, error: RefusedError) -> None:
    refused = replace(order.entry, load_id=uuid.uuid4())
    batch_id = await note_untouched(connection, refused, Outcome.REFUSED, str(error), None)
    if isinstance(error, AnomalousLoadError):
        await keep_anomalies(
            connection,
            error.anomalies,
            execution_id=order.execution_id,
            batch_id=batch_id,
            was_refused=True,
        )


def open_source(found: Found) -> RowSource:
    """Return a reader for the file; raises RefusedError when it cannot be read."""
    known_columns = found.spec.names if found.spec else ()
    if found.is_csv:
        return CsvFile(found.path, known_columns=known_columns)
    return read_frame_file(found.path, known_columns=known_columns)


def _is_same(before: Loaded, found: Found) -> bool:
    contract = found.spec.contract_version if found.spec else None
    return before.contract_version == contract and has_same_bytes(before, found.path)


def has_same_bytes(before: Loaded, path: Path) -> bool:
    """Tell whether the file is byte for byte what was read from it before."""
    file = SourceFile(path)
    try:
        if file.size_bytes != before.size_bytes:
            return False
        file.finish()
        return file.sha256 == before.sha256
    finally:
        file.close()


async def _leave_alone(pool: Pool, order: Order, before: Loaded) -> Report:
    message = f"unchanged since it was loaded on {before.recorded_at:%Y-%m-%d %H:%M} UTC"
    async with pool.acquire() as connection:
        await note_untouched(connection, order.entry, Outcome.UNCHANGED, message, before.size_bytes)
    return Report(order.path, order.table, Outcome.UNCHANGED, message=message)


def _changes(before: Loaded | None, order: Order, *, force: bool) -> list[str]:
    if before is None or force:
        return []
    when = f"{before.recorded_at:%Y-%m-%d %H:%M} UTC"
    if before.contract_version != order.entry.contract_version:
        return [f"loaded again: its contract changed since {when}"]
    return [f"loaded again: its content changed under the same name since {when}"]
