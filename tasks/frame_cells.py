"""The cells of any DataFrame as text: digit for digit, a missing value as null."""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl


def text_cells(frame: pd.DataFrame | pl.DataFrame) -> pl.DataFrame:
    """Return the frame's cells as text, whatever their types; a missing value is null.

    The named levels of a pandas index are columns too: what was made one by `set_index` is data.
    """
    if isinstance(frame, pl.DataFrame):
        return _from_polars(frame)
    named = [name for name in frame.index.names if name is not None]
    if named:
        frame = frame.reset_index(level=named, allow_duplicates=True)
    columns: dict[str, pl.Series] = {}
    for place, name in enumerate(frame.columns):
        known = _storable(str(name))
        while known in columns:
            known += "_2"
        columns[known] = write_cells(known, frame.iloc[:, place].tolist())
    return pl.DataFrame(columns)


def write_cells(name: str, values: Iterable[Any]) -> pl.Series:
    """Return the values as a column of text."""
    return pl.Series(name, [_cell(value) for value in values], dtype=pl.String)


def _from_polars(frame: pl.DataFrame) -> pl.DataFrame:
    columns = []
    for series in frame.iter_columns():
        name = _storable(series.name)
        if series.dtype.is_numeric() or series.dtype in {pl.String, pl.Boolean, pl.Date, pl.Null}:
            text = series.cast(pl.String)
            columns.append(text.set(text == "", None).alias(name))
        else:
            columns.append(write_cells(name, series.to_list()))
    return pl.DataFrame(columns)


def _cell(value: Any) -> str | None:
    if isinstance(value, str):
        return _decodable(value)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple, set, dict)):
        value = sorted(value, key=str) if isinstance(value, set) else value
        return _decodable(json.dumps(value, ensure_ascii=False, default=_plain))
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "backslashreplace") or None
    if value is None or pd.isna(value):
        return None
    return _decodable(str(value))


def _plain(value: Any) -> Any:
    # What stands inside a list: its own text, but never that of numpy's arrays, which is cut.
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)


def _decodable(text: str) -> str | None:
    # Half of a surrogate pair is in no UTF-8; it stays readable as its escape.
    return text.encode("utf-8", "backslashreplace").decode() if text else None


def _storable(name: str) -> str:
    return (_decodable(name) or "").replace("\0", r"\x00")
