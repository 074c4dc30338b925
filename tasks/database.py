"""Where the database is: from the settings, or from a Prefect block of prefect-sqlalchemy."""

import asyncio
from time import monotonic

import prefect_sqlalchemy
import structlog

from infra.postgres.connection import TRANSIENT, Pool
from infra.redaction import hide_password_of
from infra.settings import Settings
from infra.shown_errors import hiding_in_errors
from schemas.errors import SettingError, TransientError

log = structlog.get_logger("sluiceway.database")

_WAIT_SECONDS = 2.0
_NAG_SECONDS = 30.0


def require_database(settings: Settings) -> None:
    """Raise SettingError when no setting says where the database is; asks nobody."""
    if not settings.database_block and not settings.database_url.get_secret_value():
        raise SettingError(
            "No database is named: set SLUICEWAY_DATABASE_URL, or SLUICEWAY_DATABASE_BLOCK to a "
            "Prefect block of the type AsyncSqlAlchemyConnector."
        )


async def find_database_url(settings: Settings) -> str:
    """Return the loader's address; raises SettingError when neither source names one."""
    require_database(settings)
    if settings.database_block:
        with hiding_in_errors():
            url = await _from_block(settings.database_block)
        # It stands in no setting, and must be shown no more than one that does.
        hide_password_of(url)
        return url
    return settings.database_url.get_secret_value()


async def open_pool(settings: Settings) -> Pool:
    """Return the process's pool, not yet opened."""
    return Pool(
        await find_database_url(settings),
        size=settings.pool_size,
        wait_seconds=settings.connect_timeout_seconds,
    )


async def wait_for_database(pool: Pool) -> None:
    """Return once PostgreSQL gives a connection; for what has to start before it is up."""
    said = -_NAG_SECONDS
    while True:
        try:
            async with pool.acquire() as connection:
                await connection.execute("SELECT 1")
        except (TransientError, *TRANSIENT) as error:
            if monotonic() - said >= _NAG_SECONDS:
                said = monotonic()
                log.warning("waiting for PostgreSQL", reason=str(error) or type(error).__name__)
            await asyncio.sleep(_WAIT_SECONDS)
        else:
            return


async def _from_block(name: str) -> str:
    try:
        block = await prefect_sqlalchemy.AsyncSqlAlchemyConnector.aload(name)
    except ValueError as error:
        raise SettingError(
            f"SLUICEWAY_DATABASE_BLOCK names '{name}', which Prefect does not have: create the "
            "block with `python -m deployments.blocks`, or name another."
        ) from error
    url = block._rendered_url  # noqa: SLF001 - the one place that has host, user and password together
    if not url.drivername.startswith("postgresql"):
        raise SettingError(
            f"The Prefect block '{name}' is of {url.drivername}: take one of PostgreSQL."
        )
    address: str = url.set(drivername="postgresql").render_as_string(hide_password=False)
    return address
