"""The frozen description of a dataset: what every other part reads of a contract."""

import datetime as dt
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import polars as pl
from pandera.api.checks import Check

if TYPE_CHECKING:  # the class is made of this module's parts
    from schemas.dataset import Dataset

MAX_IDENTIFIER_BYTES = 63
"""PostgreSQL cuts longer names silently (NAMEDATALEN - 1)."""

DEFAULT_DATE_FORMATS = ("%Y-%m-%d", "%d/%m/%Y", "%d.%m.%Y", "%Y/%m/%d", "%d-%b-%Y", "%b %d, %Y")
DEFAULT_TIMESTAMP_FORMATS = (
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d",
)
DECIMAL_PRECISION = 18


class Role(StrEnum):
    """Where a dataset's rows go in the warehouse."""

    DIMENSION = "dimension"
    FACT = "fact"
    STAGING = "staging"
    """Staging only: nothing is merged."""


class History(StrEnum):
    """What a dimension does with a changed row."""

    OVERWRITE = "type 1"
    KEEP_VERSIONS = "type 2"


class Missing(StrEnum):
    """What a contract does with an empty cell. Any other value given is the default to fill in."""

    REJECT = "reject"
    NULL = "null"


class Kind(StrEnum):
    """The types a column can have."""

    INTEGER = "integer"
    NUMBER = "number"
    DECIMAL = "decimal"
    TEXT = "text"
    BOOLEAN = "boolean"
    DATE = "date"
    TIMESTAMP = "timestamp"


KINDS: dict[type, Kind] = {
    int: Kind.INTEGER,
    float: Kind.NUMBER,
    Decimal: Kind.DECIMAL,
    str: Kind.TEXT,
    bool: Kind.BOOLEAN,
    dt.date: Kind.DATE,
    dt.datetime: Kind.TIMESTAMP,
}
_DTYPES: dict[Kind, pl.DataType] = {
    Kind.INTEGER: pl.Int64(),
    Kind.NUMBER: pl.Float64(),
    Kind.TEXT: pl.String(),
    Kind.BOOLEAN: pl.Boolean(),
    Kind.DATE: pl.Date(),
    Kind.TIMESTAMP: pl.Datetime("us", "UTC"),
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a contract: what a cell must be, and what becomes of one that is not."""

    name: str
    kind: Kind
    missing: Any
    """`Missing.REJECT`, `Missing.NULL`, or the value to fill in."""
    checks: tuple[Check, ...]
    pii: bool
    references: "type[Dataset] | None"
    formats: tuple[str, ...]
    scale: int
    """Digits after the point of a decimal; 0 for every other kind."""
    description: str

    @property
    def nullable(self) -> bool:
        """Whether the column may hold NULL after cleaning."""
        return self.missing is Missing.NULL

    @property
    def default(self) -> Any:
        """The value that fills an empty cell; None where the contract names none."""
        return None if isinstance(self.missing, Missing) else self.missing

    @property
    def dtype(self) -> pl.DataType:
        """The Polars type of the column once it is cast."""
        if self.kind is Kind.DECIMAL:
            return pl.Decimal(DECIMAL_PRECISION, self.scale)
        return _DTYPES[self.kind]


@dataclass(frozen=True, slots=True)
class Spec:
    """All that a contract says, in one frozen value; what is derived is derived from this."""

    name: str
    table: str
    role: Role
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    version: str | None
    """The timestamp column whose greatest value is the newest; None: the source's own time."""
    event_time: str | None
    """The date or timestamp column that says when a fact happened: it picks the version of a
    type 2 dimension's row; None: the current one."""
    history: History
    freshness: dt.timedelta | None
    description: str
    contract_version: str = ""
    """Twelve hexadecimal digits that change when, and only when, the contract's meaning does."""
    refuse_anomalies: bool = False
    """Whether a load with an anomaly of severity error is rolled back."""

    def column(self, name: str) -> Column:
        """Return the column of that name; KeyError where there is none."""
        for each in self.columns:
            if each.name == name:
                return each
        raise KeyError(name)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in the contract's order."""
        return tuple(each.name for each in self.columns)

    @property
    def references(self) -> tuple[Column, ...]:
        """The columns that name a row of a dimension."""
        return tuple(each for each in self.columns if each.references is not None)


def key_name(natural: str, table: str) -> str:
    """Return the surrogate key's name for a natural key: customer_id gives customer_key."""
    if natural.endswith("_id"):
        return f"{natural.removesuffix('_id')}_key"
    return f"{table}_key" if natural == "id" else f"{natural}_key"


def freeze(draft: Spec) -> Spec:
    """Return the same description with its `contract_version` worked out from its meaning.

    Names of classes, descriptions, freshness and refuse_anomalies say nothing about which rows are
    accepted and what becomes of them: they do not count.
    """
    meaning = {
        "table": draft.table,
        "role": draft.role,
        "key": draft.key,
        "version": draft.version,
        "event_time": draft.event_time,
        "history": draft.history,
        "columns": [
            [
                each.name,
                each.kind,
                each.missing.name
                if isinstance(each.missing, Missing)
                else [_canonical(each.missing, each.kind)],
                each.pii,
                each.references.spec.table if each.references else None,
                each.formats,
                each.scale,
                sorted([str(check.name), _statistics(check, each.kind)] for check in each.checks),
            ]
            for each in draft.columns
        ],
    }
    digest = hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()
    return replace(draft, contract_version=digest[:12])


def _statistics(check: Check, kind: Kind) -> str:
    """Return a check's arguments, one spelling for one meaning: `ge=1` is `ge=1.0`."""
    # The length of a text is a number, and so on: only what a cell is compared with has its kind.
    compared = kind if check.name != "str_length" else Kind.INTEGER
    return json.dumps(
        {name: _canonical(value, compared) for name, value in (check.statistics or {}).items()},
        sort_keys=True,
    )


def _canonical(value: object, kind: Kind) -> Any:
    if isinstance(value, str | bool | None):
        return value
    if isinstance(value, Iterable):
        # Whichever way a set of allowed values is written down, it allows the same.
        return sorted((_canonical(each, kind) for each in value), key=repr)
    if isinstance(value, Decimal | int | float) and kind is Kind.DECIMAL:
        return format(Decimal(value).normalize(), "f")
    if isinstance(value, int | float) and kind is Kind.NUMBER:
        return repr(float(value))
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        return value.astimezone(dt.UTC).isoformat()
    return str(value)
