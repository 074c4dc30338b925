"""One contract, two engines: pandas, Polars and the platform's masks reject the same rows."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pandas as pd
import pandera.errors
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.dataset import Dataset, Missing, Role, column
from schemas.datasets import DATASETS, Sales
from schemas.pandas import pandas_dtype, pandas_schema
from tasks.clean import _check, _Flaws

EARLY = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)


class Everything(Dataset, table="everything", role=Role.STAGING):
    """One row of every kind, with every check there is."""

    whole: int = column(ge=-1, lt=2**62, ne=5)
    part: int = column(nullable=True, in_range=(0, 10, False, True), notin=[3, 4])
    share: float = column(gt=-0.5, le=1)
    loose: float = column(nullable=True, isin=[0.5, 1, 2])
    price: Decimal = column(ge=0, le=Decimal("99.99"))
    exact: Decimal = column(nullable=True, scale=3, isin=[Decimal("0.125"), 1])
    filled: Decimal = column(missing=1, gt=0)
    code: str = column(str_matches=r"a|b\d$", str_length={"max_value": 4})
    mail: str = column(nullable=True, str_contains=r"\S@\S+$", str_endswith="m", ne="x@m")
    start: str = column(nullable=True, str_startswith="é", str_length=(2, 3))
    flag: bool = column(missing=True)
    sure: bool = column(nullable=True, eq=True)
    day: dt.date = column(ge=dt.date(2000, 1, 1), lt=dt.date(2100, 1, 1))
    other: dt.date = column(nullable=True, isin=[dt.date(2024, 2, 29)])
    seen: dt.datetime = column(nullable=True, gt=EARLY, notin=[EARLY + dt.timedelta(days=1)])


def cells(*edges: object, more: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | st.sampled_from(edges) | more


def decimals(places: int) -> st.SearchStrategy[Decimal]:
    return st.decimals(-(10**6), 10**6, places=places)


days = st.dates(dt.date(1990, 1, 1), dt.date(2110, 1, 1))
times = st.datetimes(dt.datetime(1999, 12, 31), dt.datetime(2000, 1, 4))  # noqa: DTZ001 - beside it
CELLS: dict[str, st.SearchStrategy[Any]] = {
    "whole": cells(-2, -1, 5, 2**62, 2**62 - 1, more=st.integers(-(2**63), 2**63 - 1)),
    "part": cells(0, 1, 3, 10, 11, more=st.integers(-5, 15)),
    "share": cells(-0.5, 1.0, float("inf"), float("-inf"), more=st.floats(-2, 2)),
    "loose": cells(0.5, 1.0, 2.0, float("inf"), more=st.floats(-1, 3)),
    "price": cells(Decimal("-0.01"), Decimal("99.99"), Decimal(100), more=decimals(2)),
    "exact": cells(Decimal("0.125"), Decimal(1), more=decimals(3)),
    "filled": cells(Decimal(0), Decimal("0.01"), more=decimals(2)),
    "code": cells("a", "b1", "b1\n", "xa", "xb1", "abcde", "", more=st.text(max_size=5)),
    "mail": cells("a@m", "a@m\n", "x@m", "\x1c@m", "\u00a0@m", "@m", more=st.text(max_size=5)),
    "start": cells("éa", "e\u0301a", "é", "é👩\u200d", "éabc", more=st.text(max_size=4)),
    "flag": st.none() | st.booleans(),
    "sure": st.none() | st.booleans(),
    "day": cells(dt.date(2000, 1, 1), dt.date(2100, 1, 1), dt.date(1999, 12, 31), more=days),
    "other": cells(dt.date(2024, 2, 29), more=days),
    "seen": cells(
        EARLY,
        EARLY + dt.timedelta(days=1),
        EARLY + dt.timedelta(microseconds=1),
        more=times.map(lambda each: each.replace(tzinfo=dt.UTC)),
    ),
}
GOOD: dict[str, Any] = {
    "whole": 1,
    "part": 1,
    "share": 0.5,
    "loose": 1.0,
    "price": Decimal("1.00"),
    "exact": Decimal("0.125"),
    "filled": Decimal("2.00"),
    "code": "a",
    "mail": "a@m",
    "start": "éa",
    "flag": True,
    "sure": True,
    "day": dt.date(2024, 2, 29),
    "other": dt.date(2024, 2, 29),
    "seen": EARLY + dt.timedelta(hours=1),
}
# Mostly good rows: one where every cell is arbitrary breaks some rule anyway.
spoilt = st.sets(st.sampled_from(sorted(CELLS)), max_size=2).flatmap(
    lambda names: st.fixed_dictionaries({name: CELLS[name] for name in sorted(names)})
)
tables = st.lists(st.one_of(spoilt, st.fixed_dictionaries(CELLS)), min_size=1, max_size=40)


def rejected_by_masks(rows: list[dict[str, Any]], dataset: type[Dataset]) -> set[int]:
    frame = polars_frame(rows, dataset)
    flaws = _Flaws(frame.height, is_personal=False)
    filled = [
        frame[each.name]
        if each.default is None
        else frame[each.name].fill_null(pl.lit(each.default, dtype=each.dtype))
        for each in dataset.spec.columns
    ]
    _check(pl.DataFrame(filled), dataset.spec, flaws)
    broken = {row for _, _, mask, _ in flaws.found for row in mask.arg_true()}
    for each in dataset.spec.columns:
        if each.missing is Missing.REJECT:
            broken |= set(frame[each.name].is_null().arg_true())
    return broken


def rejected_by_polars(rows: list[dict[str, Any]], dataset: type[Dataset]) -> set[int]:
    try:
        dataset.validate(polars_frame(rows, dataset), lazy=True)
    except pandera.errors.SchemaErrors as error:
        return set(error.failure_cases["index"].to_list())
    return set()


def rejected_by_pandas(rows: list[dict[str, Any]], dataset: type[Dataset]) -> set[int]:
    frame = pd.DataFrame(
        {
            each.name: pd.Series([row[each.name] for row in rows], dtype=pandas_dtype(each))
            for each in dataset.spec.columns
        }
    )
    try:
        pandas_schema(dataset).validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as error:
        return set(error.failure_cases["index"])
    return set()


def polars_frame(rows: list[dict[str, Any]], dataset: type[Dataset]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema={each.name: each.dtype for each in dataset.spec.columns})


@settings(max_examples=15, deadline=None)  # each costs a tenth of a second or more
@given(tables)
def test_three_readers_of_a_contract_reject_the_same_rows(given_rows: list[dict[str, Any]]) -> None:
    rows = [GOOD | each for each in given_rows]
    expected = rejected_by_masks(rows, Everything)
    assert rejected_by_polars(rows, Everything) == expected
    assert rejected_by_pandas(rows, Everything) == expected


def test_a_good_row_passes_and_each_spoilt_cell_fails_alone() -> None:
    bad: dict[str, list[Any]] = {
        "whole": [None, -2, 5, 2**62],
        "part": [0, 3, 11],
        "share": [None, -0.5, 1.5, float("-inf")],
        "loose": [0.25, float("inf")],
        "price": [None, Decimal("-0.01"), Decimal(100)],
        "exact": [Decimal("0.126")],
        "filled": [Decimal(0)],
        "code": [None, "xa", "xb1", "b1\n", "b12345"],
        "mail": ["@m", "a@m\n", "x@m", "a@b"],
        "start": ["é", "ea", "éabc"],
        "sure": [False],
        "day": [None, dt.date(1999, 12, 31), dt.date(2100, 1, 1)],
        "other": [dt.date(2024, 3, 1)],
        "seen": [EARLY, EARLY + dt.timedelta(days=1)],
    }
    rows = [GOOD] + [GOOD | {name: value} for name, values in bad.items() for value in values]
    rows += [GOOD | {"filled": None, "flag": None, "part": None, "loose": None, "seen": None}]
    expected = set(range(1, len(rows) - 1))
    assert rejected_by_masks(rows, Everything) == expected
    assert rejected_by_polars(rows, Everything) == expected
    assert rejected_by_pandas(rows, Everything) == expected


def test_a_notebooks_frame_is_converted_and_filled_in() -> None:
    frame = pd.DataFrame(
        {
            "order_id": [1],
            "customer_id": [1.0],
            "product_id": ["3"],
            "order_date": ["2024-01-01"],
            "quantity": [3],
            "unit_price": ["3.5"],
            "discount": [None],
            "channel": ["web"],
            "more": ["kept"],
        }
    )
    made = pandas_schema(Sales).validate(frame)
    row = made.iloc[0].to_dict()
    assert (row["unit_price"], row["discount"], row["more"]) == (Decimal("3.50"), 0.0, "kept")
    assert row["order_date"] == dt.date(2024, 1, 1)
    assert str(made["customer_id"].dtype) == "Int64"


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda each: each.spec.table)
def test_every_dataset_has_a_pandas_schema(dataset: type[Dataset]) -> None:
    schema = pandas_schema(dataset)
    assert tuple(schema.columns) == dataset.spec.names
    assert schema.name == dataset.spec.name
