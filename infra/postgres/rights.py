"""What the dashboard's role may read of a dataset's tables: no personal column, by anybody's SQL.

Column by column: what the contract does not describe (`_extra`) may hold anything, and a hash of a
whole row (`_row_hash`) would tell whoever guesses a person's data that the guess is right.
"""

from collections.abc import Iterable

from infra.postgres.identifiers import quote
from infra.postgres.layout import Target
from infra.postgres.tables import Table
from schemas.dataset import Spec

READER = "sluiceway_reader"
_NEVER_READ = frozenset({"_extra", "_row_hash"})


def readable_columns(table: Table, spec: Spec) -> list[str]:
    """Return the table's columns that the reader may read, in order."""
    target = Target(spec)
    personal = {each.name for each in spec.columns if each.pii}
    personal |= {target.column_name(each) for each in spec.columns if each.pii}
    return [name for name, _ in table.columns if name not in personal | _NEVER_READ]


def own_columns(table: Table, spec: Spec) -> list[str]:
    """Return the columns that the platform added: all the reader may read without a contract."""
    return [name for name in readable_columns(table, spec) if name not in spec.names]


def grant_columns(qualified: str, columns: Iterable[str]) -> str:
    """Return the SQL that lets the reader read these columns of the table, and nothing else."""
    listed = ", ".join(quote(each) for each in columns)
    return (
        f"REVOKE ALL ON {qualified} FROM {READER}; "
        f"GRANT SELECT ({listed}) ON {qualified} TO {READER}"
    )
