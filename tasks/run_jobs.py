"""Runs the jobs of one pipeline run: a report for each, whatever becomes of it."""

import asyncio
from collections.abc import Sequence

import structlog

from infra.endpoints import Endpoint
from infra.postgres.connection import Pool
from schemas.errors import LedgerError, SluicewayError
from tasks.discover_files import Found
from tasks.jobs import Job, Queue, make_queues
from tasks.load import Order, Outcome, Report
from tasks.progress import ByteProgress
from tasks.record import Execution
from tasks.steps import fetch_endpoint, load_answer, load_file


class JobRunner:
    """Loads what it is given on behalf of one run, a limited number of sources at a time."""

    def __init__(
        self,
        pool: Pool,
        run: Execution,
        progress: ByteProgress,
        log: structlog.stdlib.BoundLogger,
        *,
        force: bool,
        concurrent: int,
        accept_anomalies: bool = False,
    ) -> None:
        """Take what all of the run's loads share."""
        self._pool = pool
        self._run = run
        self._progress = progress
        self._log = log.bind(run=run.id)
        self._force = force
        self._accept_anomalies = accept_anomalies
        self._slots = asyncio.Semaphore(concurrent)

    async def run_all(self, jobs: Sequence[Job]) -> list[Report]:
        """Load dimensions before the facts that name their rows, and all else side by side.

        Returns a report a job, in the order they ended. Raises LedgerError when counts do not
        add up; nothing more is loaded then.
        """
        reports: list[Report] = []
        running: dict[str, asyncio.Task[None]] = {}
        try:
            async with asyncio.TaskGroup() as group:
                for queue in make_queues(jobs):
                    before = [running[table] for table in queue.after]
                    queued = self._run_queue(queue, before, reports)
                    running[queue.table] = group.create_task(queued)
        except ExceptionGroup as errors:
            # The first one stopped the others; whoever reads it wants its sentence, not a group's.
            raise errors.exceptions[0] from None
        return reports

    async def _run_queue(
        self, queue: Queue, before: list[asyncio.Task[None]], reports: list[Report]
    ) -> None:
        if before:
            await asyncio.wait(before)
        for job in queue.jobs:
            async with self._slots:
                report = await self._run_job(job)
            reports.append(report)
            self._tell(job, report)

    async def _run_job(self, job: Job) -> Report:
        try:
            if isinstance(job.origin, Found):
                return await self._load_file(job, job.origin)
            return await self._load_endpoint(job, job.origin)
        except LedgerError:
            # Counts that do not add up are a fault of the platform: nothing after it is trusted.
            raise
        except SluicewayError as error:
            return _refuse(job, str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the other sources still load
            self._log.exception("the platform failed on a source", source=job.name)
            said = str(error).split("\n", maxsplit=1)[0]
            return _refuse(
                job,
                f"{job.name} could not be loaded by a fault of the platform "
                f"({type(error).__name__}: {said}): please report it, the log has the details.",
            )

    async def _load_file(self, job: Job, found: Found) -> Report:
        order = Order(self._run.id, str(found.path), job.table, job.spec)
        return await load_file(
            self._pool,
            found,
            order,
            force=self._force,
            accept_anomalies=self._accept_anomalies,
            on_progress=self._progress.follow(found.path),
        )

    async def _load_endpoint(self, job: Job, endpoint: Endpoint) -> Report:
        order = Order(self._run.id, endpoint.shown_url, job.table, job.spec)
        try:
            fetched = await fetch_endpoint(endpoint)
        except SluicewayError as error:
            return Report(order.path, job.table, Outcome.UNREACHABLE, message=str(error))
        return await load_answer(
            self._pool,
            fetched,
            order,
            force=self._force,
            accept_anomalies=self._accept_anomalies,
        )

    def _tell(self, job: Job, report: Report) -> None:
        ledger = report.ledger
        log = self._log.bind(source=job.name, dataset=report.table)
        match report.outcome:
            case Outcome.LOADED:
                log.info(
                    "loaded",
                    read=ledger.read,
                    inserted=ledger.inserted,
                    updated=ledger.updated,
                    unchanged=ledger.unchanged,
                    superseded=ledger.superseded,
                    duplicates=ledger.duplicates,
                    quarantined=ledger.quarantined,
                )
            case Outcome.UNCHANGED:
                log.info("skipped", why=report.message)
            case Outcome.UNREACHABLE:
                self._run.warnings.append(report.message)
                log.warning("the API gave nothing; the run goes on without it", why=report.message)
            case Outcome.REFUSED:
                log.error("not loaded", why=report.message)
        for note in report.notes:
            self._run.warnings.append(f"{job.name}: {note}")
            log.warning(note)


def _refuse(job: Job, message: str) -> Report:
    path = str(job.origin.path) if isinstance(job.origin, Found) else job.name
    return Report(path, job.table, Outcome.REFUSED, message=message)
