"""The base class of every data contract.

    class Sales(Dataset, table="sales_data", role=Role.FACT, key=("order_id",)):
        '''One row per order line, as the shop's till reported it.'''
        order_id: int = column(ge=1)
        customer_id: int = column(ge=1, references=Customers)

A contract is a Pandera model: `Sales.validate(frame)` works on Polars frames as for any other.
What the platform derives from it (DDL, merge SQL, masks) lives beside its consumer and reads
`Sales.spec`; nothing is added to the class.
"""

import datetime as dt
import typing
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import pandera.polars as pa
import polars as pl
from pandera.api.dataframe.model_components import FieldInfo
from pandera.errors import SchemaInitError

from schemas.checks import make_checks
from schemas.contradictions import find_contradiction
from schemas.errors import ContractError
from schemas.spec import (
    DECIMAL_PRECISION,
    DEFAULT_DATE_FORMATS,
    DEFAULT_TIMESTAMP_FORMATS,
    KINDS,
    MAX_IDENTIFIER_BYTES,
    Column,
    History,
    Kind,
    Missing,
    Role,
    Spec,
    freeze,
)

__all__ = [
    "DECIMAL_PRECISION",
    "DEFAULT_DATE_FORMATS",
    "DEFAULT_TIMESTAMP_FORMATS",
    "KINDS",
    "MAX_IDENTIFIER_BYTES",
    "Column",
    "Dataset",
    "History",
    "Kind",
    "Missing",
    "Role",
    "Spec",
    "column",
    "freeze",
]

_KEYWORDS = (
    *("table", "role", "key", "version", "event_time", "history", "freshness"),
    "refuse_anomalies",
)


def column(
    *,
    missing: object = Missing.REJECT,
    nullable: bool = False,
    pii: bool = False,
    references: "type[Dataset] | None" = None,
    formats: tuple[str, ...] = (),
    scale: int | None = None,
    description: str = "",
    **checks: Any,
) -> Any:
    """Describe one column of a dataset; `checks` are Pandera's (`ge`, `isin`, `str_matches`, …).

    missing: `Missing.REJECT` (the default), `Missing.NULL`, or a value to fill in; each fill is
        counted. `nullable=True` is short for `Missing.NULL`.
    pii: personal data: masked wherever a person reads it.
    references: the dimension whose key this column holds; it must have a key of one column.
    formats: the date or time formats a cell may have, tried in this order (chrono's letters).
    scale: digits after the point, for a Decimal column; by default 2.
    checks: see `schemas.checks.NAMES`; they are made when the class is defined, which knows the
        column's type.
    """
    return pa.Field(
        description=description or None,
        metadata={
            "missing": missing,
            "nullable": nullable,
            "pii": pii,
            "references": references,
            "formats": formats,
            "scale": scale,
            "checks": checks,
        },
    )


class Dataset(pa.DataFrameModel):
    """Base of every contract. Subclass it with `table`, `role` and `key` as class keywords."""

    if TYPE_CHECKING:  # at run time Pandera would take the annotation for a column
        spec: ClassVar[Spec]

    def __init_subclass__(
        cls,
        *,
        table: str = "",
        role: Role | None = None,
        key: tuple[str, ...] = (),
        version: str | None = None,
        event_time: str | None = None,
        history: History = History.OVERWRITE,
        freshness: dt.timedelta | None = None,
        refuse_anomalies: bool = False,
        **unknown: Any,
    ) -> None:
        """Check the contract and freeze it; raises ContractError with one sentence."""
        if unknown:
            _refuse(cls, f"there is no class keyword '{min(unknown)}'; take {', '.join(_KEYWORDS)}")
        if not table or role is None:
            _refuse(cls, "the class keywords table=… and role=… are missing")
        _refuse_other_members(cls)
        columns = tuple(_describe(cls, name, kind) for name, kind in _kinds(cls).items())
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
            refuse_anomalies=refuse_anomalies,
            # Not cls.__doc__, which would be inherited.
            description=(cls.__dict__.get("__doc__") or "").strip().split("\n", maxsplit=1)[0],
        )
        if clause := find_contradiction(draft):
            _refuse(cls, clause)
        for each in columns:
            _tell_pandera(cls, each)
        super().__init_subclass__()  # type: ignore[no-untyped-call] # Pandera's has no types
        try:
            cls.to_schema()
        except SchemaInitError as error:
            raise ContractError(f"{cls.__name__}: {error}.") from error
        cls.spec = freeze(draft)


def _refuse(cls: type, clause: str) -> typing.NoReturn:
    raise ContractError(f"{cls.__name__}: {clause}.")


def _refuse_other_members(cls: type) -> None:
    """Keep a contract to columns: what else Pandera's models can hold, the platform would skip."""
    if cls.__bases__ != (Dataset,):
        others = ", ".join(each.__name__ for each in cls.__bases__ if each is not Dataset)
        _refuse(cls, f"a contract cannot inherit from {others}; write its columns into it")
    own = {name for name in vars(pa.DataFrameModel) if not name.startswith("_")} | {"spec"}
    for name in cls.__annotations__:
        if name in own | {"Config"} or hasattr(pa.DataFrameModel, name):
            _refuse(cls, f"'{name}' is the name of something that every contract has; take another")
    for name, value in vars(cls).items():
        if name in cls.__annotations__ or (name.startswith("__") and name.endswith("__")):
            continue
        if isinstance(value, FieldInfo):
            _refuse(cls, f"column '{name}' has no type; write {name}: str = column(…)")
        _refuse(cls, f"'{name}' is no column, and a contract holds columns and nothing else")


def _kinds(cls: type) -> dict[str, Kind]:
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except (NameError, TypeError, SyntaxError) as error:
        raise ContractError(f"{cls.__name__}: a column's type makes no sense: {error}.") from error
    kinds: dict[str, Kind] = {}
    for name in cls.__annotations__:
        hint = hints[name]
        if typing.get_origin(hint) is ClassVar or not _is_kind(hint):
            allowed = ", ".join(sorted(each.__name__ for each in KINDS))
            said = getattr(hint, "__name__", hint) if isinstance(hint, type) else hint
            _refuse(cls, f"column '{name}' has the type {said}; use one of {allowed}")
        kinds[name] = KINDS[hint]
    return kinds


def _is_kind(hint: Any) -> bool:
    return isinstance(hint, type) and hint in KINDS


def _describe(cls: type, name: str, kind: Kind) -> Column:
    """Return what `column()` was given, in the terms of the column's type."""
    given = cls.__dict__.get(name)
    if not isinstance(given, FieldInfo) or "checks" not in (metadata := given.metadata or {}):
        _refuse(cls, f"describe column '{name}' with column(), not with anything else")
    missing = _missing(cls, name, **metadata)
    scale, formats = metadata["scale"], metadata["formats"]
    if kind is Kind.DECIMAL:
        scale = 2 if scale is None else scale
    elif scale is not None:
        _refuse(cls, f"column '{name}' has a scale, and is {kind}: only a Decimal has one")
    try:
        checks = make_checks(metadata["checks"], kind, scale or 0)
    except ValueError as error:
        raise ContractError(f"{cls.__name__}: column '{name}' {error}.") from error
    if not formats and kind is Kind.DATE:
        formats = DEFAULT_DATE_FORMATS
    elif not formats and kind is Kind.TIMESTAMP:
        formats = DEFAULT_TIMESTAMP_FORMATS
    return Column(
        name=name,
        kind=kind,
        missing=missing,
        checks=tuple(checks),
        pii=metadata["pii"],
        references=metadata["references"],
        formats=formats,
        scale=scale or 0,
        description=given.description or "",
    )


def _missing(cls: type, name: str, *, missing: Any, nullable: bool, **_: Any) -> Any:
    """Return what becomes of an empty cell, where it was said once and clearly."""
    if not isinstance(nullable, bool):
        _refuse(cls, f"column '{name}' has nullable={nullable!r}; give True or False")
    if missing is None or (nullable and not isinstance(missing, Missing)):
        _refuse(
            cls,
            f"column '{name}' has missing={missing!r} and nullable={nullable}; give nullable=True "
            "alone, or a value to fill in",
        )
    return Missing.NULL if nullable else missing


def _tell_pandera(cls: type, described: Column) -> None:
    """Give Pandera what it needs to validate a frame by itself, in its own terms."""
    field: FieldInfo = cls.__dict__[described.name]
    field.checks = list(described.checks)
    field.nullable, field.nullable_explicit = described.nullable, True
    field.default = described.default
    # Pandera would take a bare Decimal for one without places after the point.
    if described.kind is Kind.DECIMAL:
        hint: Any = Annotated[pl.Decimal, DECIMAL_PRECISION, described.scale]
        cls.__annotations__[described.name] = hint
    elif described.kind is Kind.TIMESTAMP:
        cls.__annotations__[described.name] = Annotated[pl.Datetime, "us", "UTC"]
