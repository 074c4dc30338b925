"""Ten thousand failures in an hour: few mails, and every failure counted in exactly one."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.postgres.connection import Pool
from infra.settings import Settings
from tasks.mail_compose import compose_mails
from tests.mail_server import MailServer, mail_server, mail_settings

PER_HOUR = 6


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MailServer]:
    with mail_server(tmp_path) as started:
        yield started


async def fail(pool: Pool, count: int, pipelines: int) -> None:
    """Leave so many failed runs, as the trigger sees them, spread over the pipelines."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "INSERT INTO metadata.pipeline_executions (pipeline_name)"
            " SELECT 'pipeline_' || n % $2 FROM generate_series(1, $1::int) AS n",
            count,
            pipelines,
        )
        await connection.execute(
            "UPDATE metadata.pipeline_executions SET status = 'FAILED', end_time = now(),"
            " error_message = 'Error ' || id % 7 WHERE status = 'RUNNING'"
        )


async def go_back(pool: Pool, minutes: int) -> None:
    async with pool.acquire() as connection:
        for table, columns in {
            "alert_events": ("happened_at", "handled_at"),
            "mail_outbox": ("created_at",),
        }.items():
            changes = ", ".join(f"{each} = {each} - make_interval(mins => $1)" for each in columns)
            await connection.execute(f"UPDATE metadata.{table} SET {changes}", minutes)  # noqa: S608 - names of this test


async def outbox(pool: Pool) -> list[dict[str, Any]]:
    async with pool.acquire() as connection:
        rows = await connection.fetch(
            "SELECT m.id, m.kind, m.problem, m.subject, m.body_text, m.occurrences, m.created_at,"
            " count(e.id) AS events FROM metadata.mail_outbox AS m"
            " LEFT JOIN metadata.alert_events AS e ON e.mail_id = m.id GROUP BY m.id ORDER BY m.id"
        )
    return [dict(row) for row in rows]


async def waiting(pool: Pool) -> int:
    async with pool.acquire() as connection:
        count: int = await connection.fetchval(
            "SELECT count(*) FROM metadata.alert_events WHERE handled_at IS NULL"
        )
    return count


async def take_turns(pool: Pool, settings: Settings, *, turns: int, pipelines: int) -> int:
    """Ten thousand failures in the first hour, a turn each ten minutes; returns the most mails
    in any hour."""
    most = 0
    for number in range(turns):
        if number < 5:
            await fail(pool, 2000, pipelines)
        await go_back(pool, 10)
        await compose_mails(pool, settings, ("mail", "apprise"))
        async with pool.acquire() as connection:
            in_hour = await connection.fetchval(
                "SELECT count(DISTINCT notice) FROM metadata.mail_outbox"
                " WHERE created_at > clock_timestamp() - interval '1 hour'"
            )
        most = max(most, in_hour)
    return most


async def test_ten_thousand_failures_of_one_pipeline(pool: Pool, server: MailServer) -> None:
    settings = mail_settings(server, mails_per_hour=PER_HOUR, mail_minutes=15)
    most = await take_turns(pool, settings, turns=6, pipelines=1)
    mails = [each for each in await outbox(pool) if each["events"]]
    # The first one at once, then one as soon as a quarter of an hour is over.
    assert [each["occurrences"] for each in mails] == [2000, 4000, 4000]
    assert [each["events"] for each in mails] == [each["occurrences"] for each in mails]
    assert mails[-1]["subject"] == "[Sluiceway] pipeline_0 failed (4,000 times)"
    # All ten thousand are counted in one of them.
    assert "10,000 failures" in mails[-1]["body_text"]
    assert most == 3
    assert await waiting(pool) == 0


async def test_ten_thousand_failures_of_forty_pipelines(pool: Pool, server: MailServer) -> None:
    settings = mail_settings(server, mails_per_hour=PER_HOUR, mail_minutes=15)
    most = await take_turns(pool, settings, turns=8, pipelines=40)
    mails = [each for each in await outbox(pool) if each["events"]]
    assert most == PER_HOUR
    assert sum(each["occurrences"] for each in mails) == 10_000
    assert [each["events"] for each in mails] == [each["occurrences"] for each in mails]
    assert [each["kind"] for each in mails[:PER_HOUR]] == ["failure"] * (PER_HOUR - 1) + ["digest"]
    first, last = [each for each in mails if each["kind"] == "digest"]
    assert first["subject"] == "[Sluiceway] 35 problems, 1,750 events"
    # Each problem stands in it with all that it did in the last 24 hours.
    counts = re.findall(r"(\d+) times in the last 24", last["body_text"])
    assert counts == ["250"] * 35
    assert await waiting(pool) == 0


async def test_a_digest_names_the_first_fifty_and_counts_the_rest(
    pool: Pool, server: MailServer
) -> None:
    await fail(pool, 180, 60)
    await go_back(pool, 1)
    [mail] = await compose_mails(pool, mail_settings(server, mails_per_hour=1), ("mail",))
    [kept] = await outbox(pool)
    assert (mail.kind, mail.events, kept["events"]) == ("digest", 180, 180)
    assert kept["subject"] == "[Sluiceway] 60 problems, 180 events"
    assert kept["body_text"].count("3 times in the last 24 hours") == 50
    assert "And 10 problems more, 30 events." in kept["body_text"]
    assert "pipeline_1 failed: Error" in kept["body_text"]


async def test_events_that_come_while_a_mail_is_made_are_in_the_next(
    pool: Pool, server: MailServer
) -> None:
    settings = mail_settings(server, mail_minutes=1)
    await fail(pool, 500, 5)
    await go_back(pool, 2)

    async def go_on() -> None:
        for _ in range(5):
            await fail(pool, 100, 5)

    await asyncio.gather(go_on(), compose_mails(pool, settings, ("mail",)))
    await go_back(pool, 2)
    await compose_mails(pool, settings, ("mail",))
    mails = await outbox(pool)
    assert [each["events"] for each in mails] == [each["occurrences"] for each in mails]
    assert sum(each["occurrences"] for each in mails) == 1000
