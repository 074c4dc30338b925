"""The stream's topics, on both brokers."""

import pytest

from infra.kafka.topics import ensure_topics
from infra.local.embedded_broker import TOPIC_LIMITS
from infra.local.ports import choose_port
from infra.settings import Settings
from schemas.errors import SettingError, TerminalError, TransientError


@pytest.fixture(params=["embedded_broker", "apache_kafka"])
def bootstrap_servers(request: pytest.FixtureRequest) -> str:
    address: str = request.getfixturevalue(request.param).bootstrap_servers
    return address


async def test_missing_topics_are_made_and_others_left_alone(
    bootstrap_servers: str, messages
) -> None:
    client = messages(bootstrap_servers)
    await client.create("made-by-hand", partitions=1)
    settings = Settings(
        kafka_bootstrap_servers=bootstrap_servers,
        kafka_topic="made-by-hand",
        kafka_dead_letter_topic="made-for-us",
    )
    assert await ensure_topics(settings, configs=TOPIC_LIMITS) == ("made-for-us",)
    assert await ensure_topics(settings) == ()
    # Both can be sent to at once, and the one made by hand has kept its one partition.
    values = [str(number).encode() for number in range(50)]
    for topic in ("made-by-hand", "made-for-us"):
        await client.send(topic, values)
    assert await client.read("made-by-hand") == values
    found = await client.read("made-for-us")
    assert sorted(found) == sorted(values)
    assert found != values


async def test_a_name_that_kafka_refuses_is_a_sentence(apache_kafka) -> None:
    settings = Settings(
        kafka_bootstrap_servers=apache_kafka.bootstrap_servers, kafka_topic="no name"
    )
    with pytest.raises(TerminalError, match="refused to create the topic no name: InvalidTopic"):
        await ensure_topics(settings)


async def test_no_broker_is_an_error_that_may_pass() -> None:
    settings = Settings(kafka_bootstrap_servers=f"127.0.0.1:{choose_port()}")
    with pytest.raises(TransientError, match=r"Kafka cannot be reached at 127\.0\.0\.1"):
        await ensure_topics(settings)


async def test_no_setting_is_named() -> None:
    with pytest.raises(SettingError, match="SLUICEWAY_KAFKA_BOOTSTRAP_SERVERS"):
        await ensure_topics(Settings(kafka_bootstrap_servers=""))
