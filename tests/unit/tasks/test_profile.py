"""What a feed is called, and what two profiles say together."""

import json
from dataclasses import replace

import pytest

from tasks.profile import (
    ColumnProfile,
    LoadProfile,
    add_profiles,
    name_feed,
    read_columns,
    write_columns,
)


@pytest.mark.parametrize(
    ("source", "feed"),
    [
        ("/data/raw/sales_data_2025-01-31.csv.gz", "sales_data.csv"),
        ("/other/sales_data_2025-02-01.csv", "sales_data.csv"),
        ("Sales_Data-20250201T020000Z.CSV.zst", "sales_data.csv"),
        ("sales_data.csv", "sales_data.csv"),
        ("sales_data20250131.csv", "sales_data.csv"),
        ("sales_data 2025-01-31 02:00:00+01:00.tsv", "sales_data.tsv"),
        ("2025-01-31_sales_data.csv", "sales_data.csv"),
        ("sales_2025-01-31_north.jsonl", "sales_north.jsonl"),
        ("b2b_sales.parquet", "b2b_sales.parquet"),
        ("20250131.csv", "20250131.csv"),
        ("a frame", "a frame"),
        ("prices of 2025-01-31", "prices of"),
        ("https://shop.example/v1/users/2?since=2025-01-31#top", "https://shop.example/v1/users/2"),
        ("http://127.0.0.1:8080/users", "http://127.0.0.1:8080/users"),
    ],
)
def test_loads_of_one_feed_have_one_name(source: str, feed: str) -> None:
    assert name_feed(source) == feed


def profile(*columns: ColumnProfile, read: int = 10) -> LoadProfile:
    return LoadProfile("sales", "topic", read, 1, 2, columns)


def numbers(
    low: str | None, high: str | None, *, column: str = "price", distinct: int | None = 3
) -> ColumnProfile:
    return ColumnProfile(column, 10, 2, 1, distinct, low, high)


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        (("9", "10"), ("100", "200"), ("9", "200")),
        (("-9.50", "10.00"), ("-10.00", "-1.00"), ("-10.00", "10.00")),
        (("0.5", "1e+20"), ("-1e+16", "2"), ("-1e+16", "1e+20")),
        (("1e-07", "0.1"), ("0", "0.01"), ("0", "0.1")),
        (("2024-12-31", "2025-01-02"), ("1999-01-01", "2025-01-01"), ("1999-01-01", "2025-01-02")),
        (
            ("2025-01-01 10:00:00+00", "2025-01-01 10:00:00.5+00"),
            ("2025-01-01 10:00:00.25+00", "2025-01-01 10:00:00.75+00"),
            ("2025-01-01 10:00:00+00", "2025-01-01 10:00:00.75+00"),
        ),
        ((None, None), ("1", "2"), ("1", "2")),
        (("1", "2"), (None, None), ("1", "2")),
        ((None, None), (None, None), (None, None)),
        # The contract made a date of a number meanwhile.
        (("1", "2"), ("2025-01-01", "2025-01-02"), ("2025-01-01", "2025-01-02")),
    ],
)
def test_extremes_of_both_are_those_of_values_and_not_of_texts(
    first: tuple[str, str], second: tuple[str, str], both: tuple[str, str]
) -> None:
    [found] = add_profiles(profile(numbers(*first)), profile(numbers(*second))).columns
    assert (found.minimum, found.maximum) == both


def test_counts_add_up_and_a_column_that_only_one_of_them_has_stays() -> None:
    first = profile(numbers("1", "2"), numbers("1", "2", column="old"))
    second = profile(numbers("2", "3"), numbers("7", "8", column="new"), read=5)
    both = add_profiles(first, second)
    assert (both.read, both.duplicates, both.quarantined) == (15, 2, 4)
    assert both.columns == (
        ColumnProfile("price", 20, 4, 2, None, "1", "3"),
        numbers("1", "2", column="old"),
        numbers("7", "8", column="new"),
    )


def test_columns_are_kept_as_the_table_says_and_are_the_same_when_read() -> None:
    columns = (numbers("1.50", "2.50"), numbers(None, None, column='the "name"', distinct=None))
    written = write_columns(columns)
    assert json.loads(written)["price"] == {
        "rows": 10,
        "missing": 2,
        "mistyped": 1,
        "distinct": 3,
        "minimum": "1.50",
        "maximum": "2.50",
    }
    assert read_columns(written) == columns
    assert read_columns(write_columns(())) == ()
    assert read_columns(write_columns((replace(columns[0], rows=11),))) != columns[:1]
