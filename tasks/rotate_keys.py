"""Writes every personal cell anew with the key of today, while loads go on.

Page by page, each in a transaction of its own: what is interrupted goes on where it was, for what
is written is of today's key. Rows of a dataset are written under the dataset's lock, because its
loads remember places of rows; each time for some thousand rows, so that no load waits for long.

It runs as the loader, who has the keys, reads and writes all of it anyway, and needs no new right.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import asyncpg
import structlog

from infra.cell_encryption import CellError, KeyRing, Place
from infra.postgres.connection import TRANSIENT, Connection, Pool
from infra.postgres.identifiers import qualify
from infra.postgres.layout import METADATA, STAGING, WAREHOUSE, Target, index_name
from infra.postgres.rotation_sql import CellColumn, CellTable
from schemas.dataset import Role, Spec
from schemas.errors import TerminalError, TransientError
from tasks.key_proof import renew_proof
from tasks.merge import lock_dataset
from tasks.personal_cells import place_of
from tasks.rejected_search import QUARANTINE
from tasks.sealing import DEAD_LETTERS, KEY, QUARANTINED, UNSENT_MESSAGES, VALUE

log = structlog.get_logger("sluiceway.rotate_keys")

PAGES = 64
"""Of 8 KiB: some thousand rows."""
_MESSAGE_PAGES = 2
"""Of rows that may each have a megabyte elsewhere."""
_FURTHER_PASSES = 9
"""Over one table at the most: they find what was written or moved meanwhile."""

Cell = tuple[str, str, str]
"""Table, column and the id of the key, in hexadecimal digits."""


@dataclass(slots=True)
class Rotation:
    """What was rewritten, and what every cell is encrypted with now."""

    current: str
    """The id of the key that cells are written with."""
    dry_run: bool
    rows: Counter[str] = field(default_factory=Counter)
    """Rewritten, by table."""
    cells: Counter[Cell] = field(default_factory=Counter)
    """That are there at the end."""
    unreadable: Counter[Cell] = field(default_factory=Counter)
    """Of a key that is not set, or changed by somebody."""

    @property
    def left(self) -> int:
        """Cells of older keys."""
        return sum(count for (_, _, key), count in self.cells.items() if key != self.current)

    def __str__(self) -> str:
        """Say it in a sentence or two."""
        by_key: Counter[str] = Counter()
        for (_, _, key), count in self.cells.items():
            by_key[key] += count
        told = ", ".join(
            f"{count:,} of key {key}{' (the current one)' if key == self.current else ''}"
            for key, count in sorted(by_key.items(), key=lambda each: each[0] != self.current)
        )
        done = "" if self.dry_run else f"{self.rows.total():,} rows are rewritten. "
        return f"{done}There are cells: {told or 'none'}."


async def rotate_keys(
    pool: Pool, specs: Iterable[Spec], ring: KeyRing, *, dry_run: bool = False, pages: int = PAGES
) -> Rotation:
    """Leave no readable cell that is not of the first key, nor an index that is not of the first.

    pool: as the loader. Where several index keys are set every cell is read: an index does not
    say by which key it was made. pages: are rewritten in one transaction. dry_run: only count.
    What cannot be read stays as it is and is counted.
    """
    rotation = Rotation(ring.current_id.hex(), dry_run)
    has_old_indexes = len(ring.find_by("", Place("", ""))) > 1
    try:
        async with pool.acquire() as connection:
            tables = [*await _find_tables(connection, specs, pages)]
            for table in tables if not dry_run else ():
                # Unreadable cells are met in each pass, and counted in the first.
                every = has_old_indexes and any(each.index for each in table.columns)
                count = await _walk(connection, table, ring, rotation.unreadable, every=every)
                rotation.rows[table.label] += count
                for _ in range(_FURTHER_PASSES):
                    if not count:
                        break
                    count = await _walk(connection, table, ring, Counter(), every=False)
                    rotation.rows[table.label] += count
                if rotation.rows[table.label]:
                    log.info("rewritten", table=table.label, rows=rotation.rows[table.label])
            rotation.rows = +rotation.rows
            for table in tables:
                await _count(connection, table, ring, rotation)
            if not (dry_run or rotation.left or rotation.unreadable):
                await renew_proof(connection, ring)
    except TRANSIENT as error:
        raise TransientError(
            f"PostgreSQL went away while keys were rotated ({error}): run it again, it goes on "
            "where it was."
        ) from error
    return rotation


def require_readable(rotation: Rotation) -> None:
    """Raise TerminalError, naming table, column and key, where cells could not be read."""
    if rotation.unreadable:
        named = "; ".join(
            f"{count:,} of {table}.{column} (key {key})"
            for (table, column, key), count in sorted(rotation.unreadable.items())
        )
        raise TerminalError(
            f"Some cells cannot be read: {named}: set the keys of these ids too and run it again; "
            "a cell whose key is set was changed, and has to be loaded again."
        )


async def _find_tables(
    connection: Connection, specs: Iterable[Spec], pages: int
) -> Sequence[CellTable]:
    tables = []
    for spec in specs:
        columns = tuple(
            CellColumn(each.name, place_of(spec, each), index_name(each.name))
            for each in spec.columns
            if each.pii
        )
        if not columns:
            continue
        names = [(STAGING, name) for name in await _batches(connection, spec)]
        if spec.role is not Role.STAGING:
            names.append((WAREHOUSE, Target(spec).name))
        tables += [
            CellTable(qualify(*name), ".".join(name), columns, pages, spec.table) for name in names
        ]
    sealed = CellColumn("raw_sealed", QUARANTINED)
    tables.append(_of_metadata(QUARANTINE, (sealed,), is_marked=False))
    for name in (DEAD_LETTERS, UNSENT_MESSAGES):
        columns = tuple(CellColumn(each, Place(name, each)) for each in (KEY, VALUE))
        tables.append(_of_metadata(name, columns, is_marked=True))
    return tables


def _of_metadata(name: str, columns: tuple[CellColumn, ...], *, is_marked: bool) -> CellTable:
    return CellTable(
        qualify(METADATA, name),
        f"{METADATA}.{name}",
        columns,
        pages=_MESSAGE_PAGES,
        sealed_only=is_marked,
    )


async def _batches(connection: Connection, spec: Spec) -> list[str]:
    """Return the dataset's staging table and those that hang below it."""
    rows = await connection.fetch(
        """
        SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = to_regclass($1) ORDER BY 1
        """,
        qualify(STAGING, spec.table),
    )
    return [spec.table, *(row[0] for row in rows)]


async def _walk(
    connection: Connection,
    table: CellTable,
    ring: KeyRing,
    unreadable: Counter[Cell],
    *,
    every: bool,
) -> int:
    """Rewrite a table from its first page to the last it had; returns how many rows."""
    pages = await connection.fetchval(table.count_pages(), table.qualified) or 0
    rewritten = 0
    try:
        for first in range(0, pages, table.pages):
            block = ((first, 0), (first + table.pages, 0), ring.current_id)
            # Most blocks of a walk that goes on need nothing: no load waits for them.
            if await connection.fetchval(table.has_old(every=every), *block):
                async with connection.transaction():
                    if table.dataset is not None:
                        await lock_dataset(connection, table.dataset)
                    rows = await connection.fetch(table.take(every=every), *block)
                    rewritten += await _rewrite(connection, table, ring, rows, unreadable)
    except asyncpg.UndefinedTableError:
        # A batch of staging that was pruned meanwhile.
        return rewritten
    return rewritten


async def _rewrite(
    connection: Connection,
    table: CellTable,
    ring: KeyRing,
    rows: Sequence[asyncpg.Record],
    unreadable: Counter[Cell],
) -> int:
    changed = []
    for row in rows:
        given = tuple(row)[1:]
        stored = tuple(
            value for each in table.columns for value in _renew(row, each, table, ring, unreadable)
        )
        if stored != given:
            changed.append((row["ctid"], *stored))
    if changed:
        # The places say which rows: the planner would read the table for so many.
        await connection.execute("SET LOCAL enable_seqscan = off")
        await connection.execute(
            table.rewrite(), *(list(each) for each in zip(*changed, strict=True))
        )
    return len(changed)


def _renew(
    row: asyncpg.Record,
    column: CellColumn,
    table: CellTable,
    ring: KeyRing,
    unreadable: Counter[Cell],
) -> tuple[bytes | None, ...]:
    """Return a cell under the current key, and its index; both as they were if it is unreadable."""
    cell: bytes | None = row[column.name]
    as_it_was = tuple(row[name] for name in column.stored)
    if cell is None:
        return as_it_was
    try:
        plain = ring.open(cell, column.place)
    except CellError:
        unreadable[table.label, column.name, _key_of(cell)] += 1
        return as_it_was
    is_current = cell[1:5] == ring.current_id
    renewed = cell if is_current else ring.seal(plain, column.place)
    if column.index is None:
        return (renewed,)
    return renewed, ring.find_by(plain.decode(), column.place)[0]


async def _count(
    connection: Connection, table: CellTable, ring: KeyRing, rotation: Rotation
) -> None:
    for column in table.columns:
        try:
            rows = await connection.fetch(table.count_by_key(column))
        except asyncpg.UndefinedTableError:
            return
        for row in rows:
            cell = (table.label, column.name, row["id"].hex())
            rotation.cells[cell] = row["cells"]
            if row["id"] not in ring.ids:
                rotation.unreadable[cell] = row["cells"]


def _key_of(cell: bytes) -> str:
    return cell[1:5].hex()


def tabulate(rotation: Rotation) -> list[dict[str, object]]:
    """Return a row for each table, column and key."""
    return [
        {
            "table": table,
            "column": column,
            "key": key,
            "is current": key == rotation.current,
            "cells": count,
            "unreadable": rotation.unreadable[table, column, key],
        }
        for (table, column, key), count in sorted(rotation.cells.items())
    ]
