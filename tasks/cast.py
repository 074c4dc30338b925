"""Casts text cells to a column's type without raising: what does not cast is named, not lost.

The common spelling is cast as a whole column. Only the cells that fail it are looked at again,
for what real exports hold: blanks around, thousands separators, `3.0` for an integer, further
date formats, words for "nothing here".
"""

import re
from decimal import Decimal, InvalidOperation

import polars as pl

from schemas.dataset import DECIMAL_PRECISION, Column, Kind

NOTHING = frozenset({"", "null", "none", "nan", "na", "n/a", r"\n"})
"""Words, in lower case, that mean a missing value; in a text column only the empty cell does."""

TRUE = ("true", "t", "yes", "y", "1", "on")
FALSE = ("false", "f", "no", "n", "0", "off")

_ENGLISH = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?")
_CONTINENTAL = re.compile(r"[+-]?\d{1,3}(\.\d{3})+,\d*")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_SPACED = re.compile(r"[+-]?\d{1,3}([ '’\u00a0\u202f]\d{3})+([.,]\d*)?")
_WHOLE = re.compile(r"([+-]?\d+)\.0*")
_MIDNIGHT = re.compile(r"[T ]00:00(:00(\.0+)?)?(Z|\+00:00)?$")


def cast(cells: pl.Series, column: Column) -> tuple[pl.Series, pl.Series | None]:
    """Return the typed values, and a mask of the cells that are no such value (None: every is).

    cells: String, any height; null is an empty cell. A missing value is null in the values and
    not in the mask.
    """
    if column.kind is Kind.TEXT:
        values = cells.str.strip_chars()
        return values.set(values == "", None), None
    values = _first_try(cells, column)
    failed = values.is_null() & cells.is_not_null()
    if column.kind is Kind.NUMBER:
        # `NaN` is a float to the parser and a missing value to whoever exported it.
        failed |= values.is_nan().fill_null(value=False)
    elif column.kind is Kind.DECIMAL:
        # The parser would round `1.005` without a word.
        failed |= cells.str.contains(rf"[eE]|\.\d{{{column.scale}}}\d*[1-9]").fill_null(value=False)
    if not failed.any():
        return values, None
    rows = failed.arg_true()
    second = [_second_try(text, column) for text in cells.gather(rows).to_list()]
    values = values.scatter(rows, pl.Series([value for value, _ in second], dtype=values.dtype))
    wrong = [row for row, (_, is_wrong) in zip(rows.to_list(), second, strict=True) if is_wrong]
    if not wrong:
        return values, None
    mask = pl.repeat(value=False, n=len(cells), dtype=pl.Boolean, eager=True)
    return values, mask.scatter(wrong, values=True)


def _first_try(cells: pl.Series, column: Column) -> pl.Series:
    match column.kind:
        case Kind.DATE:
            return cells.str.to_date(column.formats[0], strict=False)
        case Kind.TIMESTAMP:
            return _timestamps(cells, column.formats[0])
        case Kind.BOOLEAN:
            words = {word: True for word in TRUE} | {word: False for word in FALSE}
            return cells.replace_strict(words, default=None, return_dtype=pl.Boolean)
        case _:
            return cells.cast(column.dtype, strict=False)


def _timestamps(cells: pl.Series, form: str) -> pl.Series:
    if "z" in form or "%+" in form:
        return cells.str.strptime(pl.Datetime("us", "UTC"), form, strict=False)
    # A time without a zone is taken as UTC; a contract that knows better names a format with one.
    return cells.str.strptime(pl.Datetime("us"), form, strict=False).dt.replace_time_zone("UTC")


def _second_try(text: str, column: Column) -> tuple[object, bool]:
    """Return one cell's value and whether it is none of the column's kind."""
    text = text.strip()
    if text.lower() in NOTHING:
        return None, False
    value: object = None
    match column.kind:
        case Kind.INTEGER:
            value = _integer(text)
        case Kind.NUMBER:
            value = _number(text)
        case Kind.DECIMAL:
            value = _decimal(text, column.scale)
        case Kind.BOOLEAN:
            value = {True: True, False: False}.get(text.lower() in TRUE)
            value = value if text.lower() in TRUE + FALSE else None
        case Kind.DATE | Kind.TIMESTAMP:
            value = _moment(text, column)
    return value, value is None


def plain_number(text: str) -> str:
    """Return the number without its separators of thousands, with a point before its decimals."""
    if _SPACED.fullmatch(text):
        text = re.sub(r"[ '’\u00a0\u202f]", "", text)
        return text.replace(",", ".")
    if _ENGLISH.fullmatch(text):
        return text.replace(",", "")
    if _CONTINENTAL.fullmatch(text):
        return text.replace(".", "").replace(",", ".")
    if _DECIMAL_COMMA.fullmatch(text):
        return text.replace(",", ".")
    return text


def _integer(text: str) -> int | None:
    plain = plain_number(text)
    if whole := _WHOLE.fullmatch(plain):
        plain = whole.group(1)
    if not re.fullmatch(r"[+-]?[0-9]+", plain) or len(plain) > len(str(-(2**63))):
        return None
    value = int(plain)
    return value if -(2**63) <= value < 2**63 else None


def _number(text: str) -> float | None:
    return pl.Series([plain_number(text)]).cast(pl.Float64, strict=False).item()


def _decimal(text: str, scale: int) -> Decimal | None:
    plain = plain_number(text)
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", plain):
        return None
    try:
        exact = Decimal(plain)
        value = exact.quantize(Decimal(1).scaleb(-scale))
    except InvalidOperation:
        return None
    fits = value == exact and len(value.as_tuple().digits) <= DECIMAL_PRECISION
    return value if fits else None


def _moment(text: str, column: Column) -> object:
    if column.kind is Kind.DATE:
        text = _MIDNIGHT.sub("", text)
    one = pl.Series([text])
    for form in column.formats:
        found = (
            one.str.to_date(form, strict=False)
            if column.kind is Kind.DATE
            else _timestamps(one, form)
        )
        if found.item() is not None:
            return found.item()
    return None
