"""What each spelling of a cell becomes: a value, a missing value, or a cell that is none."""

import datetime as dt
import math
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.dataset import (
    DEFAULT_DATE_FORMATS,
    DEFAULT_TIMESTAMP_FORMATS,
    Column,
    Kind,
    Missing,
)
from tasks.cast import NOTHING, cast, is_ambiguous, plain_number

WRONG = "wrong"
FORMATS = {Kind.DATE: DEFAULT_DATE_FORMATS, Kind.TIMESTAMP: DEFAULT_TIMESTAMP_FORMATS}


def column(kind: Kind, *, scale: int = 2, formats: tuple[str, ...] = ()) -> Column:
    return Column(
        name="c",
        kind=kind,
        missing=Missing.NULL,
        checks=(),
        pii=False,
        references=None,
        formats=formats or FORMATS.get(kind, ()),
        scale=scale if kind is Kind.DECIMAL else 0,
        description="",
    )


def read(texts: list[str | None], described: Column) -> list[object]:
    """Return the value of each cell, None for a missing one, WRONG for one that is none."""
    values, wrong = cast(pl.Series(texts, dtype=pl.String), described)
    assert values.dtype == described.dtype
    assert len(values) == len(texts)
    if wrong is None:
        return values.to_list()
    assert wrong.dtype == pl.Boolean
    assert wrong.any()
    pairs = zip(values.to_list(), wrong.to_list(), strict=True)
    assert all(value is None for value, is_wrong in pairs if is_wrong)
    return [WRONG if each else value for value, each in zip(values, wrong, strict=True)]


def one(text: str, kind: Kind, **more: object) -> object:
    return read([text], column(kind, **more))[0]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        (" 5 ", 5),
        ("\u00a05\t", 5),
        ("+5", 5),
        ("-5", -5),
        ("-0", 0),
        ("007", 7),
        ("0" * 40 + "5", 5),
        ("3.0", 3),
        ("3.", 3),
        ("12.00", 12),
        ("1,234", 1234),
        ("-1,234,567", -1234567),
        ("1.234.567", 1234567),
        ("1.234,0", 1234),
        ("1 234", 1234),
        ("1\u00a0234", 1234),
        ("1\u202f234\u202f567", 1234567),
        ("1'234", 1234),
        ("1\u2019234.00", 1234),
        (str(2**63 - 1), 2**63 - 1),
        (str(-(2**63)), -(2**63)),
        ("9,223,372,036,854,775,807", 2**63 - 1),
        (str(2**63), WRONG),
        (str(-(2**63) - 1), WRONG),
        ("9" * 5000, WRONG),
        ("3.5", WRONG),
        ("1.000", WRONG),
        ("1e3", WRONG),
        ("0x10", WRONG),
        ("1_000", WRONG),
        ("12,34", WRONG),
        ("1,23,456", WRONG),
        ("0,123", WRONG),
        ("1 2345", WRONG),
        ("\uff11\uff12", WRONG),
        ("\u0663", WRONG),
        ("inf", WRONG),
        ("true", WRONG),
        ("5\0", WRONG),
        ("five", WRONG),
        ("-", WRONG),
    ],
)
def test_integers(text: str, value: object) -> None:
    assert one(text, Kind.INTEGER) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.5", 1.5),
        (" 1.5\n", 1.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e3", 1000.0),
        ("1E-3", 0.001),
        ("1e-400", 0.0),
        ("1,5", 1.5),
        ("0,123", 0.123),
        ("1,2345", 1.2345),
        ("1234,567", 1234.567),
        ("1,234.5", 1234.5),
        ("1.234,5", 1234.5),
        ("1 234,5", 1234.5),
        ("1'234.5", 1234.5),
        ("1,234,567", 1234567.0),
        ("1.234.567", 1234567.0),
        ("1.234", 1.234),
        ("1,234", WRONG),
        ("-1,234", WRONG),
        ("1.2.3", WRONG),
        ("1,5e3", WRONG),
        ("1_000", WRONG),
        ("0x1p3", WRONG),
        ("1f", WRONG),
        ("$5", WRONG),
        ("5%", WRONG),
        ("(5)", WRONG),
        ("\uff11.\uff15", WRONG),
        ("\u0661", WRONG),
        ("-nan", WRONG),
    ],
)
def test_numbers(text: str, value: object) -> None:
    assert one(text, Kind.NUMBER) == value


def test_a_negative_zero_is_zero_however_it_is_written() -> None:
    values = read(["-0", "-0.0", " -0 ", "-0,0", "-1e-400"], column(Kind.NUMBER))
    assert [math.copysign(1, value) for value in values] == [1.0] * 5  # type: ignore[arg-type]


def test_infinities_are_left_to_the_contract_which_has_a_check_for_them() -> None:
    texts: list[str | None] = ["inf", "-Infinity", "1e400"]
    assert read(texts, column(Kind.NUMBER)) == [math.inf, -math.inf, math.inf]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", Decimal("5.00")),
        ("1.50", Decimal("1.50")),
        ("1.000", Decimal("1.00")),
        ("-0.00", Decimal("0.00")),
        (".5", Decimal("0.50")),
        ("5.", Decimal("5.00")),
        ("1e2", Decimal("100.00")),
        ("1.10E1", Decimal("11.00")),
        ("1,5", Decimal("1.50")),
        ("1,234", Decimal("1234.00")),
        ("1,234.50", Decimal("1234.50")),
        ("1.234,50", Decimal("1234.50")),
        ("1 234,50", Decimal("1234.50")),
        ("9999999999999999.99", Decimal("9999999999999999.99")),
        ("1." + "0" * 60, Decimal("1.00")),
        ("1.005", WRONG),
        ("1.0050", WRONG),
        (" 1.005 ", WRONG),
        ("1e-3", WRONG),
        ("0,123", WRONG),
        ("10000000000000000", WRONG),
        ("99999999999999999.99", WRONG),
        ("1e999", WRONG),
        ("9" * 60, WRONG),
        ("inf", WRONG),
        ("1.2.3", WRONG),
        ("--5", WRONG),
        ("- 5", WRONG),
        ("\uff11", WRONG),
    ],
)
def test_decimals_are_exact_and_never_rounded(text: str, value: object) -> None:
    found = one(text, Kind.DECIMAL)
    assert found == value
    if isinstance(found, Decimal):
        assert found.as_tuple().exponent == -2


def test_a_decimal_of_three_places_makes_a_comma_ambiguous() -> None:
    assert one("1,234", Kind.DECIMAL, scale=3) == WRONG
    assert one("1,23", Kind.DECIMAL, scale=3) == Decimal("1.230")
    assert one("1.234", Kind.DECIMAL, scale=3) == Decimal("1.234")
    assert is_ambiguous(" 1,234 ", column(Kind.DECIMAL, scale=3))
    assert is_ambiguous("-1,234", column(Kind.NUMBER))
    assert is_ambiguous("1.000", column(Kind.INTEGER))
    assert not is_ambiguous("1,234", column(Kind.INTEGER))
    assert not is_ambiguous("1,234", column(Kind.TEXT))


def test_a_decimal_without_places_is_whole() -> None:
    assert one("5", Kind.DECIMAL, scale=0) == Decimal(5)
    assert one("5.0", Kind.DECIMAL, scale=0) == Decimal(5)
    assert one("5.5", Kind.DECIMAL, scale=0) == WRONG


@pytest.mark.parametrize("word", ["true", "True", "TRUE", "t", "yes", " Y ", "1", "on", "tRuE"])
def test_words_for_true(word: str) -> None:
    assert one(word, Kind.BOOLEAN) is True


@pytest.mark.parametrize("word", ["false", "False", "FALSE", "f", "no", " N ", "0", "off"])
def test_words_for_false(word: str) -> None:
    assert one(word, Kind.BOOLEAN) is False


@pytest.mark.parametrize("word", ["2", "1.0", "wahr", "-1", "yess", "\uff11"])
def test_words_that_are_no_boolean(word: str) -> None:
    assert one(word, Kind.BOOLEAN) == WRONG


DAY = dt.date(2024, 2, 29)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2024-02-29", DAY),
        ("29/02/2024", DAY),
        ("29.02.2024", DAY),
        ("2024/02/29", DAY),
        ("29-Feb-2024", DAY),
        ("29-FEB-2024", DAY),
        ("Feb 29, 2024", DAY),
        (" 2024-02-29 ", DAY),
        ("2024-2-29", DAY),
        ("2024-02-29T00:00:00", DAY),
        ("2024-02-29 00:00", DAY),
        ("2024-02-29 00:00:00.000Z", DAY),
        ("2024-02-29T00:00:00+00:00", DAY),
        ("29/02/2024 00:00:00", DAY),
        ("9999-12-31", dt.date(9999, 12, 31)),
        ("1000-01-01", dt.date(1000, 1, 1)),
        ("2024-02-29T13:45:00", WRONG),
        ("2024-02-29T00:00:00+02:00", WRONG),
        ("2023-02-29", WRONG),
        ("1900-02-29", WRONG),
        ("29.02.2023", WRONG),
        ("31/04/2024", WRONG),
        ("2024/02/30", WRONG),
        ("2024-13-01", WRONG),
        ("12/31/2024", WRONG),
        ("0000-00-00", WRONG),
        ("0000-01-01", WRONG),
        ("-0001-01-01", WRONG),
        ("24-02-29", WRONG),
        ("29/02/24", WRONG),
        ("1/2/3", WRONG),
        ("+12345-01-01", WRONG),
        ("12345-01-01", WRONG),
        ("20240229", WRONG),
        ("45351", WRONG),
        ("\uff12\uff10\uff12\uff14-02-29", WRONG),
        ("29 febbraio 2024", WRONG),
    ],
)
def test_dates(text: str, value: object) -> None:
    assert one(text, Kind.DATE) == value


@pytest.mark.parametrize("form", DEFAULT_DATE_FORMATS)
def test_every_default_format_reads_what_it_writes(form: str) -> None:
    days = [dt.date(2000, 1, 1) + dt.timedelta(days=97 * each) for each in range(100)]
    texts: list[str | None] = list(pl.Series(days).dt.strftime(form))
    assert read(texts, column(Kind.DATE)) == days


def test_the_first_of_two_formats_wins() -> None:
    american = ("%m/%d/%Y", "%d/%m/%Y")
    texts: list[str | None] = ["03/04/2024", "25/03/2024"]
    assert read(texts, column(Kind.DATE)) == [dt.date(2024, 4, 3), dt.date(2024, 3, 25)]
    assert read(texts, column(Kind.DATE, formats=american)) == [
        dt.date(2024, 3, 4),
        dt.date(2024, 3, 25),
    ]


def test_a_contract_may_ask_for_years_of_two_digits() -> None:
    assert one("29/02/24", Kind.DATE, formats=("%d/%m/%y",)) == DAY


def moment(*parts: int) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=dt.UTC)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2024-02-29T10:00:00Z", moment(2024, 2, 29, 10)),
        ("2024-02-29T10:00:00z", moment(2024, 2, 29, 10)),
        ("2024-02-29T10:00:00+02:00", moment(2024, 2, 29, 8)),
        ("2024-02-29T10:00:00-0530", moment(2024, 2, 29, 15, 30)),
        ("2024-02-29 10:00:00+02", moment(2024, 2, 29, 8)),
        ("2024-02-29T10:00:00.5", moment(2024, 2, 29, 10, 0, 0, 500_000)),
        ("2024-02-29 10:00:00.123456789Z", moment(2024, 2, 29, 10, 0, 0, 123_456)),
        ("2024-02-29T10:00:00", moment(2024, 2, 29, 10)),
        (" 2024-02-29 10:00:00 ", moment(2024, 2, 29, 10)),
        ("2024-02-29", moment(2024, 2, 29)),
        ("9999-12-31T23:59:59Z", moment(9999, 12, 31, 23, 59, 59)),
        ("9999-12-31T23:59:59-05:00", WRONG),
        ("0001-01-01 00:00:00", WRONG),
        ("+12345-01-01 00:00:00", WRONG),
        ("24-02-29 10:00:00", WRONG),
        ("2023-02-29 10:00:00", WRONG),
        ("2024-02-29 24:00:00", WRONG),
        ("2024-02-29 10:61:00", WRONG),
        ("1709200800", WRONG),
        ("yesterday", WRONG),
    ],
)
def test_times_are_utc_unless_they_name_a_zone(text: str, value: object) -> None:
    assert one(text, Kind.TIMESTAMP) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (" a ", "a"),
        ("\u00a0a\u3000", "a"),
        ("a  b", "a  b"),
        ("", None),
        (" \t\n", None),
        ("null", "null"),
        ("NaN", "NaN"),
        ("n/a", "n/a"),
        (
            "\U0001f469\u200d\U0001f469\u200d\U0001f467",
            "\U0001f469\u200d\U0001f469\u200d\U0001f467",
        ),
        ("\u05e9\u05dc\u05d5\u05dd", "\u05e9\u05dc\u05d5\u05dd"),
        ('a\\b\t"c"\nd', 'a\\b\t"c"\nd'),
        ("a\0b", WRONG),
        ("\0", WRONG),
    ],
)
def test_texts_are_stripped_and_else_left_alone(text: str, value: object) -> None:
    assert one(text, Kind.TEXT) == value


@pytest.mark.parametrize("kind", [each for each in Kind if each is not Kind.TEXT])
def test_words_for_nothing_are_missing_values(kind: Kind) -> None:
    texts: list[str | None] = [None, *NOTHING]
    texts += [f" {word.upper()} " for word in NOTHING]
    assert read(texts, column(kind)) == [None] * len(texts)


@pytest.mark.parametrize("kind", list(Kind))
def test_a_column_may_be_empty_or_hold_nothing(kind: Kind) -> None:
    assert read([], column(kind)) == []
    assert read([None, None], column(kind)) == [None, None]


def test_a_wrong_cell_stays_in_its_place_among_good_and_missing_ones() -> None:
    texts = ["1", None, "x", " 2 ", "", "1,000", "y", "-3"]
    assert read(texts, column(Kind.INTEGER)) == [1, None, WRONG, 2, None, 1000, WRONG, -3]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("1,234", "1234"),
        ("1 234,5", "1234.5"),
        ("1.234,50", "1234.50"),
        ("1,5", "1.5"),
        ("0,500", "0.500"),
        ("12", "12"),
        ("a,b", "a,b"),
    ],
)
def test_a_plain_number_has_a_point_and_no_separators(text: str, plain: str) -> None:
    assert plain_number(text) == plain


def bare(text: str) -> str:
    # Python strips separators of records, which are no blanks to Polars.
    return str(pl.Series([text]).str.strip_chars().item()).lower()


@given(st.lists(st.text(max_size=12) | st.none(), max_size=30), st.sampled_from(list(Kind)))
def test_no_text_raises_and_every_cell_is_a_value_or_missing_or_wrong(
    texts: list[str | None], kind: Kind
) -> None:
    found = read(texts, column(kind))
    alone = [read([text], column(kind))[0] for text in texts]
    assert repr(found) == repr(alone)
    if kind is not Kind.TEXT:
        for text, value in zip(texts, found, strict=True):
            is_nothing = text is None or bare(text) in NOTHING
            assert (value is None) == is_nothing


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_integers_come_back_in_every_spelling(numbers: list[int]) -> None:
    for write in (str, "{:,}".format, " {} ".format, "{}.0".format):
        assert read([write(each) for each in numbers], column(Kind.INTEGER)) == numbers


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_come_back_to_the_last_bit(numbers: list[float]) -> None:
    assert read([repr(each) for each in numbers], column(Kind.NUMBER)) == numbers
    assert read([f" {each!r}" for each in numbers], column(Kind.NUMBER)) == numbers


@given(st.lists(st.integers(-(10**18) + 1, 10**18 - 1), min_size=1), st.integers(0, 18))
def test_decimals_come_back_exactly(units: list[int], scale: int) -> None:
    numbers = [Decimal(each).scaleb(-scale) for each in units]
    texts: list[str | None] = [format(each, "f") for each in numbers]
    assert read(texts, column(Kind.DECIMAL, scale=scale)) == numbers
