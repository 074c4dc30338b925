"""Loads messages from Kafka into the warehouse as they come, each exactly once; runs for ever.

    python -m flows.stream_processing_pipeline --help

One run is one member of the consumer group; several share the partitions. It rides out a
PostgreSQL, a Kafka or a Prefect server that is away. Told to end, it commits the batch under way
and leaves the group within ten seconds.
"""

import argparse
import asyncio
import datetime as dt
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext
from uuid import UUID

import anyio
from prefect import flow
from prefect.client.schemas.objects import State
from prefect.exceptions import CancelledRun, TerminationSignal
from prefect.runtime import flow_run
from prefect.states import Cancelled

from infra.kafka.client import require_kafka
from infra.logs import attach_log_table, configure_logging
from infra.postgres.connection import Pool
from infra.settings import Settings, read_settings
from schemas.datasets import DATASETS
from schemas.errors import SluicewayError
from tasks.begin_again import begin_topic_again
from tasks.consume import Consumer, Progress
from tasks.database import find_database_url, open_pool, require_database, wait_for_database
from tasks.leaving import leave_once, leave_when
from tasks.own_flow_run import UnwantedError, wait_until_unwanted
from tasks.prefect_api import require_prefect
from tasks.record import record_execution
from tasks.seats import SeatTakenError, hold_seat
from tasks.watch_stream import StreamWatch

PIPELINE = "stream_processing_pipeline"


def _name_run() -> str:
    return f"stream {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S}"


@flow(name=PIPELINE, flow_run_name=_name_run, persist_result=False)
async def stream_processing_pipeline(
    *, consumer: int = 0, until_caught_up: bool = False
) -> Progress | State:
    """Load what comes until the run is cancelled; returns what was done.

    consumer: which of the wanted consumers this run is; where another run is that one already,
        it ends at once as cancelled. 0 is none of them, and always welcome.
    until_caught_up: end as soon as everything is loaded that was in the topic at the start.
    Raises TerminalError when the topic is not the one that was read before.
    """
    settings = read_settings()
    configure_logging(
        PIPELINE, folder=settings.log_folder, level=settings.log_level, settings=settings
    )
    require_kafka(settings)
    url = await find_database_url(settings)
    attach_log_table(url)
    async with await open_pool(settings) as pool:
        await wait_for_database(pool)
        seat = hold_seat(url, settings.kafka_group, consumer, _run_id())
        try:
            async with (
                seat if consumer else nullcontext(),
                leave_when(wait_until_unwanted(_run_id())),
            ):
                with leave_once() as on_leaving:
                    return await _consume(
                        pool,
                        settings,
                        consumer,
                        until_caught_up=until_caught_up,
                        on_leaving=on_leaving,
                    )
        except (SeatTakenError, UnwantedError) as why:
            return Cancelled(message=str(why))


async def _consume(
    pool: Pool,
    settings: Settings,
    number: int,
    *,
    until_caught_up: bool,
    on_leaving: Callable[[], None],
) -> Progress:
    parameters: dict[str, object] = {
        "topic": settings.kafka_topic,
        "group": settings.kafka_group,
        "consumer": number,
        "until_caught_up": until_caught_up,
    }
    async with record_execution(
        pool, PIPELINE, flow_run_id=_run_id(), parameters=parameters, ends_when_told=True
    ) as run:
        watch = StreamWatch(pool, settings, run)
        consumer = Consumer(
            pool,
            settings,
            {each.spec.table: each.spec for each in DATASETS},
            execution_id=run.id,
            on_batch=watch.note,
            seat=number,
        )
        watching = asyncio.create_task(watch.run(consumer))
        try:
            return await consumer.run(until_caught_up=until_caught_up, on_leaving=on_leaving)
        finally:
            with anyio.CancelScope(shield=True):
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
                await watch.write_end(consumer)


def _run_id() -> UUID | None:
    return UUID(flow_run.id) if flow_run.id else None


async def _run(given: argparse.Namespace, settings: Settings) -> None:
    if given.begin_again:
        print(await begin_topic_again(settings, given.begin_again))  # noqa: T201 - the command's answer
        return
    await require_prefect()
    run = asyncio.create_task(stream_processing_pipeline(until_caught_up=given.until_caught_up))

    def end() -> None:
        # A second signal would cut off what the first has begun to bring to its end.
        if not run.cancelling():
            run.cancel()

    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, end)
    try:
        await run
    except asyncio.CancelledError:
        return
    except CancelledRun as ended:
        sys.exit(str(ended))


def main() -> None:
    """Run one consumer from the command line; exits with a sentence when it fails."""
    parser = argparse.ArgumentParser(
        prog=f"python -m flows.{PIPELINE}", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument(
        "--until-caught-up",
        action="store_true",
        help="end when all is loaded that was in the topic at the start",
    )
    parser.add_argument(
        "--begin-again",
        choices=["earliest", "latest"],
        help="load nothing: make the group begin there, as after a topic was made anew",
    )
    given = parser.parse_args()
    try:
        settings = read_settings()
        require_database(settings)
        require_kafka(settings)
        asyncio.run(_run(given, settings))
    except TerminationSignal:
        # What Prefect makes of a SIGTERM; asyncio has cancelled the run, and it has drained.
        return
    except SluicewayError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
