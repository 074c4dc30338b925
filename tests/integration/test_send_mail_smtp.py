"""One conversation with a real mail server, and what a person is told when it goes wrong."""

import datetime as dt
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from uuid import UUID

import pytest
import trustme

from infra.mail.message import build_message
from infra.mail.smtp import Delivery, MessageRefusedError, UnreachableError, open_smtp
from infra.settings import Settings
from tests.mail_server import MailServer, mail_server, mail_settings

PASSWORD = "s3cret-word"
NOTICE = UUID("12345678-1234-5678-1234-567812345678")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MailServer]:
    with mail_server(tmp_path, user="sluiceway", password=PASSWORD) as started:
        yield started


def message(*recipients: str, subject: str = "A subject") -> EmailMessage:
    return build_message(
        subject=subject,
        text="Größe\n",
        html="<p>Größe</p>",
        sender="Sluiceway <sluiceway@example.com>",
        recipients=recipients,
        notice=NOTICE,
        created_at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
    )


async def send(settings: Settings, *recipients: str) -> Delivery:
    async with open_smtp(settings) as session:
        return await session.send(message(*recipients), recipients)


async def test_mail_goes_encrypted_and_logged_in_and_arrives_as_it_was_written(
    server: MailServer,
) -> None:
    delivery = await send(mail_settings(server), "Operations <ops@example.com>", "b@example.com")
    assert delivery == Delivery(["Operations <ops@example.com>", "b@example.com"])
    [mail] = server.received
    assert (mail.was_encrypted, mail.login) == (True, "sluiceway")
    assert mail.sender == "sluiceway@example.com"
    assert mail.recipients == ("ops@example.com", "b@example.com")
    assert (mail.body(), mail.body("html")) == ("Größe\n", "<p>Größe</p>\n")
    assert mail.message["Message-ID"] == f"<{NOTICE}@example.com>"


async def test_tls_from_the_first_byte_works_too(tmp_path: Path) -> None:
    with mail_server(tmp_path, security="tls") as server:
        await send(mail_settings(server), "ops@example.com")
    assert server.received[0].was_encrypted


async def test_this_machine_may_be_spoken_to_in_clear(tmp_path: Path) -> None:
    with mail_server(tmp_path, security="none") as server:
        await send(mail_settings(server), "ops@example.com")
    assert not server.received[0].was_encrypted


async def explain(settings: Settings) -> str:
    with pytest.raises(UnreachableError) as raised:
        await send(settings, "ops@example.com")
    said = str(raised.value)
    cause = raised.value.__cause__
    assert "wrong-word" not in f"{said} {cause!r}"
    assert PASSWORD not in f"{said} {cause!r}"
    return said


async def test_a_login_that_is_refused_names_the_settings_and_no_password(
    server: MailServer,
) -> None:
    said = await explain(mail_settings(server, smtp_password="wrong-word"))
    assert "refused the login (535" in said
    assert "SLUICEWAY_SMTP_USER and SLUICEWAY_SMTP_PASSWORD" in said
    assert (server.failed_logins, server.received) == (1, [])


async def test_a_certificate_of_another_ca_or_name_is_not_accepted(
    server: MailServer, tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    strange = await explain(mail_settings(server, smtp_ca_file=other))
    public = await explain(mail_settings(server, smtp_ca_file=None))
    renamed = await explain(mail_settings(server, smtp_host="localhost"))
    for said in (strange, public, renamed):
        assert "could not show who it is" in said
        assert "SLUICEWAY_SMTP_CA_FILE" in said
    assert "localhost" in renamed
    assert server.logins == 0


async def test_a_server_without_starttls_gets_no_mail(tmp_path: Path) -> None:
    with mail_server(tmp_path, security="none") as server:
        said = await explain(mail_settings(server, smtp_security="starttls"))
    assert "offers no STARTTLS, and nothing is sent in clear" in said
    assert server.received == []


async def test_a_server_without_logins_says_what_to_do(tmp_path: Path) -> None:
    with mail_server(tmp_path) as server:
        said = await explain(mail_settings(server, smtp_user="me", smtp_password="wrong-word"))
    assert "leave SLUICEWAY_SMTP_USER empty" in said


async def test_a_server_that_is_away_is_named(server: MailServer) -> None:
    server.stop()
    said = await explain(mail_settings(server))
    assert f"127.0.0.1:{server.port} cannot be reached" in said


async def test_one_recipient_that_is_refused_does_not_stop_the_others(server: MailServer) -> None:
    server.refused = {"gone@example.com"}
    server.refused_for_now = {"grey@example.com"}
    delivery = await send(
        mail_settings(server), "gone@example.com", "ops@example.com", "grey@example.com"
    )
    assert delivery.accepted == ["ops@example.com"]
    assert delivery.refused == {"gone@example.com": "550 5.1.1 <•••>: nobody here by that name"}
    assert list(delivery.deferred) == ["grey@example.com"]
    assert server.received[0].recipients == ("ops@example.com",)


async def test_where_nobody_is_accepted_each_keeps_its_answer(server: MailServer) -> None:
    server.refused, server.refused_for_now = {"gone@example.com"}, {"grey@example.com"}
    delivery = await send(mail_settings(server), "gone@example.com", "grey@example.com")
    assert (delivery.accepted, list(delivery.refused), list(delivery.deferred)) == (
        [],
        ["gone@example.com"],
        ["grey@example.com"],
    )


async def test_a_message_that_is_refused_is_told_from_one_that_may_come_later(
    server: MailServer,
) -> None:
    async with open_smtp(mail_settings(server)) as session:
        server.answers.append("451 4.3.0 the disk is full")
        later = await session.send(message("ops@example.com"), ["ops@example.com"])
        server.answers.append("554 5.7.1 this is spam")
        with pytest.raises(MessageRefusedError, match=r"554 5\.7\.1 this is spam"):
            await session.send(message("ops@example.com"), ["ops@example.com"])
        # The conversation goes on after both.
        taken = await session.send(message("ops@example.com"), ["ops@example.com"])
    assert later.deferred == {"ops@example.com": "451 4.3.0 the disk is full"}
    assert taken.accepted == ["ops@example.com"]
    assert len(server.received) == 1


@pytest.mark.parametrize("where", ["cuts_before_data", "cuts_after_data"])
async def test_a_connection_that_is_cut_while_the_message_goes_over_it(
    server: MailServer, where: str
) -> None:
    setattr(server, where, 1)
    assert "broke off" in await explain(mail_settings(server))


async def test_nothing_in_a_subject_becomes_another_header(server: MailServer) -> None:
    subject = "failed\r\nBcc: victim@example.com\r\n\r\n<script>\x00\u202e" + "x" * 500
    async with open_smtp(mail_settings(server)) as session:
        await session.send(message("ops@example.com", subject=subject), ["ops@example.com"])
    [mail] = server.received
    assert mail.message["Bcc"] is None
    assert mail.recipients == ("ops@example.com",)
    assert mail.message["Subject"].startswith("failed Bcc: victim@example.com <script>xxx")
    assert len(mail.message["Subject"]) <= 200
