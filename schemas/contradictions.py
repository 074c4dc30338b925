"""What cannot be meant in a contract, found when its class is defined.

Each rule returns a clause that says what is wrong, or None; the first clause becomes the error.
"""

import datetime as dt
import re
from collections.abc import Callable, Iterator

import polars as pl

from schemas.checks import fit_value
from schemas.spec import (
    DECIMAL_PRECISION,
    MAX_IDENTIFIER_BYTES,
    Column,
    History,
    Kind,
    Missing,
    Role,
    Spec,
    key_name,
)

MAX_TABLE_CHARACTERS = 40
"""As long as the tables of sources without a contract; leaves room for `fact_…_pkey`."""
MAX_COLUMN_CHARACTERS = MAX_IDENTIFIER_BYTES - 20

SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})
"""Every table of PostgreSQL has these already."""

_SANE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_VERSION_COLUMNS = frozenset({"valid_from", "valid_to", "is_current"})


def find_contradiction(spec: Spec) -> str | None:
    """Return a clause about the first thing in the contract that cannot be meant; None: all can."""
    return next((clause for rule in _RULES if (clause := rule(spec))), None)


def _description(spec: Spec) -> str | None:
    return None if spec.description else "the class has no docstring; say what one row is"


def _values(spec: Spec) -> str | None:
    if not isinstance(spec.role, Role):
        return f"role is {spec.role!r}; give one of {_listed(Role)}"
    if not isinstance(spec.history, History):
        return f"history is {spec.history!r}; give one of {_listed(History)}"
    if not isinstance(spec.key, tuple) or not all(isinstance(each, str) for each in spec.key):
        return f"key is {spec.key!r}; give a tuple of column names, such as ('id',)"
    if spec.freshness is not None and (
        not isinstance(spec.freshness, dt.timedelta) or spec.freshness <= dt.timedelta()
    ):
        return f"freshness is {spec.freshness!r}; give a timedelta above zero"
    if not isinstance(spec.refuse_anomalies, bool):
        return f"refuse_anomalies is {spec.refuse_anomalies!r}; give True or False"
    return None if spec.columns else "the class has no columns"


def _names(spec: Spec) -> str | None:
    limits = [(spec.table, MAX_TABLE_CHARACTERS)]
    limits += [(name, MAX_COLUMN_CHARACTERS) for name in spec.names]
    for name, limit in limits:
        # Headers and files are matched by such names: any other would never be found.
        if not isinstance(name, str) or not _SANE.fullmatch(name) or len(name) > limit:
            return (
                f"'{name}' is no usable name; take lower-case letters, digits and single "
                f"underscores between them, a letter first, at most {limit} characters"
            )
    if taken := SYSTEM_COLUMNS.intersection(spec.names):
        return f"'{min(taken)}' is the name of a column that PostgreSQL keeps in every table"
    return None


def _key(spec: Spec) -> str | None:
    if unknown := [each for each in spec.key if each not in spec.names]:
        return f"key names no column: {unknown}"
    if len(set(spec.key)) < len(spec.key):
        return f"key names a column twice: {list(spec.key)}"
    if not spec.key:
        return None if spec.role is Role.STAGING else f"a {spec.role} needs a key"
    return _key_columns(spec)


def _key_columns(spec: Spec) -> str | None:
    columns = [spec.column(each) for each in spec.key]
    if loose := [each.name for each in columns if each.nullable]:
        return f"key columns cannot be nullable: {loose}"
    if floats := [each.name for each in columns if each.kind is Kind.NUMBER]:
        return f"key columns cannot be floating-point numbers: {floats}"
    if all(each.default is not None for each in columns):
        return (
            f"a key cannot be filled in with a default: {list(spec.key)}; rows without one "
            "would replace each other"
        )
    return None


def _times(spec: Spec) -> str | None:
    if spec.history is History.KEEP_VERSIONS and spec.role is not Role.DIMENSION:
        return "only a dimension can keep versions (type 2)"
    if spec.version is not None:
        if spec.version not in spec.names:
            return f"version names no column: '{spec.version}'"
        column = spec.column(spec.version)
        if column.kind is not Kind.TIMESTAMP or column.nullable:
            return f"version column '{spec.version}' must be a datetime that cannot be null"
    if spec.event_time is not None:
        if spec.event_time not in spec.names:
            return f"event_time names no column: '{spec.event_time}'"
        if spec.column(spec.event_time).kind not in {Kind.DATE, Kind.TIMESTAMP}:
            return f"event_time column '{spec.event_time}' must be a date or a datetime"
    return None


def _personal(spec: Spec) -> str | None:
    """Hold that no personal column is one that rows are compared or joined by: it is encrypted."""
    uses = dict.fromkeys(spec.key, "part of the key")
    uses |= {str(spec.version): "the version", str(spec.event_time): "the event time"}
    uses |= {each.name: "a reference" for each in spec.references}
    for each in spec.columns:
        if each.pii and each.name in uses:
            return (
                f"column '{each.name}' is personal and {uses[each.name]}: what is encrypted cannot "
                "be compared; take a number or a code for that"
            )
    return None


def _columns(spec: Spec) -> str | None:
    found = (
        f"column '{each.name}' {clause}"
        for each in spec.columns
        for rule in (_shape, _formats, _default, _reference)
        if (clause := rule(each))
    )
    return next(found, None)


def _shape(column: Column) -> str | None:
    if not isinstance(column.pii, bool):
        return f"has pii={column.pii!r}; give True or False"
    if not isinstance(column.scale, int) or not 0 <= column.scale <= DECIMAL_PRECISION:
        return f"has scale={column.scale!r}; give 0 to {DECIMAL_PRECISION}"
    return None


def _formats(column: Column) -> str | None:
    if not column.formats:
        return None
    if column.kind not in {Kind.DATE, Kind.TIMESTAMP}:
        return f"has formats, and is {column.kind}: only dates and times have them"
    if not isinstance(column.formats, tuple) or not all(
        isinstance(each, str) for each in column.formats
    ):
        return f"has formats={column.formats!r}; give a tuple of texts, such as ('%Y-%m-%d',)"
    return next(
        (
            f"has the format {each!r}, which cannot write a {column.kind} and read it again"
            for each in column.formats
            if not _is_usable(each, column)
        ),
        None,
    )


def _is_usable(form: str, column: Column) -> bool:
    """Tell whether a moment written in this format is the same day when it is read."""
    moment = pl.Series([dt.datetime(2024, 11, 23, 21, 47, 58, tzinfo=dt.UTC)])
    try:
        text = moment.dt.strftime(form.replace("%#z", "%z"))
        if column.kind is Kind.DATE:
            found = text.str.to_date(form, strict=False).item()
        else:
            found = text.str.strptime(pl.Datetime("us"), form, strict=False).dt.date().item()
    except pl.exceptions.PolarsError:
        return False
    return bool(found == dt.date(2024, 11, 23))


def _default(column: Column) -> str | None:
    value = column.default
    if value is None:
        return None
    if isinstance(value, str) and value in set(Missing):
        return f"would fill in the word {value!r}; write Missing.{value.upper()}"
    try:
        fit_value(value, column.kind, column.scale)
    except ValueError as error:
        return f"cannot be filled in: {error}"
    frame = pl.LazyFrame({column.name: [value]}, schema={column.name: column.dtype})
    for check in column.checks:
        if not check(frame, column.name).check_output.collect().item():
            return f"has a default that breaks its own check: {value!r} is not {check.error}"
    return None


def _reference(column: Column) -> str | None:
    if column.references is None:
        return None
    target = getattr(column.references, "spec", None)
    if not isinstance(target, Spec):
        return f"references {column.references!r}, which is no contract"
    if target.role is not Role.DIMENSION:
        return f"references {target.name}, which is no dimension"
    if len(target.key) != 1:
        return f"references {target.name}, whose key has several columns"
    natural = target.column(target.key[0])
    if natural.kind is not column.kind or natural.scale != column.scale:
        return f"is {column.kind}, but the key of {target.name} is {natural.kind}"
    return None


def _clashes(spec: Spec) -> str | None:
    """Hold the names that the warehouse adds against the contract's own."""
    added = list(_added_names(spec))
    for place, name in enumerate(added):
        if name in spec.names or name in added[:place]:
            return f"'{name}' is the name of a column that the warehouse adds; take another"
    return None


def _added_names(spec: Spec) -> Iterator[str]:
    if spec.role is Role.STAGING:
        return
    if spec.role is Role.DIMENSION:
        yield key_name(spec.key[0] if len(spec.key) == 1 else "id", spec.table)
    for each in spec.references:
        if each.references is not None:
            yield key_name(each.name, each.references.spec.table)
    if spec.history is History.KEEP_VERSIONS:
        yield from sorted(_VERSION_COLUMNS)


def _listed(names: type[Role] | type[History]) -> str:
    return ", ".join(f"{names.__name__}.{each.name}" for each in names)


_RULES: tuple[Callable[[Spec], str | None], ...] = (
    _description,
    _values,
    _names,
    _key,
    _times,
    _columns,
    _personal,
    _clashes,
)
