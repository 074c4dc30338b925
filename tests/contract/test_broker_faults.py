"""Brokers that stop, start and stay away: a consumer waits, and loads on where it was."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from infra.local.embedded_broker import EmbeddedBroker
from infra.local.kafka import ApacheKafka
from infra.local.ports import choose_port


@pytest.fixture(scope="module")
def own_embedded_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path_factory.mktemp("own_broker") / "data") as broker:
        yield broker


@pytest.fixture(scope="module")
def own_apache_kafka(
    kafka_programs: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApacheKafka]:
    with ApacheKafka(tmp_path_factory.mktemp("own_kafka")) as kafka:
        yield kafka


@pytest.fixture(params=["own_embedded_broker", "own_apache_kafka"])
def own_broker(request: pytest.FixtureRequest) -> EmbeddedBroker | ApacheKafka:
    """Either broker, to be stopped and started."""
    found: EmbeddedBroker | ApacheKafka = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def own_stream(own_broker, make_stream) -> AsyncIterator:
    made = make_stream(own_broker)
    yield made
    await made.close()


def end(broker: EmbeddedBroker | ApacheKafka) -> None:
    if isinstance(broker, EmbeddedBroker):
        broker.stop()  # a kill loses what it acknowledged last: it says so itself
    else:
        broker.kill()


def begin(broker: EmbeddedBroker | ApacheKafka) -> None:
    if isinstance(broker, EmbeddedBroker):
        broker.start()
    else:
        broker.start_node()


async def test_a_broker_that_restarts_in_mid_stream_costs_no_message(
    own_stream, own_broker, blockade
) -> None:
    stream = own_stream
    stream.change(stream_batch_messages=20)
    await stream.create()
    first, second = stream.join(), stream.join()
    await stream.until_shared(first, second)
    await blockade.begin()
    await stream.send(300)
    await stream.until_waiting(blockade, 2)
    end(own_broker)
    # What was fetched before is loaded while there is no broker.
    await blockade.end()
    await stream.until(lambda: first.progress.messages and second.progress.messages)
    begin(own_broker)
    await stream.send(300)
    await stream.until_loaded()
    await stream.require_exactly_once()


async def test_while_its_broker_is_away_a_consumer_ends_when_told_to_and_another_waits(
    own_stream, own_broker
) -> None:
    stream = own_stream
    await stream.create()
    await stream.send(30)
    member = stream.join()
    await stream.until(lambda: member.progress.messages == 30)
    end(own_broker)
    async with asyncio.timeout(10):
        await member.leave()
    # Of another group: this one knows of a member that has said no goodbye.
    stream.change(kafka_group=f"{stream.settings.kafka_group}-next")
    with capture_logs() as logs:
        waiting = stream.join()
        await stream.until(lambda: logs)
    assert [each["event"] for each in logs] == ["Kafka cannot be reached"]
    begin(own_broker)
    await stream.until(lambda: waiting.progress.messages == 30)
    assert await stream.staged() == sorted(stream.sent * 2)


async def test_a_consumer_that_never_finds_its_broker_ends_when_told_to(make_stream) -> None:
    stream = make_stream(EmbeddedBroker(Path("never started"), port=choose_port()))
    with capture_logs() as logs:
        member = stream.join()
        await stream.until(lambda: logs)
    async with asyncio.timeout(10):
        await member.leave()
    assert member.task.cancelled()
