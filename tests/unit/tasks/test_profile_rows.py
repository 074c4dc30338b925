"""What is noted of rows while they pass: exact, or not at all."""

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.dataset import Dataset, Kind, Role, column
from tasks.clean import Tally, bind, clean
from tasks.ledger import Ledger
from tasks.profile import ColumnProfile, LoadProfile, add_profiles
from tasks.profile_rows import (
    FEW,
    NEAR,
    Extremes,
    RowProfile,
    Variety,
    describe_columns,
    write_value,
)
from tasks.survey import Survey


class Shops(Dataset, table="shops", role=Role.DIMENSION, key=("shop_id",)):
    """One row per shop."""

    shop_id: int = column()


class Visits(Dataset, table="visits", role=Role.FACT, key=("visit_id",)):
    """One row per visit."""

    visit_id: int = column()
    shop_id: int = column(references=Shops)
    seen_on: dt.date = column(nullable=True)
    left_at: dt.datetime = column(nullable=True)
    guests: int = column(missing=1, ge=0)
    paid: Decimal = column(nullable=True)
    rating: float = column(nullable=True)
    mood: str = column(nullable=True, isin=["good", "bad"])
    remark: str = column(nullable=True)
    born_on: dt.date = column(nullable=True, pii=True)
    name: str = column(nullable=True, pii=True)
    member: bool = column(nullable=True)


HEADER = Visits.spec.names[:-1]
"""A header without the last column, which may be missing."""

ROWS = [
    tuple(line.split(","))
    for line in (
        "1,7,2025-01-31,2025-01-31T10:00:00Z,2,9.50,1,good,x,2000-01-01,Ann",
        "2,8,,2025-01-31T12:00:00.5+01:00,,-10,-0.5,good,y,1990-01-01,Bo",
        "3,7,1.2.2025,,30,,,,x,,Cy",
        "4,9,2025-02-30,,1,,,bad,z,,",
        "5,9,2025-02-01,,-1,,1e99,,z,,",
    )
]


def profile_of(
    *blocks: Sequence[Sequence[str]], merged: Ledger | None = None
) -> dict[str, ColumnProfile]:
    tally, survey, profile = Tally(), Survey(Visits.spec, 0), RowProfile(Visits.spec)
    accepted_rows = 0
    for block in blocks:
        cells = pl.DataFrame(
            [list(each) for each in zip(*block, strict=True)],
            schema=dict.fromkeys(HEADER, pl.String),
        )
        accepted, _ = clean(
            cells,
            pl.int_range(cells.height, dtype=pl.Int64, eager=True),
            lambda rows: ["" for _ in rows],
            spec=Visits.spec,
            binding=bind(HEADER, Visits.spec, "visits.csv"),
            tally=tally,
        )
        survey.observe(accepted)
        profile.observe(accepted)
        accepted_rows += accepted.height
    columns = profile.columns(tally, survey, accepted_rows, merged or Ledger())
    return {each.column: each for each in columns}


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_load_is_described_column_by_column_however_it_is_cut(size: int) -> None:
    found = profile_of(*(ROWS[start : start + size] for start in range(0, 5, size)))
    # The fourth row has no such date, the fifth breaks a rule: both count as cells, and no value
    # of theirs is loaded.
    assert list(found.values()) == [
        ColumnProfile("visit_id", 5, 0, 0, 3, "1", "3"),
        ColumnProfile("shop_id", 5, 0, 0, 2, "7", "8"),
        ColumnProfile("seen_on", 5, 1, 1, 2, "2025-01-31", "2025-02-01"),
        ColumnProfile(
            *("left_at", 5, 3, 0, None), "2025-01-31 10:00:00+00", "2025-01-31 11:00:00.5+00"
        ),
        ColumnProfile("guests", 5, 1, 0, 3, "1", "30"),
        ColumnProfile("paid", 5, 3, 0, None, "-10.00", "9.50"),
        ColumnProfile("rating", 5, 2, 0, None, "-0.5", "1"),
        ColumnProfile("mood", 5, 2, 0, 1, None, None),
        ColumnProfile("remark", 5, 0, 0, 2, None, None),
        ColumnProfile("born_on", 5, 3, 0, 2, None, None),
        ColumnProfile("name", 5, 2, 0, 3, None, None),
        ColumnProfile("member", 5, 5, 0, 0, None, None),
    ]


def test_repeated_keys_are_counted_exactly_or_not_at_all() -> None:
    repeated = [*ROWS[:3], ROWS[0]]
    known = profile_of(repeated, merged=Ledger(inserted=3, duplicates=1))
    assert known["visit_id"].distinct == 3
    # Which of the superseded rows lost to a row of this load, nobody says.
    unknown = profile_of(repeated, merged=Ledger(inserted=2, superseded=1, duplicates=1))
    assert unknown["visit_id"].distinct is None


def test_a_load_of_nothing_is_described_too() -> None:
    found = profile_of()
    assert {(each.rows, each.missing, each.minimum) for each in found.values()} == {(0, 0, None)}


VALUES = {
    Kind.TEXT: st.sampled_from([None, "a", "b", "c"]),
    Kind.INTEGER: st.none() | st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1),
    Kind.DATE: st.none() | st.dates(dt.date(1000, 1, 1)),
    Kind.BOOLEAN: st.none() | st.booleans(),
}


@given(data=st.data(), kind=st.sampled_from(list(VALUES)))
def test_a_count_is_exact_or_there_is_none(data: Any, kind: Kind) -> None:
    name = {Kind.TEXT: "remark", Kind.INTEGER: "guests", Kind.DATE: "seen_on"}.get(kind, "member")
    blocks = data.draw(st.lists(st.lists(VALUES[kind], max_size=8), max_size=4))
    variety = Variety(Visits.spec)
    extremes = Extremes(Visits.spec)
    for block in blocks:
        nothing = [None] * len(block)
        rows = pl.DataFrame(
            {
                each.name: pl.Series(block if each.name == name else nothing, dtype=each.dtype)
                for each in Visits.spec.columns
            }
        )
        variety.observe(rows)
        extremes.observe(rows)
    values = {each for block in blocks for each in block if each is not None}
    found = variety.counts().get(name)
    numbers = [
        each.toordinal() if isinstance(each, dt.date) else each
        for each in values
        if not isinstance(each, str)
    ]
    if not numbers or max(numbers) - min(numbers) < NEAR // 2:
        assert found == len(values)
    else:
        assert found in {None, len(values)}
    low, high = extremes.written(Visits.spec.column(name))
    if kind in {Kind.INTEGER, Kind.DATE} and values:
        assert (low, high) == (str(min(values)), str(max(values)))
    else:
        assert (low, high) == (None, None)


def test_too_many_values_and_such_that_are_far_apart_are_not_counted() -> None:
    def count(name: str, *blocks: list[Any]) -> int | None:
        variety = Variety(Visits.spec, but=frozenset(Visits.spec.names) - {name})
        for block in blocks:
            variety.observe(pl.DataFrame({name: block}))
        return variety.counts().get(name)

    few = [f"r{number}" for number in range(FEW)]
    assert count("remark", few, few) == FEW
    assert count("remark", few, ["one more"]) is None
    assert count("remark", [*few, *few, "one more"], few) is None
    assert count("guests", [5], [5 + NEAR // 2 - 1], [5 - NEAR // 2]) == 3
    assert count("guests", [5], [5 + NEAR // 2]) is None
    assert count("guests", [5], [5 - NEAR // 2 - 1], [5]) is None
    assert count("mood", ["good"], ["bad"], ["good"]) == 2


@given(
    blocks=st.lists(
        st.lists(st.tuples(st.decimals(-999, 999, places=2), st.floats(-1e30, 1e30))), max_size=5
    )
)
def test_profiles_of_parts_add_up_to_that_of_the_whole(
    blocks: list[list[tuple[Decimal, float]]],
) -> None:
    def describe(block: list[tuple[Decimal, float]]) -> LoadProfile:
        extremes = Extremes(Visits.spec)
        columns = {
            each.name: pl.repeat(None, len(block), dtype=each.dtype, eager=True)
            for each in Visits.spec.columns
        }
        columns["paid"] = pl.Series([each[0] for each in block], dtype=pl.Decimal(18, 2))
        columns["rating"] = pl.Series([each[1] + 0.0 for each in block], dtype=pl.Float64)
        extremes.observe(pl.DataFrame(columns))
        described = describe_columns(Visits.spec, Tally(checked=len(block)), extremes)
        return LoadProfile("visits", "topic", len(block), 0, 0, described)

    whole = describe([each for block in blocks for each in block])
    parts = describe([])
    for block in blocks:
        parts = add_profiles(parts, describe(block))
    assert parts == whole


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0"),
        (100000.0, "100000"),
        (0.1, "0.1"),
        (1e-5, "1e-05"),
        (123456789012345.6, "123456789012345.6"),
        (1e15, "1e+15"),
        (-1234567890123456.0, "-1.234567890123456e+15"),
        (1e100, "1e+100"),
    ],
)
def test_a_number_is_written_as_postgresql_does(value: float, written: str) -> None:
    assert write_value(value, Kind.NUMBER) == written
