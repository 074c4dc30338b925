"""Brings the tables of the datasets to what their contracts say, as the owner."""

import asyncpg

from infra.postgres.identifiers import qualify, quote
from infra.postgres.layout import CELL_TYPE, STAGING, WAREHOUSE, index_name
from infra.postgres.rights import (
    ERASER,
    LOADER,
    MONITOR,
    READER,
    grant_columns,
    grant_erasing,
    readable_columns,
)
from infra.postgres.tables import Table, tables_of
from schemas.dataset import Spec
from schemas.errors import ContractError

__all__ = ["ERASER", "LOADER", "MONITOR", "apply_contracts"]

_ACTUAL_COLUMNS = """
    SELECT attname AS name, format_type(atttypid, atttypmod) AS type, attnotnull AS never_null
    FROM pg_attribute
    WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
    ORDER BY attnum
"""
_IS_INDEXED = """
    SELECT EXISTS (
        SELECT FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
        WHERE indrelid = to_regclass($1) AND attname = $2
    )
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
            await _refuse_changed_secrecy(connection, spec)
            for table in tables_of(spec):
                changes += await _apply(connection, table)
                await _index_searches(connection, table, spec)
                await _limit_reader(connection, table, spec)
                for statement in grant_erasing(table, spec):
                    await connection.execute(statement)
            await _register(connection, spec)
    return changes


async def _refuse_changed_secrecy(connection: asyncpg.Connection, spec: Spec) -> None:
    """Raise ContractError where a column became personal, or no longer is, since it was filled.

    `ALTER … TYPE bytea` would leave cells that nobody can read: PostgreSQL has no key.
    """
    changed: dict[str, bool] = {}
    statements = []
    for table in tables_of(spec):
        actual = await _read_columns(connection, table)
        kinds = {name: _canonical(definition) for name, definition in table.columns}
        found = [
            name
            for name, (kind, _) in kinds.items()
            if name in actual
            and actual[name]["type"] != kind
            and CELL_TYPE in {actual[name]["type"], kind}
        ]
        if not found:
            continue
        changed |= {name: kinds[name][0] == CELL_TYPE for name in found}
        if table.schema == STAGING:
            # Its batches are tables of their own, and keep a column that it loses.
            statements.append(f"DROP TABLE {table.qualified} CASCADE;")
        elif any(kinds[name][1] for name in found):
            statements.append(f"DROP TABLE {table.qualified};")
        else:
            gone = [each for name in found for each in (name, index_name(name)) if each in actual]
            dropped = ", ".join(f"DROP COLUMN {quote(each)}" for each in gone)
            statements.append(f"ALTER TABLE {table.qualified} {dropped};")
    if changed:
        became = ", ".join(name for name, is_personal in changed.items() if is_personal)
        ceased = ", ".join(name for name, is_personal in changed.items() if not is_personal)
        what = [f"{became} became personal"] if became else []
        what += [f"{ceased} is personal no more"] if ceased else []
        raise ContractError(
            f"In the contract of {spec.table} {' and '.join(what)}, and PostgreSQL, which has no "
            "key, can neither encrypt nor decrypt what stands there: think, run "
            f"{' '.join(statements)} then `python -m deployments.bootstrap`, and load the sources "
            "again with force."
        )


async def _read_columns(connection: asyncpg.Connection, table: Table) -> dict[str, asyncpg.Record]:
    rows = await connection.fetch(_ACTUAL_COLUMNS, table.qualified)
    return {row["name"]: row for row in rows}


async def _apply(connection: asyncpg.Connection, table: Table) -> list[str]:
    actual = await _read_columns(connection, table)
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


async def _index_searches(connection: asyncpg.Connection, table: Table, spec: Spec) -> None:
    """Leave an index for each personal column, also of those that were added to a table."""
    if table.schema != WAREHOUSE:
        return
    for name in (index_name(each.name) for each in spec.columns if each.pii):
        if not await connection.fetchval(_IS_INDEXED, table.qualified, name):
            await connection.execute(f"CREATE INDEX ON {table.qualified} ({quote(name)})")


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
