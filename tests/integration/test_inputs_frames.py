"""Excel, JSON, JSON Lines and Parquet files in the raw folder: good, odd and broken ones."""

import datetime as dt
import gzip
import json
from decimal import Decimal
from pathlib import Path

import openpyxl
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from infra.postgres.connection import Pool
from schemas.errors import RefusedError
from tasks.load import Outcome
from tests.cells import in_clear

ANN = {"customer_id": 1, "name": "Ann", "signup_date": "2024-01-01"}


async def test_a_sheet_is_loaded_with_its_dates_and_only_the_first_one(
    tmp_path: Path, pool: Pool, load
) -> None:
    path = tmp_path / "customers.xlsx"
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append([])
    sheet.append(["Customer ID", "name", "signup_date", "credit_limit", None, 2024])
    sheet.append([1, "Ann", dt.datetime(2024, 1, 1), 12.5, None, "x"])  # noqa: DTZ001 - Excel knows no zones
    sheet.append([])
    sheet.append([2, "Bo", dt.date(2024, 1, 2), None])
    sheet.append([3.0, "NULL", "03/01/2024", "1,000.25"])
    sheet.append(["four", "Di", "2024-01-04"])
    book.create_sheet("More").append(["customer_id"])
    book.save(path)
    report = await load(path)
    rows = await fetch(
        pool,
        "SELECT customer_id, name, signup_date, credit_limit, _line, _extra->>'x_2024' AS extra"
        " FROM warehouse.dim_customers ORDER BY 1",
    )
    assert [tuple(row) for row in rows] == [
        (1, "Ann", dt.date(2024, 1, 1), Decimal("12.50"), 3, "x"),
        (2, "Bo", dt.date(2024, 1, 2), None, 5, None),
        (3, "NULL", dt.date(2024, 1, 3), Decimal("1000.25"), 6, None),
    ]
    [kept] = await fetch(pool, "SELECT line, rule, raw_sealed AS raw FROM metadata.quarantine")
    assert (kept["line"], kept["rule"]) == (7, "type")
    assert json.loads(kept["raw"])["Customer ID"] == "four"
    assert report.ledger.read == 4
    assert any("only the first sheet was read, not More" in note for note in report.notes)


async def test_json_keeps_every_digit_and_nested_objects_become_columns(
    tmp_path: Path, pool: Pool, load
) -> None:
    path = tmp_path / "customers.json"
    path.write_text(
        '[{"customer_id": 9223372036854775807, "name": "Ann", "signup_date": "2024-01-01",'
        ' "credit_limit": 1234567890123456.78, "geo": {"lat": 1.10, "tags": ["a", 2]}},'
        ' {"customer_id": 9223372036854775808, "name": "Over", "signup_date": "2024-01-01"},'
        ' {"customer_id": 3, "name": "\\ud83d half", "signup_date": "2024-01-01"},'
        ' {"customer_id": 4, "name": "N\\u0000L", "signup_date": "2024-01-01"},'
        ' {"customer_id": 5, "name": "Ed", "signup_date": "2024-01-01", "memo": "N\\u0000L"},'
        ' 17, null, [], {}, {"customer_id": 6, "customer_id": 7}]'
    )
    report = await load(path)
    rows = await fetch(
        pool,
        "SELECT customer_id, name, credit_limit, _extra->>'geo_lat' AS lat,"
        " _extra->>'geo_tags' AS tags FROM warehouse.dim_customers ORDER BY 1",
    )
    assert [tuple(row) for row in rows] == [
        (3, "\\ud83d half", None, None, None),
        (2**63 - 1, "Ann", Decimal("1234567890123456.78"), "1.10", '["a",2]'),
    ]
    kept = await fetch(pool, "SELECT line, rule FROM metadata.quarantine ORDER BY line")
    assert [(row["line"], row["rule"]) for row in kept] == [
        (2, "type"),
        (4, "nul_byte"),
        (5, "nul_byte"),
        (6, "not_an_object"),
        (7, "not_an_object"),
        (8, "not_an_object"),
        (9, "missing"),
        (10, "not_an_object"),
    ]
    assert report.ledger.read == 10


async def test_broken_lines_of_json_lines_are_quarantined_with_their_line_and_text(
    tmp_path: Path, pool: Pool, load
) -> None:
    path = tmp_path / "customers.jsonl"
    good = json.dumps(ANN)
    path.write_bytes(
        b"\xef\xbb\xbf" + good.encode() + b"\r\n\n"
        b'{"customer_id": 2, "name"\n'
        b'{"customer_id": 3, "name": "caf\xe9", "signup_date": "2024-01-01"}\n'
        b'[1, 2]\n"text"\n' + b"[" * 100_000 + b"\n"
        b'{"customer_id": 8, "name": "Last", "signup_date": "2024-01-01"}'
    )
    report = await load(path)
    rows = await fetch(pool, "SELECT customer_id, _line FROM warehouse.dim_customers ORDER BY 1")
    assert [tuple(row) for row in rows] == [(1, 1), (8, 8)]
    kept = await fetch(
        pool, "SELECT line, rule, raw_sealed AS raw FROM metadata.quarantine ORDER BY line"
    )
    assert [(row["line"], row["rule"]) for row in kept] == [
        (3, "json"),
        (4, "json"),
        (5, "not_an_object"),
        (6, "not_an_object"),
        (7, "json"),
    ]
    assert kept[0]["raw"] == '{"customer_id": 2, "name"'
    assert kept[1]["raw"].count("\\xe9") == 1
    assert report.ledger.read == 7


async def test_parquet_keeps_big_integers_decimals_and_an_index_that_holds_data(
    tmp_path: Path, pool: Pool, load
) -> None:
    frame = pd.DataFrame(
        {
            "customer_id": pd.array([2**63 - 1, 2, None], dtype="Int64"),
            "name": ["Ann", "Bo", "None"],
            "signup_date": [dt.date(2024, 1, 1)] * 3,
            "credit_limit": [Decimal("1.10"), None, None],
            "tags": [["a", "b"], [], None],
        }
    ).set_index("customer_id")
    path = tmp_path / "customers.parquet"
    frame.to_parquet(path)
    report = await load(path)
    rows = await fetch(
        pool,
        "SELECT customer_id, name, credit_limit, _extra->>'tags' AS tags"
        " FROM warehouse.dim_customers ORDER BY 1",
    )
    assert [tuple(row) for row in rows] == [
        (2, "Bo", None, "[]"),
        (2**63 - 1, "Ann", Decimal("1.10"), '["a", "b"]'),
    ]
    assert (report.ledger.read, report.ledger.quarantined) == (3, 1)


@pytest.mark.parametrize("name", ["customers.json.gz", "customers.jsonl.zst"])
async def test_other_formats_are_read_compressed_as_well(
    tmp_path: Path, pool: Pool, load, name: str
) -> None:
    path = tmp_path / name
    data = json.dumps(ANN).encode()
    zstd = pa.Codec("zstd")
    path.write_bytes(
        gzip.compress(data) if name.endswith("gz") else zstd.compress(data, asbytes=True)
    )
    report = await load(path)
    assert report.ledger.inserted == 1


async def test_records_inside_an_object_are_found_and_what_is_beside_them_is_named(
    tmp_path: Path, pool: Pool, load
) -> None:
    path = tmp_path / "customers.json"
    path.write_text(json.dumps({"data": [ANN], "total": 1}))
    report = await load(path)
    assert report.ledger.inserted == 1
    assert (
        "the records were taken from 'data', and nothing from beside it ('total')" in report.notes
    )


async def test_one_object_with_a_list_in_it_is_one_record(tmp_path: Path, pool: Pool, load) -> None:
    path = tmp_path / "customers.json"
    path.write_text(json.dumps({**ANN, "orders": [{"id": 1}]}))
    report = await load(path)
    [row] = await fetch(pool, "SELECT _extra->>'orders' AS orders FROM warehouse.dim_customers")
    assert (report.ledger.read, row["orders"]) == (1, '[{"id":1}]')


async def test_an_empty_list_is_loaded_as_no_rows(tmp_path: Path, pool: Pool, load) -> None:
    path = tmp_path / "customers.json"
    path.write_text("[]")
    report = await load(path)
    assert (report.outcome, report.ledger.read) == (Outcome.LOADED, 0)


async def test_a_value_that_is_no_record_is_one_rejected_row(
    tmp_path: Path, pool: Pool, load
) -> None:
    path = tmp_path / "customers.json"
    path.write_text("17")
    report = await load(path)
    assert (report.ledger.read, report.rules) == (1, {"not_an_object": 1})


async def test_lines_that_are_all_broken_are_all_quarantined(
    tmp_path: Path, pool: Pool, load
) -> None:
    path = tmp_path / "customers.jsonl"
    path.write_text("one\ntwo\n{}\n")
    report = await load(path)
    assert (report.ledger.read, report.ledger.quarantined) == (3, 3)


def _workbook(folder: Path, *rows: list) -> bytes:
    path = folder / "made.tmp"
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path.read_bytes()


REFUSED = {
    "no_workbook": ("customers.xlsx", lambda _: b"customer_id,name\n1,Ann\n", "as xlsx"),
    "a_workbook_cut_short": ("customers.xlsx", lambda f: _workbook(f, ["a"])[:-60], "as xlsx"),
    "a_zip_of_something_else": (
        "customers.xlsx",
        lambda f: _workbook(f, ["a"]).replace(b"xl/", b"yl/"),
        "as xlsx",
    ),
    "an_empty_sheet": ("customers.xlsx", _workbook, "has no columns"),
    "broken_json": ("customers.json", lambda _: b'[{"a": 1},', "as json"),
    "json_too_deep": ("customers.json", lambda _: b"[" * 100_000, "nested too deeply"),
    "json_in_latin_1": ("customers.json", lambda _: b'[{"name": "\xe9\xe8"}]', "as json"),
    "no_parquet": ("customers.parquet", lambda _: b"PAR1junkjunkPAR1", "as parquet"),
    "an_empty_file": ("customers.jsonl", lambda _: b"", "is empty"),
    "an_archive_cut_short": (
        "customers.json.gz",
        lambda _: gzip.compress(json.dumps([ANN] * 900).encode())[:-12],
        "ends too early",
    ),
    "columns_that_are_missing": (
        "customers.json",
        lambda _: b'[{"customer_id": 1, "nom": "Ann", "signup_date": "2024-01-01"}]',
        "lacks 'name', which the contract Customers requires; it has 'nom' instead",
    ),
}


@pytest.mark.parametrize(("name", "make", "says"), REFUSED.values(), ids=REFUSED)
async def test_a_file_that_cannot_be_read_is_refused_with_a_sentence(
    tmp_path: Path, pool: Pool, load, name: str, make, says: str
) -> None:
    path = tmp_path / name
    path.write_bytes(make(tmp_path))
    with pytest.raises(RefusedError) as error:
        await load(path)
    assert says in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert await fetch(pool, "SELECT FROM warehouse.dim_customers") == []
    [entry] = await fetch(pool, "SELECT status, message FROM metadata.source_files")
    assert tuple(entry) == ("REFUSED", str(error.value))


async def test_types_of_parquet_that_no_text_file_has_arrive_as_text(
    tmp_path: Path, pool: Pool, load
) -> None:
    table = pa.table(
        {
            "when": pa.array([dt.datetime(2024, 1, 2, 3, 4, 5, 678, tzinfo=dt.UTC)]),
            "raw": pa.array([b"ab\xff"]),
            "map": pa.array([{"a": Decimal("1.50")}]),
            "span": pa.array([dt.timedelta(days=1)]),
            "huge": pa.array([2**64 - 1], type=pa.uint64()),
        }
    )
    path = tmp_path / "oddities.parquet"
    parquet.write_table(table, path)
    await load(path)
    [row] = await fetch(pool, 'SELECT "when", raw, map, span, huge FROM staging.oddities')
    assert tuple(row) == (
        "2024-01-02 03:04:05.000678+00:00",
        "ab\\xff",
        '{"a": "1.50"}',
        "1 days 00:00:00",
        str(2**64 - 1),
    )


async def fetch(pool: Pool, query: str) -> list:
    async with pool.acquire() as connection:
        return in_clear(await connection.fetch(query))
