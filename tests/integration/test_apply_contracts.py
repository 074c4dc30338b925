"""A contract that changes what it calls personal: said plainly, and never guessed at."""

import re
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest

from deployments.bootstrap import bootstrap
from infra.postgres.connection import Pool
from schemas.dataset import Dataset, History, Role, column
from schemas.errors import ContractError


class Plain:
    """Contracts without a personal column."""

    class People(
        Dataset, table="people", role=Role.DIMENSION, key=("id",), history=History.KEEP_VERSIONS
    ):
        """A dimension."""

        id: int = column()
        mail: str = column()

    class Calls(Dataset, table="calls", role=Role.FACT, key=("id",)):
        """A fact."""

        id: int = column()
        number: int = column()


class Personal:
    """The same with one each."""

    class People(
        Dataset, table="people", role=Role.DIMENSION, key=("id",), history=History.KEEP_VERSIONS
    ):
        """A dimension."""

        id: int = column()
        mail: str = column(pii=True)

    class Calls(Dataset, table="calls", role=Role.FACT, key=("id",)):
        """A fact."""

        id: int = column()
        number: int = column(pii=True)


class Wider(
    Dataset, table="people", role=Role.DIMENSION, key=("id",), history=History.KEEP_VERSIONS
):
    """A dimension that gained a personal column."""

    id: int = column()
    mail: str = column()
    phone: str = column(pii=True, nullable=True)


@pytest.fixture
async def owner(database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.owner_url)
    yield connection
    await connection.close()


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ((Plain.People,), (Personal.People,), "In the contract of people mail became personal, "),
        ((Personal.People,), (Plain.People,), "In the contract of people mail is personal no more"),
        ((Plain.Calls,), (Personal.Calls,), "In the contract of calls number became personal, "),
        ((Personal.Calls,), (Plain.Calls,), "In the contract of calls number is personal no more"),
    ],
)
async def test_who_changes_what_is_personal_is_told_what_to_do(
    database, owner: asyncpg.Connection, before, after, said: str
) -> None:
    await bootstrap(database.owner_url, datasets=before)
    table = before[0].spec.table
    # A batch in a table of its own, as a large load leaves it.
    await owner.execute(f"CREATE TABLE staging.{table}__b1 (LIKE staging.{table})")
    await owner.execute(f"ALTER TABLE staging.{table}__b1 INHERIT staging.{table}")
    with pytest.raises(ContractError) as error:
        await bootstrap(database.owner_url, datasets=after)
    sentence = str(error.value)
    assert sentence.startswith(said)
    assert "TYPE" not in sentence
    statements = re.findall(r"(?:DROP|ALTER) TABLE [^;]+;", sentence)
    assert len(statements) == 2
    for statement in statements:
        await owner.execute(statement)
    await bootstrap(database.owner_url, datasets=after)
    assert await bootstrap(database.owner_url, datasets=after) == []
    rights = "SELECT has_any_column_privilege('sluiceway_eraser', $1, 'SELECT')"
    is_personal = any(each.pii for each in after[0].spec.columns)
    assert await owner.fetchval(rights, f"staging.{table}") == is_personal


async def test_a_personal_column_that_is_added_is_searched_by_index(
    database, owner: asyncpg.Connection
) -> None:
    await bootstrap(database.owner_url, datasets=(Plain.People,))
    assert await bootstrap(database.owner_url, datasets=(Wider,)) == [
        "added staging.people.phone",
        "added staging.people._phone_index",
        "added warehouse.dim_people.phone",
        "added warehouse.dim_people._phone_index",
    ]
    assert await bootstrap(database.owner_url, datasets=(Wider,)) == []
    indexed = """
        SELECT count(*) FROM pg_index JOIN pg_attribute ON attrelid = indrelid
            AND attnum = indkey[0]
        WHERE indrelid = 'warehouse.dim_people'::regclass AND attname = '_phone_index'
    """
    assert await owner.fetchval(indexed) == 1


async def test_a_contract_that_calls_nothing_personal_any_more_leaves_the_eraser_no_right(
    database, owner: asyncpg.Connection, pool: Pool
) -> None:
    await bootstrap(database.owner_url, datasets=(Wider,))
    rights: Callable[[str], str] = (
        "SELECT has_any_column_privilege('sluiceway_eraser', '{}', 'SELECT, UPDATE')".format
    )
    assert await owner.fetchval(rights("warehouse.dim_people"))
    for table in ("staging.people", "warehouse.dim_people"):
        await owner.execute(f"ALTER TABLE {table} DROP COLUMN phone, DROP COLUMN _phone_index")
    await bootstrap(database.owner_url, datasets=(Plain.People,))
    assert not await owner.fetchval(rights("warehouse.dim_people"))
