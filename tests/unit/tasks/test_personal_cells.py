"""Personal columns on their way into the database: one text for one value, nothing in clear."""

import datetime as dt
from decimal import Decimal

import polars as pl

from infra.cell_encryption import KeyRing
from schemas.dataset import Dataset, Role, column
from tasks.personal_cells import encrypt_cells, index_cells, place_of, write_text

KEYS = KeyRing([bytes([1]) * 32], [bytes([2]) * 32])


class Patients(Dataset, table="patients", role=Role.STAGING):
    """One row per patient."""

    id: int = column()
    name: str = column(pii=True, nullable=True)
    insured_no: int = column(pii=True, nullable=True)
    weight_kg: float = column(pii=True, nullable=True)
    income: Decimal = column(pii=True, nullable=True)
    smokes: bool = column(pii=True, nullable=True)
    born_on: dt.date = column(pii=True, nullable=True)
    seen_at: dt.datetime = column(pii=True, nullable=True)


SPEC = Patients.spec
ROWS = pl.DataFrame(
    {
        "id": [1, 2],
        "name": ["Zoë 🦆", None],
        "insured_no": [-17, None],
        "weight_kg": [70.5, None],
        "income": [Decimal("1234.50"), None],
        "smokes": [True, None],
        "born_on": [dt.date(1990, 1, 2), None],
        "seen_at": [dt.datetime(2024, 2, 29, 9, 0, 0, 17, tzinfo=dt.UTC), None],
    },
    schema={each.name: each.dtype for each in SPEC.columns},
)
TEXTS = {
    "name": "Zoë 🦆",
    "insured_no": "-17",
    "weight_kg": "70.5",
    "income": "1234.50",
    "smokes": "true",
    "born_on": "1990-01-02",
    "seen_at": "2024-02-29T09:00:00.000017Z",
}


def test_a_value_of_any_kind_is_encrypted_as_one_text() -> None:
    stored = encrypt_cells(ROWS, SPEC, KEYS)
    assert stored["id"].to_list() == [1, 2]
    for name, text in TEXTS.items():
        column_ = SPEC.column(name)
        assert write_text(ROWS[name], column_).to_list() == [text, None]
        assert stored[name].dtype == pl.Binary
        assert KEYS.decrypt(stored[name], place_of(SPEC, column_)).to_list() == [text, None]


def test_every_personal_column_has_an_index_of_its_own() -> None:
    indexes = {each.name: each for each in index_cells(ROWS, SPEC, KEYS)}
    assert list(indexes) == [f"_{name}_index" for name in TEXTS]
    assert len({each[0] for each in indexes.values()}) == len(TEXTS)
    assert all(len(each[0]) == 16 and each[1] is None for each in indexes.values())


def test_rows_without_personal_columns_stay_as_they_are() -> None:
    assert encrypt_cells(ROWS, SPEC, None) is ROWS
