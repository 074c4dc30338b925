"""Where a group reads on: where PostgreSQL says, whatever Kafka's log has become meanwhile."""

import asyncio

import pytest

from schemas.errors import TerminalError
from tasks import stream_source


async def move_to(stream, offset: int, *, partition: int = 0) -> None:
    await stream.fetch(
        "UPDATE metadata.stream_offsets SET next_offset = $1, last_timestamp_ms = NULL"
        " WHERE consumer_group = $2 AND partition = $3",
        offset,
        stream.settings.kafka_group,
        partition,
    )


class HeldUpClaim:
    """The second claim that anybody makes waits, as for a database that is slow."""

    def __init__(self) -> None:
        self.count = 0
        self.goes_on = asyncio.Event()
        self._claim = stream_source.claim_partition

    async def claim(self, *given: object) -> object:
        self.count += 1
        if self.count == 2:
            await self.goes_on.wait()
        return await self._claim(*given)


@pytest.fixture
def claim_held_up(monkeypatch) -> HeldUpClaim:
    made = HeldUpClaim()
    monkeypatch.setattr(stream_source, "claim_partition", made.claim)
    return made


@pytest.mark.parametrize("where", ["earliest", "latest"])
async def test_a_new_group_begins_where_the_setting_says(stream, where) -> None:
    await stream.create()
    before = await stream.send(30)
    stream.change(kafka_start_from=where)
    member = stream.join()
    await stream.until_shared(member)
    after = await stream.send(30)
    expected = before + after if where == "earliest" else after
    await stream.until(lambda: member.progress.messages >= len(expected))
    await stream.require_exactly_once(expected)


async def test_members_that_begin_together_at_the_latest_read_nothing_old(
    stream, claim_held_up
) -> None:
    await stream.create()
    await stream.send(30)
    stream.change(kafka_start_from="latest")
    first = stream.join()
    await stream.until(lambda: claim_held_up.count == 2)
    second = stream.join()
    await stream.until(lambda: second.partitions)
    # The claim that is late takes a partition from whoever has it by now.
    second.consumer.source.session_seconds = 0.1
    claim_held_up.goes_on.set()
    await stream.until_shared(first, second)
    news = await stream.send(30)
    await stream.until(lambda: first.progress.messages + second.progress.messages >= len(news))
    await stream.require_exactly_once(news)


async def test_postgresql_says_where_to_read_and_kafka_does_not(stream) -> None:
    await stream.create(1)
    # One compressed batch: what is wanted lies in the middle of it.
    await stream.send(30, partitions=[0], compression_type="gzip", linger_ms=200)
    await stream.load_all()
    await stream.send(10, partitions=[0])
    await move_to(stream, 17)
    await stream.load_all()
    again = [each for each in stream.sent if each.offset >= 17]
    assert await stream.staged() == sorted(stream.sent[:30] + again)
    assert await stream.offsets() == {0: 40}


async def test_an_offset_past_the_logs_end_stops_the_consumer_with_one_sentence(
    stream, monkeypatch
) -> None:
    monkeypatch.setattr(stream_source, "SHORT_LOG_SECONDS", 0.0)
    await stream.create()
    await stream.send(30)
    await stream.load_all()
    await move_to(stream, 1000, partition=1)
    member = stream.join()
    with pytest.raises(TerminalError) as caught:
        await asyncio.wait_for(member.task, 30)
    stream.members.remove(member)
    assert str(caught.value) == (
        f"Partition 1 of the topic {stream.topic} ends at offset 10, and 1000 messages of it were "
        "loaded: the broker lost some, or the topic was made anew. Say where the group "
        f"{stream.settings.kafka_group} shall begin again: `python -m "
        "flows.stream_processing_pipeline --begin-again earliest` (or latest)."
    )
    said = await stream.begin_again("latest")
    assert "0 at 10, 1 at 10, 2 at 10" in said
    await stream.send(30)
    await stream.load_all()
    await stream.require_exactly_once()


async def test_messages_that_were_deleted_before_they_were_loaded_are_named(stream) -> None:
    await stream.create(1)
    await stream.send(10, partitions=[0])
    await stream.load_all()
    await stream.send(10, partitions=[0])
    await stream.delete_before(15)
    member = await stream.load_all()
    [note] = member.consumer.source.notes
    assert note == (
        f"Partition 0 of the topic {stream.topic}: messages 10 to 14 were deleted from Kafka "
        "before they were loaded."
    )
    kept = [each for each in stream.sent if not 10 <= each.offset < 15]
    await stream.require_exactly_once(kept)


async def test_a_consumer_that_is_overtaken_by_retention_goes_on(stream, blockade) -> None:
    stream.change(stream_batch_messages=5)
    await stream.create(1)
    member = stream.join()
    await stream.until_shared(member, partitions=1)
    await blockade.begin()
    await stream.send(200, partitions=[0])
    await stream.until(lambda: member.paused)
    await stream.delete_before(150)
    await blockade.end()
    await stream.until(lambda: member.progress.next_offsets.get(0) == 200)
    [note] = member.consumer.source.notes
    first = (await stream.staged())[-51].offset + 1
    assert f"messages {first} to 149 were deleted" in note
    kept = [each for each in stream.sent if not first <= each.offset < 150]
    await stream.require_exactly_once(kept)


async def test_a_partition_that_is_added_is_read_from_its_beginning(stream) -> None:
    stream.change(kafka_start_from="latest")
    await stream.create(1)
    member = stream.join()
    await stream.until_shared(member, partitions=1)
    await stream.add_partitions(3)
    await stream.send(30)
    await stream.until_shared(member)
    await stream.until_loaded()
    await stream.require_exactly_once()


async def test_catching_up_waits_for_partitions_that_are_not_claimed_yet(
    stream, claim_held_up
) -> None:
    await stream.create()
    await stream.send(20, partitions=[1, 2])
    member = stream.join(until_caught_up=True)
    await stream.until(lambda: claim_held_up.count == 2)
    assert member.partitions == {0}
    await asyncio.sleep(0.3)
    assert not member.task.done()
    claim_held_up.goes_on.set()
    async with asyncio.timeout(60):
        await member.task
    await stream.require_exactly_once()


async def test_transactions_are_loaded_once_they_are_committed_and_never_when_aborted(
    stream,
) -> None:
    await stream.create(1)
    producer = await stream.producer(transactional_id=stream.topic)
    await producer.begin_transaction()
    await stream.send(10, partitions=[0], transactional_id=stream.topic)
    await producer.commit_transaction()
    expected = list(stream.sent)
    await producer.begin_transaction()
    await stream.send(10, partitions=[0], transactional_id=stream.topic)
    await producer.abort_transaction()
    # The log ends in a mark that no consumer ever gets to see.
    await stream.load_all()
    await stream.require_exactly_once(expected)
