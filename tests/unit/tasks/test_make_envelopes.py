"""What a message looks like, whatever the record says."""

import datetime as dt
import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.dataset import Dataset, Role, column
from schemas.datasets import ApiUsers, Sales
from tasks.extract_csv import CsvFile
from tasks.json_records import read_json
from tasks.make_envelopes import (
    PARCEL_RECORDS,
    parcel_records,
    parcel_rows,
    wrap_cells,
    wrap_records,
)

WHEN = dt.datetime(2026, 11, 23, 8, 51, 28, 123456, tzinfo=dt.timezone(dt.timedelta(hours=1)))
OPENING = b'{"source":"api_users","timestamp":"2026-11-23T07:51:28.123456Z","payload":'


class Legs(Dataset, table="legs", role=Role.FACT, key=("ship", "leg")):
    """One row per leg of a ship's voyage."""

    ship: str = column()
    leg: str = column()


def test_a_record_is_sent_as_it_was_fetched_digit_for_digit() -> None:
    sent = b'{"id":7,"a":[1.50,1e400,-0],"b":{"c":null,"d":"\xc3\xbc\\n\\u0000"},"e":{},"f":NaN}'
    [(key, value, timestamp_ms)] = wrap_records(
        [read_json(sent.decode())], "api_users", ApiUsers.spec, WHEN
    )
    assert value == OPENING + sent + b"}"
    assert (key, timestamp_ms) == (b"api_users:7", None)


def test_half_a_surrogate_pair_is_sent_as_its_escape() -> None:
    [(key, value, _)] = wrap_records(
        [read_json(r'{"id":"\ud800","\udc00":1}')], "api_users", ApiUsers.spec, WHEN
    )
    assert value == OPENING + rb'{"id":"\ud800","\udc00":1}}'
    assert key == rb"api_users:\ud800"
    assert json.loads(value)["payload"] == {"id": "\ud800", "\udc00": 1}


@pytest.mark.parametrize(
    ("record", "key"),
    [
        ('{"id": 7}', b"7"),
        ('{"id": "7"}', b"7"),
        ('{"id": " 7 "}', b"7"),
        ('{"ID": 7}', b"7"),
        ('{"id": 7, "ID": 8}', b"7"),
        ('{"id": true}', b"true"),
    ],
)
def test_a_key_is_the_value_under_the_contracts_name(record: str, key: bytes) -> None:
    [(found, _, _)] = wrap_records([read_json(record)], "api_users", ApiUsers.spec, WHEN)
    assert found == b"api_users:" + key


def test_a_nested_value_can_be_the_key() -> None:
    record = read_json('{"ship": "Ann", "trip": 1, "x": {"leg": 2}, "leg": {"y": 1}}')
    nested = read_json('{"ship": "Ann", "LEG": 2}')
    [(absent, _, _), (found, _, _)] = wrap_records([record, nested], "legs", Legs.spec, WHEN)
    assert absent is not None
    assert absent.startswith(b"legs:#")
    assert found == b"legs:Ann|2"


@pytest.mark.parametrize(
    "record", ["3", "null", "[1]", '"x"', "{}", '{"id": null}', '{"id": " "}', '{"id":1,"id":1}']
)
def test_what_has_no_key_is_keyed_by_a_digest_of_itself(record: str) -> None:
    value = read_json(record)
    other = read_json('{"another": 1}')
    (one, _, _), (same, _, _), (another, _, _) = wrap_records(
        [value, value, other], "api_users", ApiUsers.spec, WHEN
    )
    [(later, _, _)] = wrap_records([value], "api_users", ApiUsers.spec, dt.datetime.now(dt.UTC))
    [(uncontracted, _, _)] = wrap_records([value], "api_users", None, WHEN)
    assert one is not None
    assert one.startswith(b"api_users:#")
    assert one == same == later == uncontracted
    assert another != one


texts = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(st.lists(st.tuples(texts, texts), max_size=6))
def test_rows_are_objects_of_text_cells_and_an_empty_cell_is_null(
    rows: list[tuple[str | None, str | None]],
) -> None:
    cells = pl.DataFrame(
        rows, schema={"order_id": pl.String, 'a "b"\\': pl.String}, orient="row", strict=True
    )
    messages = wrap_cells(cells, "sales_data", Sales.spec, WHEN)
    assert [json.loads(value) for _, value, _ in messages] == [
        {
            "source": "sales_data",
            "timestamp": "2026-11-23T07:51:28.123456Z",
            "payload": {"order_id": first, 'a "b"\\': second},
        }
        for first, second in rows
    ]
    assert {timestamp_ms for _, _, timestamp_ms in messages} <= {None}


words = st.text(alphabet="ab|\\", max_size=4)


@given(st.tuples(words, words), st.tuples(words, words))
def test_different_keys_stay_different_and_rows_have_those_of_records(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    rows = [one, other]
    cells = pl.DataFrame(rows, schema={"ship": pl.String, "leg": pl.String}, orient="row")
    keys = [key for key, _, _ in wrap_cells(cells, "legs", Legs.spec, WHEN)]
    records = [{"ship": ship, "leg": leg} for ship, leg in rows]
    assert [key for key, _, _ in wrap_records(records, "legs", Legs.spec, WHEN)] == keys
    assert (keys[0] == keys[1]) == (one == other)


def test_a_column_in_another_spelling_is_the_key_unless_two_could_be_it() -> None:
    [(found, _, _)] = wrap_cells(pl.DataFrame({"Order-ID": ["7"]}), "s", Sales.spec, WHEN)
    twice = pl.DataFrame({"Order-ID": ["7"], "ORDER ID": ["8"]})
    [(unclear, _, _)] = wrap_cells(twice, "s", Sales.spec, WHEN)
    assert found == b"s:7"
    assert unclear is not None
    assert unclear.startswith(b"s:#")


def test_a_file_comes_block_by_block_and_a_row_without_cells_is_a_reject(tmp_path: Path) -> None:
    path = tmp_path / "sales_data.csv"
    lines = [f"{number},{number}" for number in range(1000)]
    lines[500] = "500"
    path.write_text("\n".join(["order_id,quantity", *lines]) + "\n")
    with CsvFile(path, block_bytes=1000) as source:
        parcels = list(parcel_rows(source, "sales_data", Sales.spec))
        modified_at = source.modified_at
    assert len(parcels) > 5
    messages = [json.loads(value) for each in parcels for _, value, _ in each.messages]
    assert [each["payload"]["order_id"] for each in messages] == [
        str(number) for number in range(1000) if number != 500
    ]
    assert {dt.datetime.fromisoformat(each["timestamp"]) for each in messages} == {modified_at}
    [reject] = [each for parcel in parcels for each in parcel.rejects]
    assert (reject.line, reject.rule, reject.raw) == (502, "column_count", "500")
    assert parcels[-1].read_bytes == path.stat().st_size


def test_an_answer_comes_in_parcels_in_its_order() -> None:
    records = [{"id": number} for number in range(PARCEL_RECORDS + 1)]
    first, second = parcel_records(records, "api_users", ApiUsers.spec, WHEN)
    assert (len(first.messages), len(second.messages)) == (PARCEL_RECORDS, 1)
    assert second.messages[0][0] == b"api_users:%d" % PARCEL_RECORDS
