"""Where a dataset lives in PostgreSQL: tables, columns and types, derived from its contract."""

from dataclasses import dataclass

from infra.postgres.identifiers import qualify
from schemas.dataset import DECIMAL_PRECISION, Column, History, Kind, Role, Spec
from schemas.spec import key_name

__all__ = [
    "LANDED_COLUMNS",
    "LINEAGE_COLUMNS",
    "MERGED_COLUMNS",
    "METADATA",
    "STAGING",
    "WAREHOUSE",
    "Target",
    "index_name",
    "key_name",
    "sql_type",
    "staging_table",
    "stored_columns",
]

STAGING = "staging"
WAREHOUSE = "warehouse"
METADATA = "metadata"

POSTGRES_TYPES: dict[Kind, str] = {
    Kind.INTEGER: "bigint",
    Kind.NUMBER: "double precision",
    Kind.DECIMAL: "numeric",
    Kind.TEXT: "text",
    Kind.BOOLEAN: "boolean",
    Kind.DATE: "date",
    Kind.TIMESTAMP: "timestamptz",
}

LANDED_COLUMNS: tuple[tuple[str, str], ...] = (
    ("_line", "bigint NOT NULL"),
    ("_row_hash", "bigint NOT NULL"),
    ("_extra", "jsonb"),
)
"""What every staged row carries beside the contract's columns: its line in the file (or its
place in the answer), a hash of its values, and the columns that the contract does not know."""

LINEAGE_COLUMNS: tuple[tuple[str, str], ...] = (
    ("_batch_id", "bigint NOT NULL"),
    ("_source", "text NOT NULL"),
    ("_version", "timestamptz NOT NULL"),
    ("_extracted_at", "timestamptz NOT NULL"),
)
"""The same for every row of a load: added after them, as defaults, so that they cost no byte."""

MERGED_COLUMNS: tuple[tuple[str, str], ...] = (
    ("_batch_id", "bigint NOT NULL"),
    ("_version", "timestamptz NOT NULL"),
    ("_line", "bigint NOT NULL"),
    ("_row_hash", "bigint NOT NULL"),
    ("_extra", "jsonb"),
)
"""What every warehouse row keeps: which load wrote it, how new it is, what it said."""


CELL_TYPE = "bytea"
"""Of an encrypted cell, and of what it is found by."""


def sql_type(column: Column) -> str:
    """Return the PostgreSQL type of a contract's column; a personal one holds encrypted cells."""
    if column.pii:
        return CELL_TYPE
    if column.kind is Kind.DECIMAL:
        return f"numeric({DECIMAL_PRECISION},{column.scale})"
    return POSTGRES_TYPES[column.kind]


def index_name(column: str) -> str:
    """Return the column by which the cells of a personal column are found."""
    return f"_{column}_index"


def stored_columns(spec: Spec) -> tuple[tuple[str, str], ...]:
    """Return name and type of what a staged row has for the contract's columns, in their order."""
    return tuple(stored for each in spec.columns for stored in _stored(each))


def _stored(column: Column) -> tuple[tuple[str, str], ...]:
    itself = (column.name, sql_type(column))
    return (itself, (index_name(column.name), CELL_TYPE)) if column.pii else (itself,)


@dataclass(frozen=True, slots=True)
class Target:
    """A dataset's table in the warehouse."""

    spec: Spec

    @property
    def name(self) -> str:
        """`dim_customers`, `fact_sales_data`."""
        prefix = "dim" if self.spec.role is Role.DIMENSION else "fact"
        return f"{prefix}_{self.spec.table}"

    @property
    def table(self) -> str:
        """The quoted, qualified name."""
        return qualify(WAREHOUSE, self.name)

    @property
    def surrogate(self) -> str | None:
        """The surrogate key's column; a fact has none."""
        if self.spec.role is not Role.DIMENSION:
            return None
        single = self.spec.key[0] if len(self.spec.key) == 1 else "id"
        return key_name(single, self.spec.table)

    @property
    def keeps_versions(self) -> bool:
        """Whether a changed row becomes a version of its own (type 2)."""
        return self.spec.history is History.KEEP_VERSIONS

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """Name and type of each of the contract's columns, as the warehouse holds them.

        A reference becomes the surrogate key of the row it names; where it is part of the key,
        the natural value stays beside it. Beside a personal column stands its index.
        """
        result: list[tuple[str, str]] = []
        for each in self.spec.columns:
            if each.references is None or each.name in self.spec.key:
                result += _stored(each)
            if each.references is not None:
                result.append((self.column_name(each), "bigint"))
        return tuple(result)

    def column_name(self, column: Column) -> str:
        """Return the warehouse's name of a contract's column."""
        if column.references is None:
            return column.name
        return key_name(column.name, column.references.spec.table)


def staging_table(spec: Spec) -> str:
    """Return the quoted, qualified name of the dataset's staging table."""
    return qualify(STAGING, spec.table)
