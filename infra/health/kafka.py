"""Whether Kafka serves the stream's topic, and the group is not too far behind."""

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from infra.health.finding import Finding, bad, first_line, good
from infra.kafka.client import UNREACHABLE, connection_options
from infra.postgres.connection import TRANSIENT, connect
from infra.settings import Settings
from schemas.errors import SluicewayError

DATABASE_SHARE = 0.3
"""Of the check's time, for what PostgreSQL knows; more would be its fault and not Kafka's."""
FRESH = dt.timedelta(minutes=1)
"""Consumers measure every few seconds; where nobody has for so long, the broker is asked."""

Measure = Callable[[Mapping[int, int]], Awaitable[Sequence[tuple[int, int, float]]]]
"""Returns partition, unread messages and the age of the oldest in seconds, by the next offsets."""


@dataclass(frozen=True, slots=True)
class _Lag:
    partition: int
    messages: int
    seconds: float


async def check_kafka(settings: Settings, url: str, measure: Measure) -> Finding:
    """Return whether each partition has a leader and all its replicas, and the group keeps up.

    A topic that was not made yet, and a group that has read nothing yet, are not BAD. Where
    PostgreSQL is away nothing is said of the group.
    """
    try:
        partitions = await _describe(settings)
    except (*UNREACHABLE, KafkaError) as error:
        return bad(
            f"Kafka does not answer at {settings.kafka_bootstrap_servers}: "
            f"{type(error).__name__}: {first_line(error)}."
        )
    topic = settings.kafka_topic
    try:
        async with asyncio.timeout(DATABASE_SHARE * settings.health_timeout_seconds):
            positions = await _find_positions(settings, url)
    except (SluicewayError, asyncpg.PostgresError, *TRANSIENT):
        # The check of PostgreSQL says so.
        positions = None
    if partitions is None:
        if positions:
            return bad(f"The topic {topic} is gone, of which the group had read.")
        return good(f"It answers; the topic {topic} was not made yet.")
    if problem := find_problem(partitions):
        return bad(f"Topic {topic}: {problem}.")
    served = f"All partitions of {topic} ({len(partitions)}) have their leaders and replicas"
    return await _judge_lag(settings, positions, measure, served)


async def _describe(settings: Settings) -> list[Any] | None:
    """Return the topic's partitions; None where there is no such topic."""
    options = connection_options(settings)
    # Time enough to leave a broker that is frozen for another.
    options["request_timeout_ms"] = int(1000 * settings.health_timeout_seconds / 3)
    admin = AIOKafkaAdminClient(**options)
    try:
        await admin.start()
        # Asked by name, a broker may create a topic by its own defaults.
        for topic in await admin.describe_topics():
            if topic["topic"] == settings.kafka_topic:
                found: list[Any] = topic["partitions"]
                return found
        return None
    finally:
        await admin.close()


def find_problem(partitions: Sequence[Mapping[str, Any]]) -> str:
    """Return what is wrong with the partitions of a topic's metadata; empty where nothing is."""
    led = [each for each in partitions if each["leader"] >= 0]
    if len(led) < len(partitions):
        names = sorted(each["partition"] for each in partitions if each["leader"] < 0)
        return f"no leader for partition {', '.join(map(str, names))}"
    names = sorted(
        each["partition"] for each in partitions if len(each["isr"]) < len(each["replicas"])
    )
    if names:
        return f"replicas are missing of partition {', '.join(map(str, names))}"
    return ""


async def _find_positions(settings: Settings, url: str) -> list[asyncpg.Record]:
    connection = await connect(url, wait_seconds=0.5)
    try:
        rows: list[asyncpg.Record] = await connection.fetch(
            """
            SELECT o.partition, o.next_offset, l.lag_messages, l.lag_seconds,
                l.measured_at > now() - $3::interval AS is_fresh
            FROM metadata.stream_offsets AS o LEFT JOIN LATERAL (
                SELECT lag_messages, lag_seconds, measured_at FROM metadata.stream_lag AS l
                WHERE l.consumer_group = o.consumer_group AND l.topic = o.topic
                    AND l.partition = o.partition
                ORDER BY measured_at DESC LIMIT 1
            ) AS l ON true
            WHERE o.consumer_group = $1 AND o.topic = $2
            ORDER BY o.partition
            """,
            settings.kafka_group,
            settings.kafka_topic,
            FRESH,
        )
    except BaseException:
        connection.terminate()
        raise
    await connection.close(timeout=1)
    return rows


async def _judge_lag(
    settings: Settings, positions: Sequence[asyncpg.Record] | None, measure: Measure, served: str
) -> Finding:
    if positions is None:
        return good(f"{served}; PostgreSQL does not say how far the group is.")
    if not positions:
        return good(f"{served}; the group {settings.kafka_group} has read nothing yet.")
    lags = [
        _Lag(each["partition"], each["lag_messages"], each["lag_seconds"])
        for each in positions
        if each["is_fresh"]
    ]
    stale = {each["partition"]: each["next_offset"] for each in positions if not each["is_fresh"]}
    alone = ""
    if stale:
        alone = "; no consumer measures it"
        try:
            lags += [_Lag(*each) for each in await measure(stale)]
        except (*UNREACHABLE, KafkaError) as error:
            return bad(f"{served}, but gives no messages: {type(error).__name__}.")
    worst = max(lags, key=lambda each: each.seconds)
    unread = sum(each.messages for each in lags)
    if worst.seconds > settings.health_lag_seconds:
        return bad(
            f"The group {settings.kafka_group} is {worst.seconds:,.0f} s behind in partition "
            f"{worst.partition}; unread messages: {unread:,}{alone}."
        )
    return good(
        f"{served}; the group is {worst.seconds:,.0f} s behind; unread messages: {unread:,}{alone}."
    )
