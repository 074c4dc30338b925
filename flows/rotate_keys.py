"""Writes every personal cell anew with the first of SLUICEWAY_CELL_KEYS, while loads go on.

    python -m flows.rotate_keys

Put the new key before the old ones and restart what runs, then run this; when it says that no
cell is of an old key, take the old key away (docs/personal-data.md). It may be interrupted.
"""

import argparse
import asyncio
import datetime as dt
import sys
from uuid import UUID

from prefect import flow
from prefect.runtime import flow_run

from infra.cell_keys import read_key_ring
from infra.logs import attach_log_table, configure_logging
from infra.settings import read_settings
from schemas.datasets import DATASETS
from schemas.errors import SluicewayError
from tasks.database import find_database_url, open_pool, require_database
from tasks.prefect_api import require_prefect
from tasks.record import record_execution
from tasks.replay_tables import print_table, publish_table
from tasks.rotate_keys import Rotation, require_readable, tabulate
from tasks.rotate_keys import rotate_keys as rotate

PIPELINE = "rotate_keys"


def _name_run() -> str:
    return f"rotate {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S}"


@flow(name=PIPELINE, flow_run_name=_name_run, persist_result=False)
async def rotate_keys(*, dry_run: bool = False) -> Rotation:
    """Leave every cell of today's key, and every index; returns what is of which key.

    dry_run: only count. Fails at its end, when all else is done, where cells cannot be read.
    """
    settings = read_settings()
    log = configure_logging(
        PIPELINE, folder=settings.log_folder, level=settings.log_level, settings=settings
    )
    attach_log_table(await find_database_url(settings))
    async with (
        await open_pool(settings) as pool,
        record_execution(
            pool, PIPELINE, flow_run_id=_run_id(), parameters={"dry_run": dry_run}
        ) as run,
    ):
        ring = read_key_ring(settings)
        rotation = await rotate(pool, [each.spec for each in DATASETS], ring, dry_run=dry_run)
        run.records_processed = rotation.rows.total()
        log.info(str(rotation), dry_run=dry_run, left=rotation.left)
        await publish_table("keys", tabulate(rotation), str(rotation))
        require_readable(rotation)
        if rotation.left and not dry_run:
            run.warnings.append(
                f"{rotation.left:,} cells are still of older keys: something that runs has not "
                "been restarted with the new one; restart it and run this again."
            )
    return rotation


def _run_id() -> UUID | None:
    return UUID(flow_run.id) if flow_run.id else None


async def _run(*, dry_run: bool) -> Rotation:
    await require_prefect()
    rotation: Rotation = await rotate_keys(dry_run=dry_run)
    return rotation


def main() -> None:
    """Rotate from the command line; exits with a sentence when it fails."""
    parser = argparse.ArgumentParser(
        prog=f"python -m flows.{PIPELINE}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dry-run", action="store_true", help="only count the cells of each key")
    given = parser.parse_args()
    try:
        require_database(read_settings())
        rotation = asyncio.run(_run(dry_run=given.dry_run))
    except SluicewayError as error:
        sys.exit(str(error))
    print_table(tabulate(rotation), str(rotation))


if __name__ == "__main__":
    main()
