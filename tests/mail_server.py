"""A real SMTP server for tests, with STARTTLS and AUTH, and failures that can be switched on."""

import asyncio
import logging
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Literal

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from infra.settings import Settings

WAIT_SECONDS = 30.0
# It warns of a property of its own at each login.
logging.getLogger("mail.log").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Received:
    """One message as it came over the wire."""

    sender: str
    recipients: tuple[str, ...]
    message: EmailMessage
    was_encrypted: bool
    login: str

    def body(self, kind: Literal["plain", "html"] = "plain") -> str:
        """Return the decoded text of that part, its lines ended as Python does."""
        part = self.message.get_body((kind,))
        assert isinstance(part, EmailMessage), f"the message has no text/{kind}"
        text: str = part.get_content()
        return text.replace("\r\n", "\n")


@dataclass
class MailServer:
    """Listens on 127.0.0.1 until it is stopped; everything may be changed while it runs."""

    folder: Path
    """Where the CA's certificate goes, which clients have to trust."""
    user: str = ""
    password: str = ""
    """With a user, mail is taken after a login only."""
    security: Literal["starttls", "tls", "none"] = "starttls"
    host: str = "127.0.0.1"
    """What the certificate is of; another name makes it a wrong one."""
    port: int = 0
    refused: set[str] = field(default_factory=set)
    """Recipients answered 550."""
    refused_for_now: set[str] = field(default_factory=set)
    """Recipients answered 450."""
    answers: deque[str] = field(default_factory=deque)
    """Each is given once, after DATA, in place of taking the message: "451 later", "554 never"."""
    cuts_before_data: int = 0
    """So often the connection is cut when the message should come."""
    cuts_after_data: int = 0
    """So often the message is taken, and the connection cut before the answer."""
    before_answer: Callable[[], None] = lambda: None
    """Called in the server's thread when a message is there, before it is taken."""
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    logins: int = 0
    failed_logins: int = 0

    def __post_init__(self) -> None:
        authority = trustme.CA()
        self.ca_file = self.folder / "mail_ca.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(self.host).configure_cert(self._tls)
        self._changed = threading.Condition()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._open: set[_Conversation] = set()

    def start(self) -> None:
        """Listen: on a free port at first, on the same one after a stop."""
        ready = threading.Event()
        failed: list[BaseException] = []
        self._thread = threading.Thread(target=self._serve, args=(ready, failed), daemon=True)
        self._thread.start()
        assert ready.wait(WAIT_SECONDS), "the mail server did not start"
        if failed:
            raise failed[0]

    def stop(self) -> None:
        """Refuse connections and cut those that are open; what was received stays."""
        if self._loop is None or self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_SECONDS)
        self._loop = self._thread = None

    def wait_for(self, count: int, *, seconds: float = WAIT_SECONDS) -> list[Received]:
        """Return what was received once it is so many; fails after a while."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self.received) >= count, seconds)
        assert came, f"{len(self.received)} mails came, {count} were expected"
        return list(self.received)

    def take(self, received: Received) -> None:
        """Keep the message."""
        with self._changed:
            self.received.append(received)
            self._changed.notify_all()

    def _serve(self, ready: threading.Event, failed: list[BaseException]) -> None:
        loop = asyncio.new_event_loop()
        tls = self._tls if self.security == "tls" else None
        try:
            server = loop.run_until_complete(
                loop.create_server(self._make_session, "127.0.0.1", self.port, ssl=tls)
            )
            self.port = server.sockets[0].getsockname()[1]
        except BaseException as error:  # noqa: BLE001 - raised again by who started it
            failed.append(error)
            ready.set()
            loop.close()
            return
        self._loop = loop
        ready.set()
        loop.run_forever()
        server.close()
        loop.run_until_complete(self._cut_all())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    async def _cut_all(self) -> None:
        for each in list(self._open):
            each.abort()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _make_session(self) -> "_Conversation":
        self.connections += 1
        made = _Conversation(
            self,
            _Handler(self),
            hostname="mail.test",
            tls_context=self._tls if self.security == "starttls" else None,
            require_starttls=self.security == "starttls",
            auth_required=bool(self.user),
            auth_require_tls=self.security == "starttls",
            # Alertmanager fails at LOGIN.
            auth_exclude_mechanism=["LOGIN"] if self.user else ["LOGIN", "PLAIN"],
            authenticator=self._check_login,
            loop=asyncio.get_running_loop(),
        )
        self._open.add(made)
        return made

    def _check_login(self, *given: Any) -> AuthResult:
        data = given[-1]
        assert isinstance(data, LoginPassword)
        if (data.login.decode(), data.password.decode()) == (self.user, self.password):
            self.logins += 1
            return AuthResult(success=True, auth_data=data.login.decode())
        self.failed_logins += 1
        # Handled by aiosmtpd, it would be no answer at all.
        return AuthResult(success=False, handled=False)

    def forget(self, conversation: "_Conversation") -> None:
        """Count a connection out that ended."""
        self._open.discard(conversation)


class _Conversation(SMTP):
    def __init__(self, owner: MailServer, *given: Any, **options: Any) -> None:
        self._owner = owner
        super().__init__(*given, **options)

    async def push(self, status: Any) -> None:
        await super().push(status)
        if str(status).startswith("354") and self._owner.cuts_before_data:
            self._owner.cuts_before_data -= 1
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._owner.forget(self)
        super().connection_lost(error)

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class _Handler:
    def __init__(self, owner: MailServer) -> None:
        self._owner = owner

    async def handle_RCPT(  # noqa: N802 - the name that aiosmtpd asks for
        self, _: SMTP, __: Session, envelope: Envelope, address: str, ___: list[str]
    ) -> str:
        if address in self._owner.refused:
            return f"550 5.1.1 <{address}>: nobody here by that name"
        if address in self._owner.refused_for_now:
            return f"450 4.2.0 <{address}>: greylisted, try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - the name that aiosmtpd asks for
        self, server: _Conversation, session: Session, envelope: Envelope
    ) -> str:
        owner = self._owner
        await asyncio.get_running_loop().run_in_executor(None, owner.before_answer)
        if owner.answers:
            return owner.answers.popleft()
        content = envelope.original_content or b""
        message = message_from_bytes(content, policy=policy.SMTP)
        assert isinstance(message, EmailMessage)
        owner.take(
            Received(
                envelope.mail_from or "",
                tuple(envelope.rcpt_tos),
                message,
                session.ssl is not None or owner.security == "tls",
                str(session.auth_data or ""),
            )
        )
        if owner.cuts_after_data:
            owner.cuts_after_data -= 1
            server.abort()
        return "250 OK: taken"


def mail_settings(server: MailServer, **more: Any) -> Settings:
    """Return settings by which mail reaches the server; `more` are further ones, or others."""
    given = {
        "smtp_host": server.host,
        "smtp_port": server.port,
        "smtp_security": server.security,
        "smtp_ca_file": server.ca_file,
        "smtp_user": server.user,
        "smtp_password": server.password,
        "mail_from": "Sluiceway <sluiceway@example.com>",
        "mail_to": ("ops@example.com",),
    }
    return Settings(**(given | more))


@contextmanager
def mail_server(folder: Path, **options: Any) -> Iterator[MailServer]:
    """Yield a listening server; `options` are MailServer's fields."""
    server = MailServer(folder, **options)
    server.start()
    try:
        yield server
    finally:
        server.stop()
