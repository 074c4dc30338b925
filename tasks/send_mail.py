"""One turn of mail: what happened becomes mails, and mails that wait are sent."""

import datetime as dt
from collections.abc import Sequence
from uuid import uuid4

from infra.mail.apprise import notify
from infra.mail.channels import Channel, addresses_of, check_channels
from infra.mail.document import hide_private
from infra.mail.html import render_html
from infra.mail.message import build_message
from infra.mail.smtp import MessageRefusedError, UnreachableError, open_smtp
from infra.mail.text import render_text
from infra.postgres.connection import Pool
from infra.settings import Settings
from schemas.errors import SettingError, TerminalError, TransientError
from tasks.mail_compose import compose_mails
from tasks.mail_digest import tell_test
from tasks.mail_outbox import Outcome, send_waiting

NOBODY = (
    "No channel is set up, so nobody is told of anything: set SLUICEWAY_SMTP_HOST and "
    "SLUICEWAY_MAIL_TO, or SLUICEWAY_NOTIFY_URLS (docs/alerts.md)."
)


async def send_mail(pool: Pool, settings: Settings, channels: Sequence[Channel]) -> Outcome:
    """Compose and send once; returns what became of what was due to be sent.

    A mail server that is away keeps nothing from being composed, and what cannot be composed
    keeps nothing from being sent. Raises what PostgreSQL raises.
    """
    try:
        await compose_mails(pool, settings, channels)
    finally:
        outcome = await send_waiting(pool, settings, channels)
    return outcome


async def send_test(settings: Settings) -> str:
    """Send a test message over every channel, and return a sentence on what happened.

    Needs no database. Raises SettingError when there is no channel, and TerminalError with a
    sentence on each that did not work.
    """
    channels = check_channels(settings)
    if not channels:
        raise SettingError(NOBODY)
    worked: list[str] = []
    failed: list[str] = []
    for channel in channels:
        sentence, is_good = await (
            _test_mail(settings) if channel == "mail" else _test_apprise(settings)
        )
        (worked if is_good else failed).append(sentence)
    if failed:
        raise TerminalError(" ".join([*failed, *worked]))
    return " ".join(worked)


async def _test_mail(settings: Settings) -> tuple[str, bool]:
    now = dt.datetime.now(dt.UTC)
    document = hide_private(tell_test(settings, now))
    message = build_message(
        subject=document.subject,
        text=render_text(document),
        html=render_html(document),
        sender=settings.mail_from,
        recipients=settings.mail_to,
        notice=uuid4(),
        created_at=now,
    )
    where = f"{settings.smtp_host}:{settings.smtp_port}"
    try:
        async with open_smtp(settings) as session:
            delivery = await session.send(message, settings.mail_to)
    except (UnreachableError, MessageRefusedError) as error:
        return str(error), False
    refused = delivery.refused | delivery.deferred
    if not refused:
        to = ", ".join(settings.mail_to)
        return f"The mail server {where} took the test mail for {to}: look into the mailbox.", True
    words = "; ".join(f"{address} ({said})" for address, said in refused.items())
    return f"The mail server {where} does not take mail for {words}: mend SLUICEWAY_MAIL_TO.", False


async def _test_apprise(settings: Settings) -> tuple[str, bool]:
    document = hide_private(tell_test(settings, dt.datetime.now(dt.UTC)))
    text = render_text(document, is_brief=True)
    urls = addresses_of("apprise", settings)
    failed = []
    for number, url in enumerate(urls, start=1):
        try:
            await notify(url, title=document.subject, text=text, tone="plain")
        except TransientError as error:
            failed.append(f"SLUICEWAY_NOTIFY_URLS, number {number}: {error}")
    if failed:
        return " ".join(failed), False
    return f"All {len(urls)} of SLUICEWAY_NOTIFY_URLS took the test message.", True
