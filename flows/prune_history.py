"""Deletes what is older than its retention setting; rollups and their figures by day stay.

python -m flows.prune_history --help
"""

import argparse
import asyncio
import sys
from uuid import UUID

from prefect import flow
from prefect.runtime import flow_run

from infra.logs import attach_log_table, configure_logging
from infra.settings import Settings, read_settings
from schemas.errors import SluicewayError
from tasks.database import find_database_url, open_pool, require_database
from tasks.prune_history import prune_old_rows
from tasks.record import record_execution
from tasks.repeat import repeat

PIPELINE = "prune_history"


@flow(name=PIPELINE, persist_result=False)
async def prune_history() -> dict[str, int]:
    """Leave nothing past its retention; returns the rows deleted, by what they were."""
    return await prune(read_settings(), flow_run_id=UUID(flow_run.id) if flow_run.id else None)


async def prune(settings: Settings, *, flow_run_id: UUID | None = None) -> dict[str, int]:
    """Do what the flow does, without Prefect."""
    log = configure_logging(
        PIPELINE, folder=settings.log_folder, level=settings.log_level, settings=settings
    )
    attach_log_table(await find_database_url(settings))
    async with (
        await open_pool(settings) as pool,
        record_execution(pool, PIPELINE, flow_run_id=flow_run_id) as run,
    ):
        deleted = await prune_old_rows(pool, settings)
        run.records_processed = sum(deleted.values())
        log.info("what was past its retention is deleted", **deleted)
    return deleted


async def _run(given: argparse.Namespace) -> None:
    settings = read_settings()
    if given.every is None:
        deleted = await prune(settings)
        said = ", ".join(f"{count:,} of {name}" for name, count in deleted.items())
        print(f"Deleted: {said or 'nothing was past its retention'}.")  # noqa: T201 - the command's answer
        return
    await repeat(lambda: prune(settings), every_seconds=given.every, name=PIPELINE)


def main() -> None:
    """Prune once, or again and again; exits with a sentence when it fails."""
    parser = argparse.ArgumentParser(
        prog=f"python -m flows.{PIPELINE}", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument(
        "--every", type=float, metavar="SECONDS", help="go on, until told to end; a week is 604800"
    )
    given = parser.parse_args()
    try:
        require_database(read_settings())
        asyncio.run(_run(given))
    except SluicewayError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
