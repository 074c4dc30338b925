"""CSV files as exports really are: each is loaded, its bad rows quarantined, or refused."""

import codecs
import gzip
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pytest

from infra.postgres.connection import Pool
from schemas.datasets import Customers
from schemas.errors import RefusedError
from tasks.load import Outcome
from tests.cells import in_clear

HEADER = "customer_id,name,signup_date\n"
TEN_MEGABYTES = 10 << 20


@dataclass(frozen=True)
class Case:
    data: bytes
    names: dict[int, str]
    """The customers that are in the warehouse afterwards."""
    rejects: list[tuple[int, str]] = field(default_factory=list)
    """Line and first rule of each quarantined row."""
    duplicates: int = 0
    superseded: int = 0
    file: str = "customers.csv"


def text(body: str, encoding: str = "utf-8") -> bytes:
    return (HEADER + body).encode(encoding)


PLAIN = "1,Ann,2024-01-01\n2,Bo,2024-01-02\n"
BOTH = {1: "Ann", 2: "Bo"}
CASES = {
    "plain": Case(text(PLAIN), BOTH),
    "header_only": Case(text(""), {}),
    "header_only_without_line_end": Case(HEADER.strip().encode(), {}),
    "no_trailing_newline": Case(text(PLAIN.rstrip()), BOTH),
    "crlf": Case(text(PLAIN).replace(b"\n", b"\r\n"), BOTH),
    "old_mac_line_ends": Case(text(PLAIN).replace(b"\n", b"\r"), BOTH),
    "blank_lines": Case(text("\n1,Ann,2024-01-01\n\n2,Bo,2024-01-02\n\n"), BOTH),
    "byte_order_mark": Case(codecs.BOM_UTF8 + text(PLAIN), BOTH),
    "utf_16_little": Case(codecs.BOM_UTF16_LE + text(PLAIN, "utf-16-le"), BOTH),
    "utf_16_big": Case(codecs.BOM_UTF16_BE + text(PLAIN, "utf-16-be"), BOTH),
    "latin_1": Case(text("1,Zoë Müller,2024-01-01\n", "latin-1"), {1: "Zoë Müller"}),
    "semicolons": Case(text(PLAIN).replace(b",", b";"), BOTH),
    "tabs": Case(text(PLAIN).replace(b",", b"\t"), BOTH),
    "pipes": Case(text(PLAIN).replace(b",", b"|"), BOTH),
    "quoted_newlines_quotes_and_commas": Case(
        text('1,"Ann ""A."",\nsecond line",2024-01-01\n2,Bo,2024-01-02\n'),
        {1: 'Ann "A.",\nsecond line', 2: "Bo"},
    ),
    "ragged": Case(
        text("1,Ann,2024-01-01\n2,Bo\n3,Cy,2024-01-01,surplus\n4,Di,2024-01-01\n"),
        {1: "Ann", 4: "Di"},
        [(3, "column_count"), (4, "column_count")],
    ),
    "nul_byte": Case(text("1,A\0nn,2024-01-01\n2,Bo,2024-01-02\n"), {2: "Bo"}, [(2, "nul_byte")]),
    "a_quote_that_is_never_closed": Case(
        text('1,"Ann,2024-01-01\n2,Bo,2024-01-02\n'), {2: "Bo"}, [(2, "unterminated_quote")]
    ),
    "ten_megabytes_in_one_cell": Case(
        text(f'1,Ann,2024-01-01\n2,"{"x" * TEN_MEGABYTES}",2024-01-02\n'),
        {1: "Ann"},
        [(3, "str_length")],
    ),
    "duplicates_exact_and_by_key": Case(
        text("1,Anna,2024-01-01\n1,Ann,2024-01-01\n1,Ann,2024-01-01\n"),
        {1: "Ann"},
        duplicates=1,
        superseded=1,
    ),
    "emoji_and_right_to_left": Case(
        text("1,👩🏽‍🚀 Ann,2024-01-01\n2,שלום עליכם,2024-01-02\n3,مرحبا,2024-01-03\n"),
        {1: "👩🏽‍🚀 Ann", 2: "שלום עליכם", 3: "مرحبا"},
    ),
    "specials_of_copy": Case(
        text(
            "1,\\N,2024-01-01\n2,\\.,2024-01-01\n3,a\\tb\\\\c\\x41,2024-01-01\n4,a\tb,2024-01-01\n"
        ),
        {1: "\\N", 2: "\\.", 3: "a\\tb\\\\c\\x41", 4: "a\tb"},
    ),
    "integers_beyond_64_bits": Case(
        text(
            "9223372036854775807,Max,2024-01-01\n9223372036854775808,Over,2024-01-01\n"
            f"{'9' * 5000},Far over,2024-01-01\n"
        ),
        {2**63 - 1: "Max"},
        [(3, "type"), (4, "type")],
    ),
    "every_row_rejected": Case(
        text("-1,Ann,2024-01-01\n2,,2024-01-01\n3,Cy,never\n"),
        {},
        [(2, "greater_than_or_equal_to"), (3, "missing"), (4, "type")],
    ),
    "gzip": Case(gzip.compress(text(PLAIN)), BOTH, file="customers.csv.gz"),
    "zstandard": Case(
        pa.Codec("zstd").compress(text(PLAIN), asbytes=True), BOTH, file="customers.csv.zst"
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_a_file_is_loaded_or_its_rows_are_quarantined_and_none_is_lost(
    tmp_path: Path, pool: Pool, load, case: Case
) -> None:
    path = tmp_path / case.file
    path.write_bytes(case.data)
    report = await load(path)
    assert report.outcome is Outcome.LOADED
    assert await names(pool) == case.names
    kept = await fetch(pool, "SELECT line, rule FROM metadata.quarantine ORDER BY line")
    assert [(row["line"], row["rule"]) for row in kept] == case.rejects
    ledger = report.ledger
    repeated = case.duplicates + case.superseded
    assert ledger.read == len(case.names) + len(case.rejects) + repeated
    assert ledger.accounted == ledger.read
    assert (ledger.duplicates, ledger.superseded) == (case.duplicates, case.superseded)


REFUSED = {
    "empty": (b"", "is empty"),
    "blank_lines_only": (b"\n\n\r\n", "blank lines only"),
    "binary": (bytes(range(256)) * 40, "binary"),
    "an_image": (b"\x89PNG\r\n\x1a\n" + bytes(100), "PNG"),
    "a_column_too_few": (b"customer_id,name\n1,Ann\n", "lacks 'signup_date'"),
    "a_column_renamed": (
        b"customer_id,name,joined\n1,Ann,2024-01-01\n",
        "lacks 'signup_date', which the contract Customers requires; it has 'joined' instead",
    ),
    "a_gzip_cut_short": (gzip.compress(text(PLAIN * 500))[:-20], "ends too early"),
    "a_changed_type": (
        text("".join(f"{n},Name,{n} days ago\n" for n in range(1, 101))),
        "column 'signup_date' is date there, but 100 of 100 cells in the file are not",
    ),
    "no_header_but_a_nul": (b"customer_id,na\0me,signup_date\n1,Ann,2024-01-01\n", "header"),
}


@pytest.mark.parametrize(("data", "says"), REFUSED.values(), ids=REFUSED)
async def test_a_file_that_does_not_fit_is_refused_whole_with_a_sentence(
    tmp_path: Path, pool: Pool, load, data: bytes, says: str
) -> None:
    path = tmp_path / "customers.csv"
    path.write_bytes(data)
    with pytest.raises(RefusedError) as error:
        await load(path)
    sentence = str(error.value)
    assert says in sentence
    assert str(path) in sentence
    assert "\n" not in sentence
    assert await visible_rows(pool) == {
        "warehouse.dim_customers": 0,
        "staging.customers": 0,
        "metadata.quarantine": 0,
        "metadata.dataset_counts": 0,
    }
    manifest = await fetch(pool, "SELECT path, status, message FROM metadata.source_files")
    assert [tuple(row) for row in manifest] == [(str(path), "REFUSED", sentence)]


async def test_a_type_that_changes_far_into_the_file_leaves_nothing_of_it_visible(
    tmp_path: Path, pool: Pool, load
) -> None:
    good = "".join(f"{n},{'Ann' * 60},2024-01-01\n" for n in range(1, 30_001))
    bad = "".join(f"{n},Ann,soon\n" for n in range(30_001, 70_001))
    path = tmp_path / "customers.csv"
    path.write_bytes(text(good + bad))
    with pytest.raises(RefusedError, match="'signup_date' is date there"):
        await load(path)
    assert set((await visible_rows(pool)).values()) == {0}
    leftovers = await fetch(
        pool, "SELECT relname FROM pg_class WHERE relname LIKE '%\\_\\_b%' AND relkind = 'r'"
    )
    assert leftovers == []


async def test_a_quarantined_row_keeps_its_text_place_rule_reason_and_contract(
    tmp_path: Path, pool: Pool, load
) -> None:
    path = tmp_path / "customers.csv"
    path.write_bytes(
        text('1,Ann,2024-01-01\n2,"Bo, ""B""",2024-02-30\n0,,yesterday\n4,Di,2024-01-01,\\N\n')
    )
    report = await load(path)
    rows = await fetch(pool, "SELECT * FROM metadata.quarantine ORDER BY line")
    assert [(row["line"], row["rule"], row["column_name"], row["raw_sealed"]) for row in rows] == [
        (3, "type", "signup_date", '2,"Bo, ""B""",2024-02-30'),
        (4, "missing", "name", "0,,yesterday"),
        (5, "column_count", None, "4,Di,2024-01-01,\\N"),
    ]
    assert "signup_date '••••-••-••' is not a date" in rows[0]["reason"]
    assert {row["contract_version"] for row in rows} == {Customers.spec.contract_version}
    assert {row["source"] for row in rows} == {str(path)}
    assert rows[1]["reason"].count(";") == 2
    assert report.rules == {"signup_date: type": 1, "name: missing": 1, "column_count": 1}


async def fetch(pool: Pool, query: str) -> list:
    async with pool.acquire() as connection:
        return in_clear(await connection.fetch(query))


async def names(pool: Pool) -> dict[int, str]:
    rows = await fetch(pool, "SELECT customer_id, name FROM warehouse.dim_customers")
    return {row["customer_id"]: row["name"] for row in rows}


async def visible_rows(pool: Pool) -> dict[str, int]:
    tables = (
        "warehouse.dim_customers",
        "staging.customers",
        "metadata.quarantine",
        "metadata.dataset_counts",
    )
    async with pool.acquire() as connection:
        return {
            table: await connection.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608
            for table in tables
        }
