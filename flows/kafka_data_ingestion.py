"""Puts the API endpoints' records, and CSV files where asked, on the stream's topic in Kafka.

    python -m flows.kafka_data_ingestion --help

Each record is a message `{"source": ..., "timestamp": ..., "payload": {...}}`, keyed by its
dataset's key, that Kafka has acknowledged. A source that the topic has already, just as it is, is
left alone. What Kafka refuses stands in metadata.unsent_messages: a run begins by sending again
what can pass. An API that is down is a warning in the run's record, and the run goes on.
"""

import argparse
import asyncio
import datetime as dt
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from prefect import flow
from prefect.runtime import flow_run

from infra.kafka.client import require_kafka
from infra.kafka.producer import Producer
from infra.logs import attach_log_table, configure_logging
from infra.postgres.identifiers import table_name
from infra.settings import Settings, read_settings
from schemas.datasets import DATASETS
from schemas.errors import RefusedError, SluicewayError, TerminalError
from tasks.database import find_database_url, open_pool, require_database
from tasks.discover_files import Found, discover_files, split_name
from tasks.jobs import Job
from tasks.prefect_api import require_prefect
from tasks.prefect_variables import apply_variables
from tasks.produce_source import Outcome, Produced
from tasks.production_lock import hold_production
from tasks.progress import ByteProgress
from tasks.publish import publish_production
from tasks.record import record_execution
from tasks.run_production import ProductionRunner
from tasks.stream_steps import resend_unsent

PIPELINE = "kafka_data_ingestion"


def _name_run() -> str:
    return f"produce {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S}"


@flow(name=PIPELINE, flow_run_name=_name_run, persist_result=False)
async def kafka_data_ingestion(
    files: tuple[Path, ...] = (),
    *,
    with_csv: bool = False,
    raw_folder: Path | None = None,
    with_api: bool = True,
    force: bool = False,
) -> list[Produced]:
    """Produce every source that is new to SLUICEWAY_KAFKA_TOPIC; returns what became of each.

    files: files to produce, of any format that the platform reads.
    with_csv: produce the CSV files of the raw folder too.
    raw_folder: the folder to look into; by default the Prefect variable sluiceway_raw_folder,
        or else SLUICEWAY_RAW_FOLDER.
    with_api: ask the endpoints of SLUICEWAY_API_ENDPOINTS.
    force: produce again what is unchanged; the merge makes it harmless.
    Raises TransientError when Kafka cannot be reached, TerminalError when a source could not be
    produced whole, after all others were.
    """
    settings = read_settings()
    log = configure_logging(
        PIPELINE, folder=settings.log_folder, level=settings.log_level, settings=settings
    )
    settings = await apply_variables(settings)
    folder = raw_folder or settings.raw_folder
    topic = settings.kafka_topic
    attach_log_table(await find_database_url(settings))
    parameters = {
        "files": [str(each) for each in files],
        "with_csv": with_csv,
        "raw_folder": folder,
        "with_api": with_api,
        "force": force,
        "topic": topic,
    }
    async with (
        await open_pool(settings) as pool,
        Producer(settings) as producer,
        record_execution(pool, PIPELINE, flow_run_id=_run_id(), parameters=parameters) as run,
        hold_production(pool, topic),
    ):
        resent = await resend_unsent(pool, producer, topic)
        if resent.sent or resent.refused:
            log.info("sent again", run=run.id, sent=resent.sent, refused=resent.refused)
        if resent.kept:
            run.warnings.append(
                f"{resent.kept:,} messages wait in metadata.unsent_messages that no run sends "
                "again: each row says why."
            )
        jobs, notes = find_jobs(
            settings, files=files, folder=folder if with_csv else None, with_api=with_api
        )
        run.warnings += notes
        with ByteProgress() as progress:
            runner = ProductionRunner(
                pool,
                producer,
                run,
                progress,
                log,
                topic=topic,
                force=force,
                concurrent=settings.concurrent_files,
            )
            reports = await runner.run_all(jobs)
        run.records_processed = sum(report.read for report in reports)
        await publish_production(reports, execution_id=run.id)
        refuse_failures(reports)
    return reports


def find_jobs(
    settings: Settings, *, files: Sequence[Path], folder: Path | None, with_api: bool
) -> tuple[list[Job], list[str]]:
    """Return what there is to produce, and a sentence for each thing that was left out.

    folder: where to look for CSV files; None: nowhere.
    """
    specs = {each.spec.table: each.spec for each in DATASETS}
    found = [_find_file(path) for path in files]
    notes: list[str] = []
    if folder is not None:
        there, notes = discover_files(folder, specs.values())
        known = {each.path for each in found}
        found += [each for each in there if each.is_csv and each.path not in known]
        notes += [
            f"{each.path} was left out: only CSV files are produced from the folder; name the file "
            "to produce it."
            for each in there
            if not each.is_csv
        ]
        if not any(each.is_csv for each in there):
            notes.append(f"The folder {folder} holds no CSV file.")
    jobs = [Job(each.table, each.spec, each) for each in found]
    if with_api:
        jobs += [
            Job(endpoint.dataset, specs.get(endpoint.dataset), endpoint)
            for endpoint in settings.api_endpoints
        ]
    return jobs, notes


def _find_file(path: Path) -> Found:
    there: list[Found] = []
    with suppress(RefusedError):
        there, _ = discover_files(path.parent, [each.spec for each in DATASETS])
    for each in there:
        if each.path == path.absolute():
            return each
    # Reading it will say what is wrong with it, and the other sources are produced.
    return Found(path.absolute(), table_name(split_name(path.name)[1]), None)


def refuse_failures(reports: Sequence[Produced]) -> None:
    """Raise TerminalError naming every source that Kafka does not have whole and never will."""
    sentences = []
    whole = 0
    for report in reports:
        if report.outcome is Outcome.REFUSED:
            sentences.append(report.message)
        elif report.hopeless:
            sentences.append(
                f"{report.hopeless:,} of {report.read:,} messages of {report.path} are too large "
                "for Kafka and kept in metadata.unsent_messages."
            )
        elif report.outcome is not Outcome.UNREACHABLE:
            whole += 1
    if sentences:
        raise TerminalError(
            f"{len(sentences)} of {len(reports)} sources could not be produced whole: "
            f"{' '.join(sentences)} The other {whole} are in Kafka."
        )


def _run_id() -> UUID | None:
    return UUID(flow_run.id) if flow_run.id else None


async def _run(given: argparse.Namespace) -> None:
    await require_prefect()
    await kafka_data_ingestion(
        tuple(given.files),
        with_csv=given.with_csv,
        raw_folder=given.raw_folder,
        with_api=not given.without_api,
        force=given.force,
    )


def main() -> None:
    """Run the pipeline from the command line; exits with a sentence when it fails."""
    parser = argparse.ArgumentParser(
        prog=f"python -m flows.{PIPELINE}", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("files", nargs="*", type=Path, help="files to produce as well")
    parser.add_argument("--with-csv", action="store_true", help="the raw folder's CSV files too")
    parser.add_argument("--raw-folder", type=Path, help="default: SLUICEWAY_RAW_FOLDER")
    parser.add_argument("--without-api", action="store_true", help="ask no API")
    parser.add_argument("--force", action="store_true", help="produce unchanged sources again")
    given = parser.parse_args()
    try:
        # Before Prefect is asked for anything: its answer would bury the sentence.
        settings = read_settings()
        require_database(settings)
        require_kafka(settings)
        asyncio.run(_run(given))
    except SluicewayError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
