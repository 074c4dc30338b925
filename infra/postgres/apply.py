"""Brings the tables of the datasets to what their contracts say, as the owner."""

import asyncpg

from infra.postgres.identifiers import qualify, quote
from infra.postgres.layout import WAREHOUSE
from infra.postgres.rights import READER, grant_columns, readable_columns
from infra.postgres.tables import Table, tables_of
from schemas.dataset import Spec
from schemas.errors import ContractError

LOADER = "sluiceway_loader"
MONITOR = "sluiceway_monitor"

_ACTUAL_COLUMNS = """
    SELECT attname AS name, format_type(atttypid, atttypmod) AS type, attnotnull AS never_null
    FROM pg_attribute
    WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
    ORDER BY attnum
"""
_CANONICAL_TYPES = {"timestamptz": "timestamp with time zone"}


async def apply_contracts(connection: asyncpg.Connection, specs: tuple[Spec, ...]) -> list[str]:
    """Create what is missing and add new columns; returns a sentence for each change made.

    Raises ContractError, changing nothing, where a contract asks for another kind of change:
    the message holds the SQL that would make it, for a person to run after thinking about it.
    """
    changes: list[str] = []
    async with connection.transaction():
        for spec in specs:
            for table in tables_of(spec):
                changes += await _apply(connection, table)
                await _limit_reader(connection, table, spec)
            await _register(connection, spec)
    return changes


async def _apply(connection: asyncpg.Connection, table: Table) -> list[str]:
    actual = {row["name"]: row for row in await connection.fetch(_ACTUAL_COLUMNS, table.qualified)}
    if not actual:
        await connection.execute(table.ddl)
        await _grant(connection, table)
        return [f"created {table.schema}.{table.name}"]
    changes = []
    wanted = {name: _canonical(definition) for name, definition in table.columns}
    refused = []
    for name, (kind, never_null) in wanted.items():
        found = actual.get(name)
        target = f"ALTER TABLE {table.qualified}"
        if found is None and not never_null:
            await connection.execute(f"{target} ADD COLUMN {quote(name)} {kind}")
            changes.append(f"added {table.schema}.{table.name}.{name}")
        elif found is None:
            refused.append(f"{target} ADD COLUMN {quote(name)} {kind} NOT NULL DEFAULT …;")
        elif found["type"] != kind:
            refused.append(
                f"{target} ALTER COLUMN {quote(name)} TYPE {kind} USING {quote(name)}::{kind};"
            )
        elif found["never_null"] != never_null:
            verb = "SET" if never_null else "DROP"
            refused.append(f"{target} ALTER COLUMN {quote(name)} {verb} NOT NULL;")
    refused += [
        f"ALTER TABLE {table.qualified} DROP COLUMN {quote(name)};"
        for name in actual
        if name not in wanted
    ]
    if refused:
        raise ContractError(
            f"The contract of {table.schema}.{table.name} no longer fits its table, and only new "
            f"columns are added by themselves; think, then run: {' '.join(refused)}"
        )
    return changes


def _canonical(definition: str) -> tuple[str, bool]:
    """Split `bigint NOT NULL DEFAULT 1` into PostgreSQL's own type name and whether it is bound."""
    kind = definition
    for word in (" GENERATED", " NOT NULL", " DEFAULT"):
        kind = kind.split(word, maxsplit=1)[0]
    never_null = "NOT NULL" in definition or "PRIMARY KEY" in definition
    return _CANONICAL_TYPES.get(kind, kind), never_null


async def _grant(connection: asyncpg.Connection, table: Table) -> None:
    if table.schema == WAREHOUSE:
        rights = "SELECT, INSERT, UPDATE"
        await connection.execute(f"GRANT {rights} ON {table.qualified} TO {LOADER}")
    else:
        # A load makes a table of its own and hangs it below this one: an owner's right.
        await connection.execute(f"ALTER TABLE {table.qualified} OWNER TO {LOADER}")


async def _limit_reader(connection: asyncpg.Connection, table: Table, spec: Spec) -> None:
    """Let the reader read what the contract does not call personal; it may have changed."""
    columns = readable_columns(table, spec)
    await connection.execute(grant_columns(table.qualified, columns))
    # Batches of earlier versions of the platform; they are read through their parent.
    for [name] in await connection.fetch(
        """
        SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = to_regclass($1) AND has_table_privilege($2, inhrelid, 'SELECT')
        """,
        table.qualified,
        READER,
    ):
        await connection.execute(f"REVOKE ALL ON {qualify(table.schema, name)} FROM {READER}")


async def _register(connection: asyncpg.Connection, spec: Spec) -> None:
    for table in tables_of(spec):
        if table.schema != WAREHOUSE:
            continue
        await connection.execute(
            """
            INSERT INTO metadata.warehouse_tables AS t
                (table_name, dataset, key_columns, contract_version)
            VALUES ($1, $2, $3, $4)
            ON CONFLICT (table_name) DO UPDATE
            SET key_columns = excluded.key_columns, contract_version = excluded.contract_version,
                applied_at = clock_timestamp()
            WHERE t.contract_version <> excluded.contract_version
            """,
            table.name,
            spec.table,
            list(spec.key),
            spec.contract_version,
        )
