"""The table that a batch is copied into, and where its rows stay in staging afterwards."""

import datetime as dt

from infra.postgres.connection import Connection
from infra.postgres.identifiers import qualify, quote
from infra.postgres.layout import (
    LANDED_COLUMNS,
    LINEAGE_COLUMNS,
    STAGING,
    staging_table,
    stored_columns,
)
from schemas.dataset import Spec

KEPT_ROWS = 50_000
"""From here on a batch keeps its own table, as a child of the dataset's staging table; a smaller
one moves into that table, which would otherwise have thousands of children."""


def landing_name(spec: Spec, batch_id: int) -> str:
    """Return the name of the batch's table; no dataset's name holds two underscores in a row."""
    return f"{spec.table}__b{batch_id}"


async def create_landing(connection: Connection, spec: Spec, batch_id: int) -> str:
    """Leave an empty table for the batch; returns its name in the schema staging.

    It is made in the load's transaction, so that COPY may write its rows frozen.
    """
    name = landing_name(spec, batch_id)
    own = stored_columns(spec) + LANDED_COLUMNS
    columns = [f"{quote(name)} {definition}" for name, definition in own]
    # Staging keeps rows for days and is never updated: no room has to be left in its pages.
    await connection.execute(f"CREATE TABLE {qualify(STAGING, name)} ({', '.join(columns)})")
    return name


async def add_lineage(
    connection: Connection,
    landing: str,
    *,
    batch_id: int,
    source: str,
    version: dt.datetime,
) -> None:
    """Say of every row of the batch where it comes from.

    A column added with a constant default is kept in the catalogue, once, not in the rows.
    """
    values = {
        "_batch_id": str(batch_id),
        "_source": await _literal(connection, source),
        "_version": await _literal(connection, version.isoformat()),
        "_extracted_at": await _literal(connection, dt.datetime.now(dt.UTC).isoformat()),
    }
    additions = ", ".join(
        f"ADD COLUMN {quote(name)} {definition} DEFAULT {values[name]}"
        for name, definition in LINEAGE_COLUMNS
    )
    await connection.execute(f"ALTER TABLE {qualify(STAGING, landing)} {additions}")


async def keep_batch(connection: Connection, spec: Spec, name: str, rows: int) -> str:
    """Leave the batch where a query of the staging table finds it; returns its table's name."""
    landing = qualify(STAGING, name)
    if rows >= KEPT_ROWS:
        await connection.execute(f"ALTER TABLE {landing} INHERIT {staging_table(spec)}")
        return name
    own = stored_columns(spec) + LANDED_COLUMNS + LINEAGE_COLUMNS
    listed = ", ".join(quote(name) for name, _ in own)
    await connection.execute(
        f"INSERT INTO {staging_table(spec)} ({listed}) SELECT {listed} FROM {landing}"  # noqa: S608 - quoted
    )
    await connection.execute(f"DROP TABLE {landing}")
    return spec.table


async def _literal(connection: Connection, text: str) -> str:
    literal: str = await connection.fetchval("SELECT quote_literal($1::text)", text)
    return literal
