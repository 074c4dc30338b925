"""What roles may do with a dataset's tables, column by column.

The dashboard's reads no personal column, by anybody's SQL. What the contract does not describe
(`_extra`) may hold anything, and a hash of a whole row (`_row_hash`) or the index of a cell would
tell whoever guesses a person's data that two rows are of one person, or that the guess is right.

The one that erases finds rows by key and index, reads no cell, and writes no row.
"""

from collections.abc import Iterable, Sequence

from infra.postgres.identifiers import quote
from infra.postgres.layout import WAREHOUSE, Target, index_name
from infra.postgres.tables import Table
from schemas.dataset import Role, Spec

READER = "sluiceway_reader"
LOADER = "sluiceway_loader"
MONITOR = "sluiceway_monitor"
ERASER = "sluiceway_eraser"
_NEVER_READ = frozenset({"_extra", "_row_hash"})
_ANONYMOUS = ("_is_inferred", "_row_hash", "_extra")
"""What a member of a dimension has of its own beside the contract's columns, and is rewritten."""


def readable_columns(table: Table, spec: Spec) -> list[str]:
    """Return the table's columns that the reader may read, in order."""
    target = Target(spec)
    personal = {each.name for each in spec.columns if each.pii}
    personal |= {target.column_name(each) for each in spec.columns if each.pii}
    personal |= {index_name(each.name) for each in spec.columns if each.pii}
    return [name for name, _ in table.columns if name not in personal | _NEVER_READ]


def own_columns(table: Table, spec: Spec) -> list[str]:
    """Return the columns that the platform added: all the reader may read without a contract."""
    return [name for name in readable_columns(table, spec) if name not in spec.names]


def grant_columns(qualified: str, columns: Iterable[str]) -> str:
    """Return the SQL that lets the reader read these columns of the table, and nothing else."""
    return (
        f"REVOKE ALL ON {qualified} FROM {READER}; "
        f"GRANT SELECT ({_listed(list(columns))}) ON {qualified} TO {READER}"
    )


def erasable_columns(spec: Spec) -> list[str]:
    """Return the columns of a dimension that hold nothing of a person who was forgotten.

    All but the key, by which facts still join it.
    """
    names = [name for name, _ in Target(spec).columns if name not in spec.key]
    return [*names, *_ANONYMOUS]


def grant_erasing(table: Table, spec: Spec) -> list[str]:
    """Return the SQL that lets the eraser find and erase a person's rows, and nothing else.

    Of a table without personal columns it gets no right, and loses those it had.
    """
    statements = [f"REVOKE ALL ON {table.qualified} FROM {ERASER}"]
    indexes = [index_name(each.name) for each in spec.columns if each.pii]
    if not indexes:
        return statements
    target = Target(spec)
    is_merged = table.schema == WAREHOUSE
    found_by = [*spec.key, *indexes]
    found_by += [target.column_name(each) if is_merged else each.name for each in spec.references]
    if is_merged and spec.role is Role.DIMENSION:
        found_by += [str(target.surrogate), "_is_inferred"]
        may_write = f"UPDATE ({_listed(erasable_columns(spec))})"
    else:
        may_write = "DELETE"
    may_read = f"SELECT ({_listed(list(dict.fromkeys(found_by)))})"
    return [*statements, f"GRANT {may_read}, {may_write} ON {table.qualified} TO {ERASER}"]


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(quote(each) for each in columns)
