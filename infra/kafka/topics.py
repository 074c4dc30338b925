"""The stream's topics."""

import asyncio
from collections.abc import Collection, Mapping
from time import monotonic

import aiokafka.errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from infra.kafka.client import UNREACHABLE, connection_options, login_hint
from infra.settings import Settings
from schemas.errors import TerminalError, TransientError

PARTITIONS = 3
REPLICAS = 3
"""Of each partition, where there are brokers for them."""
LEADER_DEADLINE_SECONDS = 15.0
POLL_SECONDS = 0.05
MAY_PASS = (
    *UNREACHABLE,
    kafka_errors.NotControllerError,
    # A broker that was counted went away before its replicas were placed.
    kafka_errors.InvalidReplicationFactorError,
)


async def ensure_topics(
    settings: Settings, *, configs: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Leave the stream's topics in place, each partition with a leader; return those created.

    A topic that is there is left as it is, whatever its partitions.
    configs: what a topic that is created sets for itself, as Kafka names it.
    Raises TransientError when Kafka cannot be reached, TerminalError when it refuses.
    """
    wanted = dict.fromkeys((settings.kafka_topic, settings.kafka_dead_letter_topic))
    admin = AIOKafkaAdminClient(**connection_options(settings))
    try:
        await admin.start()
        # Asked by name, a broker may create a topic by its own defaults.
        known = await admin.list_topics()
        missing = [name for name in wanted if name not in known]
        if missing:
            await _create(admin, missing, dict(configs or {}))
            await _wait_for_leaders(admin, missing)
    except UNREACHABLE as error:
        raise TransientError(
            f"Kafka cannot be reached at {settings.kafka_bootstrap_servers} "
            f"({type(error).__name__}): see that a broker runs there{login_hint(settings)}, and "
            "try again."
        ) from error
    finally:
        await admin.close()
    return tuple(missing)


async def _create(
    admin: AIOKafkaAdminClient, names: Collection[str], configs: dict[str, str]
) -> None:
    brokers = len((await admin.describe_cluster())["brokers"])
    replicas = max(1, min(REPLICAS, brokers))
    answer = await admin.create_topics(
        [NewTopic(name, PARTITIONS, replicas, topic_configs=configs) for name in names]
    )
    for name, code, *message in answer.topic_errors:
        kind = kafka_errors.for_code(code)
        if kind in (kafka_errors.NoError, kafka_errors.TopicAlreadyExistsError):
            continue  # another process was quicker
        said = " ".join(filter(None, (kind.__name__, *message)))
        if issubclass(kind, MAY_PASS):
            raise TransientError(f"Kafka could not create the topic {name} now: {said}; try again.")
        raise TerminalError(
            f"Kafka refused to create the topic {name}: {said}; create it by hand, or mend what it "
            "says."
        )


async def _wait_for_leaders(admin: AIOKafkaAdminClient, names: Collection[str]) -> None:
    """Return once whoever sends to these topics finds somebody to send to."""
    end_time = monotonic() + LEADER_DEADLINE_SECONDS
    while True:
        led = {
            topic["topic"]
            for topic in await admin.describe_topics()
            if topic["partitions"] and all(part["leader"] >= 0 for part in topic["partitions"])
        }
        if led.issuperset(names):
            return
        if monotonic() > end_time:
            raise TransientError(
                f"The new topics {', '.join(names)} have no leaders after "
                f"{LEADER_DEADLINE_SECONDS:.0f} s: see that Kafka's brokers run, and try again."
            )
        await asyncio.sleep(POLL_SECONDS)
