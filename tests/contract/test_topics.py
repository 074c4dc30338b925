"""Topics that are not there yet, and topics that are not what they were."""

import asyncio

import pytest
from structlog.testing import capture_logs

from infra.local.embedded_broker import EmbeddedBroker
from schemas.errors import TerminalError
from tasks import stream_source


@pytest.fixture(autouse=True)
def believe_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a log that has become short for true at the second look."""
    monkeypatch.setattr(stream_source, "SHORT_LOG_SECONDS", 0.0)


async def test_a_topic_that_is_missing_is_waited_for(stream, broker) -> None:
    if isinstance(broker, EmbeddedBroker):
        pytest.skip("noida-db 0.2.3 makes a topic, of one partition, for whoever names it first")
    with capture_logs() as logs:
        member = stream.join()
        await stream.until(lambda: [each for each in logs if each["log_level"] == "warning"])
    [said] = logs
    assert said["event"].startswith("no partition is assigned: the topic does not exist")
    assert said["topic"] == stream.topic
    await stream.create()
    await stream.send(30)
    await stream.until_shared(member)
    await stream.until_loaded()
    await stream.require_exactly_once()


async def expect_stop(stream, member) -> str:
    """Return what the member ends with, which is one sentence on what to do."""
    with pytest.raises(TerminalError) as caught:
        await asyncio.wait_for(member.task, 30)
    stream.members.remove(member)
    said = str(caught.value)
    assert said.startswith(f"Partition 0 of the topic {stream.topic} ")
    assert said.endswith("--begin-again earliest` (or latest).")
    assert "\n" not in said
    return said


OTHER = "holds another message at offset 9 than the one that was loaded from there"


@pytest.mark.parametrize(
    ("count", "reason", "is_running"),
    [
        (4, "ends at offset 4, and 10 messages of it were loaded", False),
        (10, OTHER, False),
        (25, OTHER, False),
        (25, "the topic was made anew", True),
    ],
    ids=["fewer", "as many", "more", "more, running"],
)
async def test_a_topic_made_anew_stops_the_consumer_until_it_is_told_to_begin_again(
    stream, count, reason, is_running
) -> None:
    await stream.create(1)
    await stream.send(10, partitions=[0])
    member = stream.join(until_caught_up=not is_running)
    await stream.until(lambda: member.progress.messages == 10)
    if not is_running:
        await member.task
    await stream.create_anew(1)
    if is_running:
        # It asks for what follows while there is nothing yet.
        await stream.until(lambda: not member.partitions)
    await stream.send(count, partitions=[0])
    if not is_running:
        member = stream.join()
    assert reason in await expect_stop(stream, member)
    [row] = await stream.fetch("SELECT count(*) FROM warehouse.fact_sales_data")
    assert row[0] == 10

    said = await stream.begin_again("earliest")
    assert said.endswith("by partition: 0 at 0.")
    await stream.load_all()
    await stream.require_exactly_once()


async def test_the_first_message_of_a_topic_made_anew_is_not_taken_for_the_last_one_loaded(
    stream,
) -> None:
    await stream.create(1)
    await stream.send(1, partitions=[0])
    await stream.load_all()
    await stream.create_anew(1)
    await stream.send(1, partitions=[0])
    assert "holds another message at offset 0" in await expect_stop(stream, stream.join())


async def test_a_group_that_begins_again_doubles_no_row_of_the_warehouse(stream) -> None:
    await stream.create()
    await stream.send(30)
    member = stream.join()
    member.consumer.source.session_seconds = 0.1
    await stream.until(lambda: member.progress.messages == 30)
    await stream.begin_again("earliest")
    # It finds out with its next batch.
    await stream.send(30)
    await stream.until(lambda: member.progress.messages == 90)
    facts = await stream.fetch("SELECT order_id FROM warehouse.fact_sales_data ORDER BY order_id")
    assert [row["order_id"] for row in facts] == [each.order_id for each in stream.sent]
    assert member.progress.skipped == 0
    assert await stream.offsets() == {0: 20, 1: 20, 2: 20}


async def test_a_topic_made_anew_behind_the_back_of_a_paused_consumer_stops_it_too(
    stream, blockade
) -> None:
    stream.change(stream_batch_messages=5)
    await stream.create(1)
    member = stream.join()
    await stream.until_shared(member, partitions=1)
    await blockade.begin()
    await stream.send(100, partitions=[0])
    await stream.until(lambda: member.paused)
    await stream.create_anew(1)
    await stream.send(300, partitions=[0])
    await blockade.end()
    assert "holds another message at offset" in await expect_stop(stream, member)
