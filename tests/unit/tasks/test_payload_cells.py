"""Messages' cells under the names of their contract."""

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.dataset import Dataset, Missing, Role, column
from schemas.datasets import ApiUsers
from tasks.clean import EXTRA, Tally, bind, clean
from tasks.envelopes import Broken, decode_envelopes
from tasks.extract_frame import from_records
from tasks.json_records import read_json
from tasks.payload_cells import SourceRows, decode_payloads

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
FEW, MANY = 1, 40
"""So many of a kind are read one by one, and as columns."""


class Orders(Dataset, table="orders", role=Role.FACT, key=("order_id",)):
    """One row per order."""

    order_id: int = column(ge=1)
    unit_price: Decimal = column(missing=Decimal(0), ge=0)
    channel: str = column(missing=Missing.NULL)


def decode(payloads: list[Any]) -> tuple[list[SourceRows], list[Broken]]:
    values = [
        json.dumps(
            {
                "source": "orders",
                "timestamp": f"2026-11-23T07:51:{place % 60:02d}Z",
                "payload": payload,
            }
        ).encode()
        for place, payload in enumerate(payloads)
    ]
    whole, broken = decode_envelopes(values, now=NOW)
    assert (len(whole), broken) == (1, [])
    return decode_payloads(whole[0], Orders.spec)


def rows(parts: list[SourceRows]) -> dict[int, dict[str, str | None]]:
    """Return each message's cells by its position."""
    found: dict[int, dict[str, str | None]] = {}
    for part in parts:
        assert part.source == "orders"
        assert part.positions.tolist() == sorted(part.positions.tolist())
        assert len(part.positions) == part.cells.height == len(part.versions)
        assert all(dtype == pl.String for dtype in part.cells.dtypes)
        for position, version, row in zip(
            part.positions.tolist(),
            part.versions.to_list(),
            part.cells.iter_rows(named=True),
            strict=True,
        ):
            assert version.second == position % 60
            assert position not in found
            found[position] = row
    return found


def test_the_contract_s_columns_come_first_and_in_its_order_with_or_without_cells() -> None:
    for count in (FEW, MANY):
        [part], broken = decode([{"channel": "web", "order_id": 1}] * count)
        assert broken == []
        assert part.cells.columns == ["order_id", "unit_price", "channel"]
        assert part.cells.unique().rows() == [("1", None, "web")]


def test_names_match_message_by_message_whatever_the_others_are_called() -> None:
    spelled = [
        {"order_id": 1, "Channel": "web"},
        {"Order-ID": 2, "UNIT PRICE": 1.10},
        {"order id": 3, "channel": {}},
        {"order_id": 4, "order  id": "kept", "Órder_ID": "kept too"},
        {"order": {"id": 5}},
        {},
    ]
    expected = [
        {"order_id": "1", "unit_price": None, "channel": "web"},
        {"order_id": "2", "unit_price": "1.1", "channel": None},
        {"order_id": "3", "unit_price": None, "channel": None},
        {
            "order_id": "4",
            "unit_price": None,
            "channel": None,
            "order_id_2": "kept",
            "órder_id": "kept too",
        },
        {"order_id": "5", "unit_price": None, "channel": None},
        {"order_id": None, "unit_price": None, "channel": None},
    ]
    for count in (FEW, MANY):
        parts, broken = decode(spelled * count)
        assert broken == []
        assert rows(parts) == {
            place: expected[place % len(spelled)] for place in range(count * len(spelled))
        }


def test_a_name_that_could_be_either_of_two_breaks_its_message_and_no_other() -> None:
    either = {"ordér_id": 1, "órder_id": 2}
    for count in (FEW, MANY):
        parts, broken = decode([{"order_id": 1}, either, {"order_id": 2}] * count)
        assert [each.position for each in broken] == list(range(1, 3 * count, 3))
        assert {(each.reason, each.source) for each in broken} == {("ambiguous_key", "orders")}
        assert "'ordér_id' and 'órder_id'" in broken[0].detail
        assert len(rows(parts)) == 2 * count


def test_a_row_has_no_unknown_column_that_only_others_have() -> None:
    kinds: list[dict[str, Any]] = [
        {"order_id": 1},
        {"order_id": 2, "coupon": "x"},
        {"order_id": 3, "coupon": None},
        {"order_id": 4, "note": [1, None]},
    ]
    for count in (FEW, MANY):
        parts, _ = decode(kinds * count)
        found = rows(parts)
        assert {len(part.cells.columns) for part in parts} == {3, 4}
        assert found[1]["coupon"] == "x"
        assert (found[2]["coupon"], "note" in found[2]) == (None, False)
        assert found[3]["note"] == "[1,null]"
        assert "coupon" not in found[0]
        assert len(parts) == 3


def test_thousands_of_unknown_columns_neither_fill_the_memory_nor_come_one_by_one() -> None:
    wide = {f"key {number}": number for number in range(10_000)}
    messages = [
        *({"order_id": number} for number in range(1_000)),
        *({"order_id": number, f"only here {number}": "x"} for number in range(1_000)),
        {"order_id": 1, **wide},
    ]
    parts, broken = decode(messages)
    assert broken == []
    found = rows(parts)
    assert sorted(found) == list(range(len(messages)))
    assert found[1_500]["only_here_500"] == "x"
    assert [value for name, value in found[1_500].items() if name not in Orders.spec.names].count(
        "x"
    ) == 1
    assert found[2_000]["key_9999"] == "9999"
    assert len(parts) < 50
    assert sum(part.cells.width * part.cells.height for part in parts) < 1_000_000


def accept(part: SourceRows) -> tuple[pl.DataFrame, int]:
    """Return the typed rows of a part, and how many broke the contract."""
    accepted, rejects = clean(
        part.cells,
        pl.Series(part.positions, dtype=pl.Int64),
        lambda places: [""] * len(places),
        spec=Orders.spec,
        binding=bind(part.cells.columns, Orders.spec, "the batch"),
        tally=Tally(),
    )
    return accepted, len(rejects)


values = st.none() | st.integers(-5, 5) | st.sampled_from(["1", "x", "", "é", 1.5])
names = st.sampled_from(
    ["order_id", "Order ID", "órder_id", "unit_price", "channel", "a", "B", "b"]
)


@given(st.lists(st.dictionaries(names, values, max_size=4), min_size=1, max_size=8))
@settings(deadline=None, max_examples=30)
def test_cleaning_takes_whatever_comes_and_says_of_each_what_it_says_alone(payloads) -> None:
    parts, broken = decode(payloads)
    together: dict[int, object] = {each.position: "ambiguous" for each in broken}
    for part in parts:
        accepted, _ = accept(part)
        together |= {row["_line"]: row for row in accepted.iter_rows(named=True)}
    for place, payload in enumerate(payloads):
        parts, broken = decode([payload])
        if broken:
            assert together.pop(place) == "ambiguous"
            continue
        accepted, rejected = accept(parts[0])
        assert accepted.height + rejected == 1
        alone = [row | {"_line": place} for row in accepted.iter_rows(named=True)]
        assert [together.pop(place)] == alone if alone else place not in together
    assert together == {}


def test_an_api_s_records_are_the_same_rows_as_messages() -> None:
    payload = {
        "id": 1,
        "name": "Leanne",
        "address": {"street": "Kulas Light", "geo": {"lat": "-37.3159", "lng": 81.1496}},
        "company": {"name": "Romaguera", "catchPhrase": "Multi-layered"},
        "tags": ["a", 1.10],
    }
    text = json.dumps(payload)
    [block] = from_records((read_json(text),), modified_at=NOW, sha256="", header=())
    envelope = {"source": "api_users", "timestamp": "2026-11-23T07:51:28Z", "payload": payload}
    [whole], _ = decode_envelopes([json.dumps(envelope).encode()] * MANY, now=NOW)
    [part], _ = decode_payloads(whole, ApiUsers.spec)
    expected = dict.fromkeys(ApiUsers.spec.names) | block.cells.row(0, named=True)
    assert part.cells.row(0, named=True) == expected
    assert part.cells.height == MANY
    accepted = accept_users(part)
    assert json.loads(accepted[EXTRA][0]) == {"tags": '["a",1.1]'}


def accept_users(part: SourceRows) -> pl.DataFrame:
    cells = part.cells.with_columns(
        username=pl.lit("Bret"), email=pl.lit("a@b.c"), phone=pl.lit("1")
    )
    accepted, rejects = clean(
        cells,
        pl.Series(part.positions, dtype=pl.Int64),
        lambda places: [""] * len(places),
        spec=ApiUsers.spec,
        binding=bind(cells.columns, ApiUsers.spec, "the batch"),
        tally=Tally(),
    )
    assert rejects == []
    return accepted
