"""What the data page asks: which tables there are, how large, how new, and some of their rows.

Tables are named by PostgreSQL's catalogue alone: what an address asks for is looked up there, and
never put into a statement.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg

from dash_app.reader import Reader
from infra.postgres.identifiers import qualify, quote
from infra.postgres.layout import (
    LANDED_COLUMNS,
    LINEAGE_COLUMNS,
    MERGED_COLUMNS,
    STAGING,
    WAREHOUSE,
    Target,
    index_name,
)
from infra.postgres.tables import warehouse_of
from schemas.dataset import Column, Role, Spec
from schemas.datasets import DATASETS

PREVIEW_ROWS = 50
SHOWN_CHARACTERS = 80
COUNTED_PAGES = 512
"""Tables of up to 4 MB are counted to the row, which takes a few milliseconds,"""
COUNTED_PAGES_IN_ALL = 4096
"""the smallest ones first, up to 32 MB together."""
COUNTED_ROWS = 10_000
"""How far rows are counted where PostgreSQL has no estimate yet."""
COUNTED_TABLES = 100
CHART_SOURCES = 6
_LOOKED_AT_LOADS = 200
_CALENDAR = (WAREHOUSE, "dim_date")
_OWN_COLUMNS = frozenset(
    name for name, _ in (*LANDED_COLUMNS, *LINEAGE_COLUMNS, *MERGED_COLUMNS)
) | {"_is_inferred", "valid_from", "valid_to", "is_current"}
_NEVER_SHOWN = frozenset({"_extra", "_row_hash"})
"""Cells of columns that no contract describes, and a figure worked out from all cells."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of staging or the warehouse, with the tables of batches that inherit from it."""

    schema: str
    name: str
    comment: str
    parts: int
    size_bytes: int
    pages: int
    """Of the rows alone, without indexes."""
    estimate: int | None
    """Rows as the planner reckons them; None where it has not seen the table yet."""
    is_locked: bool
    """Whether a load keeps everybody else out: then whoever asked for a row would wait."""

    @property
    def qualified(self) -> str:
        """As the address has it: schema.name."""
        return f"{self.schema}.{self.name}"

    @property
    def spec(self) -> Spec | None:
        """The contract behind it."""
        for each in DATASETS:
            merged = warehouse_of(each.spec)
            if self.schema == STAGING and self.name == each.spec.table:
                return each.spec
            if self.schema == WAREHOUSE and merged is not None and self.name == merged.name:
                return each.spec
        return None

    @property
    def dataset(self) -> str | None:
        """Whose rows it holds, with a contract or without."""
        if spec := self.spec:
            return spec.table
        return self.name if self.schema == STAGING else None

    @property
    def is_calendar(self) -> bool:
        """Whether it is the platform's own table of dates."""
        return (self.schema, self.name) == _CALENDAR


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column as PostgreSQL has it, and what the contract says of it."""

    name: str
    type: str
    contract: Column | None
    is_own: bool
    """Whether the platform added it."""
    is_shown: bool
    """Whether its values may be read here."""


@dataclass(frozen=True, slots=True)
class Changes:
    """When the last load changed something, among the newest ones."""

    staged_at: dt.datetime | None
    merged_at: dt.datetime | None


async def find_tables(reader: Reader, names: Sequence[str] | None = None) -> list[Table]:
    """Return the tables of staging and the warehouse, or those of the given schema.name.

    What one more load has locked is told from the catalogue's last figures: asking PostgreSQL for
    its size would wait for the load.
    """
    rows = await reader.fetch(
        """
        WITH held AS (
            -- Or waited for: whoever comes later stands behind.
            SELECT relation FROM pg_locks
            WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock'
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        ), parts AS MATERIALIZED (
            SELECT p.oid AS table_oid, p.relname AS name, n.nspname AS schema, c.reltuples,
                c.relpages, c.oid AS part, c.oid IN (SELECT relation FROM held) AS is_held
            FROM pg_class AS c
            LEFT JOIN pg_inherits AS i ON i.inhrelid = c.oid
            JOIN pg_class AS p ON p.oid = coalesce(i.inhparent, c.oid)
            JOIN pg_namespace AS n ON n.oid = p.relnamespace
            WHERE n.nspname = ANY($1) AND c.relkind IN ('r', 'p')
                AND ($2::text[] IS NULL OR n.nspname || '.' || p.relname = ANY($2))
                AND has_any_column_privilege(p.oid, 'SELECT')
        ), measured AS MATERIALIZED (
            SELECT *,
                CASE WHEN is_held THEN relpages::bigint * current_setting('block_size')::bigint
                    ELSE pg_total_relation_size(part) END AS size_bytes,
                CASE WHEN is_held THEN relpages
                    ELSE pg_relation_size(part) / current_setting('block_size')::bigint END AS pages
            FROM parts
        )
        SELECT schema, name, coalesce(obj_description(table_oid, 'pg_class'), '') AS comment,
            count(*) AS parts, sum(size_bytes)::bigint AS size_bytes, sum(pages)::bigint AS pages,
            CASE WHEN bool_and(pages = 0 OR (relpages > 0 AND reltuples >= 0)) THEN sum(
                CASE WHEN pages = 0 THEN 0 ELSE reltuples / nullif(relpages, 0) * pages END
            )::bigint END AS estimate,
            bool_or(is_held) AS is_locked
        FROM measured
        GROUP BY table_oid, schema, name
        ORDER BY schema DESC, name
        """,
        [STAGING, WAREHOUSE],
        None if names is None else list(names),
    )
    return [Table(**dict(row)) for row in rows]


async def find_table(reader: Reader, asked: str) -> Table | None:
    """Return the table of that schema.name, or of that dataset: its warehouse table first."""
    names = [asked]
    if "." not in asked:
        datasets = [each.spec for each in DATASETS if each.spec.table == asked]
        merged = [warehouse_of(each) for each in datasets]
        names = [f"{WAREHOUSE}.{each.name}" for each in merged if each is not None]
        names += [f"{STAGING}.{asked}", f"{WAREHOUSE}.{asked}"]
    found = {each.qualified: each for each in await find_tables(reader, names)}
    return next((found[name] for name in names if name in found), None)


async def count_rows(reader: Reader, tables: Sequence[Table]) -> dict[str, int]:
    """Return by schema.name how many rows a table has, where that is worth counting.

    Small tables are counted; those without an estimate as far as COUNTED_ROWS + 1.
    """
    small, pages = [], 0
    for each in sorted(tables, key=lambda table: table.pages):
        pages += each.pages
        if not each.is_locked and each.pages <= COUNTED_PAGES and pages <= COUNTED_PAGES_IN_ALL:
            small.append(each)
    unknown = [
        each
        for each in tables
        if not each.is_locked and each.pages > COUNTED_PAGES and each.estimate is None
    ]
    counted = (*small, *unknown)[:COUNTED_TABLES]
    if not counted:
        return {}
    limits = {each.qualified: f" LIMIT {COUNTED_ROWS + 1}" for each in unknown}
    rows = await reader.fetch(
        " UNION ALL ".join(
            f"SELECT {place} AS place, count(*) AS rows FROM (SELECT FROM "  # noqa: S608 - quoted, and of the catalogue
            f"{qualify(each.schema, each.name)}{limits.get(each.qualified, '')}) AS counted"
            for place, each in enumerate(counted)
        )
    )
    return {counted[row["place"]].qualified: row["rows"] for row in rows}


async def find_changes(reader: Reader, datasets: Sequence[str]) -> dict[str, Changes]:
    """Return by dataset when its newest loads last changed its tables."""
    rows = await reader.fetch(
        """
        SELECT given.dataset, newest.staged_at, newest.merged_at
        FROM unnest($1::text[]) AS given (dataset), LATERAL (
            SELECT max(recorded_at) FILTER (WHERE read > quarantined) AS staged_at,
                max(recorded_at) FILTER (WHERE inserted + updated > 0) AS merged_at
            FROM (
                SELECT recorded_at, read, quarantined, inserted, updated
                FROM metadata.dataset_counts AS c WHERE c.dataset = given.dataset
                ORDER BY recorded_at DESC LIMIT $2
            ) AS looked_at
        ) AS newest
        """,
        list(datasets),
        _LOOKED_AT_LOADS,
    )
    return {row["dataset"]: Changes(row["staged_at"], row["merged_at"]) for row in rows}


async def find_columns(reader: Reader, table: Table) -> list[TableColumn]:
    """Return the table's columns in order; one that nobody describes is never shown."""
    rows = await reader.fetch(
        """
        SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type
        FROM pg_attribute AS a
        JOIN pg_class AS c ON c.oid = a.attrelid
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY a.attnum
        """,
        table.schema,
        table.name,
    )
    spec = table.spec
    described = {} if spec is None else _described(spec, table.schema)
    surrogate = None
    if spec is not None and table.schema == WAREHOUSE and spec.role is Role.DIMENSION:
        surrogate = Target(spec).surrogate
    # What personal cells are found by says nothing to a person.
    indexes = {index_name(each.name) for each in described.values() if each.pii}
    columns = []
    for row in rows:
        name, contract = row["name"], described.get(row["name"])
        if name in indexes:
            continue
        is_own = contract is None and (name in _OWN_COLUMNS or name == surrogate)
        is_shown = table.is_calendar or (
            not contract.pii if contract is not None else is_own and name not in _NEVER_SHOWN
        )
        columns.append(TableColumn(name, row["type"], contract, is_own, is_shown))
    return columns


def _described(spec: Spec, schema: str) -> dict[str, Column]:
    if schema == STAGING:
        return {each.name: each for each in spec.columns}
    target = Target(spec)
    # A reference that is part of the key stands there twice: as it came, and as surrogate key.
    natural = {each.name: each for each in spec.columns}
    return natural | {target.column_name(each): each for each in spec.columns}


async def preview(
    reader: Reader, table: Table, columns: Sequence[TableColumn]
) -> list[asyncpg.Record]:
    """Return some rows as texts, each a little too long where it is cut; times in UTC.

    Only the columns that may be shown are asked for, in their order.
    """
    shown = ", ".join(
        f"left({quote(each.name)}::text, {SHOWN_CHARACTERS + 1})"
        for each in columns
        if each.is_shown
    )
    return await reader.fetch(
        f"SELECT {shown} FROM {qualify(table.schema, table.name)} LIMIT $1",  # noqa: S608 - quoted, and of the catalogue
        PREVIEW_ROWS,
    )


async def count_by_day(reader: Reader, dataset: str, first_day: dt.date) -> list[asyncpg.Record]:
    """Return rows loaded by day (UTC) and source; None is all sources but the largest ones."""
    return await reader.fetch(
        """
        WITH daily AS (
            SELECT day, source, sum(loaded)::bigint AS loaded FROM metadata.daily_counts
            WHERE dataset = $1 AND day >= $2 GROUP BY day, source
        ), ranked AS (
            SELECT source, row_number() OVER (ORDER BY sum(loaded) DESC, source) AS place
            FROM daily GROUP BY source
        )
        SELECT day, CASE WHEN place <= $3 THEN source END AS source, sum(loaded)::bigint AS loaded
        FROM daily JOIN ranked USING (source)
        GROUP BY 1, 2 ORDER BY least(min(place), $3 + 1), 1
        """,
        dataset,
        first_day,
        CHART_SOURCES,
    )


async def count_by_source(
    reader: Reader, dataset: str, first_day: dt.date, *, limit: int = 20
) -> list[asyncpg.Record]:
    """Return what became of the rows of each source, the largest first; `sources` counts all."""
    return await reader.fetch(
        """
        SELECT source, min(day) AS first_day, max(day) AS last_day, sum(read)::bigint AS read,
            sum(loaded)::bigint AS loaded, sum(superseded)::bigint AS superseded,
            sum(duplicates)::bigint AS duplicates, sum(quarantined)::bigint AS quarantined,
            count(*) OVER () AS sources
        FROM metadata.daily_counts WHERE dataset = $1 AND day >= $2
        GROUP BY source ORDER BY sum(read) DESC, source LIMIT $3
        """,
        dataset,
        first_day,
        limit,
    )
