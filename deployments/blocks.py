"""Saves the database's address as a Prefect block, for SLUICEWAY_DATABASE_BLOCK to name.

    python -m deployments.blocks warehouse

takes it from SLUICEWAY_DATABASE_URL; from then on a worker needs the block's name only.
"""

import argparse
import asyncio
import sys

from prefect_sqlalchemy import AsyncSqlAlchemyConnector
from sqlalchemy.engine import make_url

from infra.settings import read_settings
from schemas.errors import SettingError, SluicewayError


async def save_database_block(name: str, database_url: str) -> None:
    """Leave a block of that name with the address, replacing one that is there."""
    url = make_url(database_url).set(drivername="postgresql+asyncpg")
    block = AsyncSqlAlchemyConnector(connection_info=url.render_as_string(hide_password=False))
    await block.save(name, overwrite=True)


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
