"""Mail messages as they go over the wire, with headers that no text can break out of."""

import datetime as dt
from collections.abc import Sequence
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from uuid import UUID

from infra.mail.document import drop_controls

MAX_SUBJECT = 200
"""Characters."""


def build_message(
    *,
    subject: str,
    text: str,
    html: str,
    sender: str,
    recipients: Sequence[str],
    notice: UUID,
    created_at: dt.datetime,
) -> EmailMessage:
    """Return a message of both kinds of text, marked as sent by a machine.

    notice: its Message-ID is made of it, so that sending it again makes a copy, not another mail.
    """
    domain = address_of(sender).rpartition("@")[2] or "localhost"
    message = EmailMessage(policy=SMTP)
    message["Subject"] = one_line(subject, MAX_SUBJECT)
    message["From"] = sender
    message["To"] = ", ".join(recipients)
    message["Date"] = format_datetime(created_at.astimezone(dt.UTC))
    message["Message-ID"] = f"<{notice}@{domain}>"
    message["List-ID"] = f"Sluiceway alerts <alerts.sluiceway.{domain}>"
    # Nobody's absence note shall come back, and no list shall answer.
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    message.set_content(text, cte="quoted-printable")
    message.add_alternative(html, subtype="html", cte="quoted-printable")
    return message


def one_line(text: str, limit: int) -> str:
    """Return the text as one line of at most `limit` characters, without control codes."""
    line = drop_controls(" ".join(text.split()))
    return line if len(line) <= limit else f"{line[: limit - 1].rstrip()}…"


def address_of(text: str) -> str:
    """Return the address within `Name <address>`."""
    return parseaddr(text)[1]
