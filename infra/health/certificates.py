"""Whether certificates last: those in PEM files, and those that TLS services show."""

import asyncio
import datetime as dt
import re
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from cryptography import x509

from infra.health.finding import Finding, bad, first_line, good, unknown

_SERVICE = re.compile(r"(?:\[(?P<six>[^\]]+)\]|(?P<host>[^/:\s]+)):(?P<port>\d{1,5})")
_SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""PostgreSQL's question whether it speaks TLS."""
_POSTGRES_PORT = 5432
_MAIL_PORTS = frozenset({25, 587})
_GREETING_LINES = 50


_WAYS = 3
"""In which a service is asked, at most."""
_Way = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class _PlainAnswerError(Exception):
    """The service does not speak TLS in this way."""


_UNREADABLE = (OSError, ValueError, EOFError, _PlainAnswerError)


async def check_certificates(
    places: Sequence[str], days: int, *, seconds: float, now: dt.datetime | None = None
) -> Finding:
    """Return whether no certificate of these files and host:port expires within so many days.

    BAD also for a file that cannot be read. A service that cannot be reached is UNKNOWN: whether
    it runs is not asked here.
    seconds: what each service may take, all of them at once.
    """
    moment = now or dt.datetime.now(dt.UTC)
    looked = await asyncio.gather(
        *(_look(each, seconds) for each in places), return_exceptions=True
    )
    ending: list[str] = []
    lost: list[str] = []
    silent: list[str] = []
    ends: list[tuple[dt.datetime, str]] = []
    for place, found in zip(places, looked, strict=True):
        if isinstance(found, _UNREADABLE):
            unread = silent if _SERVICE.fullmatch(place) else lost
            unread.append(f"{place} ({first_line(found)})")
        elif isinstance(found, BaseException):
            raise found
        else:
            ends += [(each.not_valid_after_utc, place) for each in found]
            ending += _describe(found, place, moment, moment + dt.timedelta(days=days))
    if ending or lost:
        return bad(f"{'; '.join([*ending, *(f'cannot be read: {each}' for each in lost)])}.")
    if silent:
        return unknown(f"No certificate was to be had from {', '.join(silent)}.")
    at, place = min(ends)
    return good(f"The first to expire is that of {place}, on {at:%Y-%m-%d}.")


def _describe(
    certificates: Sequence[x509.Certificate], place: str, now: dt.datetime, limit: dt.datetime
) -> list[str]:
    """Return a sentence for each that ends before the limit."""
    said = []
    for each in certificates:
        at = each.not_valid_after_utc
        if at <= limit:
            name = each.subject.rfc4514_string() or "without a subject"
            verb = "expired" if at <= now else "expires"
            said.append(f"the certificate {name} of {place} {verb} on {at:%Y-%m-%d %H:%M} UTC")
    return said


async def _look(place: str, seconds: float) -> list[x509.Certificate]:
    service = _SERVICE.fullmatch(place)
    if service is None:
        text = await asyncio.to_thread(Path(place).read_bytes)
        return x509.load_pem_x509_certificates(text)
    host, port = service["six"] or service["host"], int(service["port"])
    return [x509.load_der_x509_certificate(await _show(host, port, seconds / _WAYS))]


async def _show(host: str, port: int, seconds: float) -> bytes:
    """Return the certificate that a service shows, by TLS at once or after it was asked for TLS.

    seconds: for each way of asking.
    """
    ways: list[_Way] = [_begin_directly, _ask_postgres, _ask_mail]
    if port == _POSTGRES_PORT:
        ways = [_ask_postgres, _begin_directly]
    elif port in _MAIL_PORTS:
        ways = [_ask_mail, _begin_directly]
    problem: Exception = _PlainAnswerError()
    for way in ways:
        try:
            async with asyncio.timeout(seconds):
                return await _show_by(way, host, port)
        except (OSError, _PlainAnswerError, EOFError) as error:
            problem = error
    raise problem


async def _show_by(way: _Way, host: str, port: int) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        await way(reader, writer)
        # It is only looked at: nothing is sent to whoever shows it.
        await writer.start_tls(_make_context(), server_hostname=host)
        return bytes(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
    finally:
        writer.transport.abort()


def _make_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    # One that expired has to be seen, too.
    context.verify_mode = ssl.CERT_NONE
    return context


async def _begin_directly(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    return None


async def _ask_postgres(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_SSL_REQUEST)
    if await reader.readexactly(1) != b"S":
        raise _PlainAnswerError("it speaks no TLS")


async def _ask_mail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _expect(reader, b"220")
    writer.write(b"EHLO sluiceway\r\n")
    await _expect(reader, b"250")
    writer.write(b"STARTTLS\r\n")
    await _expect(reader, b"220")


async def _expect(reader: asyncio.StreamReader, code: bytes) -> None:
    for _ in range(_GREETING_LINES):
        line = await reader.readline()
        if not line.startswith(code):
            break
        if line[3:4] != b"-":
            return
    raise _PlainAnswerError("it speaks no TLS")
