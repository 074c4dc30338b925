"""What a contract may ask of a column's values: a fixed set of Pandera's checks, made safely.

Pandera takes any argument and fails, or worse passes, when the first row comes. Here the
arguments are held against the column's type when the class is defined. Every function raises
ValueError with a clause about what is wrong; the caller knows the class and the column.
"""

import datetime as dt
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import pandera.polars as pa
import polars as pl
from pandera.api.checks import Check

from schemas.spec import DECIMAL_PRECISION, Kind

COMPARISONS = ("eq", "ne", "gt", "ge", "lt", "le")
SETS = ("isin", "notin")
PATTERNS = ("str_matches", "str_contains")
AFFIXES = ("str_startswith", "str_endswith")
NAMES = (*COMPARISONS, "in_range", *SETS, *PATTERNS, *AFFIXES, "str_length")

FINITE = "finite"
"""The check that every floating-point column has: NaN and infinities are no measurements."""

_INTEGERS = range(-(2**63), 2**63)
_LOWER = {"greater_than": "min_value", "greater_than_or_equal_to": "min_value"}
_UPPER = {"less_than": "max_value", "less_than_or_equal_to": "max_value"}


def make_checks(given: Mapping[str, Any], kind: Kind, scale: int) -> list[Check]:
    """Return Pandera's checks for what `column()` was given; ValueError says what cannot be."""
    checks = [_make_check(name, argument, kind, scale) for name, argument in given.items()]
    _refuse_empty_range(checks)
    if kind is Kind.NUMBER:
        checks.append(Check(_is_finite, name=FINITE, error=FINITE))
    return checks


def fit_value(value: object, kind: Kind, scale: int) -> Any:
    """Return the value as a column of the kind holds it; ValueError where it cannot."""
    match kind, value:
        case (Kind.BOOLEAN, bool()) | (Kind.TEXT, str()):
            fitting = not (isinstance(value, str) and "\0" in value)
        case (Kind.INTEGER, int()):
            fitting = not isinstance(value, bool) and value in _INTEGERS
        case (Kind.NUMBER, int() | float()):
            fitting = not isinstance(value, bool) and abs(value) < float("inf")
        case (Kind.DECIMAL, int() | Decimal()):
            fitting = not isinstance(value, bool) and _fits_decimal(Decimal(value), scale)
        case (Kind.DATE, dt.date()):
            fitting = not isinstance(value, dt.datetime)
        case (Kind.TIMESTAMP, dt.datetime()):
            fitting = value.tzinfo is not None
        case _:
            fitting = False
    if fitting:
        return value if kind not in _CONVERTED else _CONVERTED[kind](value, scale)
    raise ValueError(f"{value!r} is no {_DESCRIBED[kind].format(scale=scale)}")


_DESCRIBED = {
    Kind.INTEGER: "integer of 64 bits",
    Kind.NUMBER: "finite number",
    Kind.DECIMAL: f"int or Decimal of at most {DECIMAL_PRECISION} digits, {{scale}} of them after "
    "the point",
    Kind.TEXT: "text that PostgreSQL can hold",
    Kind.BOOLEAN: "bool",
    Kind.DATE: "date",
    Kind.TIMESTAMP: "datetime with a time zone",
}


_CONVERTED: dict[Kind, Callable[[Any, int], Any]] = {
    Kind.NUMBER: lambda value, _: float(value),
    Kind.DECIMAL: lambda value, scale: Decimal(value).quantize(Decimal(1).scaleb(-scale)),
}


def _fits_decimal(value: Decimal, scale: int) -> bool:
    try:
        exact = value.quantize(Decimal(1).scaleb(-scale))
    except InvalidOperation:
        return False
    return exact == value and len(exact.as_tuple().digits) <= DECIMAL_PRECISION


def _make_check(name: str, argument: Any, kind: Kind, scale: int) -> Check:
    if name not in NAMES:
        raise ValueError(f"has no check named '{name}'; there are {', '.join(NAMES)}")
    if name.startswith("str_") and kind is not Kind.TEXT:
        raise ValueError(f"is {kind}, and {name} is for text")
    if kind is Kind.BOOLEAN and name not in (*SETS, "eq", "ne"):
        raise ValueError(f"is {kind}, and {name} compares sizes")
    try:
        return _build(name, argument, kind, scale)
    except (TypeError, ValueError, re.error, pl.exceptions.PolarsError) as error:
        reason = str(error).split("\n", maxsplit=1)[0].rstrip(".")
        raise ValueError(f"has a check {name}={argument!r} that cannot be: {reason}") from error


def _build(name: str, argument: Any, kind: Kind, scale: int) -> Check:
    method = getattr(Check, name)
    match name:
        case "in_range":
            given, flags = _range_parts(argument)
            for each in given:
                fit_value(each, kind, scale)
            check = method(*given, **flags)
        case "isin" | "notin":
            check = method(_members(argument, kind, scale))
        case "str_matches" | "str_contains":
            check = method(_pattern(argument, at_start=name == "str_matches"))
        case "str_length":
            check = _length_check(argument)
        case _:
            fit_value(argument, kind, scale)
            check = method(argument)
    built: Check = check
    return built


def _range_parts(argument: Any) -> tuple[list[Any], dict[str, bool]]:
    names = ("min_value", "max_value", "include_min", "include_max")
    if isinstance(argument, tuple | list) and len(argument) <= len(names):
        argument = dict(zip(names, argument, strict=False))
    if not isinstance(argument, dict) or not {"min_value", "max_value"} <= set(argument):
        raise ValueError("give (min_value, max_value)")
    if unknown := set(argument) - set(names):
        raise ValueError(f"it takes {', '.join(names)}, not {', '.join(sorted(unknown))}")
    flags = {name: argument[name] for name in names[2:] if name in argument}
    if not all(isinstance(each, bool) for each in flags.values()):
        raise ValueError("include_min and include_max are True or False")
    return [argument["min_value"], argument["max_value"]], flags


def _members(argument: Any, kind: Kind, scale: int) -> list[Any]:
    if isinstance(argument, str) or not isinstance(argument, Iterable):
        raise TypeError("give a list of values")
    # A set has another order in every process; messages and the contract's version must not.
    ordered = sorted(argument) if isinstance(argument, set | frozenset) else argument
    members = [fit_value(each, kind, scale) for each in ordered]
    if not members:
        raise ValueError("the list is empty")
    return members


def _pattern(argument: Any, *, at_start: bool) -> str:
    if not isinstance(argument, str):
        raise TypeError("give the regular expression as text")
    re.compile(argument)
    # Pandera puts a ^ before the whole, which binds to the first alternative only.
    pattern = f"^(?:{argument})" if at_start and "|" in argument else argument
    try:
        pl.Series([""]).str.contains(pattern)
    except pl.exceptions.PolarsError as error:
        message = "Polars does not know this regular expression (look-around, back-references?)"
        raise ValueError(message) from error
    return pattern


def _length_check(argument: Any) -> Check:
    names = ("min_value", "max_value", "exact_value")
    if isinstance(argument, int):
        argument = {"exact_value": argument}
    elif isinstance(argument, tuple | list):
        argument = dict(zip(names, argument, strict=False))
    if not isinstance(argument, dict) or set(argument) - set(names):
        raise ValueError("give a length, (min_value, max_value), or a dict of these")
    lengths = {name: value for name, value in argument.items() if value is not None}
    if not lengths or any(
        isinstance(each, bool) or not isinstance(each, int) or each < 0 for each in lengths.values()
    ):
        raise ValueError("lengths are integers from 0")
    if lengths.get("min_value", 0) > lengths.get("max_value", float("inf")):
        raise ValueError("no text is that short and that long at once")
    check: Check = Check.str_length(**lengths)
    return check


def _refuse_empty_range(checks: list[Check]) -> None:
    lower = [_bound(each, _LOWER) for each in checks]
    upper = [_bound(each, _UPPER) for each in checks]
    bounds = [each for each in lower if each is not None], [each for each in upper if each]
    for low, low_open in bounds[0]:
        for high, high_open in bounds[1]:
            if low > high or (low == high and (low_open or high_open)):
                raise ValueError(f"has checks that no value keeps: from {low} and up to {high}")


def _bound(check: Check, names: Mapping[str, str]) -> tuple[Any, bool] | None:
    """Return the limit that a check sets and whether the limit itself is shut out."""
    name, statistics = str(check.name), check.statistics or {}
    if name in names:
        return statistics[names[name]], "or_equal" not in name
    if name == "in_range":
        side = "min" if names is _LOWER else "max"
        return statistics[f"{side}_value"], not statistics[f"include_{side}"]
    return None


def _is_finite(data: pa.PolarsData) -> pl.LazyFrame:
    return data.lazyframe.select(pl.col(data.key).is_finite())
