"""Works the rollups out again from the rows they sum up.

`python -m deployments.rebuild_rollups` does it for SLUICEWAY_OWNER_DATABASE_URL. They keep
themselves; this is for after rows were changed behind their triggers, as by a restored backup.
Pipelines may go on meanwhile. Days whose rows were pruned stay as they are.
"""

import argparse
import asyncio
import sys

import asyncpg

from infra.postgres.connection import TRANSIENT, connect
from infra.settings import read_settings
from schemas.errors import SettingError, SluicewayError, TransientError

ROLLUPS = {
    "rollup_executions": "SELECT metadata.rebuild_executions()",
    "rollup_durations": "SELECT metadata.rebuild_durations()",
    "rollup_counts": "SELECT metadata.rebuild_counts()",
    "rollup_quality": "SELECT metadata.rebuild_quality()",
    "rollup_uptime": "SELECT metadata.rebuild_uptime()",
}


async def rebuild_rollups(owner_url: str) -> dict[str, int]:
    """Leave each rollup as the kept rows say; returns how many of its rows were not.

    One transaction a rollup: what was rebuilt stays when a later one fails. Raises SettingError
    when the database or the role is not the right one, TransientError when it may work later.
    """
    connection = await connect(owner_url)
    try:
        corrected = {name: await connection.fetchval(query) for name, query in ROLLUPS.items()}
        # What the exporter counts never falls, so that it is not rebuilt but raised.
        await connection.execute("SELECT metadata.raise_metric_totals()")
    except (asyncpg.InvalidSchemaNameError, asyncpg.UndefinedFunctionError) as error:
        raise SettingError(
            "The database is not prepared for this version: run `python -m deployments.bootstrap` "
            "first."
        ) from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise SettingError(
            f"The rollups can be rebuilt by their owner only ({error}): set "
            "SLUICEWAY_OWNER_DATABASE_URL to the role that bootstrap ran as."
        ) from error
    except TRANSIENT as error:
        raise TransientError(
            f"PostgreSQL broke off while a rollup was rebuilt ({error}): run this again."
        ) from error
    else:
        return corrected
    finally:
        await connection.close()


async def _main() -> None:
    owner_url = read_settings().owner_database_url.get_secret_value()
    if not owner_url:
        raise SettingError(
            "SLUICEWAY_OWNER_DATABASE_URL is not set: name the database as the role that owns the "
            "rollups."
        )
    for name, corrected in (await rebuild_rollups(owner_url)).items():
        print(f"{name}: {corrected} rows corrected")  # noqa: T201 - what a command is asked to say


if __name__ == "__main__":
    argparse.ArgumentParser(
        prog="python -m deployments.rebuild_rollups",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    try:
        asyncio.run(_main())
    except SluicewayError as error:
        sys.exit(str(error))
