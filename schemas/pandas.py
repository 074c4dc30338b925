"""A contract for whoever has a pandas frame in a notebook: the same verdicts, from pandas.

Used as `pandas_schema(Sales).validate(frame, lazy=True)`.
"""

from collections.abc import Callable

import pandas as pd
import pandera.pandas as pandera
import polars as pl
import pyarrow as pa
from pandera.api.checks import Check

from schemas.checks import FINITE
from schemas.dataset import DECIMAL_PRECISION, Column, Dataset, Kind

_DTYPES = {
    Kind.INTEGER: pd.Int64Dtype(),
    Kind.NUMBER: pd.Float64Dtype(),
    Kind.TEXT: pd.StringDtype(),
    Kind.BOOLEAN: pd.BooleanDtype(),
    Kind.DATE: pd.ArrowDtype(pa.date32()),
    Kind.TIMESTAMP: pd.DatetimeTZDtype("us", "UTC"),
}


def pandas_schema(dataset: type[Dataset]) -> pandera.DataFrameSchema:
    """Return a Pandera schema for pandas that accepts the rows that the contract accepts.

    Columns get pandas' nullable types, and are converted to them where they have others; an
    empty cell is filled in where the contract names a default. Columns that the contract does
    not know are let through.
    """
    spec = dataset.spec
    return pandera.DataFrameSchema(
        {each.name: _column(each) for each in spec.columns},
        name=spec.name,
        description=spec.description,
    )


def pandas_dtype(column: Column) -> pd.api.extensions.ExtensionDtype:
    """Return the nullable pandas type of a contract's column."""
    if column.kind is Kind.DECIMAL:
        return pd.ArrowDtype(pa.decimal128(DECIMAL_PRECISION, column.scale))
    return _DTYPES[column.kind]


def _column(column: Column) -> pandera.Column:
    return pandera.Column(
        pandas_dtype(column),
        checks=[_translate(each) for each in column.checks],
        nullable=column.nullable,
        coerce=True,
        default=column.default,
        description=column.description or None,
    )


def _translate(check: Check) -> pandera.Check:
    """Make the same check for pandas, by its name and its arguments."""
    name, statistics = str(check.name), check.statistics or {}
    own: dict[str, Callable[[pd.Series], pd.Series]] = {
        FINITE: lambda values: values.abs() < float("inf"),
        # Polars' regular expressions are not Python's (`$`, `\s`): the contract means Polars'.
        "str_matches": lambda values: _contains(values, _anchored(statistics["pattern"])),
        "str_contains": lambda values: _contains(values, statistics["pattern"]),
    }
    if name in own:
        return pandera.Check(own[name], name=name, error=check.error)
    translated: pandera.Check = getattr(pandera.Check, name)(**statistics)
    return translated


def _anchored(pattern: str) -> str:
    return pattern if pattern.startswith("^") else f"^{pattern}"


def _contains(values: pd.Series, pattern: str) -> pd.Series:
    found = pl.Series(values.to_list(), dtype=pl.String).str.contains(pattern)
    return pd.Series(found.to_list(), index=values.index, dtype=bool)
