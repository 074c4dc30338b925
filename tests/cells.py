"""Personal cells that a test has read from the database, as the values that they hold."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from infra.cell_encryption import CellError, Place
from infra.cell_keys import read_key_ring
from schemas.dataset import Kind
from schemas.datasets import DATASETS


class Row(dict[str, Any]):
    """A record as asyncpg has them: by name, by place, and its values when it is run through."""

    def __getitem__(self, key: str | int) -> Any:
        return list(self.values())[key] if isinstance(key, int) else super().__getitem__(key)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values())


def in_clear(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """Return the rows with every cell decrypted that stands under the name of its column."""
    return [Row({name: _value(name, value) for name, value in row.items()}) for row in rows]


def _value(name: str, value: object) -> object:
    if not isinstance(value, bytes):
        return value
    keys = read_key_ring()
    if name in {"raw", "raw_sealed"}:
        return keys.open(value, Place("quarantine", "raw")).decode()
    for each in DATASETS:
        try:
            text = keys.open(value, Place(each.spec.table, name)).decode()
        except CellError:
            continue
        return float(text) if each.spec.column(name).kind is Kind.NUMBER else text
    return value
