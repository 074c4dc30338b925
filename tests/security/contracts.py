"""Two contracts that differ in one word: which columns are personal."""

from schemas.dataset import Dataset, Role, column

_SHORT = {"min_value": 1, "max_value": 60}


class Guarded(Dataset, table="guarded_people", role=Role.DIMENSION, key=("person_id",)):
    """People whose columns are personal."""

    person_id: int = column(ge=1)
    name: str = column(pii=True, str_length=_SHORT)
    note: str = column(pii=True, nullable=True)


class Unguarded(Dataset, table="unguarded_people", role=Role.DIMENSION, key=("person_id",)):
    """The same people, and nobody has said that anything of them is personal."""

    person_id: int = column(ge=1)
    name: str = column(str_length=_SHORT)
    note: str = column(nullable=True)
