"""The tables of a dataset as SQL, derived from its contract; and what a changed contract needs."""

from dataclasses import dataclass

from infra.postgres.identifiers import qualify, quote
from infra.postgres.layout import (
    LANDED_COLUMNS,
    LINEAGE_COLUMNS,
    MERGED_COLUMNS,
    STAGING,
    WAREHOUSE,
    Target,
    index_name,
    stored_columns,
)
from schemas.dataset import Role, Spec

FACT_FILLFACTOR = 85
"""Leaves room for a changed row beside its old version: then no index has to be touched."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table that a contract asks for: its columns in order, and what follows its creation."""

    schema: str
    name: str
    columns: tuple[tuple[str, str], ...]
    """Name and type with constraints."""
    constraints: tuple[str, ...]
    options: str
    after: tuple[str, ...]
    comment: str

    @property
    def qualified(self) -> str:
        """The quoted, qualified name."""
        return qualify(self.schema, self.name)

    @property
    def ddl(self) -> str:
        """All statements that make the table, one script."""
        lines = [f"    {quote(name)} {definition}" for name, definition in self.columns]
        lines += [f"    {each}" for each in self.constraints]
        body = ",\n".join(lines)
        comment = self.comment.replace("'", "''")
        statements = [
            f"CREATE TABLE {self.qualified} (\n{body}\n){self.options}",
            *self.after,
            f"COMMENT ON TABLE {self.qualified} IS '{comment}'",
        ]
        return ";\n".join(statements) + ";\n"


def staging_of(spec: Spec, *, contracted: bool = True) -> Table:
    """Return the table that holds the dataset's rows as received, typed, with lineage.

    Columns are nullable here: what may be missing is decided by the contract, row by row.
    """
    said = spec.description if contracted else "Uncontracted: text as received, never merged."
    return Table(
        schema=STAGING,
        name=spec.table,
        columns=(*stored_columns(spec), *LANDED_COLUMNS, *LINEAGE_COLUMNS),
        constraints=(),
        options="",
        after=(f"CREATE INDEX ON {qualify(STAGING, spec.table)} ({quote('_batch_id')})",),
        comment=said,
    )


def warehouse_of(spec: Spec) -> Table | None:
    """Return the dataset's dimension or fact table; None for a dataset that stays in staging."""
    match spec.role:
        case Role.FACT:
            return _fact(spec)
        case Role.DIMENSION:
            return _dimension(spec)
        case Role.STAGING:
            return None


def tables_of(spec: Spec) -> tuple[Table, ...]:
    """Return every table the contract asks for."""
    warehouse = warehouse_of(spec)
    return (staging_of(spec),) if warehouse is None else (staging_of(spec), warehouse)


def _fact(spec: Spec) -> Table:
    target = Target(spec)
    never_null = {target.column_name(each) for each in spec.columns if not each.nullable}
    columns = tuple(
        (name, f"{kind} NOT NULL" if name in never_null or name in spec.key else kind)
        for name, kind in target.columns
    )
    key = ", ".join(quote(name) for name in spec.key)
    return Table(
        schema=WAREHOUSE,
        name=target.name,
        columns=(*columns, *MERGED_COLUMNS),
        constraints=(f"CONSTRAINT {quote(target.name + '_pkey')} PRIMARY KEY ({key})",),
        options=f" WITH (fillfactor = {FACT_FILLFACTOR})",
        after=_search_indexes(spec, target),
        comment=spec.description,
    )


def _dimension(spec: Spec) -> Table:
    target = Target(spec)
    key = ", ".join(quote(name) for name in spec.key)
    columns = tuple(
        (name, f"{kind} NOT NULL" if name in spec.key else kind) for name, kind in target.columns
    )
    required = [
        target.column_name(each)
        for each in spec.columns
        if not each.nullable and each.name not in spec.key
    ]
    constraints = []
    if required:
        # An inferred member is known by its key alone until its own row arrives.
        known = " AND ".join(f"{quote(name)} IS NOT NULL" for name in required)
        constraints.append(f"CHECK ({quote('_is_inferred')} OR ({known}))")
    after = _search_indexes(spec, target)
    own: tuple[tuple[str, str], ...] = (("_is_inferred", "boolean NOT NULL DEFAULT false"),)
    if target.keeps_versions:
        own += (
            ("valid_from", "timestamptz NOT NULL"),
            ("valid_to", "timestamptz NOT NULL DEFAULT 'infinity'"),
            ("is_current", "boolean NOT NULL DEFAULT true"),
        )
        constraints.append(f"UNIQUE ({key}, {quote('valid_from')})")
        constraints.append("CHECK (valid_from < valid_to)")
        after += (f"CREATE UNIQUE INDEX ON {target.table} ({key}) WHERE is_current",)
    else:
        constraints.append(f"UNIQUE ({key})")
    surrogate = (str(target.surrogate), "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY")
    return Table(
        schema=WAREHOUSE,
        name=target.name,
        columns=(surrogate, *columns, *own, *MERGED_COLUMNS),
        constraints=tuple(constraints),
        options="",
        after=after,
        comment=spec.description,
    )


def _search_indexes(spec: Spec, target: Target) -> tuple[str, ...]:
    """Return what makes persons quick to find; staging is searched by reading it."""
    return tuple(
        f"CREATE INDEX ON {target.table} ({quote(index_name(each.name))})"
        for each in spec.columns
        if each.pii
    )
