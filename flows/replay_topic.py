"""Reads a topic again from a time or an offset, beside its consumers, and loads what is missing.

    python -m flows.replay_topic --help

It ends where the topic ended when it began, moves nobody's offsets, and doubles nothing: rows are
merged by their versions, and a message that was staged or buried before is not again.
"""

import argparse
import asyncio
import dataclasses
import datetime as dt
import sys
from uuid import UUID

from prefect import flow
from prefect.runtime import flow_run

from infra.kafka.client import require_kafka
from infra.logs import attach_log_table, configure_logging
from infra.settings import read_settings
from schemas.datasets import DATASETS
from schemas.errors import SluicewayError
from tasks.database import find_database_url, open_pool, require_database
from tasks.moments import in_utc, parse_moment
from tasks.prefect_api import require_prefect
from tasks.record import record_execution
from tasks.replay_tables import print_table, publish_table, tabulate_topic
from tasks.replay_topic import TopicReplay
from tasks.replay_topic import replay_topic as replay_section
from tasks.topic_range import Section

PIPELINE = "replay_topic"


def _name_run() -> str:
    return f"topic {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S}"


@flow(name=PIPELINE, flow_run_name=_name_run, persist_result=False)
async def replay_topic(
    from_time: dt.datetime | None = None,
    from_offset: int | None = None,
    until_time: dt.datetime | None = None,
    until_offset: int | None = None,
    partitions: list[int] | None = None,
    topic: str | None = None,
) -> TopicReplay:
    """Load a section of the topic again; returns what became of it.

    from_time or from_offset: where it begins, in each partition; offset 0 is the beginning.
    until_time or until_offset: where it ends, not included; by default where the topic ends now.
    A time is the messages' own, and one without a zone is in UTC. partitions: by default all.
    topic: by default SLUICEWAY_KAFKA_TOPIC.
    Raises TerminalError for a section that does not exist.
    """
    settings = read_settings()
    log = configure_logging(
        PIPELINE, folder=settings.log_folder, level=settings.log_level, settings=settings
    )
    attach_log_table(await find_database_url(settings))
    require_kafka(settings)
    section = Section(
        from_time=in_utc(from_time),
        from_offset=from_offset,
        until_time=in_utc(until_time),
        until_offset=until_offset,
        partitions=tuple(partitions or ()),
    )
    parameters = {**dataclasses.asdict(section), "topic": topic or settings.kafka_topic}
    async with (
        await open_pool(settings) as pool,
        record_execution(pool, PIPELINE, flow_run_id=_run_id(), parameters=parameters) as run,
    ):
        specs = {each.spec.table: each.spec for each in DATASETS}
        replay = await replay_section(
            pool, settings, specs, section, topic=topic, execution_id=run.id
        )
        run.records_processed = replay.messages
        run.warnings += replay.notes
        log.info(str(replay), batches=replay.batches)
        await publish_table("topic-replay", tabulate_topic(replay), str(replay))
    return replay


def _run_id() -> UUID | None:
    return UUID(flow_run.id) if flow_run.id else None


async def _run(given: argparse.Namespace) -> TopicReplay:
    await require_prefect()
    replay: TopicReplay = await replay_topic(**vars(given))
    return replay


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m flows.{PIPELINE}", description=(__doc__ or "").split("\n", 1)[0]
    )
    first = parser.add_mutually_exclusive_group(required=True)
    first.add_argument(
        "--from-time", type=parse_moment, help="begin with the first message of this time (UTC)"
    )
    first.add_argument("--from-offset", type=int, help="begin here in each partition; 0 is all")
    last = parser.add_mutually_exclusive_group()
    last.add_argument(
        "--until-time", type=parse_moment, help="end before the first message of this time (UTC)"
    )
    last.add_argument("--until-offset", type=int, help="end before this offset in each partition")
    parser.add_argument("--partitions", type=int, nargs="+", help="default: all of the topic")
    parser.add_argument("--topic", help="default: SLUICEWAY_KAFKA_TOPIC")
    return parser.parse_args()


def main() -> None:
    """Replay from the command line; exits with a sentence when it fails."""
    given = _parse()
    try:
        settings = read_settings()
        require_database(settings)
        require_kafka(settings)
        replay = asyncio.run(_run(given))
    except SluicewayError as error:
        sys.exit(str(error))
    print_table(tabulate_topic(replay), str(replay))


if __name__ == "__main__":
    main()
