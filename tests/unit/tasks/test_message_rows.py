"""Messages as rows: each says the same whatever it comes with, and the newest of a key wins."""

import datetime as dt
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.dataset import Dataset, Role, column
from tasks.clean import EXTRA, ROW_HASH
from tasks.message_rows import DatasetRows, MessageRows, make_rows
from tasks.messages import Messages

NOON = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)


class Parts(Dataset, table="parts", role=Role.FACT, key=("maker", "number")):
    """A fact with a key of two columns."""

    maker: str = column()
    number: int = column(ge=0)
    weight: float = column(missing=1.5)
    made_on: dt.date = column(nullable=True)


class Lots(Dataset, table="lots", role=Role.FACT, key=("lot",), version="closed_at"):
    """A fact that says itself how new it is."""

    lot: str = column()
    closed_at: dt.datetime = column()


class Words(Dataset, table="words", role=Role.STAGING):
    """Without a key."""

    word: str = column()


SPECS = {each.spec.table: each.spec for each in (Parts, Lots, Words)}


def envelope(source: str, minute: float, **payload: object) -> bytes:
    time = (NOON + dt.timedelta(minutes=minute)).isoformat()
    return json.dumps({"source": source, "timestamp": time, "payload": payload}).encode()


def part(number: int, minute: float = 0, maker: str = "m", **others: object) -> bytes:
    return envelope("parts", minute, maker=maker, number=number, **others)


def rows_of(
    values: Sequence[bytes | None],
    partitions: Sequence[int] = (),
    offsets: Sequence[int] = (),
) -> MessageRows:
    count = len(values)
    messages = Messages(
        topic="data-stream",
        partitions=np.array(partitions or [0] * count, np.int32),
        offsets=np.array(offsets or range(100, 100 + count), np.int64),
        timestamps_ms=[0] * count,
        keys=[None] * count,
        values=list(values),
    )
    return make_rows(messages, SPECS)


def only(rows: MessageRows) -> DatasetRows:
    [dataset] = rows.datasets
    return dataset


def test_a_row_knows_its_message() -> None:
    values = [part(1, 5), b"{", part(-1), part(2, 6, maker="n"), None]
    rows = rows_of(values, partitions=[3, 3, 3, 4, 4], offsets=[7, 8, 9, 2, 5])
    dataset = only(rows)
    assert dataset.positions.to_list() == [0, 3]
    assert dataset.rows.select("_source", "_line", "_version").rows() == [
        ("data-stream/3", 7, NOON + dt.timedelta(minutes=5)),
        ("data-stream/4", 2, NOON + dt.timedelta(minutes=6)),
    ]
    assert {each.position: (each.source, each.reason) for each in rows.dead} == {
        1: (None, "invalid_json"),
        2: ("parts", "number: greater_than_or_equal_to"),
        4: (None, "tombstone"),
    }
    broken = {each.position: each.contract_version for each in rows.dead}
    assert broken == {1: None, 2: Parts.spec.contract_version, 4: None}
    assert rows.tallies["parts"].filled == {"weight": 3}


def test_a_source_without_a_contract_is_a_dead_letter_of_that_name() -> None:
    rows = rows_of([envelope("unheard", 0, a=1)])
    assert rows.datasets == ()
    [letter] = rows.dead
    assert (letter.source, letter.reason, letter.contract_version) == (
        "unheard",
        "no_contract",
        None,
    )
    assert "'unheard'" in letter.detail


COMPANIES = {
    "none": [],
    "others like it": [part(n) for n in range(50)],
    "others with other columns": [part(n, **{f"x{n % 20}": "y"}) for n in range(50)],
    "as many with each": [part(n, **{f"x{n % 20}": "y"}) for n in range(800)],
    "broken ones": [b"{", part(-1), None, part(1, weight="heavy")] * 20,
}


@pytest.mark.parametrize("company", COMPANIES.values(), ids=COMPANIES.keys())
@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"colour": "red"},
        {"colour": None},
        {"colour": "red", "size": None},
        {"size": "red", "x1": "y"},
        {"a": {"b": [1, 2]}, "ä ö": 1e400},
        {"weight": "3", "made_on": "2026-11-01"},
    ],
    ids=str,
)
def test_what_a_row_says_does_not_hang_on_its_company(
    payload: dict[str, Any], company: list[bytes]
) -> None:
    said = [ROW_HASH, EXTRA, *Parts.spec.names]
    wanted = part(7, 3, maker="it", **payload)
    [alone] = only(rows_of([wanted])).rows.select(said).rows()
    for place in (0, len(company) // 2, len(company)):
        values = [*company[:place], wanted, *company[place:]]
        dataset = only(rows_of(values))
        [together] = dataset.rows.filter(pl.col("maker") == "it").select(said).rows()
        assert together == alone
        row = dataset.rows.filter(pl.Series(dataset.positions == place))
        assert row.select(said).rows() == [alone]


def test_an_unknown_column_counts_as_part_of_what_a_row_says() -> None:
    values = [part(1), part(1, colour="red"), part(1, colour="blue"), part(1, tint="red")]
    hashes = only(rows_of(values)).rows[ROW_HASH]
    assert hashes.n_unique() == 4


keys = st.sampled_from([("m", 1), ("m", 2), ("n", 1)])
sent = st.lists(
    st.tuples(keys, st.integers(0, 3), st.integers(0, 2), st.integers(0, 1)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(sent)
def test_rank_agrees_with_a_sort_in_python(messages) -> None:
    # Offsets of two partitions, none in both.
    offsets = [2 * place + partition for place, (*_, partition) in enumerate(messages)]
    values = [
        part(number, minute, maker=maker, weight=weight)
        for (maker, number), minute, weight, _ in messages
    ]
    dataset = only(rows_of(values, [each[3] for each in messages], offsets))
    winners: dict[Any, int] = {}
    for place in sorted(
        range(len(messages)), key=lambda place: (messages[place][1], offsets[place])
    ):
        winners[messages[place][0]] = place
    losers = set(range(len(messages))) - set(winners.values())
    same = {each for each in losers if messages[winners[messages[each][0]]][2] == messages[each][2]}
    for arranged in (dataset, dataset.in_key_order()):
        loses, duplicates, superseded = arranged.rank()
        assert set(arranged.positions.filter(loses).to_list()) == losers
        assert (duplicates, superseded) == (len(same), len(losers) - len(same))


def test_the_contracts_version_goes_before_the_messages_time() -> None:
    values = [
        envelope("lots", minute, lot="a", closed_at=f"2026-11-2{day}T00:00:00Z")
        for minute, day in ((9, 1), (5, 3), (1, 2))
    ]
    dataset = only(rows_of(values))
    loses, duplicates, superseded = dataset.rank()
    assert (loses.to_list(), duplicates, superseded) == ([True, False, True], 0, 2)
    assert dataset.oldest_version == dt.datetime(2026, 11, 21, tzinfo=dt.UTC)


def test_rows_without_a_key_never_rival() -> None:
    dataset = only(rows_of([envelope("words", 0, word="a")] * 3))
    loses, duplicates, superseded = dataset.rank()
    assert (loses.to_list(), duplicates, superseded) == ([False] * 3, 0, 0)
    assert dataset.in_key_order().positions.to_list() == [0, 1, 2]


def test_rows_taken_left_out_and_sorted_keep_their_messages() -> None:
    dataset = only(rows_of([part(number) for number in (5, 3, 4, 1, 2)]))

    def pairs(some: DatasetRows) -> list[tuple[int, int]]:
        return list(zip(some.positions.to_list(), some.rows["number"].to_list(), strict=True))

    assert pairs(dataset) == [(0, 5), (1, 3), (2, 4), (3, 1), (4, 2)]
    assert pairs(dataset.in_key_order()) == [(3, 1), (4, 2), (1, 3), (2, 4), (0, 5)]
    assert pairs(dataset.take(1, 2)) == [(1, 3), (2, 4)]
    assert pairs(dataset.in_key_order().without([4, 0])) == [(3, 1), (1, 3), (2, 4)]


@pytest.mark.parametrize(
    ("days", "outside"),
    [
        ([None, None], set()),
        (["2026-11-01", None], set()),
        (["2026-11-01", "1950-01-01"], {"made_on"}),
        (["2250-01-01"], {"made_on"}),
    ],
)
def test_dates_that_the_calendar_may_lack_are_named(
    days: list[str | None], outside: set[str]
) -> None:
    values = [part(number, made_on=day) for number, day in enumerate(days)]
    assert only(rows_of(values)).dates_outside == outside
