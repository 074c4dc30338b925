"""The base class of every data contract, and the frozen description derived from it.

    class Sales(Dataset, table="sales_data", role=Role.FACT, key=("order_id",)):
        '''One row per order line, as the shop's till reported it.'''
        order_id: int = column(ge=1)
        customer_id: int = column(ge=1, references=Customers)

A contract is a Pandera model: `Sales.validate(frame)` works on Polars frames as for any other.
What the platform derives from it (DDL, merge SQL, masks) lives beside its consumer and reads
`Sales.spec`; nothing is added to the class.
"""

import datetime as dt
import hashlib
import json
import re
import typing
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import pandera.polars as pa
import polars as pl
from pandera.api.checks import Check
from pandera.errors import SchemaInitError

from schemas.errors import ContractError

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
DECIMAL_PRECISION = 18


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
    def dtype(self) -> pl.DataType:
        """The Polars type of the column once it is cast."""
        match self.kind:
            case Kind.INTEGER:
                return pl.Int64()
            case Kind.NUMBER:
                return pl.Float64()
            case Kind.DECIMAL:
                return pl.Decimal(DECIMAL_PRECISION, self.scale)
            case Kind.TEXT:
                return pl.String()
            case Kind.BOOLEAN:
                return pl.Boolean()
            case Kind.DATE:
                return pl.Date()
            case Kind.TIMESTAMP:
                return pl.Datetime("us", "UTC")


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
    contract_version: str = field(default="")
    """Twelve hexadecimal digits that change when, and only when, the contract's meaning does."""

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


def column(
    *,
    missing: object = Missing.REJECT,
    nullable: bool = False,
    pii: bool = False,
    references: "type[Dataset] | None" = None,
    formats: tuple[str, ...] = (),
    scale: int = 2,
    description: str = "",
    **checks: Any,
) -> Any:
    """Describe one column of a dataset; `checks` are Pandera's (`ge`, `isin`, `str_matches`, …).

    missing: `Missing.REJECT` (the default), `Missing.NULL`, or a value to fill in; each fill is
        counted. `nullable=True` is short for `Missing.NULL`.
    pii: personal data: masked wherever a person reads it.
    references: the dimension whose key this column holds; it must have a key of one column.
    formats: the date or time formats a cell may have, tried in this order (chrono's letters).
    scale: digits after the point, for a Decimal column.
    """
    if nullable:
        missing = Missing.NULL
    return pa.Field(
        nullable=missing is Missing.NULL,
        description=description or None,
        metadata={
            "missing": missing,
            "pii": pii,
            "references": references,
            "formats": formats,
            "scale": scale,
        },
        **checks,
    )


class Dataset(pa.DataFrameModel):
    """Base of every contract. Subclass it with `table`, `role` and `key` as class keywords."""

    if TYPE_CHECKING:  # at run time Pandera would take the annotation for a column
        spec: ClassVar[Spec]

    def __init_subclass__(
        cls,
        *,
        table: str,
        role: Role,
        key: tuple[str, ...] = (),
        version: str | None = None,
        event_time: str | None = None,
        history: History = History.OVERWRITE,
        freshness: dt.timedelta | None = None,
        **kwargs: Any,
    ) -> None:
        """Check the contract and freeze it; raises ContractError with one sentence."""
        kinds = _rewrite_annotations(cls)
        super().__init_subclass__(**kwargs)
        try:
            schema = cls.to_schema()
        except SchemaInitError as error:
            raise ContractError(f"{cls.__name__}: {error}") from error
        columns = tuple(
            _column(cls.__name__, name, kinds[name], schema.columns[name]) for name in kinds
        )
        draft = Spec(
            name=cls.__name__,
            table=table,
            role=role,
            key=key,
            columns=columns,
            version=version,
            event_time=event_time,
            history=history,
            freshness=freshness,
            description=(cls.__doc__ or "").strip().split("\n", maxsplit=1)[0],
        )
        _refuse_contradictions(draft)
        cls.spec = freeze(draft)


def freeze(draft: Spec) -> Spec:
    """Return the same description with its `contract_version` worked out from its meaning."""
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
                repr(each.missing),
                each.pii,
                each.references.spec.table if each.references else None,
                each.formats,
                each.scale,
                sorted(f"{check.name}{check.statistics}" for check in each.checks),
            ]
            for each in draft.columns
        ],
    }
    digest = hashlib.sha256(json.dumps(meaning, sort_keys=True, default=str).encode()).hexdigest()
    values = {name: getattr(draft, name) for name in Spec.__dataclass_fields__}
    return Spec(**(values | {"contract_version": digest[:12]}))


def _rewrite_annotations(cls: type) -> dict[str, Kind]:
    """Give Pandera the exact types (it would take a Decimal for one without places after it)."""
    hints = {
        name: hint
        for name, hint in typing.get_type_hints(cls, include_extras=True).items()
        if name in cls.__annotations__ and typing.get_origin(hint) is not ClassVar
    }
    kinds: dict[str, Kind] = {}
    for name, hint in hints.items():
        if hint not in KINDS:
            allowed = ", ".join(sorted(each.__name__ for each in KINDS))
            message = f"{cls.__name__}: column '{name}' has the type {hint}; use one of {allowed}."
            raise ContractError(message)
        kinds[name] = KINDS[hint]
        given = cls.__dict__.get(name)
        metadata = getattr(given, "metadata", None) or {}
        if kinds[name] is Kind.DECIMAL:
            cls.__annotations__[name] = Annotated[
                pl.Decimal, DECIMAL_PRECISION, metadata.get("scale", 2)
            ]
        elif kinds[name] is Kind.TIMESTAMP:
            cls.__annotations__[name] = Annotated[pl.Datetime, "us", "UTC"]
    return kinds


def _column(owner: str, name: str, kind: Kind, given: Any) -> Column:
    metadata = given.metadata or {}
    if "missing" not in metadata:
        message = f"{owner}: describe column '{name}' with column(), not with another field."
        raise ContractError(message)
    formats = tuple(metadata["formats"])
    if not formats:
        formats = {
            Kind.DATE: DEFAULT_DATE_FORMATS,
            Kind.TIMESTAMP: DEFAULT_TIMESTAMP_FORMATS,
        }.get(kind, ())
    return Column(
        name=name,
        kind=kind,
        missing=metadata["missing"],
        checks=tuple(given.checks),
        pii=metadata["pii"],
        references=metadata["references"],
        formats=formats,
        scale=metadata["scale"] if kind is Kind.DECIMAL else 0,
        description=given.description or "",
    )


def _refuse_contradictions(spec: Spec) -> None:
    """Raise ContractError with the first thing that cannot be meant."""
    if problem := _contradiction(spec):
        message = f"{spec.name}: {problem}."
        raise ContractError(message)


def _contradiction(spec: Spec) -> str | None:  # noqa: PLR0911 - one return a rule reads best
    names = spec.names
    if not spec.description or spec.description.startswith("A polars DataFrameModel"):
        return "the class has no docstring; say what one row is"
    if not names:
        return "the class has no columns"
    for name in (spec.table, *names):
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or len(name) > MAX_IDENTIFIER_BYTES - 20:
            return (
                f"'{name}' is no usable name; take lower-case letters, digits and underscores, "
                f"a letter first, at most {MAX_IDENTIFIER_BYTES - 20} characters"
            )
    if unknown := [each for each in spec.key if each not in names]:
        return f"key names no column: {unknown}"
    if spec.role is not Role.STAGING and not spec.key:
        return f"a {spec.role} needs a key"
    if loose := [each for each in spec.key if spec.column(each).nullable]:
        return f"key columns cannot be nullable: {loose}"
    if floats := [each for each in spec.key if spec.column(each).kind is Kind.NUMBER]:
        return f"key columns cannot be floating-point numbers: {floats}"
    if spec.history is History.KEEP_VERSIONS and spec.role is not Role.DIMENSION:
        return "only a dimension can keep versions (type 2)"
    if spec.version is not None:
        if spec.version not in names:
            return f"version names no column: '{spec.version}'"
        if spec.column(spec.version).kind is not Kind.TIMESTAMP or (
            spec.column(spec.version).nullable
        ):
            return f"version column '{spec.version}' must be a datetime that cannot be null"
    if spec.event_time is not None:
        if spec.event_time not in names:
            return f"event_time names no column: '{spec.event_time}'"
        if spec.column(spec.event_time).kind not in {Kind.DATE, Kind.TIMESTAMP}:
            return f"event_time column '{spec.event_time}' must be a date or a datetime"
    return next(filter(None, (_reference_contradiction(each) for each in spec.references)), None)


def _reference_contradiction(each: Column) -> str | None:
    target = each.references.spec if each.references else None
    if target is None:
        return None
    if target.role is not Role.DIMENSION:
        return f"column '{each.name}' references {target.name}, which is no dimension"
    if len(target.key) != 1:
        return f"column '{each.name}' references {target.name}, whose key has several columns"
    if target.column(target.key[0]).kind is not each.kind:
        return (
            f"column '{each.name}' is {each.kind}, but the key of {target.name} is "
            f"{target.column(target.key[0]).kind}"
        )
    return None
