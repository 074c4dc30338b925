"""Mail: no password and no message goes to a server in clear, or to one that is not the one."""

import logging
import smtplib
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from importlib.metadata import version
from pathlib import Path
from unittest.mock import patch

from infra.mail import channels, smtp
from infra.mail.channels import check_channels
from infra.mail.smtp import UnreachableError, open_smtp
from infra.settings import Settings
from schemas.errors import SettingError
from tests.mail_server import MailServer, mail_server, mail_settings
from tests.security.claim import Area, Claim, FoiledError
from tests.security.eavesdropper import FOREIGN, FalseMail
from tests.security.session import Session
from tests.security.tls_postgres import make_expired

# Each handshake that a client breaks off, as it should, is a traceback of the server's.
logging.getLogger("mail.log").setLevel(logging.CRITICAL)

USER, PASSWORD = "sluiceway", "overheard"
_ENCODED = b64encode(f"\0{USER}\0{PASSWORD}".encode())


@dataclass(frozen=True, slots=True)
class Stage:
    """Mail servers with STARTTLS: in order, for another host, and one that has expired."""

    good: MailServer
    misnamed: MailServer
    expired: MailServer
    other_ca: Path


@dataclass(frozen=True, slots=True)
class Sending:
    """A mail to be sent."""

    settings: Settings
    server: MailServer
    checks_names: bool = True


@dataclass(frozen=True, slots=True)
class Trap:
    """A mail that is sent to somebody who listens."""

    offers_tls: bool
    security: str
    local: frozenset[str]
    """The hosts that the platform takes for this machine."""


@asynccontextmanager
async def open_stage(session: Session) -> AsyncIterator[Stage]:
    """Start the servers, and see that a mail arrives."""
    with ExitStack() as stack:

        def start(name: str, **options: str) -> MailServer:
            folder = session.folder / name
            folder.mkdir()
            given = {"user": USER, "password": PASSWORD} | options
            return stack.enter_context(mail_server(folder, **given))

        expired = start("expired-mail")
        certificates = make_expired(session.authority).folder
        vars(expired)["_tls"].load_cert_chain(certificates / "mail.pem", certificates / "mail.key")
        expired.ca_file = session.authority.certificate_file
        stage = Stage(
            start("mail"),
            start("misnamed-mail", host="mail.example"),
            expired,
            session.other_authority.certificate_file,
        )
        await deliver(Sending(mail_settings(stage.good), stage.good))
        session.facts["Mail server"] = f"aiosmtpd {version('aiosmtpd')}; {describe_tls(stage.good)}"
        yield stage


def describe_tls(server: MailServer) -> str:
    """Return version and cipher that the server agrees to."""
    with smtplib.SMTP(server.host, server.port) as client:
        client.starttls(context=ssl.create_default_context(cafile=server.ca_file))
        cipher = client.sock.cipher() if isinstance(client.sock, ssl.SSLSocket) else None
    return f"{cipher[1]}, {cipher[0]}, {cipher[2]} bits" if cipher else "no TLS"


async def deliver(sending: Sending) -> str:
    """Return that the server has the mail; raises what kept it from being sent."""
    before = len(sending.server.received)
    with ExitStack() as stack:
        if not sending.checks_names:
            stack.enter_context(patch.object(smtp, "make_tls", _believe_anybody))
        async with open_smtp(sending.settings) as mail:
            await mail.send(_message(), ("ops@example.com",))
    if len(sending.server.received) == before:
        raise FoiledError("the server took no mail")
    return "the server was told the password and has the mail"


async def listen_in(trap: Trap) -> str:
    """Return that the password was heard; raises what kept the platform from telling it."""
    async with FalseMail(offers_tls=trap.offers_tls) as false:
        settings = Settings(
            smtp_host=FOREIGN,
            smtp_port=false.port,
            smtp_security=trap.security,
            smtp_user=USER,
            smtp_password=PASSWORD,
            mail_to=("ops@example.com",),
        )
        with patch.object(channels, "LOOPBACK", trap.local):
            check_channels(settings)
        try:
            async with open_smtp(settings):
                pass
        except UnreachableError:
            if trap.offers_tls and _asks_for_tls(false.heard):
                raise FoiledError("it asked for STARTTLS, and told no password before") from None
            if _ENCODED not in false.heard:
                raise
        if _ENCODED not in false.heard:
            raise FoiledError("nothing was heard that could be a password")
    return "the password was heard in clear"


def _asks_for_tls(heard: bytes) -> bool:
    return b"STARTTLS" in heard.upper() and _ENCODED not in heard


def _believe_anybody(_: Settings) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _message() -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = "A run failed"
    message["From"] = "Sluiceway <sluiceway@example.com>"
    message["To"] = "ops@example.com"
    message.set_content("Its error stands here.")
    return message


def _send(
    choose: Callable[[Stage], MailServer], *, checks_names: bool
) -> Callable[[Stage], Sending]:
    return lambda stage: Sending(
        mail_settings(choose(stage)), choose(stage), checks_names=checks_names
    )


_HERE = channels.LOOPBACK
CLAIMS = (
    Claim(
        "no-starttls",
        "a server, or whoever stands before it, offers no STARTTLS",
        listen_in,
        lambda _: Trap(offers_tls=False, security="starttls", local=_HERE),
        lambda _: Trap(offers_tls=False, security="none", local=_HERE | {FOREIGN}),
        UnreachableError,
        "offers no STARTTLS, and nothing is sent in clear",
    ),
    Claim(
        "login-before-tls",
        "a server asks for the login before it offers STARTTLS",
        listen_in,
        lambda _: Trap(offers_tls=True, security="starttls", local=_HERE),
        lambda _: Trap(offers_tls=True, security="none", local=_HERE | {FOREIGN}),
        saying="asked for STARTTLS",
    ),
    Claim(
        "no-clear-text-abroad",
        "the settings name a server on another host, without TLS",
        listen_in,
        lambda _: Trap(offers_tls=False, security="none", local=_HERE),
        lambda _: Trap(offers_tls=False, security="none", local=_HERE | {FOREIGN}),
        SettingError,
        "would send mail and password in clear",
    ),
    Claim(
        "wrong-ca",
        "a server with a certificate of another CA answers",
        deliver,
        lambda stage: Sending(mail_settings(stage.good, smtp_ca_file=stage.other_ca), stage.good),
        _send(lambda stage: stage.good, checks_names=False),
        UnreachableError,
        "unable to get local issuer certificate",
    ),
    Claim(
        "wrong-host",
        "a server with a certificate for another host answers",
        deliver,
        lambda stage: Sending(mail_settings(stage.misnamed, smtp_host="127.0.0.1"), stage.misnamed),
        lambda stage: Sending(
            mail_settings(stage.misnamed, smtp_host="127.0.0.1"),
            stage.misnamed,
            checks_names=False,
        ),
        UnreachableError,
        "certificate is not valid for '127.0.0.1'",
    ),
    Claim(
        "expired-certificate",
        "a server with a certificate that ended yesterday answers",
        deliver,
        _send(lambda stage: stage.expired, checks_names=True),
        _send(lambda stage: stage.expired, checks_names=False),
        UnreachableError,
        "certificate has expired",
    ),
)
AREA = Area("tls_mail", "Mail over TLS", open_stage, CLAIMS)
