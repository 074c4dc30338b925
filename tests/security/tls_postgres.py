"""PostgreSQL: whom the platform believes to be its server, and whom the server lets in."""

import datetime as dt
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg

from infra.local.postgres import Postgres
from infra.postgres.connection import connect
from infra.tls.authority import Authority
from schemas.errors import SettingError, TransientError
from tests.security.claim import Area, Claim
from tests.security.eavesdropper import FOREIGN, FalsePostgres
from tests.security.session import HASHED, PASSWORDS, PLATFORM, TRUSTING, Session
from tests.tls_servers import postgres_over_tls, verified_address

ROLE = "sluiceway_loader"
PASSWORD = PASSWORDS[ROLE]
OLD_ROLE, OLD_PASSWORD = "old_hash", "kept as MD5"
WEAK_MODES = ("disable", "allow", "prefer", "require", "verify-ca")

Open = Callable[[], Awaitable[asyncpg.Connection]]


@dataclass(frozen=True, slots=True)
class Stage:
    """A server that is in order, and one whose certificate has expired."""

    session: Session
    server: Postgres
    expired: Postgres

    def platform_opens(
        self,
        *,
        ca: Path | None = None,
        host: str = "127.0.0.1",
        is_expired: bool = False,
        **login: str,
    ) -> Open:
        """Connect as the platform does."""
        url = verified_address(
            self.expired if is_expired else self.server,
            ca or self.session.authority.certificate_file,
            host=host,
            database="postgres" if is_expired else PLATFORM,
            **login,
        )
        return partial(connect, url, wait_seconds=1)

    def anybody_opens(self, *, host: str = "127.0.0.1", is_expired: bool = False) -> Open:
        """Connect over TLS, and believe whoever answers, as `sslmode=require` does."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        server = self.expired if is_expired else self.server
        address = server.url("postgres" if is_expired else PLATFORM)
        return partial(asyncpg.connect, address.replace("127.0.0.1", host), ssl=context)

    def opens_in_clear(self, database: str, user: str = ROLE, password: str = PASSWORD) -> Open:
        """Connect without TLS."""
        return partial(
            asyncpg.connect, self.server.url(database, user=user, password=password), ssl=False
        )


@asynccontextmanager
async def open_stage(session: Session) -> AsyncIterator[Stage]:
    """Start both servers, and see that who may be served is."""
    server = await session.postgres()
    server.execute(
        f"SET password_encryption = 'md5'; CREATE ROLE {OLD_ROLE} LOGIN PASSWORD '{OLD_PASSWORD}'"
    )
    with postgres_over_tls(
        session.folder / "expired" / "data", make_expired(session.authority), databases=()
    ) as expired:
        stage = Stage(session, server, expired)
        await log_in(stage.platform_opens(user=ROLE, password=PASSWORD))
        yield stage


def make_expired(authority: Authority) -> Authority:
    """Return the same authority, whose certificates ended yesterday."""
    past = Authority(authority.folder, now=dt.datetime.now(dt.UTC) - dt.timedelta(days=30))
    # Another folder for them: the server that is in order keeps its own.
    past.folder = authority.folder.with_name("expired-tls")
    past.folder.mkdir(mode=0o700, exist_ok=True)
    for name in ("postgres", "kafka", "mail"):
        past.issue(name, ["127.0.0.1"], days=29)
    return past


async def log_in(opening: Open) -> str:
    """Return as whom one is in."""
    connection = await opening()
    try:
        row = await connection.fetchrow(
            "SELECT current_user, coalesce(version, 'in clear') AS way"
            " FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        )
    finally:
        await connection.close()
    return f"logged in as {row['current_user']}, {row['way']}"


@dataclass(frozen=True, slots=True)
class Trap:
    """Somebody who answers in place of the server, and a client that is led there."""

    false: FalsePostgres
    call: Callable[[str], Awaitable[Any]]
    query: str


async def listen_in(trap: Trap) -> str:
    """Return that the password was heard; raises what kept the client from telling it."""
    async with trap.false:
        url = f"postgresql://{ROLE}:overheard@{FOREIGN}:{trap.false.port}/platform{trap.query}"
        try:
            await trap.call(url)
        except Exception:
            if b"overheard" not in trap.false.heard:
                raise
        return "whoever answered was told the password"


def set_trap(mode: str, *, is_careful: bool, offers_tls: bool) -> Callable[[Stage], Trap]:
    """Return the choice of a trap: our client, or asyncpg by itself, with that sslmode."""

    def choose(stage: Stage) -> Trap:
        authority = stage.session.authority
        query = f"?sslmode={mode}&sslrootcert={authority.certificate_file}" if mode else ""
        # A certificate of the right CA, for another host.
        false = FalsePostgres(authority.folder if offers_tls else None)
        return Trap(
            false, partial(connect, wait_seconds=1) if is_careful else asyncpg.connect, query
        )

    return choose


CLAIMS = (
    Claim(
        "wrong-ca",
        "a server with a certificate of another CA answers",
        log_in,
        lambda stage: stage.platform_opens(ca=stage.session.other_authority.certificate_file),
        lambda stage: stage.anybody_opens(),
        SettingError,
        "unable to get local issuer certificate",
    ),
    Claim(
        "wrong-host",
        "a server with a certificate for another host answers",
        log_in,
        lambda stage: stage.platform_opens(host="localhost"),
        lambda stage: stage.anybody_opens(host="localhost"),
        SettingError,
        "Hostname mismatch",
    ),
    Claim(
        "expired-certificate",
        "a server with a certificate that ended yesterday answers",
        log_in,
        lambda stage: stage.platform_opens(is_expired=True),
        lambda stage: stage.anybody_opens(is_expired=True),
        SettingError,
        "certificate has expired",
    ),
    Claim(
        "plaintext",
        "log in without TLS, with the right password",
        log_in,
        lambda stage: stage.opens_in_clear(PLATFORM),
        lambda stage: stage.opens_in_clear(TRUSTING),
        asyncpg.InvalidAuthorizationSpecificationError,
        "no encryption",
    ),
    Claim(
        "wrong-password",
        "log in with a wrong password",
        log_in,
        lambda stage: stage.platform_opens(user=ROLE, password="guessed"),
        lambda stage: stage.opens_in_clear(TRUSTING, password="guessed"),
        SettingError,
        "password authentication failed",
    ),
    Claim(
        "no-trust",
        "log in as the superuser, with any password",
        log_in,
        lambda stage: stage.platform_opens(user="postgres", password="any"),
        lambda stage: stage.opens_in_clear(TRUSTING, "postgres", "any"),
        SettingError,
        "password authentication failed",
    ),
    Claim(
        "no-md5",
        "log in as a role whose password is kept as MD5, where a stolen hash is as good as it",
        log_in,
        lambda stage: stage.platform_opens(user=OLD_ROLE, password=OLD_PASSWORD),
        lambda stage: stage.opens_in_clear(HASHED, OLD_ROLE, OLD_PASSWORD),
        SettingError,
        "password authentication failed",
    ),
    *(
        Claim(
            f"sslmode-{mode}",
            f"a client that is told sslmode={mode} meets somebody who asks for the password",
            listen_in,
            set_trap(mode, is_careful=True, offers_tls=True),
            set_trap(mode, is_careful=False, offers_tls=True),
            SettingError,
            f"sslmode={mode}, which does not check who answers",
        )
        for mode in WEAK_MODES
    ),
    Claim(
        "downgrade",
        "a server says that it has no TLS, and asks for the password in clear",
        listen_in,
        set_trap("", is_careful=True, offers_tls=False),
        set_trap("", is_careful=False, offers_tls=False),
        TransientError,
        "rejected SSL upgrade",
    ),
    Claim(
        "sslmode-default",
        "a client that is told no sslmode meets somebody with another host's certificate",
        listen_in,
        set_trap("", is_careful=True, offers_tls=True),
        set_trap("", is_careful=False, offers_tls=True),
        SettingError,
        "not to be trusted",
    ),
)
AREA = Area("tls_postgres", "PostgreSQL over TLS", open_stage, CLAIMS)
