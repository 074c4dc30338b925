"""Sources without a contract: their rows stay in staging, as text, with lineage."""

from infra.postgres.connection import Connection
from infra.postgres.identifiers import column_names
from infra.postgres.layout import LANDED_COLUMNS, LINEAGE_COLUMNS
from infra.postgres.rights import grant_columns, own_columns
from infra.postgres.tables import staging_of
from schemas.dataset import Column, History, Kind, Missing, Role, Spec
from tasks.clean import Binding

_OWN = {name for name, _ in LANDED_COLUMNS + LINEAGE_COLUMNS}
MAX_COLUMNS = 400
"""A page of PostgreSQL holds the pointers of about this many long texts; a wider file keeps the
columns behind them in `_extra`."""


async def stage_text(connection: Connection, table: str, header: tuple[str, ...]) -> Spec:
    """Return a description of the source's staging table, which is made if there is none yet.

    The first source of that name settles the columns, at most MAX_COLUMNS; what later ones have
    beside them is kept in `_extra`, as for any dataset.
    """
    spec = describe_text(table, column_names(header)[:MAX_COLUMNS])
    staging = staging_of(spec, contracted=False)
    present = await connection.fetch(
        "SELECT attname FROM pg_attribute"
        " WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        staging.qualified,
    )
    if present:
        return describe_text(
            table, tuple(r["attname"] for r in present if r["attname"] not in _OWN)
        )
    await connection.execute(staging.ddl)
    await connection.execute(grant_columns(staging.qualified, own_columns(staging, spec)))
    return spec


def describe_text(table: str, names: tuple[str, ...]) -> Spec:
    """Return a description in which every column is text that may be missing."""
    columns = tuple(
        Column(
            name=name,
            kind=Kind.TEXT,
            missing=Missing.NULL,
            checks=(),
            pii=False,
            references=None,
            formats=(),
            scale=0,
            description="",
        )
        for name in names
    )
    return Spec(
        name=table,
        table=table,
        role=Role.STAGING,
        key=(),
        columns=columns,
        version=None,
        event_time=None,
        history=History.OVERWRITE,
        freshness=None,
        description="",
    )


def bind_text(header: tuple[str, ...], spec: Spec) -> Binding:
    """Match a header with a description that was made from such a header."""
    given = dict(zip(column_names(header), header, strict=True))
    return Binding(
        columns={name: given[name] for name in spec.names if name in given},
        absent=tuple(name for name in spec.names if name not in given),
        unknown=tuple(original for name, original in given.items() if name not in spec.names),
    )
