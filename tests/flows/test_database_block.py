"""PostgreSQL's address from a Prefect block of prefect-sqlalchemy."""

import pytest

from deployments.blocks import save_database_block
from infra.postgres.connection import connect
from infra.settings import Settings
from schemas.errors import SettingError
from tasks.database import find_database_url


async def test_a_block_names_the_database_that_flows_use(database) -> None:
    await save_database_block("warehouse", database.loader_url)
    url = await find_database_url(Settings(database_block="warehouse"))
    connection = await connect(url)
    try:
        assert await connection.fetchval("SELECT current_user") == "sluiceway_loader"
        assert await connection.fetchval("SELECT current_database()") == database.name
    finally:
        await connection.close()


async def test_a_block_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(SettingError, match="SLUICEWAY_DATABASE_BLOCK names 'nowhere'"):
        await find_database_url(Settings(database_block="nowhere"))
