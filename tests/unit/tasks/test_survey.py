"""What a survey notes of the rows that pass: no repeated key and no named row escapes it."""

import datetime as dt
from collections import Counter
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.dataset import Dataset, Role, column
from tasks import survey as module
from tasks.survey import CALENDAR, Survey


class Shops(Dataset, table="shops", role=Role.DIMENSION, key=("shop_id",)):
    """One row per shop."""

    shop_id: int = column()


class Codes(Dataset, table="codes", role=Role.DIMENSION, key=("code",)):
    """One row per code."""

    code: str = column()


class Visits(Dataset, table="visits", role=Role.FACT, key=("visit_id", "part")):
    """One row per visit."""

    visit_id: int = column()
    part: str = column()
    shop_id: int = column(nullable=True, references=Shops)
    code: str = column(nullable=True, references=Codes)
    day: dt.date = column(nullable=True)


class Notes(Dataset, table="notes", role=Role.STAGING):
    """One row per note."""

    text: str = column()


SCHEMA = {each.name: each.dtype for each in Visits.spec.columns}


def block(keys: list[tuple[int, str]], **columns: list[object]) -> pl.DataFrame:
    data: dict[str, list[object]] = {
        "visit_id": [number for number, _ in keys],
        "part": [part for _, part in keys],
    }
    nothing: list[object] = [None] * len(keys)
    data |= {name: columns.get(name, nothing) for name in ("shop_id", "code", "day")}
    return pl.DataFrame(data, schema=SCHEMA)


def cut(rows: pl.DataFrame, places: list[int]) -> list[pl.DataFrame]:
    bounds = [0, *sorted(place % (rows.height + 1) for place in places), rows.height]
    return [rows[start:end] for start, end in pairwise(bounds)]


keys = st.lists(
    st.tuples(st.integers(0, 40) | st.integers(-(2**63), 2**63 - 1), st.sampled_from(["", "a"])),
    max_size=120,
)


@settings(max_examples=60)
@given(keys, st.lists(st.integers(0, 200), max_size=6), st.sampled_from([8, 64, 1 << 20]))
def test_every_key_that_occurs_twice_is_a_suspect_however_the_blocks_are_cut(
    given_keys: list[tuple[int, str]], places: list[int], bits: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MIN_BITS", bits)
        survey = Survey(Visits.spec, 0)
        for part in cut(block(given_keys), places):
            survey.observe(part)
    repeated = {key for key, count in Counter(given_keys).items() if count > 1}
    suspects = survey.suspects
    assert suspects is not None
    found = list(suspects.rows())
    assert repeated <= set(found) <= set(given_keys)
    assert len(set(found)) == len(found)


def test_keys_that_share_a_slot_of_the_search_within_a_block_do_not_hide_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MIN_BITS", 1 << 24)
    numbers = list(range(60_000)) * 2
    survey = Survey(Visits.spec, 0)
    survey.observe(block([(each, "") for each in numbers]))
    suspects = survey.suspects
    assert suspects is not None
    assert set(suspects["visit_id"]) == set(range(60_000))


def test_distinct_keys_are_rarely_suspects() -> None:
    survey = Survey(Visits.spec, 16 * 100_000)
    for start in range(0, 100_000, 20_000):
        survey.observe(block([(each, "a") for each in range(start, start + 20_000)]))
    suspects = survey.suspects
    assert suspects is not None
    assert suspects.height < 2_500


def test_too_many_suspects_are_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_VALUES", 10)
    survey = Survey(Visits.spec, 0)
    for _ in range(3):
        survey.observe(block([(each, "") for each in range(11)]))
    assert survey.suspects is None


def test_a_dataset_without_a_key_has_no_suspects() -> None:
    survey = Survey(Notes.spec, 0)
    survey.observe(pl.DataFrame({"text": ["a", "a"]}))
    suspects = survey.suspects
    assert suspects is not None
    assert suspects.is_empty()


shops = st.none() | st.integers(-3, 50) | st.sampled_from([-(2**63), 2**24 - 1, 2**24, 2**63 - 1])
named = st.lists(st.tuples(shops, st.none() | st.sampled_from(["", "a", "é", "b"])), max_size=60)


@settings(max_examples=40, deadline=None)
@given(named, st.lists(st.integers(0, 100), max_size=4), st.integers(0, 3))
def test_every_row_that_is_named_is_remembered_once(
    pairs: list[tuple[int | None, str | None]], places: list[int], asked: int
) -> None:
    rows = block(
        [(each, "") for each in range(len(pairs))],
        shop_id=[shop for shop, _ in pairs],
        code=[code for _, code in pairs],
    )
    survey = Survey(Visits.spec, 0)
    for number, part in enumerate(cut(rows, places)):
        survey.observe(part)
        if number == asked:
            survey.references("shop_id")
    for place, name in enumerate(("shop_id", "code")):
        values = survey.references(name)
        assert values is not None
        found = values.to_list()
        assert len(set(found)) == len(found)
        assert set(found) == {pair[place] for pair in pairs} - {None}


def test_too_many_named_rows_are_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_VALUES", 10)
    survey = Survey(Visits.spec, 0)
    rows = block(
        [(each, "") for each in range(11)],
        shop_id=list(range(11)),
        code=[str(each) for each in range(10)] + ["0"],
    )
    survey.observe(rows)
    survey.observe(rows)
    assert survey.references("shop_id") is None
    codes = survey.references("code")
    assert codes is not None
    assert len(codes) == 10
    survey.observe(rows)
    assert survey.references("shop_id") is None


def test_a_date_beyond_the_calendar_is_noted() -> None:
    first, last = CALENDAR
    survey = Survey(Visits.spec, 0)
    survey.observe(block([(1, ""), (2, ""), (3, "")], day=[first, last, None]))
    survey.observe(block([(1, "")]))
    survey.observe(block([]))
    assert survey.dates_outside == set()
    survey.observe(block([(1, "")], day=[last + dt.timedelta(days=1)]))
    assert survey.dates_outside == {"day"}
    survey = Survey(Visits.spec, 0)
    survey.observe(block([(1, "")], day=[first - dt.timedelta(days=1)]))
    assert survey.dates_outside == {"day"}
