"""Frames and records as text cells."""

import datetime as dt
import hashlib
import json
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from tasks.extract_frame import BLOCK_ROWS, FrameSource, from_frame, from_records
from tasks.frame_cells import text_cells
from tasks.json_records import read_json

NOW = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
SUM = hashlib.sha256(b"").hexdigest()


def records(*given: object, header: tuple[str, ...] = ()) -> FrameSource:
    return from_records(given, modified_at=NOW, sha256=SUM, header=header)


def test_cells_are_text_and_whatever_means_nothing_is_null() -> None:
    frame = pd.DataFrame(
        {
            "a": [1, "x", "", None, np.nan, pd.NaT, pd.NA, 1.5, True, Decimal("1.50"), [1, "é"]],
        },
        dtype=object,
    )
    assert text_cells(frame)["a"].to_list() == [
        "1",
        "x",
        *[None] * 5,
        "1.5",
        "True",
        "1.50",
        '[1, "é"]',
    ]


def test_arrays_bytes_and_halves_of_characters_are_kept_readable() -> None:
    frame = pd.DataFrame(
        {"a": [np.array([1, 2]), (1, 2), {"k": np.int64(3)}, b"ab\xff", "\ud83d", {"x"}]},
        dtype=object,
    )
    assert text_cells(frame)["a"].to_list() == [
        "[1, 2]",
        "[1, 2]",
        '{"k": 3}',
        "ab\\xff",
        "\\ud83d",
        '["x"]',
    ]


def test_columns_that_share_a_name_are_all_kept() -> None:
    frame = pd.DataFrame([[1, 2, 3]], columns=["a", "a", "a_2"])
    assert text_cells(frame).row(0) == ("1", "2", "3")
    assert len(set(text_cells(frame).columns)) == 3


def test_a_named_index_is_data_and_an_unnamed_one_is_not() -> None:
    frame = pd.DataFrame({"a": [1]}, index=pd.Index([7], name="key"))
    assert text_cells(frame).to_dicts() == [{"key": "7", "a": "1"}]
    assert text_cells(frame.rename_axis(None)).to_dicts() == [{"a": "1"}]


def test_frames_with_equal_cells_have_equal_digests() -> None:
    made = [from_frame(kind({"a": [1, 2]})) for kind in (pd.DataFrame, pl.DataFrame)]
    assert made[0].sha256 == made[1].sha256
    assert made[0].sha256 != from_frame(pl.DataFrame({"a": [2, 1]})).sha256


def test_blocks_hold_every_row_once_with_its_line() -> None:
    height = BLOCK_ROWS + 3
    source = from_frame(pl.DataFrame({"a": range(height)}))
    blocks = list(source)
    assert [block.cells.height for block in blocks] == [BLOCK_ROWS, 3]
    assert pl.concat([block.lines for block in blocks]).to_list() == list(range(1, height + 1))
    assert source.records == height
    assert json.loads(blocks[1].raw_text([2])[0]) == {"a": str(height - 1)}


def test_rows_with_a_nul_are_broken_and_the_others_keep_their_lines() -> None:
    source = from_frame(pl.DataFrame({"a": ["x", "n\0l", "z"], "b": [None, None, "\0"]}))
    [block] = source
    assert (block.lines.to_list(), [each.line for each in block.broken]) == ([1], [2, 3])
    assert {each.reason for each in block.broken} == {"nul_byte"}
    assert json.loads(block.broken[0].raw) == {"a": "n\0l", "b": None}
    assert source.records == 3


def test_records_keep_their_place_and_no_column_is_taken_from_their_numbering() -> None:
    source = records({"a": 1}, 7, {"a": None, "b": {"c": 2}})
    assert source.header == ("a", "b_c")
    assert source.lines.to_list() == [1, 3]
    assert [(each.line, each.raw) for each in source.broken] == [(2, "7")]


def test_half_a_character_in_a_key_is_kept_as_its_escape() -> None:
    source = from_records(
        (read_json(r'{"\ud800": 1, "a": {"\udc00": 2}}'),), modified_at=NOW, sha256=SUM, header=()
    )
    assert source.cells.to_dicts() == [{"_ud800": "1", "a__udc00": "2"}]


def test_no_record_at_all_takes_the_header_it_is_given() -> None:
    source = records(header=("a", "b"))
    assert (source.header, list(source), source.records) == (("a", "b"), [], 0)


def test_records_without_a_key_are_rows_of_nothing_or_broken_but_counted() -> None:
    known = records({}, {}, header=("a",))
    assert [block.cells.to_dicts() for block in known] == [[{"a": None}, {"a": None}]]
    unknown = records({}, 1, {})
    list(unknown)
    assert unknown.records == 3
    assert sorted(each.line for each in unknown.broken) == [1, 2, 3]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(json_values, max_size=5))
def test_every_record_is_a_row_or_broken_whatever_it_holds(values) -> None:
    source = from_records(
        tuple(read_json(json.dumps(values))), modified_at=NOW, sha256=SUM, header=("a",)
    )
    blocks = list(source)
    lines = [line for block in blocks for line in block.lines.to_list()]
    lines += [each.line for block in blocks for each in block.broken]
    assert sorted(lines) == list(range(1, len(values) + 1))
    assert source.records == len(values)
    assert all(dtype == pl.String for block in blocks for dtype in block.cells.dtypes)
