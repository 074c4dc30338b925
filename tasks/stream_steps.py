"""The Prefect tasks of the stream, each a few lines around a plain function."""

from prefect import task

from infra.kafka.producer import Producer
from infra.postgres.connection import Pool
from infra.shown_errors import hiding_in_errors
from tasks import produce_source, unsent
from tasks.discover_files import Found
from tasks.extract_api import Fetched
from tasks.load import Progress
from tasks.produce_source import Produced, Shipment
from tasks.steps import REPEATABLE


@task(task_run_name="send what was refused before", tags=["produce"], **REPEATABLE)
async def resend_unsent(pool: Pool, producer: Producer, topic: str) -> unsent.Resent:
    """Send the messages that earlier runs could not; fails when Kafka or the topic is missing."""
    with hiding_in_errors():
        return await unsent.resend_unsent(pool, producer, topic)


@task(task_run_name="produce {found.path.name}", tags=["produce"], **REPEATABLE)
async def produce_file(
    pool: Pool,
    producer: Producer,
    found: Found,
    shipment: Shipment,
    *,
    force: bool = False,
    on_progress: Progress | None = None,
) -> Produced:
    """Leave a file's rows in the topic; a file that was produced as it is stays alone."""
    with hiding_in_errors():
        return await produce_source.produce_file(
            pool, producer, found, shipment, force=force, on_progress=on_progress
        )


@task(task_run_name="produce {shipment.table} from its API", tags=["produce"], **REPEATABLE)
async def produce_answer(
    pool: Pool, producer: Producer, fetched: Fetched, shipment: Shipment, *, force: bool = False
) -> Produced:
    """Leave an endpoint's records in the topic; an answer with nothing new stays alone."""
    with hiding_in_errors():
        return await produce_source.produce_answer(pool, producer, fetched, shipment, force=force)
