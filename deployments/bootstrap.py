"""Prepares a PostgreSQL for the platform: roles, the metadata schema, the datasets' tables.

`python -m deployments.bootstrap` does it for SLUICEWAY_OWNER_DATABASE_URL; run it again after
every change of a contract. It is idempotent. The roles get the passwords that stand in
SLUICEWAY_DATABASE_URL, SLUICEWAY_READER_DATABASE_URL and SLUICEWAY_MONITOR_DATABASE_URL.
"""

import argparse
import asyncio
import sys
from urllib.parse import unquote, urlsplit

import asyncpg
from pydantic import SecretStr

from infra.postgres.apply import LOADER, MONITOR, apply_contracts
from infra.postgres.connection import connect
from infra.postgres.migrate import migrate
from infra.postgres.rights import READER
from infra.settings import read_settings
from schemas.dataset import Dataset
from schemas.datasets import DATASETS
from schemas.errors import SettingError, SluicewayError

CONNECTION_LIMIT = 60
"""Connections of all flows together; docs/concurrency.md says how the figure came about."""
MONITOR_LIMIT = 5
"""An exporter takes one for a scrape, and another to end one that is stuck."""


async def bootstrap(
    owner_url: str,
    *,
    loader_password: str | None = None,
    reader_password: str | None = None,
    monitor_password: str | None = None,
    datasets: tuple[type[Dataset], ...] = DATASETS,
) -> list[str]:
    """Leave roles, schemas and tables as the contracts want them; returns what was changed.

    owner_url: a role that may create roles and owns the database.
    A password of None leaves the role's password as it is.
    """
    connection = await connect(owner_url)
    try:
        passwords = {LOADER: loader_password, READER: reader_password, MONITOR: monitor_password}
        await create_roles(connection, passwords)
        await migrate(owner_url)
        return await apply_contracts(connection, tuple(each.spec for each in datasets))
    finally:
        await connection.close()


async def create_roles(connection: asyncpg.Connection, passwords: dict[str, str | None]) -> None:
    """Leave the roles there, with their limits; a password of None stays as it is."""
    # Bootstraps of two databases on one server would otherwise race for the same roles.
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext('sluiceway roles'))")
        for role, password in passwords.items():
            if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role):
                await connection.execute(f"CREATE ROLE {role} LOGIN")
            if password is not None:
                literal = await connection.fetchval("SELECT quote_literal($1::text)", password)
                await connection.execute(f"ALTER ROLE {role} PASSWORD {literal}")
        for role, limit in ((LOADER, CONNECTION_LIMIT), (MONITOR, MONITOR_LIMIT)):
            await connection.execute(f"ALTER ROLE {role} CONNECTION LIMIT {limit}")
        # Only a member may hand a table over to the role.
        await connection.execute(f"GRANT {LOADER} TO CURRENT_USER")
        database = await connection.fetchval("SELECT quote_ident(current_database())")
        await connection.execute(f"GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {LOADER}")
        await connection.execute(f"GRANT CONNECT ON DATABASE {database} TO {READER}, {MONITOR}")


async def _main() -> None:
    settings = read_settings()
    owner_url = settings.owner_database_url.get_secret_value()
    if not owner_url:
        raise SettingError(
            "SLUICEWAY_OWNER_DATABASE_URL is not set: name the database as a role that may "
            "create roles and tables."
        )
    changes = await bootstrap(
        owner_url,
        loader_password=_password_of(settings.database_url),
        reader_password=_password_of(settings.reader_database_url),
        monitor_password=_password_of(settings.monitor_database_url),
    )
    for change in changes:
        print(change)  # noqa: T201 - what a command is asked to say
    print("The database is as the contracts want it.")  # noqa: T201


def _password_of(url: SecretStr) -> str | None:
    password = urlsplit(url.get_secret_value()).password
    return unquote(password) if password else None


if __name__ == "__main__":
    argparse.ArgumentParser(
        prog="python -m deployments.bootstrap",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    try:
        asyncio.run(_main())
    except SluicewayError as error:
        sys.exit(str(error))
