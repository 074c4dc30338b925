"""Names from outside, however ugly, become sane identifiers, and nothing else is touched."""

import asyncio
import csv
import io
import itertools
import re
import unicodedata
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.postgres.connection import Pool
from schemas.datasets import DATASETS
from tasks.discover_files import discover_files
from tasks.load import Order, Report
from tasks.load_file import load_found

SERIAL = itertools.count()
SANE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
OWN = {"_line", "_row_hash", "_extra", "_batch_id", "_source", "_version", "_extracted_at"}
UGLY = [
    'staging"; DROP TABLE metadata.quarantine; --',
    "'; DROP SCHEMA warehouse CASCADE; --",
    "x'); SELECT pg_sleep(100); --",
    "select",
    "user",
    "table",
    "order by 1",
    "%s $1 :name {0} {table.row}",
    "q" * 200,
    "ä" * 100,
    "日本語",
    "🙂",
    "\u202egpj.exe",
    "_line",
    "_batch_id",
    "xmin",
    "tableoid",
    "1st",
    "..",
    "a.b.c",
    "a__b1",
    "suppliers__b1",
    "new\nline",
    "back\\slash",
    "UPPER Case",
    "ctid",
]


@pytest.fixture
def schema(embedded_server) -> Iterator:
    """A database for all the examples of one test."""
    made = asyncio.run(embedded_server.create())
    yield made
    asyncio.run(embedded_server.drop(made))


async def test_ugly_file_names_get_a_sane_table_each_with_their_own_rows(
    tmp_path: Path, schema
) -> None:
    stems = [each for each in UGLY if "/" not in each and len(each.encode()) < 240]
    for number, stem in enumerate(stems):
        (tmp_path / f"{stem}.csv").write_text(f"number\n{number}\n")
    before = await catalogue(schema)
    reports = await load_folder(schema, tmp_path)
    after = await catalogue(schema)
    tables = {Path(each.path).name.removesuffix(".csv"): each.table for each in reports}
    # Names that begin with a dot are hidden files.
    assert set(tables) == {each for each in stems if not each.startswith(".")}
    assert len(set(tables.values())) == len(tables)
    assert all(SANE.fullmatch(each) and len(each) <= 63 for each in tables.values())
    async with connected(schema) as connection:
        for number, stem in enumerate(stems):
            if stem in tables:
                rows = await connection.fetch(f'SELECT number FROM staging."{tables[stem]}"')  # noqa: S608
                assert [row["number"] for row in rows] == [str(number)]
    assert_only_tables_were_added(before, after, set(tables.values()))


async def test_ugly_column_names_keep_their_own_cells(tmp_path: Path, schema) -> None:
    header = [*UGLY, "Upper case", "upper-case", "UPPER CASE", "upper_case", "", "q" * 201]
    await check_header(schema, tmp_path, "ugly", header)


async def test_ugly_columns_beside_a_contract_are_kept_under_sane_names(
    tmp_path: Path, schema
) -> None:
    header = ["customer_id", "name", "signup_date", *UGLY]
    cells = ["1", "Ann", "2024-01-01", *(f"cell {n}" for n in range(len(UGLY)))]
    (tmp_path / "customers.csv").write_text(write(header, cells))
    before = await catalogue(schema)
    [report] = await load_folder(schema, tmp_path)
    assert report.ledger.inserted == 1
    assert await catalogue(schema) == before
    async with connected(schema) as connection:
        kept = await connection.fetch(
            "SELECT (jsonb_each_text(_extra)).* FROM warehouse.dim_customers"
        )
    assert sorted(row["value"] for row in kept) == sorted(cells[3:])
    assert all(SANE.fullmatch(row["key"]) for row in kept)


names = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufeff"),
    min_size=1,
    max_size=250,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(header=st.lists(names, min_size=1, max_size=12))
def test_any_column_names_keep_their_own_cells(tmp_path: Path, schema, header) -> None:
    # What a CSV reader strips away makes two names one, and is told as such: not this test's.
    header = list(dict.fromkeys(filter(None, (each.strip() for each in header))))
    if header:
        name = f"any_{next(SERIAL)}"
        folder = tmp_path / name
        folder.mkdir()
        asyncio.run(check_header(schema, folder, name, header))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    stem=names.filter(
        lambda each: "/" not in each and len(each.encode()) < 240 and not each.startswith(".")
    )
)
def test_any_file_name_gets_a_table_of_its_own(tmp_path: Path, schema, stem) -> None:
    async def check() -> None:
        folder = tmp_path / str(next(SERIAL))
        folder.mkdir()
        (folder / f"{stem}.csv").write_text("only\nhere\n")
        before = await catalogue(schema)
        reports = await load_folder(schema, folder)
        if stem.startswith("~$"):
            assert reports == []
            return
        [report] = reports
        assert SANE.fullmatch(report.table)
        if report.table in {"customers", "products", "sales_data", "api_users"}:
            return
        assert_only_tables_were_added(before, await catalogue(schema), {report.table})

    asyncio.run(check())


async def check_header(schema, folder: Path, stem: str, header: list[str]) -> None:
    cells = [f"cell {n}" for n in range(len(header))]
    (folder / f"{stem}.csv").write_text(write(header, cells), encoding="utf-8", newline="")
    before = await catalogue(schema)
    [report] = await load_folder(schema, folder)
    assert report.ledger.inserted == 1
    after = await catalogue(schema)
    assert_only_tables_were_added(before, after, {report.table})
    async with connected(schema) as connection:
        row = await connection.fetchrow(f"SELECT * FROM staging.{report.table}")  # noqa: S608
    own = {name: value for name, value in dict(row).items() if name not in OWN}
    assert len(own) == len(header)
    assert all(SANE.fullmatch(name) and len(name) <= 63 for name in own)
    # The columns stand in the header's order.
    assert list(own.values()) == cells
    for name, column in zip(header, own, strict=True):
        folded = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
        words = re.findall(r"[a-z0-9]+", folded)
        if words:
            assert words[0][:20] in column


def assert_only_tables_were_added(before: set, after: set, tables: set[str]) -> None:
    assert before <= after
    added = {name for kind, name in after - before if kind == "r"}
    assert added <= {f"staging.{each}" for each in tables}
    others = {(kind, name) for kind, name in after - before if kind != "r"}
    assert all(
        name.removeprefix("staging.").startswith(tuple(each[:40] for each in tables))
        for kind, name in others
        if kind == "i"
    )
    assert {kind for kind, _ in others} <= {"i"}


async def catalogue(schema) -> set[tuple[str, str]]:
    """Everything in the database that has a name, and how many rows the platform's own have."""
    async with connected(schema) as connection:
        objects = await connection.fetch(
            """
            SELECT relkind::text AS kind, relnamespace::regnamespace || '.' || relname AS name
            FROM pg_class WHERE relnamespace::regnamespace::text !~ '^pg_'
            UNION SELECT 'role', rolname FROM pg_roles
            UNION SELECT 'schema', nspname FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp'
            UNION SELECT 'function', oid::regprocedure::text FROM pg_proc
            WHERE pronamespace::regnamespace::text IN ('warehouse', 'metadata', 'staging', 'public')
            UNION SELECT 'column', attrelid::regclass || '.' || attname FROM pg_attribute
            WHERE attrelid IN (SELECT oid FROM pg_class WHERE relkind = 'r'
                AND relnamespace::regnamespace::text IN ('warehouse', 'metadata')) AND attnum > 0
            """
        )
    return {(row["kind"], row["name"]) for row in objects}


async def load_folder(schema, folder: Path) -> list[Report]:
    async with Pool(schema.loader_url) as pool:
        async with pool.acquire() as connection:
            run = await connection.fetchval(
                "INSERT INTO metadata.pipeline_executions (pipeline_name) VALUES ('t') RETURNING id"
            )
        found, notes = discover_files(folder, [each.spec for each in DATASETS])
        assert notes == []
        return [
            await load_found(pool, one, Order(run, str(one.path), one.table, one.spec))
            for one in found
        ]


@asynccontextmanager
async def connected(schema) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(schema.owner_url)
    try:
        yield connection
    finally:
        await connection.close()


def write(header: list[str], cells: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([header, cells])
    return text.getvalue()
