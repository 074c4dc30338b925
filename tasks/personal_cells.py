"""The personal columns of cleaned rows: what they are found by, and their cells encrypted."""

import polars as pl

from infra.cell_encryption import KeyRing, Place
from infra.postgres.layout import index_name
from schemas.dataset import Column, Kind, Spec


def place_of(spec: Spec, column: Column) -> Place:
    """Return where a column's cells stand; the same in staging and in the warehouse.

    The merge moves cells from one to the other by SQL, which has no keys.
    """
    return Place(spec.table, column.name)


def write_text(values: pl.Series, column: Column) -> pl.Series:
    """Return the values (of the column's type) as the one text that each is encrypted as."""
    if column.kind is Kind.TIMESTAMP:
        return values.dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    return values.cast(pl.String)


def index_cells(frame: pl.DataFrame, spec: Spec, keys: KeyRing) -> list[pl.Series]:
    """Return for each personal column its index (Binary, 16 bytes), by the name it is stored by."""
    return [
        keys.index(write_text(frame[each.name], each), place_of(spec, each)).alias(
            index_name(each.name)
        )
        for each in spec.columns
        if each.pii
    ]


def encrypt_cells(frame: pl.DataFrame, spec: Spec, keys: KeyRing | None) -> pl.DataFrame:
    """Return the rows with their personal columns encrypted (Binary), the others as they were.

    keys: may be None for a contract without personal columns.
    """
    if keys is None:
        return frame
    return frame.with_columns(
        keys.encrypt(write_text(frame[each.name], each), place_of(spec, each)).alias(each.name)
        for each in spec.columns
        if each.pii
    )
