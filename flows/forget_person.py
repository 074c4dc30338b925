"""Erases one person everywhere and leaves a record of it; by default only counts.

    python -m flows.forget_person customers email --ticket 4711

asks for the value, or reads it from its input. It is no parameter of the flow, which Prefect keeps
in clear: a worker reads it from a file or a Prefect Secret block, whose name is.

Delete the person at the source first: a row that comes again is loaded again.
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
from infra.postgres.connection import Pool
from infra.settings import Settings, read_settings
from schemas.datasets import DATASETS
from schemas.errors import SettingError, SluicewayError
from tasks.database import find_database_url, open_pool, require_database
from tasks.forget_person import Erasure, Request, tabulate
from tasks.forget_person import forget_person as forget
from tasks.key_proof import prove_keys
from tasks.prefect_api import require_prefect
from tasks.record import record_execution
from tasks.replay_tables import print_table, publish_table
from tasks.subject import STDIN, name_subject, read_value

PIPELINE = "forget_person"


def _name_run() -> str:
    return f"forget {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S}"


@flow(name=PIPELINE, flow_run_name=_name_run, persist_result=False)
async def forget_person(
    dataset: str,
    column: str,
    *,
    requested_by: str,
    value_file: str | None = None,
    value_block: str | None = None,
    several: bool = False,
    only_here: bool = False,
    dry_run: bool = True,
) -> Erasure:
    """Erase the person with that value in that column; returns what was erased.

    column: a personal one of the dataset, or its key. requested_by: who asked, as a ticket's
    number: it is kept, so name nobody. value_file: holds the value; `-` is this process's input.
    value_block: a Prefect Secret block that holds it. several: the value may stand for several
    members of a dimension. only_here: the same value in other datasets is somebody else's.
    dry_run: only count.
    """
    settings = read_settings()
    log = configure_logging(
        PIPELINE, folder=settings.log_folder, level=settings.log_level, settings=settings
    )
    attach_log_table(await find_database_url(settings))
    value = await read_value(value_file, value_block, prompt=f"{dataset}.{column}: ")
    specs = [each.spec for each in DATASETS]
    subject = name_subject(specs, dataset, column, value, only_here=only_here)
    parameters: dict[str, object] = {
        "dataset": dataset,
        "column": column,
        "requested_by": requested_by,
        "several": several,
        "only_here": only_here,
        "dry_run": dry_run,
    }
    async with (
        await open_pool(settings) as pool,
        _open_eraser(settings) as eraser,
        record_execution(pool, PIPELINE, flow_run_id=_run_id(), parameters=parameters) as run,
    ):
        request = Request(subject, requested_by, run.id, several=several, dry_run=dry_run)
        ring = read_key_ring(settings)
        async with eraser.acquire() as connection:
            await prove_keys(connection, ring, may_write=False)
        erasure = await forget(eraser, specs, ring, request)
        run.records_processed = erasure.total
        log.info(str(erasure), dry_run=dry_run, rows=erasure.total)
        await publish_table("forgotten", tabulate(erasure), str(erasure))
    return erasure


def _open_eraser(settings: Settings) -> Pool:
    url = settings.eraser_database_url.get_secret_value()
    if not url:
        raise SettingError(
            "SLUICEWAY_ERASER_DATABASE_URL is not set: name the database as the role "
            "sluiceway_eraser, which alone may erase."
        )
    return Pool(url, size=2, wait_seconds=settings.connect_timeout_seconds)


def _run_id() -> UUID | None:
    return UUID(flow_run.id) if flow_run.id else None


async def _run(given: argparse.Namespace) -> Erasure:
    await require_prefect()
    erasure: Erasure = await forget_person(
        given.dataset,
        given.column,
        requested_by=given.ticket,
        value_file=given.value_file,
        value_block=given.value_block,
        several=given.several,
        only_here=given.only_here,
        dry_run=not given.for_real,
    )
    return erasure


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m flows.{PIPELINE}",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", help="as customers")
    parser.add_argument("column", help="a personal column of it, or its key")
    parser.add_argument("--ticket", required=True, help="who asked for it; kept, so name nobody")
    parser.add_argument("--value-file", help="holds the value (default: the command's input)")
    parser.add_argument("--value-block", help="a Prefect Secret block that holds the value")
    parser.add_argument(
        "--several", action="store_true", help="the value may stand for several members"
    )
    parser.add_argument(
        "--only-here", action="store_true", help="leave the same value in other datasets alone"
    )
    parser.add_argument("--for-real", action="store_true", help="erase; without it, only count")
    given = parser.parse_args()
    if given.value_file is None and given.value_block is None:
        given.value_file = STDIN
    return given


def main() -> None:
    """Forget from the command line; exits with a sentence when it fails."""
    given = _parse()
    try:
        require_database(read_settings())
        erasure = asyncio.run(_run(given))
    except SluicewayError as error:
        sys.exit(str(error))
    hint = "" if given.for_real or not erasure.total else " --for-real erases them."
    print_table(tabulate(erasure), f"{erasure}{hint}")


if __name__ == "__main__":
    main()
