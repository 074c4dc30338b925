"""A mail server: one conversation with it, encrypted and with its name checked, or none at all."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage

import aiosmtplib

from infra.mail.message import address_of
from infra.redaction import redact
from infra.settings import Settings
from schemas.errors import TerminalError, TransientError

_ANSWER_SECONDS = 20.0
"""How long each answer of the server may take."""
_MESSAGE_SECONDS = 60.0
"""How long one message may take."""
_NEVER = 500
"""Answers from here on will not be others the next time."""


class UnreachableError(TransientError):
    """No conversation with the server came about, or it ended: other messages would fare alike."""


class MessageRefusedError(TerminalError):
    """The server does not take this message, however often it is sent."""


@dataclass(slots=True)
class Delivery:
    """What became of a message, by recipient."""

    accepted: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    """For good, with the server's words."""
    deferred: dict[str, str] = field(default_factory=dict)
    """For now, with the server's words."""


class MailSession:
    """An open conversation."""

    def __init__(self, client: aiosmtplib.SMTP, where: str, sender: str) -> None:
        """Take over a client that has logged in."""
        self._client = client
        self._where = where
        self._sender = address_of(sender)

    async def send(self, message: EmailMessage, recipients: Sequence[str]) -> Delivery:
        """Return what became of it; one recipient that is refused does not stop the others.

        Raises MessageRefusedError, and UnreachableError when the conversation is over; the message
        may then have been taken all the same.
        """
        envelope = {address_of(each): each for each in recipients}
        try:
            async with asyncio.timeout(_MESSAGE_SECONDS):
                answers, _ = await self._client.send_message(
                    message, sender=self._sender, recipients=list(envelope)
                )
        except aiosmtplib.SMTPRecipientsRefused as error:
            answers = {
                each.recipient: aiosmtplib.SMTPResponse(each.code, each.message)
                for each in error.recipients
            }
        except aiosmtplib.SMTPDataError as error:
            said = f"{error.code} {_words(error.message)}"
            if error.code >= _NEVER:
                raise MessageRefusedError(
                    f"The mail server {self._where} refused the message ({said}): it is not sent "
                    "again."
                ) from error
            return Delivery(deferred=dict.fromkeys(recipients, said))
        except aiosmtplib.SMTPSenderRefused as error:
            raise UnreachableError(
                f"The mail server {self._where} takes no mail of this sender ({error.code} "
                f"{_words(error.message)}): set SLUICEWAY_MAIL_FROM to an address that it knows, "
                "and SLUICEWAY_SMTP_USER where it wants a login."
            ) from error
        except (aiosmtplib.SMTPException, OSError) as error:
            raise UnreachableError(
                f"The mail server {self._where} broke off ({_words(str(error))}); the message is "
                "sent again."
            ) from error
        return _sort(envelope, answers)


@asynccontextmanager
async def open_smtp(settings: Settings) -> AsyncIterator[MailSession]:
    """Yield a conversation with the mail server of the settings, logged in where they say so.

    Raises UnreachableError, which says what to look at and no password. Settings that would send
    over the network in clear are for infra.mail.channels.check_channels to refuse.
    """
    where = f"{settings.smtp_host}:{settings.smtp_port}"
    is_clear = settings.smtp_security == "none"
    client = aiosmtplib.SMTP(
        hostname=settings.smtp_host,
        port=settings.smtp_port,
        timeout=_ANSWER_SECONDS,
        use_tls=settings.smtp_security == "tls",
        start_tls=settings.smtp_security == "starttls",
        tls_context=None if is_clear else make_tls(settings),
    )
    try:
        try:
            async with asyncio.timeout(_MESSAGE_SECONDS):
                await client.connect()
                if settings.smtp_user:
                    await client.login(
                        settings.smtp_user, settings.smtp_password.get_secret_value()
                    )
        except (aiosmtplib.SMTPException, OSError) as error:
            raise UnreachableError(_explain(error, where, is_clear=is_clear)) from error
        yield MailSession(client, where, settings.mail_from)
    finally:
        await _leave(client)


def make_tls(settings: Settings) -> ssl.SSLContext:
    """Return a context that checks the server's name and who vouches for it."""
    return ssl.create_default_context(cafile=settings.smtp_ca_file)


async def _leave(client: aiosmtplib.SMTP) -> None:
    try:
        if client.is_connected:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await client.quit()
    except (aiosmtplib.SMTPException, OSError):
        # Whatever was to be said was said before; a farewell that fails changes nothing.
        client.close()
    else:
        client.close()


def _explain(error: Exception, where: str, *, is_clear: bool) -> str:
    said = _words(str(error))
    certificate = _find(error, ssl.SSLCertVerificationError)
    match error:
        case _ if certificate is not None:
            return (
                f"The mail server {where} could not show who it is ({_words(str(certificate))}): "
                "name it in SLUICEWAY_SMTP_HOST as its certificate does, and a private CA in "
                "SLUICEWAY_SMTP_CA_FILE."
            )
        case aiosmtplib.SMTPAuthenticationError():
            return (
                f"The mail server {where} refused the login ({error.code} "
                f"{_words(error.message)}): check SLUICEWAY_SMTP_USER and SLUICEWAY_SMTP_PASSWORD."
            )
        case aiosmtplib.SMTPException() if "STARTTLS" in said and not is_clear:
            return (
                f"The mail server {where} offers no STARTTLS, and nothing is sent in clear: set "
                "SLUICEWAY_SMTP_SECURITY=tls and its port for that, or take another server."
            )
        case aiosmtplib.SMTPException() if "AUTH" in said.upper():
            return (
                f"The mail server {where} offers no login ({said}): leave SLUICEWAY_SMTP_USER "
                "empty, or take the port that it has for logins, mostly 587."
            )
        case _:
            return (
                f"The mail server {where} cannot be reached ({said or type(error).__name__}): "
                "check SLUICEWAY_SMTP_HOST, SLUICEWAY_SMTP_PORT and SLUICEWAY_SMTP_SECURITY, and "
                "whether it is up."
            )


def _find(error: BaseException | None, kind: type[BaseException]) -> BaseException | None:
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error


def _sort(envelope: dict[str, str], answers: dict[str, aiosmtplib.SMTPResponse]) -> Delivery:
    delivery = Delivery()
    for address, given in envelope.items():
        answer = answers.get(address)
        if answer is None:
            delivery.accepted.append(given)
            continue
        kept = delivery.refused if answer.code >= _NEVER else delivery.deferred
        kept[given] = f"{answer.code} {_words(answer.message)}"
    return delivery


def _words(text: str) -> str:
    return redact(" ".join(text.split()))[:300]
