"""Connections to PostgreSQL: one pool a process, safe by default, patient when the role is full."""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any, Self, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg

from schemas.errors import SettingError, TransientError

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1", ""})
TRANSIENT = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.InterfaceError,
    # What asyncpg says of a connection whose server has just taken its leave, unasked.
    asyncpg.InternalClientError,
    ConnectionError,
    TimeoutError,
    OSError,
)
"""What PostgreSQL or the way to it can raise that may be gone at the next try."""

_REFUSED_FOR_NOW = (asyncpg.TooManyConnectionsError, asyncpg.CannotConnectNowError)
_FIRST_WAIT_SECONDS = 0.1
_LONGEST_WAIT_SECONDS = 5.0

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
_Given = TypeVar("_Given")


def split_url(url: str) -> tuple[str, ssl.SSLContext | None]:
    """Return the address without its TLS parameters, and the TLS context they ask for.

    A host that is not this machine is spoken to with `sslmode=verify-full` and nothing less:
    the weaker modes accept an answer from anybody. Raises SettingError for such a mode.
    """
    parts = urlsplit(url)
    parameters = dict(parse_qsl(parts.query))
    mode = parameters.pop("sslmode", None)
    root_certificate = parameters.pop("sslrootcert", None)
    is_local = (parts.hostname or "") in LOOPBACK
    if not is_local and mode not in {None, "verify-full"}:
        raise SettingError(
            f"The database address of {parts.hostname} asks for sslmode={mode}, which does not "
            "check who answers: use sslmode=verify-full (and sslrootcert for a private CA)."
        )
    bare = urlunsplit(parts._replace(scheme="postgresql", query=urlencode(parameters)))
    if is_local and mode in {None, "disable", "prefer", "allow"}:
        return bare, None
    try:
        return bare, ssl.create_default_context(cafile=root_certificate)
    except OSError as error:
        raise SettingError(
            f"The database address of {parts.hostname} names {root_certificate} as sslrootcert, "
            f"which cannot be read ({error}): name the PEM file of the CA."
        ) from error


async def connect(url: str, *, wait_seconds: float = 60.0) -> asyncpg.Connection:
    """Return one open connection; raises TransientError when none was to be had in time."""
    address, tls = split_url(url)
    return await _patiently(
        lambda: asyncpg.connect(address, ssl=tls or False, server_settings=SERVER_SETTINGS),
        url,
        wait_seconds,
    )


SERVER_SETTINGS = {
    "application_name": "sluiceway",
    "timezone": "UTC",
    # A machine that dies leaves no farewell: the server finds out within about a minute, and
    # gives its locks free.
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}


class Pool:
    """At most `size` connections of this process, opened when first needed."""

    def __init__(
        self,
        url: str,
        *,
        size: int = 20,
        wait_seconds: float = 60.0,
        server_settings: Mapping[str, str] | None = None,
    ) -> None:
        """Remember where; nothing is opened yet.

        server_settings: of each connection, over the ones that all have.
        """
        self._server_settings = SERVER_SETTINGS | dict(server_settings or {})
        self._url = url
        self._wait_seconds = wait_seconds
        self._size = size
        self._pool: asyncpg.Pool | None = None

    async def __aenter__(self) -> Self:
        """Open the pool; its connections come on demand."""
        address, tls = split_url(self._url)
        self._pool = asyncpg.create_pool(
            address,
            ssl=tls or False,
            min_size=0,
            max_size=self._size,
            max_inactive_connection_lifetime=60,
            server_settings=self._server_settings,
            init=_let_writers_go_at_its_end,
        )
        await self._pool
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection, by force where one is stuck."""
        if self._pool is None:
            return
        try:
            await asyncio.wait_for(self._pool.close(), timeout=10)
        except TimeoutError:
            self._pool.terminate()

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """Lend a connection; waits while the role's limit or this pool's is reached."""
        if self._pool is None:
            raise RuntimeError("The pool is used before it was opened.")
        pool = self._pool
        connection = await _patiently(pool.acquire, self._url, self._wait_seconds)
        try:
            yield connection
        finally:
            # One that its server has left cannot be reset: asyncpg closes it, and what was done
            # over it stands or fell before.
            with suppress(*TRANSIENT):
                await asyncio.shield(pool.release(connection, timeout=10))


async def _let_writers_go_at_its_end(connection: Any) -> None:
    """Wake a COPY that waits for room in the socket when the connection is lost.

    asyncpg (0.32) leaves it waiting for ever.
    """
    protocol = connection._protocol  # noqa: SLF001 - nothing public ends that wait
    connection.add_termination_listener(lambda _: protocol.resume_writing())


async def _patiently(
    attempt: Callable[[], Awaitable[_Given]], url: str, wait_seconds: float
) -> _Given:
    """Try until PostgreSQL gives a connection; back off with jitter while it is full or starting.

    Other refusals (no such host, wrong password) do not pass by waiting here.
    """
    deadline = monotonic() + wait_seconds
    wait = _FIRST_WAIT_SECONDS
    where = f"{urlsplit(url).hostname}:{urlsplit(url).port or 5432}"
    while True:
        try:
            return await attempt()
        except _REFUSED_FOR_NOW as error:
            if monotonic() + wait > deadline:
                raise TransientError(
                    f"PostgreSQL at {where} gave no connection within {wait_seconds:g} s "
                    f"({error}): wait for other runs to end or raise the role's limit."
                ) from error
        except (
            asyncpg.InvalidAuthorizationSpecificationError,
            asyncpg.InvalidCatalogNameError,
        ) as error:
            raise SettingError(
                f"PostgreSQL at {where} refused the login ({error}): check the setting that names "
                "it, SLUICEWAY_DATABASE_URL or the same with READER_, MONITOR_ or OWNER_ in it."
            ) from error
        except ssl.SSLCertVerificationError as error:
            raise SettingError(
                f"PostgreSQL at {where} showed a certificate that is not to be trusted "
                f"({error.verify_message}): name its CA's file by sslrootcert in the address, and "
                "the host as the certificate does."
            ) from error
        except (OSError, asyncpg.PostgresConnectionError) as error:
            raise TransientError(
                f"PostgreSQL at {where} cannot be reached ({error}): is it running?"
            ) from error
        await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret
        wait = min(wait * 2, _LONGEST_WAIT_SECONDS)
