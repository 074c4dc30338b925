"""Produces the sources of one run side by side: a report for each, whatever becomes of it."""

import asyncio
from collections.abc import Sequence

import structlog

from infra.endpoints import Endpoint
from infra.kafka.producer import Producer
from infra.postgres.connection import Pool
from schemas.errors import LedgerError, SluicewayError
from tasks.discover_files import Found
from tasks.jobs import Job
from tasks.produce_source import Outcome, Produced, Shipment
from tasks.progress import ByteProgress
from tasks.record import Execution
from tasks.steps import fetch_endpoint
from tasks.stream_steps import produce_answer, produce_file


class ProductionRunner:
    """Produces what it is given on behalf of one run, a limited number of sources at a time."""

    def __init__(
        self,
        pool: Pool,
        producer: Producer,
        run: Execution,
        progress: ByteProgress,
        log: structlog.stdlib.BoundLogger,
        *,
        topic: str,
        force: bool,
        concurrent: int,
    ) -> None:
        """Take what all of the run's sources share."""
        self._pool = pool
        self._producer = producer
        self._run = run
        self._progress = progress
        self._log = log.bind(run=run.id, topic=topic)
        self._topic = topic
        self._force = force
        self._slots = asyncio.Semaphore(concurrent)

    async def run_all(self, jobs: Sequence[Job]) -> list[Produced]:
        """Produce all; returns a report a job, in their order.

        Raises LedgerError when counts do not add up; nothing more is produced then.
        """
        try:
            async with asyncio.TaskGroup() as group:
                running = [group.create_task(self._run_one(job)) for job in jobs]
        except ExceptionGroup as errors:
            # The first one stopped the others; whoever reads it wants its sentence, not a group's.
            raise errors.exceptions[0] from None
        return [each.result() for each in running]

    async def _run_one(self, job: Job) -> Produced:
        async with self._slots:
            report = await self._produce(job)
        self._tell(job, report)
        return report

    async def _produce(self, job: Job) -> Produced:
        try:
            if isinstance(job.origin, Found):
                return await self._produce_file(job, job.origin)
            return await self._produce_endpoint(job, job.origin)
        except LedgerError:
            # Counts that do not add up are a fault of the platform: nothing after it is trusted.
            raise
        except SluicewayError as error:
            return _refuse(job, str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the other sources are produced
            self._log.exception("the platform failed on a source", source=job.name)
            said = str(error).split("\n", maxsplit=1)[0]
            return _refuse(
                job,
                f"{job.name} could not be produced by a fault of the platform "
                f"({type(error).__name__}: {said}): please report it, the log has the details.",
            )

    async def _produce_file(self, job: Job, found: Found) -> Produced:
        return await produce_file(
            self._pool,
            self._producer,
            found,
            self._ship(job, str(found.path)),
            force=self._force,
            on_progress=self._progress.follow(found.path),
        )

    async def _produce_endpoint(self, job: Job, endpoint: Endpoint) -> Produced:
        shipment = self._ship(job, endpoint.shown_url)
        try:
            fetched = await fetch_endpoint(endpoint)
        except SluicewayError as error:
            return Produced(shipment.path, job.table, Outcome.UNREACHABLE, message=str(error))
        return await produce_answer(
            self._pool, self._producer, fetched, shipment, force=self._force
        )

    def _ship(self, job: Job, path: str) -> Shipment:
        return Shipment(self._run.id, self._topic, path, job.table, job.spec)

    def _tell(self, job: Job, report: Produced) -> None:
        log = self._log.bind(source=job.name, dataset=report.table)
        match report.outcome:
            case Outcome.PRODUCED:
                log.info(
                    "produced",
                    read=report.read,
                    sent=report.sent,
                    refused=report.refused,
                    quarantined=report.quarantined,
                )
            case Outcome.UNCHANGED:
                log.info("skipped", why=report.message)
            case Outcome.UNREACHABLE:
                self._run.warnings.append(report.message)
                log.warning("the API gave nothing; the run goes on without it", why=report.message)
            case Outcome.REFUSED:
                log.error("not produced", why=report.message)
        for note in report.notes:
            self._run.warnings.append(f"{job.name}: {note}")
            log.warning(note)


def _refuse(job: Job, message: str) -> Produced:
    path = str(job.origin.path) if isinstance(job.origin, Found) else job.name
    return Produced(path, job.table, Outcome.REFUSED, message=message)
