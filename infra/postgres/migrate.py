"""Brings the `metadata` schema to the newest version, by Alembic over asyncpg."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from infra.postgres.connection import split_url

MIGRATIONS = Path(__file__).parent / "migrations"


async def migrate(owner_url: str) -> None:
    """Leave the database at the newest migration; a database that is there already is untouched."""
    address, tls = split_url(owner_url)
    engine = create_async_engine(
        address.replace("postgresql://", "postgresql+asyncpg://", 1),
        poolclass=NullPool,
        connect_args={"ssl": tls} if tls else {"ssl": False},
    )
    async with engine.begin() as connection:
        await connection.run_sync(_upgrade)
    await engine.dispose()


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
