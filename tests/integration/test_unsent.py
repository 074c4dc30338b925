"""Messages that Kafka did not take, sent again or kept."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from infra.cell_encryption import KeyRing
from infra.cell_keys import make_key, read_key_ring
from infra.kafka.producer import Producer
from infra.local.ports import choose_port
from infra.postgres.connection import Pool
from infra.settings import Settings, read_settings
from schemas.errors import TerminalError, TransientError
from tasks import unsent
from tasks.refusals import Message, Reason, Refusal
from tasks.unsent import MAX_ATTEMPTS, Resent, keep_unsent, resend_unsent


@pytest.fixture
async def topic(embedded_broker, messages) -> str:
    name = f"unsent-{os.urandom(4).hex()}"
    await messages(embedded_broker.bootstrap_servers).create(name, partitions=3)
    return name


@pytest.fixture
async def producer(embedded_broker) -> AsyncIterator[Producer]:
    settings = Settings(kafka_bootstrap_servers=embedded_broker.bootstrap_servers)
    async with Producer(settings, max_message_bytes=100) as opened:
        yield opened


async def keep(
    pool: Pool, topic: str, reason: Reason, *values: bytes, ring: KeyRing | None = None
) -> None:
    messages: list[Message] = [(b"key", value, 5) for value in values]
    async with pool.acquire() as connection:
        await keep_unsent(
            connection,
            [Refusal(each, reason, "It was so.") for each in messages],
            execution_id=1,
            topic=topic,
            source="sales_data",
            ring=ring,
        )


async def rows(pool: Pool) -> list[Any]:
    async with pool.acquire() as connection:
        return await connection.fetch("SELECT * FROM metadata.unsent_messages ORDER BY id")


async def test_what_timed_out_is_sent_by_the_next_run_and_what_is_too_large_waits(
    pool: Pool, producer: Producer, topic: str, embedded_broker, messages
) -> None:
    await keep(pool, topic, Reason.TIMED_OUT, b"1", b"2", b"1")
    await keep(pool, topic, Reason.TOO_LARGE, b"3")
    await keep(pool, "another-topic", Reason.TIMED_OUT, b"4")
    assert await resend_unsent(pool, producer, topic) == Resent(sent=3, refused=0, kept=1)
    assert await resend_unsent(pool, producer, topic) == Resent(kept=1)
    found = await messages(embedded_broker.bootstrap_servers).read(topic)
    assert sorted(found) == [b"1", b"1", b"2"]
    *sent, large, other = await rows(pool)
    assert [(each["attempts"], each["sent_at"] is None) for each in sent] == [(2, False)] * 3
    assert [(each["attempts"], each["sent_at"]) for each in (large, other)] == [(1, None)] * 2


async def test_what_is_refused_again_is_sent_so_many_times_and_then_kept(
    pool: Pool, producer: Producer, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unsent, "FOR_A_PERSON", ())
    await keep(pool, topic, Reason.NOT_AUTHORIZED, b"x" * 200, b"1")
    runs = [await resend_unsent(pool, producer, topic) for _ in range(MAX_ATTEMPTS)]
    assert runs == [
        Resent(sent=1, refused=1),
        *([Resent(refused=1)] * (MAX_ATTEMPTS - 3)),
        Resent(refused=1, kept=1),
        Resent(kept=1),
    ]
    refused, sent = await rows(pool)
    assert (refused["attempts"], refused["reason"]) == (MAX_ATTEMPTS, "too_large")
    assert refused["detail"] == "The message has 203 bytes; this producer sends 100."
    assert (sent["attempts"], sent["reason"]) == (2, "not_authorized")


async def test_many_are_sent_page_by_page_and_by_two_runs_at_once_each_once(
    pool: Pool,
    producer: Producer,
    topic: str,
    embedded_broker,
    messages,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unsent, "_PAGE_MESSAGES", 7)
    monkeypatch.setattr(unsent, "_PAGE_BYTES", 20)
    values = [b"%04d" % number for number in range(40)]
    await keep(pool, topic, Reason.TIMED_OUT, *values)
    resent = await asyncio.gather(*(resend_unsent(pool, producer, topic) for _ in range(2)))
    assert sum(each.sent for each in resent) == 40
    assert sorted(await messages(embedded_broker.bootstrap_servers).read(topic)) == values


async def test_without_kafka_or_its_topic_a_run_hears_so_before_it_begins(
    pool: Pool, producer: Producer
) -> None:
    with pytest.raises(TerminalError, match="has no topic 'not-made'"):
        await resend_unsent(pool, producer, "not-made")
    away = Settings(kafka_bootstrap_servers=f"127.0.0.1:{choose_port()}")
    async with Producer(away) as nobody:
        with pytest.raises(TransientError, match="cannot be reached"):
            await resend_unsent(pool, nobody, "data-stream")


async def test_what_may_be_personal_is_encrypted_and_sent_as_it_was(
    pool: Pool, producer: Producer, topic: str, embedded_broker, messages
) -> None:
    await keep(pool, topic, Reason.TIMED_OUT, b"Ada Byron-Marker", ring=read_key_ring())
    [kept] = await rows(pool)
    assert kept["is_sealed"]
    assert b"Ada" not in b"".join((kept["message_key"], kept["message_value"]))
    assert await resend_unsent(pool, producer, topic) == Resent(sent=1)
    found = await messages(embedded_broker.bootstrap_servers).read(topic)
    assert found == [b"Ada Byron-Marker"]


async def test_what_cannot_be_read_says_why_and_holds_up_no_other(
    pool: Pool, producer: Producer, topic: str, embedded_broker, messages, monkeypatch
) -> None:
    monkeypatch.setattr(unsent, "_PAGE_MESSAGES", 1)
    settings = Settings()
    other = settings.model_copy(update={"cell_keys": SecretStr(make_key("other"))})
    await keep(pool, topic, Reason.TIMED_OUT, b"a", ring=read_key_ring(other))
    await keep(pool, topic, Reason.TIMED_OUT, b"b", b"c", ring=read_key_ring())
    async with pool.acquire() as connection:
        await connection.execute(
            "UPDATE metadata.unsent_messages SET message_value = message_key WHERE id = 2"
        )
    for sent in (1, 0):
        assert await resend_unsent(pool, producer, topic) == Resent(sent=sent, kept=2)
    keyless, changed, _ = await rows(pool)
    assert (keyless["reason"], changed["reason"]) == ("unreadable", "unreadable")
    assert "was written with a key that is not set" in keyless["detail"]
    assert "is not what was written there" in changed["detail"]
    assert (keyless["attempts"], changed["attempts"]) == (1, 1)
    keys = ",".join(each.cell_keys.get_secret_value() for each in (settings, other))
    monkeypatch.setenv("SLUICEWAY_CELL_KEYS", keys)
    read_settings.cache_clear()
    try:
        assert await resend_unsent(pool, producer, topic) == Resent(sent=1, kept=1)
    finally:
        monkeypatch.undo()
        read_settings.cache_clear()
    assert sorted(await messages(embedded_broker.bootstrap_servers).read(topic)) == [b"a", b"c"]
