"""Loads the raw folder and the API endpoints into the warehouse, each row exactly once.

    python -m flows.daily_etl_pipeline --help

Dimensions go before the facts that name their rows. A source that cannot be loaded does not keep
the others out: the run loads what it can, then ends as failed and says what is missing. An API
that is down is a warning in the run's record, and the run goes on.
"""

import argparse
import asyncio
import datetime as dt
import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from prefect import flow
from prefect.runtime import flow_run

from infra.logs import attach_log_table, configure_logging
from infra.settings import Settings, read_settings
from schemas.datasets import DATASETS
from schemas.errors import SluicewayError, TerminalError
from tasks.database import find_database_url, open_pool, require_database
from tasks.discover_files import discover_files
from tasks.jobs import Job
from tasks.load import Outcome, Report
from tasks.prefect_api import require_prefect
from tasks.prefect_variables import apply_variables
from tasks.progress import ByteProgress
from tasks.publish import publish_ledger
from tasks.record import record_execution
from tasks.run_jobs import JobRunner
from tasks.steps import prune_staging

PIPELINE = "daily_etl_pipeline"


def _name_run() -> str:
    return f"daily {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S}"


@flow(name=PIPELINE, flow_run_name=_name_run, persist_result=False)
async def daily_etl_pipeline(
    raw_folder: Path | None = None,
    *,
    with_api: bool = True,
    force: bool = False,
    accept_anomalies: bool = False,
) -> list[Report]:
    """Load every source that is new; returns what became of each.

    raw_folder: the folder to look into; by default the Prefect variable sluiceway_raw_folder,
        or else SLUICEWAY_RAW_FOLDER.
    with_api: ask the endpoints of SLUICEWAY_API_ENDPOINTS too.
    force: load files again that are unchanged since their last load; it changes no row.
    accept_anomalies: load what contracts refuse because it is odd beside earlier loads; from then
        on such loads are expected.
    Raises TerminalError when a source was refused, after all others were loaded.
    """
    settings = read_settings()
    log = configure_logging(
        PIPELINE, folder=settings.log_folder, level=settings.log_level, settings=settings
    )
    settings = await apply_variables(settings)
    folder = raw_folder or settings.raw_folder
    attach_log_table(await find_database_url(settings))
    parameters = {
        "raw_folder": folder,
        "with_api": with_api,
        "force": force,
        "accept_anomalies": accept_anomalies,
    }
    async with (
        await open_pool(settings) as pool,
        record_execution(pool, PIPELINE, flow_run_id=_run_id(), parameters=parameters) as run,
    ):
        jobs, notes = find_jobs(folder, settings, with_api=with_api)
        run.warnings += notes
        with ByteProgress() as progress:
            runner = JobRunner(
                pool,
                run,
                progress,
                log,
                force=force,
                concurrent=settings.concurrent_files,
                accept_anomalies=accept_anomalies,
            )
            reports = await runner.run_all(jobs)
        run.records_processed = sum(report.ledger.read for report in reports)
        await prune_staging(pool, retention_days=settings.staging_retention_days)
        await publish_ledger(reports, execution_id=run.id)
        refuse_failures(reports)
    return reports


def find_jobs(folder: Path, settings: Settings, *, with_api: bool) -> tuple[list[Job], list[str]]:
    """Return what there is to load, and a sentence for each thing in the folder left out."""
    specs = {each.spec.table: each.spec for each in DATASETS}
    files, notes = discover_files(folder, specs.values())
    if not files:
        notes.append(f"The folder {folder} holds no file that the platform reads.")
    jobs = [Job(found.table, found.spec, found) for found in files]
    if with_api:
        jobs += [
            Job(endpoint.dataset, specs.get(endpoint.dataset), endpoint)
            for endpoint in settings.api_endpoints
        ]
    return jobs, notes


def refuse_failures(reports: Sequence[Report]) -> None:
    """Raise TerminalError naming every source that was not loaded and should have been."""
    refused = [report for report in reports if report.outcome is Outcome.REFUSED]
    if refused:
        sentences = " ".join(report.message for report in refused)
        raise TerminalError(
            f"{len(refused)} of {len(reports)} sources could not be loaded: {sentences} "
            f"What else there was ({len(reports) - len(refused)}) is in the database."
        )


def _run_id() -> UUID | None:
    return UUID(flow_run.id) if flow_run.id else None


async def _run(given: argparse.Namespace) -> None:
    await require_prefect()
    await daily_etl_pipeline(
        given.raw_folder,
        with_api=not given.without_api,
        force=given.force,
        accept_anomalies=given.accept_anomalies,
    )


def main() -> None:
    """Run the pipeline from the command line; exits with a sentence when it fails."""
    parser = argparse.ArgumentParser(
        prog=f"python -m flows.{PIPELINE}", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--raw-folder", type=Path, help="default: SLUICEWAY_RAW_FOLDER")
    parser.add_argument("--without-api", action="store_true", help="load the folder only")
    parser.add_argument("--force", action="store_true", help="load unchanged files again")
    parser.add_argument(
        "--accept-anomalies", action="store_true", help="load what contracts refuse as too odd"
    )
    given = parser.parse_args()
    try:
        # Before Prefect is asked for anything: its answer would bury the sentence.
        require_database(read_settings())
        asyncio.run(_run(given))
    except SluicewayError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
