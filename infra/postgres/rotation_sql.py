"""The SQL that walks a table page by page for cells of an old key, and writes them anew."""

from dataclasses import dataclass

from infra.cell_encryption import Place
from infra.postgres.identifiers import quote

KEY_ID = "substr({column}, 2, 4)"
"""Of a cell: 1 byte, then the 4 of its key's id."""


@dataclass(frozen=True, slots=True)
class CellColumn:
    """A column of cells, and the one that they are found by."""

    name: str
    place: Place
    index: str | None = None

    @property
    def stored(self) -> tuple[str, ...]:
        """The columns that are written together."""
        return (self.name,) if self.index is None else (self.name, self.index)


@dataclass(frozen=True, slots=True)
class CellTable:
    """One table of PostgreSQL, without its children, that holds cells."""

    qualified: str
    """Quoted."""
    label: str
    """As a person writes it."""
    columns: tuple[CellColumn, ...]
    pages: int
    """So many are rewritten in one transaction."""
    dataset: str | None = None
    """Whose lock a writer has to hold; None: rows are locked one by one."""
    sealed_only: bool = False
    """Whether a row says of itself that it is encrypted."""

    def has_old(self, *, every: bool) -> str:
        """Tell whether pages $1 to $2 hold a cell that is not of the key $3; every: any cell."""
        return f"SELECT EXISTS (SELECT {self._old(every=every)})"

    def take(self, *, every: bool) -> str:
        """Return place and cells of such rows, locked; others' are left to a later pass."""
        stored = [quote(name) for each in self.columns for name in each.stored]
        return f"SELECT ctid, {', '.join(stored)} {self._old(every=every)} FOR UPDATE SKIP LOCKED"

    def _old(self, *, every: bool) -> str:
        sought = [
            f"{quote(each.name)} IS NOT NULL"
            if every
            else f"{KEY_ID.format(column=quote(each.name))} <> $3"
            for each in self.columns
        ]
        # The key is a parameter of either.
        return (
            f"FROM ONLY {self.qualified} WHERE ctid >= $1::tid AND ctid < $2::tid"
            f" AND $3::bytea IS NOT NULL{self._sealed} AND ({' OR '.join(sought)})"
        )

    @property
    def _sealed(self) -> str:
        return " AND is_sealed" if self.sealed_only else ""

    def rewrite(self) -> str:
        """Write the cells $2 and on at the places $1."""
        stored = [quote(name) for each in self.columns for name in each.stored]
        assignments = ", ".join(f"{name} = n.{name}" for name in stored)
        given = ", ".join(f"${number}::bytea[]" for number in range(2, len(stored) + 2))
        return (
            f"UPDATE ONLY {self.qualified} AS t SET {assignments}"  # noqa: S608 - quoted
            f" FROM unnest($1::tid[], {given}) AS n (place, {', '.join(stored)})"
            " WHERE t.ctid = n.place"
        )

    def count_pages(self) -> str:
        """Return how many pages the table has now; NULL where it is gone."""
        return "SELECT pg_relation_size(to_regclass($1)) / current_setting('block_size')::bigint"

    def count_by_key(self, column: CellColumn) -> str:
        """Count the cells of a column by the id of their key."""
        cell = quote(column.name)
        return (
            f"SELECT {KEY_ID.format(column=cell)} AS id, count(*) AS cells"  # noqa: S608 - quoted
            f" FROM ONLY {self.qualified} WHERE {cell} IS NOT NULL{self._sealed} GROUP BY 1"
        )
