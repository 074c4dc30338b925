"""What becomes of mails that cannot be sent at once, and of channels beside mail."""

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiohttp import web

from infra.mail.channels import Channel
from infra.postgres.connection import TRANSIENT, Pool
from infra.settings import Settings
from tasks.mail_outbox import Outcome, send_waiting
from tests.conftest import Database
from tests.mail_server import MailServer, mail_server, mail_settings

# Apprise imports it as it loads its services.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MailServer]:
    with mail_server(tmp_path, user="sluiceway", password="s3cret-word") as started:
        yield started


async def put(pool: Pool, *subjects: str, channel: Channel = "mail") -> None:
    async with pool.acquire() as connection:
        for subject in subjects:
            await connection.execute(
                "INSERT INTO metadata.mail_outbox (problem, subject, body_text, body_html, channel)"
                " VALUES ('pipeline:p', $1, 'text', '<p>text</p>', $2)",
                subject,
                channel,
            )


async def rows(pool: Pool) -> list[dict[str, Any]]:
    async with pool.acquire() as connection:
        found = await connection.fetch(
            "SELECT *, extract(epoch FROM next_attempt_at - clock_timestamp()) AS wait_seconds"
            " FROM metadata.mail_outbox ORDER BY id"
        )
    return [dict(row) for row in found]


async def make_due(pool: Pool, *, days_old: int = 0) -> None:
    async with pool.acquire() as connection:
        await connection.execute(
            "UPDATE metadata.mail_outbox SET next_attempt_at = clock_timestamp(),"
            " created_at = created_at - make_interval(days => $1)",
            days_old,
        )


async def send(pool: Pool, settings: Settings, *channels: Channel) -> Outcome:
    return await send_waiting(pool, settings, channels or ("mail",))


def subjects(server: MailServer) -> list[str]:
    return [str(each.message["Subject"]) for each in server.received]


async def test_a_server_that_is_away_is_tried_again_after_growing_waits(
    pool: Pool, server: MailServer
) -> None:
    await put(pool, "one", "two")
    settings = mail_settings(server)
    server.stop()
    waits = []
    for _ in range(8):
        outcome = await send(pool, settings)
        # One that cannot be reached is not asked for each mail.
        assert (outcome.sent, outcome.delayed) == (0, 1)
        first = (await rows(pool))[0]
        waits.append(round(first["wait_seconds"], -1))
        async with pool.acquire() as connection:
            await connection.execute(
                "UPDATE metadata.mail_outbox SET next_attempt_at = now() WHERE id = $1", first["id"]
            )
    assert waits == [30, 60, 120, 240, 480, 900, 900, 900]
    kept = await rows(pool)
    assert [each["attempts"] for each in kept] == [8, 0]
    assert "cannot be reached" in kept[0]["last_error"]
    await make_due(pool)
    server.start()
    assert (await send(pool, settings)).sent == 2
    assert subjects(server) == ["one", "two"]
    assert [each["last_error"] for each in await rows(pool)] == [None, None]
    assert server.connections == 1


async def test_once_the_server_is_back_the_others_do_not_wait_any_longer(
    pool: Pool, server: MailServer
) -> None:
    await put(pool, "one", "two", "three")
    server.answers.extend(["451 later", "451 later", "451 later"])
    assert (await send(pool, mail_settings(server))).delayed == 3
    await put(pool, "new")
    assert (await send(pool, mail_settings(server))).sent == 4
    assert subjects(server) == ["new", "one", "two", "three"]


async def test_a_login_that_fails_delays_and_says_so_without_the_password(
    pool: Pool, server: MailServer
) -> None:
    await put(pool, "one")
    await send(pool, mail_settings(server, smtp_password="wrong-word"))
    [kept] = await rows(pool)
    assert "refused the login" in kept["last_error"]
    assert "wrong-word" not in kept["last_error"]
    assert (kept["attempts"], kept["sent_at"], kept["abandoned_at"]) == (1, None, None)


async def test_what_could_not_be_sent_in_three_days_is_given_up(
    pool: Pool, server: MailServer, caplog: pytest.LogCaptureFixture
) -> None:
    await put(pool, "old")
    await make_due(pool, days_old=4)
    server.stop()
    outcome = await send(pool, mail_settings(server))
    [kept] = await rows(pool)
    assert outcome.abandoned == 1
    assert kept["abandoned_at"] is not None
    assert "cannot be reached" in kept["last_error"]
    await make_due(pool)
    server.start()
    assert (await send(pool, mail_settings(server))).sent == 0


async def test_a_message_that_is_refused_for_good_is_given_up_and_the_next_one_sent(
    pool: Pool, server: MailServer
) -> None:
    await put(pool, "spam", "ham")
    server.answers.append("554 5.7.1 this is spam, ann@example.com")
    outcome = await send(pool, mail_settings(server))
    assert (outcome.sent, outcome.abandoned) == (1, 1)
    spam, _ = await rows(pool)
    assert spam["abandoned_at"] is not None
    assert "554 5.7.1 this is spam, •••" in spam["last_error"]
    assert subjects(server) == ["ham"]


async def test_a_message_that_is_refused_for_now_is_sent_later(
    pool: Pool, server: MailServer
) -> None:
    await put(pool, "one")
    server.answers.append("451 4.3.0 the disk is full")
    assert (await send(pool, mail_settings(server))).delayed == 1
    [kept] = await rows(pool)
    assert "451 4.3.0 the disk is full" in kept["last_error"]
    await make_due(pool)
    assert (await send(pool, mail_settings(server))).sent == 1


async def test_each_recipient_gets_it_once_whatever_becomes_of_the_others(
    pool: Pool, server: MailServer
) -> None:
    await put(pool, "one")
    to = ("gone@example.com", "ops@example.com", "grey@example.com")
    settings = mail_settings(server, mail_to=to)
    server.refused, server.refused_for_now = {"gone@example.com"}, {"grey@example.com"}
    assert (await send(pool, settings)).delayed == 1
    server.refused_for_now = set()
    await make_due(pool)
    assert (await send(pool, settings)).sent == 1
    assert [each.recipients for each in server.received] == [
        ("ops@example.com",),
        ("grey@example.com",),
    ]
    first, second = server.received
    assert first.message["Message-ID"] == second.message["Message-ID"]
    [kept] = await rows(pool)
    assert "Number 1 of SLUICEWAY_MAIL_TO did not get it: 550" in kept["last_error"]
    assert "example.com" not in json.dumps(kept, default=str)


async def test_where_everybody_is_refused_the_mail_is_kept(pool: Pool, server: MailServer) -> None:
    await put(pool, "one")
    server.refused = {"ops@example.com"}
    assert (await send(pool, mail_settings(server))).delayed == 1
    await make_due(pool)
    assert (await send(pool, mail_settings(server, mail_to=("new@example.com",)))).sent == 1
    assert server.received[0].recipients == ("new@example.com",)


async def test_a_mail_whose_acknowledgement_was_lost_comes_again_as_the_same_mail(
    pool: Pool, server: MailServer
) -> None:
    await put(pool, "one")
    server.cuts_after_data = 1
    assert (await send(pool, mail_settings(server))).delayed == 1
    await make_due(pool)
    assert (await send(pool, mail_settings(server))).sent == 1
    first, second = server.received
    assert first.message["Message-ID"] == second.message["Message-ID"]
    assert first.message["Date"] == second.message["Date"]


async def test_what_was_sent_while_postgresql_died_is_sent_once_more(
    database: Database, pool: Pool, server: MailServer
) -> None:
    await put(pool, "one")

    def cut_off() -> None:
        server.before_answer = lambda: None
        asyncio.run(end_sessions(database))

    server.before_answer = cut_off
    with pytest.raises(TRANSIENT):
        await send(pool, mail_settings(server))
    assert subjects(server) == ["one"]
    assert (await send(pool, mail_settings(server))).sent == 1
    assert (await send(pool, mail_settings(server))).sent == 0
    first, second = server.received
    assert first.message["Message-ID"] == second.message["Message-ID"]


async def end_sessions(database: Database) -> None:
    owner = await asyncpg.connect(database.owner_url)
    await owner.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE usename = 'sluiceway_loader' AND datname = current_database()"
    )
    await owner.close()


async def test_a_connection_cut_before_the_message_went_over_it(
    pool: Pool, server: MailServer
) -> None:
    await put(pool, "one", "two")
    server.cuts_before_data = 1
    assert (await send(pool, mail_settings(server))).sent == 0
    await make_due(pool)
    assert (await send(pool, mail_settings(server))).sent == 2
    assert subjects(server) == ["one", "two"]


async def test_two_senders_side_by_side_send_each_mail_once(pool: Pool, server: MailServer) -> None:
    await put(pool, *(f"mail {number}" for number in range(20)))
    outcomes = await asyncio.gather(*(send(pool, mail_settings(server)) for _ in range(2)))
    assert sorted(subjects(server)) == sorted(f"mail {number}" for number in range(20))
    assert sum(each.sent for each in outcomes) == 20
    assert server.connections == 2


@pytest.fixture
async def service() -> AsyncIterator[tuple[str, list[dict[str, Any]], list[int]]]:
    """An HTTP service: its apprise URL, what it got, and the answers that it gives before 200."""
    got: list[dict[str, Any]] = []
    answers: list[int] = []

    async def take(request: web.Request) -> web.Response:
        if answers:
            return web.Response(status=answers.pop(0))
        got.append(await request.json())
        return web.Response()

    application = web.Application()
    application.router.add_post("/{tail:.*}", take)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    yield f"json://127.0.0.1:{port}/tok-secret-1", got, answers
    await runner.cleanup()


Service = tuple[str, list[dict[str, Any]], list[int]]


async def test_another_channel_gets_it_too_and_neither_waits_for_the_other(
    pool: Pool, server: MailServer, service: Service
) -> None:
    url, got, answers = service
    await put(pool, "one")
    await put(pool, "one", channel="apprise")
    settings = mail_settings(server, notify_urls=(url,))
    server.stop()
    outcome = await send(pool, settings, "mail", "apprise")
    assert (outcome.sent, outcome.delayed) == (1, 1)
    assert [(each["title"], each["message"], each["type"]) for each in got] == [
        ("one", "text", "failure")
    ]
    server.start()
    await make_due(pool)
    await send(pool, settings, "mail", "apprise")
    assert (subjects(server), len(got)) == (["one"], 1)
    assert answers == []


async def test_a_service_that_refuses_is_asked_again_and_the_others_are_not(
    pool: Pool, service: Service
) -> None:
    url, got, answers = service
    settings = Settings(notify_urls=(f"{url}/first", f"{url}/other"))
    await put(pool, "one", channel="apprise")
    answers.append(503)
    assert (await send(pool, settings, "apprise")).delayed == 1
    [kept] = await rows(pool)
    assert "Number 1 of SLUICEWAY_NOTIFY_URLS did not get it" in kept["last_error"]
    assert "tok-secret-1" not in json.dumps(kept, default=str)
    await make_due(pool)
    assert (await send(pool, settings, "apprise")).sent == 1
    assert len(got) == 2


async def test_a_service_that_is_away_is_told_without_its_address(pool: Pool) -> None:
    settings = Settings(notify_urls=("json://127.0.0.1:9/tok-secret-1",))
    await put(pool, "one", channel="apprise")
    assert (await send(pool, settings, "apprise")).delayed == 1
    [kept] = await rows(pool)
    assert kept["next_attempt_at"] > dt.datetime.now(dt.UTC)
    assert "The json:// channel took no message" in kept["last_error"]
    assert "tok-secret-1" not in kept["last_error"]
