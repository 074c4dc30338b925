"""Casts text cells to a column's type without raising: what does not cast is named, not lost.

The common spelling is cast as a whole column. Only the cells that fail it are looked at again,
for what real exports hold: blanks around, thousands separators, `3.0` for an integer, further
date formats, words for "nothing here".
"""

import datetime as dt
import re
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

import polars as pl

from schemas.dataset import DECIMAL_PRECISION, Column, Kind

NOTHING = frozenset({"", "null", "none", "nan", "na", "n/a", r"\n"})
"""Words, in lower case, that mean a missing value; in a text column only the empty cell does."""

TRUE = ("true", "t", "yes", "y", "1", "on")
FALSE = ("false", "f", "no", "n", "0", "off")

FIRST_DAY = dt.date(1000, 1, 1)
"""Earlier years are years of two digits that a format for four has swallowed."""
LAST_DAY = dt.date(9999, 12, 31)
"""Python's last; PostgreSQL and Polars go further, and no real date does."""

_EPOCH = dt.date(1970, 1, 1)
_DAY_MICROSECONDS = 86_400_000_000

# No group of thousands begins with a zero: `0,123` is a fraction.
_ENGLISH = re.compile(r"[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+(\.[0-9]*)?")
_CONTINENTAL = re.compile(r"[+-]?[1-9][0-9]{0,2}((\.[0-9]{3})+,[0-9]*|(\.[0-9]{3}){2,})")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")
_BLANKS = r"[ '\u2019\u00a0\u202f]"
_SPACED = re.compile(rf"[+-]?[1-9][0-9]{{0,2}}({_BLANKS}[0-9]{{3}})+([.,][0-9]*)?")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_WHOLE = re.compile(r"([+-]?[0-9]+)(\.0*)?")
_COMMA_OR_THOUSAND = re.compile(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}")
_POINT_OR_THOUSAND = re.compile(r"[+-]?[1-9][0-9]{0,2}\.000")
_MIDNIGHT = r"[T ]00:00(:00(\.0+)?)?(Z|\+00:00)?$"
_WORDS = {
    spelling: meaning
    for words, meaning in ((TRUE, True), (FALSE, False))
    for word in words
    for spelling in (word, word.capitalize(), word.upper())
}


class Cast(NamedTuple):
    """A column's values, and which of its cells are no such value."""

    values: pl.Series
    wrong: pl.Series | None
    """A mask; None: every cell is one, or missing."""


def cast(cells: pl.Series, column: Column) -> Cast:
    """Return the cells' typed values.

    cells: String, any height; null is an empty cell. A missing value is null in the values and
    not in the mask.
    """
    return cast_all(cells.to_frame(), [(column, cells.name)])[0]


def cast_all(cells: pl.DataFrame, columns: Sequence[tuple[Column, str]]) -> list[Cast]:
    """Return the typed values of several columns, each beside its name in the header.

    The whole of the first look is one query: hundreds of small ones would cost more than it.
    """
    names = [f"\0{place}" for place in range(len(columns))]  # no header has such a name
    looks = [
        _first_look(pl.col(header), column).alias(name)
        for (column, header), name in zip(columns, names, strict=True)
    ]
    losses = [
        # The parser would round `1.005` without a word.
        pl.col(header).str.contains(rf"[eE]|\.\d{{{column.scale}}}\d*[1-9]").alias(f"{name}!")
        for (column, header), name in zip(columns, names, strict=True)
        if column.kind is Kind.DECIMAL
    ]
    seen = cells.select(*looks, *losses)
    return [
        _second_look(
            cells[header],
            column,
            seen[name],
            seen[f"{name}!"] if column.kind is Kind.DECIMAL else None,
        )
        for (column, header), name in zip(columns, names, strict=True)
    ]


def _first_look(cell: pl.Expr, column: Column) -> pl.Expr:
    """Return the value in its most common spelling; null for any other."""
    match column.kind:
        case Kind.TEXT:
            return cell.str.strip_chars()
        case Kind.DATE | Kind.TIMESTAMP:
            return _moment(cell, column.kind, column.formats[0])
        case Kind.BOOLEAN:
            return cell.replace_strict(_WORDS, default=None, return_dtype=pl.Boolean)
        case Kind.NUMBER:
            values = cell.cast(pl.Float64, strict=False)
            # `-0` says the same as `0`, and would have another hash.
            return pl.when(values == 0.0).then(0.0).otherwise(values)
        case _:
            return cell.cast(column.dtype, strict=False)


def _second_look(
    cells: pl.Series, column: Column, values: pl.Series, lossy: pl.Series | None
) -> Cast:
    values = _without_empty(_within_calendar(values, column.kind), column.kind)
    failed = _failed(cells, column, values, lossy)
    if failed is None or not failed.any():
        return Cast(values, None)
    if column.kind is Kind.TEXT:
        return Cast(values.set(failed, None), failed)
    rows = failed.arg_true()
    again = cells.gather(rows).str.strip_chars()
    second = _second_try(again, column)
    wrong = second.is_null() & ~again.str.to_lowercase().is_in(list(NOTHING))
    values = values.scatter(rows, second)
    if not wrong.any():
        return Cast(values, None)
    mask = pl.repeat(value=False, n=len(cells), dtype=pl.Boolean, eager=True)
    return Cast(values, mask.scatter(rows.filter(wrong), values=True))


def _failed(
    cells: pl.Series, column: Column, values: pl.Series, lossy: pl.Series | None
) -> pl.Series | None:
    """Tell which cells have to be looked at again; None: not one."""
    if column.kind is Kind.TEXT:
        # PostgreSQL's text holds every character but this one.
        return values.str.contains("\0", literal=True).fill_null(value=False)
    failed = None
    if values.null_count() != cells.null_count():
        failed = values.is_null() & cells.is_not_null()
    if lossy is not None and lossy.any():
        failed = lossy.fill_null(value=False) | (False if failed is None else failed)
    if column.kind is Kind.NUMBER and (nan := values.is_nan()).any():
        # `NaN` is a float to the parser and a missing value to whoever exported it.
        failed = nan.fill_null(value=False) | (False if failed is None else failed)
    return failed


def is_ambiguous(text: str, column: Column) -> bool:
    """Return whether a number can be read in two ways, a thousand times apart, in this column.

    `1,234` is one where three digits after the point are as likely as thousands; `1.000` is one
    among integers. Such a cell is refused: no guess is right often enough.
    """
    text = text.strip()
    if column.kind is Kind.INTEGER:
        return _POINT_OR_THOUSAND.fullmatch(text) is not None
    three_places = column.kind is Kind.NUMBER or column.scale > 2  # noqa: PLR2004 - three, or more
    return three_places and _COMMA_OR_THOUSAND.fullmatch(text) is not None


def plain_number(text: str) -> str:
    """Return the number without its separators of thousands, with a point before its decimals."""
    if _SPACED.fullmatch(text):
        return re.sub(_BLANKS, "", text).replace(",", ".")
    if _ENGLISH.fullmatch(text):
        return text.replace(",", "")
    if _CONTINENTAL.fullmatch(text):
        return text.replace(".", "").replace(",", ".")
    if _DECIMAL_COMMA.fullmatch(text):
        return text.replace(",", ".")
    return text


def _second_try(texts: pl.Series, column: Column) -> pl.Series:
    """Return the values of stripped cells; null is one that is missing or none of the kind."""
    if column.kind in {Kind.DATE, Kind.TIMESTAMP}:
        if column.kind is Kind.DATE:
            texts = texts.str.replace(_MIDNIGHT, "")
        values = pl.repeat(None, len(texts), dtype=column.dtype, eager=True)
        for form in column.formats:
            found = texts.to_frame("text").select(_moment(pl.col("text"), column.kind, form))
            values = values.fill_null(_within_calendar(found.to_series(), column.kind))
        return values
    parse = _parser(column)
    # A column in another spelling repeats its values: each is looked at once.
    known = {text: parse(text) for text in texts.unique().to_list()}
    return pl.Series([known[text] for text in texts.to_list()], dtype=column.dtype)


def _moment(text: pl.Expr, kind: Kind, form: str) -> pl.Expr:
    """Return the date or the time in UTC that is written in this format; null for any other."""
    if kind is Kind.DATE:
        return text.str.to_date(form, strict=False)
    zoned = "z" in form or "%+" in form
    values = text.str.strptime(pl.Datetime("us", "UTC" if zoned else None), form, strict=False)
    # A contract that knows a time without a zone not to be UTC cannot be written yet.
    return values if zoned else values.dt.replace_time_zone("UTC")


def _without_empty(values: pl.Series, kind: Kind) -> pl.Series:
    """Return stripped text with null for what nothing is left of."""
    if kind is not Kind.TEXT:
        return values
    empty = values.str.len_bytes() == 0
    return values.set(empty, None) if empty.any() else values


def _within_calendar(values: pl.Series, kind: Kind) -> pl.Series:
    """Return the dates or times that Python's calendar has, null for any other."""
    if kind not in {Kind.DATE, Kind.TIMESTAMP} or values.null_count() == len(values):
        return values
    unit = 1 if kind is Kind.DATE else _DAY_MICROSECONDS
    first = (FIRST_DAY - _EPOCH).days * unit
    end = ((LAST_DAY - _EPOCH).days + 1) * unit
    # As integers: values beyond the calendar cannot be asked for.
    counts = values.to_physical()
    if counts.min() >= first and counts.max() < end:  # type: ignore[operator] # integers, as it is not all null
        return values
    return values.set(~counts.is_between(first, end, closed="left"), None)


def _parser(column: Column) -> Callable[[str], object]:
    match column.kind:
        case Kind.BOOLEAN:
            return lambda text: _WORDS.get(text.lower())
        case Kind.INTEGER:
            return lambda text: None if is_ambiguous(text, column) else _integer(text)
        case Kind.NUMBER:
            return lambda text: None if is_ambiguous(text, column) else _number(text)
        case _:
            return lambda text: None if is_ambiguous(text, column) else _decimal(text, column.scale)


def _integer(text: str) -> int | None:
    whole = _WHOLE.fullmatch(plain_number(text))
    # The platform's integers end at 19 digits; Python refuses to read thousands of them.
    if whole is None or len(whole.group(1).lstrip("+-0")) > len(str(2**63)):
        return None
    value = int(whole.group(1))
    return value if -(2**63) <= value < 2**63 else None


def _number(text: str) -> float | None:
    plain = plain_number(text)
    # `+ 0.0`: no negative zero.
    return float(plain) + 0.0 if _NUMBER.fullmatch(plain) else None


def _decimal(text: str, scale: int) -> Decimal | None:
    plain = plain_number(text)
    if not _NUMBER.fullmatch(plain):
        return None
    exact = Decimal(plain)
    try:
        value = exact.quantize(Decimal(1).scaleb(-scale))
    except InvalidOperation:
        return None
    fits = value == exact and len(value.as_tuple().digits) <= DECIMAL_PRECISION
    return value if fits else None
