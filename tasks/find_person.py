"""Shows what is known of one person, and where else they stand.

    python -m tasks.find_person customers email

asks for the value, or reads it from its input: on a command line every user of the machine would
see it. What it prints is decrypted, and for the person or whoever answers them alone.
"""

import argparse
import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import asyncpg
from rich.console import Console
from rich.table import Table

from infra.cell_encryption import KeyRing
from infra.cell_keys import read_key_ring
from infra.postgres.connection import Connection
from infra.postgres.erasure_sql import ErasureSql, Members
from infra.postgres.identifiers import quote
from infra.postgres.layout import METADATA, WAREHOUSE, Target
from infra.postgres.merge_sql import dimension_of
from infra.settings import read_settings
from schemas.dataset import Role, Spec
from schemas.datasets import DATASETS
from schemas.errors import SluicewayError
from tasks.database import open_pool, require_database
from tasks.key_proof import prove_keys
from tasks.mentions import Mentions
from tasks.person_rows import describe, find_keys, find_members, find_uncontracted, trace
from tasks.personal_cells import place_of
from tasks.rejected_search import Scope, find_rejected
from tasks.subject import STDIN, Subject, name_subject, read_value

_OWN = ("_is_inferred", "valid_from", "valid_to")


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a person."""

    rows: Mapping[str, list[dict[str, object]]] = field(default_factory=dict)
    """Rows of the warehouse, decrypted, by qualified table."""
    elsewhere: Mapping[str, int] = field(default_factory=dict)
    """Rows that are not shown, by where they stand."""


async def find_person(
    connection: Connection, specs: Sequence[Spec], ring: KeyRing, subject: Subject
) -> Found:
    """Return the person's rows of the warehouse, decrypted, and how many stand elsewhere.

    connection: as the loader. Raises CellError where a cell cannot be read.
    """
    members = await find_members(connection, specs, ring, subject)
    rows: dict[str, list[dict[str, object]]] = {}
    elsewhere: dict[str, int] = {}
    for spec in specs:
        traces = trace(spec, ring, subject, members)
        if traces is not None:
            sql = ErasureSql(spec, traces)
            query, given = sql.select("tableoid::regclass::text", merged=False)
            for [table] in await connection.fetch(query, *given):
                elsewhere[table] = elsewhere.get(table, 0) + 1
            if spec.role is not Role.STAGING:
                found = await _read(connection, spec, sql, ring)
                rows |= {f"{WAREHOUSE}.{Target(spec).name}": found} if found else {}
        else:
            elsewhere |= await _count_pointing(connection, spec, members)
        keys = await find_keys(connection, spec, ring, subject)
        mentions = await describe(connection, spec, ring, subject, keys)
        about = await find_rejected(connection, ring, mentions, Scope([spec.table]))
        for table, count in about.counts.items():
            elsewhere[table] = elsewhere.get(table, 0) + count
    if not subject.is_key:
        tables = [each.table for each in specs]
        others = await find_rejected(
            connection, ring, Mentions(subject.value), Scope(tables, is_theirs=False)
        )
        for table, count in others.counts.items():
            elsewhere[table] = elsewhere.get(table, 0) + count
        elsewhere |= await find_uncontracted(connection, subject.value)
    earlier = await connection.fetchval(
        "SELECT count(*) FROM metadata.erasures WHERE subject_index = ANY($1)",
        subject.digests(ring),
    )
    elsewhere |= {f"{METADATA}.erasures (forgotten before)": earlier} if earlier else {}
    return Found(rows, elsewhere)


async def _count_pointing(
    connection: Connection, spec: Spec, members: Mapping[str, Members]
) -> dict[str, int]:
    """Return how many facts without personal columns point to the person."""
    if spec.role is not Role.FACT:
        return {}
    target, counts = Target(spec), {}
    for each in spec.references:
        known = members.get(dimension_of(each).table)
        if known is not None:
            count = await connection.fetchval(
                f"SELECT count(*) FROM {target.table}"  # noqa: S608 - quoted
                f" WHERE {quote(target.column_name(each))} = ANY($1::bigint[])",
                list(known.surrogates),
            )
            if count:
                counts[f"{WAREHOUSE}.{target.name} (points to {dimension_of(each).table})"] = count
    return counts


async def _read(
    connection: Connection, spec: Spec, sql: ErasureSql, ring: KeyRing
) -> list[dict[str, object]]:
    """Return the rows of the warehouse as the contract names their columns, decrypted."""
    target = Target(spec)
    names = [target.column_name(each) for each in spec.columns]
    names += [each for each in _OWN if spec.role is Role.DIMENSION and _has(target, each)]
    query, given = sql.select(", ".join(quote(each) for each in names), merged=True)
    personal = {each.name: place_of(spec, each) for each in spec.columns if each.pii}

    def shown(row: asyncpg.Record) -> dict[str, object]:
        return {
            name: ring.open(value, personal[name]).decode()
            if name in personal and value is not None
            else value
            for name, value in row.items()
        }

    return [shown(row) for row in await connection.fetch(query, *given)]


def _has(target: Target, column: str) -> bool:
    return column == "_is_inferred" or target.keeps_versions


def _print(found: Found) -> None:
    # To a file or another program, whole: a terminal's width would cut values off.
    console = Console() if sys.stdout.isatty() else Console(width=10_000)
    for table, rows in found.rows.items():
        console.print(table, markup=False, highlight=False)
        shown = Table(*rows[0])
        for row in rows:
            shown.add_row(*("" if value is None else str(value) for value in row.values()))
        console.print(shown)
    for place, count in sorted(found.elsewhere.items()):
        console.print(f"{place}: {count:,}", markup=False, highlight=False, soft_wrap=True)
    if not found.rows and not found.elsewhere:
        console.print("Nothing of this person is there.")


async def _main(dataset: str, column: str) -> None:
    settings = read_settings()
    require_database(settings)
    value = await read_value(STDIN, None, prompt=f"{dataset}.{column}: ")
    specs = [each.spec for each in DATASETS]
    subject = name_subject(specs, dataset, column, value)
    ring = read_key_ring(settings)
    async with await open_pool(settings) as pool, pool.acquire() as connection:
        await prove_keys(connection, ring)
        _print(await find_person(connection, specs, ring, subject))


def main() -> None:
    """Show a person on the terminal; exits with a sentence when it fails."""
    parser = argparse.ArgumentParser(
        prog="python -m tasks.find_person",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", help="as customers")
    parser.add_argument("column", help="a personal column of it, or its key")
    given = parser.parse_args()
    try:
        asyncio.run(_main(given.dataset, given.column))
    except SluicewayError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
