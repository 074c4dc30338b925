"""Where a person stands: found by the index of their value, and by the keys of what was found."""

from collections.abc import Iterable, Mapping

import asyncpg

from infra.cell_encryption import KeyRing
from infra.postgres.connection import Connection
from infra.postgres.erasure_sql import ErasureSql, Key, Members, Statement, Traces
from infra.postgres.layout import STAGING
from infra.postgres.merge_sql import dimension_of
from schemas.dataset import Role, Spec
from schemas.errors import TerminalError
from tasks.mentions import Mentions
from tasks.personal_cells import place_of
from tasks.subject import Subject

_SHOWN_KEYS = 10


def trace(
    spec: Spec, ring: KeyRing, subject: Subject, members: Mapping[str, Members]
) -> Traces | None:
    """Return what the person's rows in a dataset are found by; None where it has none.

    members: of the dimensions that know the person.
    """
    if not any(each.pii for each in spec.columns):
        return None
    own = members.get(spec.table)
    return (
        Traces(
            indexes=subject.indexes_in(spec, ring),
            keys=own.keys if own else (),
            # A dimension's row about another one may be about somebody else.
            references={}
            if spec.role is Role.DIMENSION
            else {
                each.name: members[dimension_of(each).table]
                for each in spec.references
                if dimension_of(each).table in members
            },
        )
        or None
    )


async def find_members(
    connection: Connection,
    specs: Iterable[Spec],
    ring: KeyRing,
    subject: Subject,
    *,
    several: bool = True,
) -> dict[str, Members]:
    """Return whom the value stands for in the dimensions that know it, by dataset.

    Raises TerminalError where one has several members of that value and `several` is false.
    """
    found = {}
    for spec in specs:
        if spec.role is not Role.DIMENSION:
            continue
        keys = await find_keys(connection, spec, ring, subject)
        if not keys:
            continue
        if len(keys) > 1 and not several:
            shown = ", ".join("|".join(each) for each in sorted(keys)[:_SHOWN_KEYS])
            raise TerminalError(
                f"The value stands in {len(keys)} members of {spec.table} ({shown}"
                f"{', …' if len(keys) > _SHOWN_KEYS else ''}): look at them with `python -m "
                f"tasks.find_person`, then forget one by its {spec.key[0]}, or all with "
                "several (--several)."
            )
        surrogates = await _fetch(
            connection, ErasureSql(spec, Traces(keys=tuple(keys))).find_surrogates()
        )
        found[spec.table] = Members(tuple(keys), tuple(row[0] for row in surrogates))
    return found


async def find_keys(
    connection: Connection, spec: Spec, ring: KeyRing, subject: Subject
) -> list[Key]:
    """Return the keys of the person's rows in a dataset, in staging and in the warehouse.

    Staging has what a row said before: the person's rows of today may say something else.
    """
    if subject.is_key:
        return [(subject.value,)] if spec.table == subject.spec.table else []
    indexes = subject.indexes_in(spec, ring)
    if not indexes or not spec.key:
        return []
    sql = ErasureSql(spec, Traces(indexes=indexes))
    rows = [
        row
        for merged in _places(spec)
        for row in await _fetch(connection, sql.find_keys(merged=merged))
    ]
    return sorted({tuple(row) for row in rows if None not in tuple(row)})


async def describe(
    connection: Connection, spec: Spec, ring: KeyRing, subject: Subject, keys: Iterable[Key]
) -> Mentions:
    """Return what rejects of a dataset tell the person by; keys: of the person's rows."""
    known = tuple(sorted(keys))
    marks: dict[str, set[bytes]] = {each.name: set() for each in spec.columns if each.pii}
    if known and marks:
        sql = ErasureSql(spec, Traces(keys=known))
        for merged in _places(spec):
            for row in await _fetch(connection, sql.find_indexes(merged=merged)):
                for name, index in zip(marks, row, strict=True):
                    marks[name] |= set() if index is None else {index}

    def is_theirs(cell: str) -> bool:
        return any(
            not indexes.isdisjoint(ring.find_by(cell.strip(), place_of(spec, spec.column(name))))
            for name, indexes in marks.items()
        )

    value = None if subject.is_key else subject.value
    return Mentions(value, spec, frozenset(known), is_theirs)


async def find_uncontracted(
    connection: Connection, value: str, *, for_real: bool = False
) -> dict[str, int]:
    """Return the staged rows without a contract that hold the value, by table.

    for_real: delete them too.
    """
    rows = await connection.fetch(
        "SELECT * FROM metadata.find_uncontracted($1, $2)", value, for_real
    )
    return {f"{STAGING}.{row['staged']}": row["held"] for row in rows}


def _places(spec: Spec) -> tuple[bool, ...]:
    """Return where a dataset has rows: in staging (False), and in the warehouse (True)."""
    return (False,) if spec.role is Role.STAGING else (False, True)


async def _fetch(connection: Connection, statement: Statement) -> list[asyncpg.Record]:
    text, given = statement
    rows: list[asyncpg.Record] = await connection.fetch(text, *given)
    return rows
