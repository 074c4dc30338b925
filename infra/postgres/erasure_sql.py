"""The SQL that finds a person's rows in a dataset's tables, and erases them.

Rows are found by the index of a personal column, by the keys of rows that were found, and by the
members of dimensions that they point to. No statement names the value.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from infra.postgres.identifiers import quote
from infra.postgres.layout import Target, index_name, sql_type, staging_table
from infra.postgres.rights import erasable_columns
from schemas.dataset import Spec

Key = tuple[str, ...]
"""The values of a dataset's key, as PostgreSQL writes them."""


@dataclass(frozen=True, slots=True)
class Members:
    """The rows of a dimension that a person is, by natural and by surrogate key."""

    keys: tuple[Key, ...]
    surrogates: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Traces:
    """What the rows of one dataset are found by; a row is found by any of them."""

    indexes: Mapping[str, Sequence[bytes]] = field(default_factory=dict)
    """Of personal columns by name: one for each key of the index."""
    keys: tuple[Key, ...] = ()
    references: Mapping[str, Members] = field(default_factory=dict)
    """By the column that names such a member."""

    def __bool__(self) -> bool:
        """Tell whether anything can be found by them."""
        return bool(self.indexes or self.keys or self.references)


Statement = tuple[str, list[object]]
"""SQL and its arguments."""


@dataclass(frozen=True, slots=True)
class ErasureSql:
    """The statements for one dataset and what its rows are found by."""

    spec: Spec
    traces: Traces

    @property
    def _target(self) -> Target:
        return Target(self.spec)

    def find_keys(self, *, merged: bool) -> Statement:
        """Return the keys of the rows found, in the warehouse or in staging."""
        where, given = self._where(merged=merged)
        listed = ", ".join(f"{quote(each)}::text" for each in self.spec.key)
        return f"SELECT DISTINCT {listed} FROM {self._table(merged=merged)}{where}", given  # noqa: S608 - quoted

    def find_indexes(self, *, merged: bool) -> Statement:
        """Return what every personal column of the rows found is found by."""
        names = [index_name(each.name) for each in self.spec.columns if each.pii]
        return self.select(", ".join(quote(each) for each in names), merged=merged)

    def find_surrogates(self) -> Statement:
        """Return the surrogate keys of the dimension's rows found, in every version."""
        where, given = self._where(merged=True)
        surrogate = quote(str(self._target.surrogate))
        return f"SELECT {surrogate} FROM {self._target.table}{where}", given  # noqa: S608 - quoted

    def select(self, columns: str, *, merged: bool) -> Statement:
        """Return these columns, as SQL, of the rows found."""
        where, given = self._where(merged=merged)
        return f"SELECT {columns} FROM {self._table(merged=merged)}{where}", given  # noqa: S608 - quoted

    def delete(self, *, merged: bool) -> Statement:
        """Delete the rows found."""
        where, given = self._where(merged=merged)
        return f"DELETE FROM {self._table(merged=merged)}{where}", given  # noqa: S608 - quoted

    def make_anonymous(self) -> Statement:
        """Leave of the dimension's rows found what facts need to join them: their keys.

        They look like members that a fact named before their own row arrived.
        """
        where, given = self._where(merged=True)
        rewritten = {"_is_inferred": "true", "_row_hash": "0"}
        assignments = ", ".join(
            f"{quote(name)} = {rewritten.get(name, 'NULL')}" for name in erasable_columns(self.spec)
        )
        where += ' AND NOT "_is_inferred"'
        return f"UPDATE {self._target.table} SET {assignments}{where}", given  # noqa: S608 - quoted

    def _table(self, *, merged: bool) -> str:
        return self._target.table if merged else staging_table(self.spec)

    def _where(self, *, merged: bool) -> Statement:
        given: list[object] = []

        def parameter(value: object) -> str:
            given.append(value)
            return f"${len(given)}"

        clauses = [
            f"{quote(index_name(name))} = ANY({parameter(list(indexes))}::bytea[])"
            for name, indexes in self.traces.indexes.items()
        ]
        if self.traces.keys:
            names = ", ".join(quote(each) for each in self.spec.key)
            columns = [list(each) for each in zip(*self.traces.keys, strict=True)]
            typed = [
                f"unnest({parameter(values)}::text[])::{sql_type(self.spec.column(name))}"
                for name, values in zip(self.spec.key, columns, strict=True)
            ]
            clauses.append(f"({names}) IN (SELECT {', '.join(typed)})")
        for name, members in self.traces.references.items():
            column = self.spec.column(name)
            if merged:
                named = quote(self._target.column_name(column))
                clauses.append(f"{named} = ANY({parameter(list(members.surrogates))}::bigint[])")
            else:
                texts = parameter([key[0] for key in members.keys])
                clauses.append(f"{quote(name)} = ANY({texts}::text[]::{sql_type(column)}[])")
        return f" WHERE ({' OR '.join(clauses)})", given
