"""Saves the database's address as a Prefect block, for SLUICEWAY_DATABASE_BLOCK to name.

    python -m deployments.blocks warehouse

takes it from SLUICEWAY_DATABASE_URL; from then on a worker needs the block's name only.
"""

import argparse
import asyncio
import sys

from prefect_sqlalchemy import AsyncDriver, AsyncSqlAlchemyConnector, ConnectionComponents
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from infra.settings import read_settings
from schemas.errors import SettingError, SluicewayError


async def save_database_block(name: str, database_url: str) -> list[str]:
    """Leave a block of that name with the address; returns a sentence where that changed it."""
    wanted = _components(database_url)
    try:
        there = await AsyncSqlAlchemyConnector.aload(name)
    except ValueError:
        change = f"created the block {name}"
    else:
        if there.connection_info == wanted:
            return []
        change = f"changed the block {name}"
    await AsyncSqlAlchemyConnector(connection_info=wanted).save(name, overwrite=True)
    return [change]


def _components(database_url: str) -> ConnectionComponents:
    """Return the address in parts: as one text, Prefect shows whoever asks the password too."""
    url = make_url(database_url)
    return ConnectionComponents(
        driver=AsyncDriver.POSTGRESQL_ASYNCPG.value,
        username=url.username,
        password=None if url.password is None else SecretStr(str(url.password)),
        host=url.host,
        port=url.port,
        database=url.database,
        query={name: str(value) for name, value in url.query.items()} or None,
    )


async def _main(name: str) -> None:
    url = read_settings().database_url.get_secret_value()
    if not url:
        raise SettingError("SLUICEWAY_DATABASE_URL is not set: it is what the block will hold.")
    await save_database_block(name, url)
    print(f"The block is saved: set SLUICEWAY_DATABASE_BLOCK={name} where flows run.")  # noqa: T201


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m deployments.blocks", description=__doc__)
    parser.add_argument("name", help="the block's name, in lower-case letters, digits and hyphens")
    try:
        asyncio.run(_main(parser.parse_args().name))
    except SluicewayError as error:
        sys.exit(str(error))
