"""Prepares what the platform runs on: PostgreSQL, and a Prefect server where one is named.

`python -m deployments.bootstrap` makes roles, the metadata schema and the datasets' tables in the
database of SLUICEWAY_OWNER_DATABASE_URL; the roles get the passwords that stand in
SLUICEWAY_DATABASE_URL and the same with READER_, MONITOR_ and ERASER_ in it. On the server of
PREFECT_API_URL it makes work pools with their limits, the block that SLUICEWAY_DATABASE_BLOCK
names, variables, automations, and the deployments of prefect.yaml.

Run it again after every change of a contract or of prefect.yaml: it changes what differs, and says
what that was. What somebody has paused stays paused.
"""

import argparse
import asyncio
import sys
from urllib.parse import unquote, urlsplit

import asyncpg
import sqlalchemy
from pydantic import SecretStr

from deployments.roles import ROLES, create_roles
from infra.postgres.apply import ERASER, LOADER, MONITOR, apply_contracts
from infra.postgres.connection import TRANSIENT, connect
from infra.postgres.migrate import migrate
from infra.postgres.rights import READER
from infra.redaction import hide_secrets_of, redact
from infra.settings import Settings, read_settings
from schemas.dataset import Dataset
from schemas.datasets import DATASETS
from schemas.errors import SettingError, SluicewayError, TerminalError, TransientError

DATABASE, PREFECT = "database", "prefect"


async def bootstrap(
    owner_url: str,
    *,
    loader_password: str | None = None,
    reader_password: str | None = None,
    monitor_password: str | None = None,
    eraser_password: str | None = None,
    datasets: tuple[type[Dataset], ...] = DATASETS,
) -> list[str]:
    """Leave roles, schemas and tables as the contracts want them; returns what was changed.

    owner_url: a role that may create roles and owns the database.
    A password of None leaves the role's password as it is; one that is set is not in the answer,
    since nobody can read the one that was there.
    """
    connection = await connect(owner_url)
    try:
        passwords = {
            LOADER: loader_password,
            READER: reader_password,
            MONITOR: monitor_password,
            ERASER: eraser_password,
        }
        roles, version = await _look(connection)
        await create_roles(connection, passwords)
        await migrate(owner_url)
        roles_now, version_now = await _look(connection)
        changes = [f"created the role {each}" for each in ROLES if each in roles_now - roles]
        if version_now != version:
            changes.append(f"migrated metadata to version {version_now}")
        return changes + await apply_contracts(connection, tuple(each.spec for each in datasets))
    finally:
        await connection.close()


async def _look(connection: asyncpg.Connection) -> tuple[set[str], str | None]:
    """Return which roles there are, and which version of the metadata schema."""
    names = await connection.fetch(
        "SELECT rolname FROM pg_roles WHERE rolname = ANY ($1)", list(ROLES)
    )
    # Alembic's table; see infra/postgres/migrations/env.py.
    is_there = await connection.fetchval("SELECT to_regclass('public.sluiceway_version')")
    statement = "SELECT version_num FROM public.sluiceway_version"
    return (
        {each["rolname"] for each in names},
        await connection.fetchval(statement) if is_there else None,
    )


async def bootstrap_database(settings: Settings) -> list[str]:
    """Do it for the database of the settings; what PostgreSQL refuses is one sentence."""
    owner_url = settings.owner_database_url.get_secret_value()
    if not owner_url:
        raise SettingError(
            "SLUICEWAY_OWNER_DATABASE_URL is not set: name the database as a role that may "
            "create roles and tables."
        )
    try:
        return await bootstrap(
            owner_url,
            loader_password=_password_of(settings.database_url),
            reader_password=_password_of(settings.reader_database_url),
            monitor_password=_password_of(settings.monitor_database_url),
            eraser_password=_password_of(settings.eraser_database_url),
        )
    except TRANSIENT as error:
        said = str(error) or type(error).__name__
        raise TransientError(
            f"PostgreSQL went away meanwhile ({said}): run this again, it does what is left."
        ) from error
    except (asyncpg.PostgresError, sqlalchemy.exc.DBAPIError) as error:
        raise TerminalError(
            f"PostgreSQL refused what bootstrap wants ({_first_line(error)}): the role of "
            "SLUICEWAY_OWNER_DATABASE_URL has to own the database, and needs CREATEROLE."
        ) from error


def _first_line(error: asyncpg.PostgresError | sqlalchemy.exc.DBAPIError) -> str:
    cause = error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else error
    # Not the statement: it may hold a password.
    return str(cause).split("\n", maxsplit=1)[0].rsplit(">: ", maxsplit=1)[-1]


async def _run(settings: Settings, only: str | None) -> None:
    if only != PREFECT:
        _say("database", await bootstrap_database(settings))
    if only == DATABASE:
        return
    # Importing Prefect takes seconds, which `bootstrap` costs nobody.
    from deployments.publication import publish  # noqa: PLC0415
    from infra.health.prefect_server import is_named  # noqa: PLC0415

    if only is None and not is_named():
        _write("prefect: PREFECT_API_URL is not set, so nothing was done on a server")
        return
    _say("prefect", await publish(settings))


def _say(part: str, changes: list[str]) -> None:
    for each in changes or ["nothing to change"]:
        _write(f"{part}: {each}")


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _password_of(url: SecretStr) -> str | None:
    password = urlsplit(url.get_secret_value()).password
    return unquote(password) if password else None


def main() -> None:
    """Do it, and say what was changed; exits with a sentence when it cannot."""
    parser = argparse.ArgumentParser(
        prog="python -m deployments.bootstrap",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", choices=(DATABASE, PREFECT), help="leave the other one alone")
    given = parser.parse_args()
    try:
        settings = read_settings()
        hide_secrets_of(settings)
        asyncio.run(_run(settings, given.only))
    except SluicewayError as error:
        sys.exit(redact(str(error)))


if __name__ == "__main__":
    main()
