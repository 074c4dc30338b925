"""HTTP requests that are repeated where that can help, paced, bounded, and keep every secret."""

import asyncio
import contextlib
import datetime as dt
import logging
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from random import SystemRandom
from weakref import WeakKeyDictionary

import aiohttp
from aiohttp import hdrs
from yarl import URL

from infra.endpoints import Endpoint, show_url
from schemas.errors import RefusedError, TerminalError, TransientError

LOG = logging.getLogger(__name__)

READABLE = frozenset({200, 203, 204, 206})
REDIRECTS = frozenset({301, 302, 303, 307, 308})
REPEATABLE = frozenset({408, 425, 429, *range(500, 600)})
ADVICE = {
    **dict.fromkeys((401, 403, 407), "check the endpoint's token and headers"),
    404: "check the endpoint's url",
}
MAX_REDIRECTS = 5
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 30.0
LONGEST_RETRY_AFTER_SECONDS = 120.0
"""A server that asks for more is not asked again in this call: the error carries the wait."""
RANDOM = SystemRandom()


def _read_utc_time() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True, slots=True)
class Clock:
    """Where time and waits come from, so that a test need not wait."""

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], dt.datetime] = _read_utc_time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


SYSTEM_CLOCK = Clock()


@dataclass(frozen=True, slots=True)
class Answer:
    """One response, read to its end."""

    url: URL
    status: int
    content_type: str
    charset: str | None
    body: bytes
    has_length: bool
    """Whether the server said how much it would send, so that a cut cannot pass for the end."""
    next_url: URL | None
    """What the Link header names with rel="next"."""
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that is worth repeating, and the least wait the server asked for."""

    reason: str
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class _Call:
    """What every attempt at one URL shares."""

    session: aiohttp.ClientSession
    endpoint: Endpoint
    url: URL
    max_bytes: int
    readable: frozenset[int]
    clock: Clock
    notes: list[str] = field(default_factory=list)

    @property
    def shown(self) -> str:
        """The address as a message may show it."""
        return self.endpoint.hide_secrets(show_url(str(self.url)))


class Pace:
    """The gap between the starts of requests to one endpoint."""

    def __init__(self) -> None:
        """Allow the first request at once."""
        self._lock = asyncio.Lock()
        self._free_at_seconds = float("-inf")

    async def wait(self, gap_seconds: float, clock: Clock) -> None:
        """Return when the next request may start, and count it as started."""
        async with self._lock:
            while (rest := self._free_at_seconds - clock.monotonic()) > 0:
                await clock.sleep(rest)
            self._free_at_seconds = clock.monotonic() + gap_seconds


_PACES: WeakKeyDictionary[aiohttp.ClientSession, dict[str, Pace]] = WeakKeyDictionary()
"""Two fetches that share a session share the gap as well."""


class ConnectionCutError(aiohttp.ClientConnectionError):
    """The server closed the connection before it answered."""


def open_session() -> aiohttp.ClientSession:
    """Return a session for all endpoints of a run; use it with `async with`.

    It keeps no cookies (what one endpoint sets is nobody else's) and ignores the environment
    (`trust_env=False`): settings are the only reader of it, and aiohttp would also take
    passwords from ~/.netrc and send them to hosts that no setting names. A proxy is a setting
    of the endpoint.
    """
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=20, limit_per_host=4),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={hdrs.ACCEPT: "application/json", hdrs.USER_AGENT: "sluiceway"},
        trust_env=False,
    )


async def get(
    session: aiohttp.ClientSession,
    endpoint: Endpoint,
    url: URL,
    *,
    max_bytes: int,
    readable: frozenset[int] = READABLE,
    clock: Clock = SYSTEM_CLOCK,
) -> Answer:
    """Return the answer to a GET of the url, after as many attempts as the endpoint allows.

    readable: the statuses to return; every other one is a failure.
    Raises TransientError when every attempt failed or the server asked for a long wait,
    TerminalError for a status or a certificate that no repetition mends, and RefusedError for
    an answer that is too large or a url that is not on the endpoint's host.
    """
    if not endpoint.is_home(url):
        raise RefusedError(
            f"{endpoint.shown_url} names a next page on another host, {url.origin()}, which must "
            "not get the secrets; if it is right, write its address as the endpoint's url."
        )
    call = _Call(session, endpoint, url, max_bytes, readable, clock)
    attempt = 0
    while True:
        attempt += 1
        outcome = await _attempt(call)
        if isinstance(outcome, Answer):
            return outcome
        failed = f"{call.shown} {outcome.reason} (attempt {attempt} of {endpoint.attempts})"
        wait_seconds, asked = find_wait(outcome, attempt), outcome.retry_after_seconds
        if attempt == endpoint.attempts or wait_seconds > LONGEST_RETRY_AFTER_SECONDS:
            advice = f"it asks to wait {asked:g} seconds" if asked else "look whether the API is up"
            message = f"{failed}; {advice}, then run this again."
            raise TransientError(message, retry_after_seconds=asked)
        call.notes.append(failed)
        LOG.warning("%s; the next follows in %.1f s.", failed, wait_seconds)
        await clock.sleep(wait_seconds)


def find_wait(failure: Failure, attempt: int) -> float:
    """Return the seconds to wait after that attempt: what the server asked for, else a guess.

    The guess is exponential with full jitter, so that clients that failed together do not
    come back together.
    """
    if failure.retry_after_seconds is not None:
        return failure.retry_after_seconds
    return RANDOM.uniform(0, min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (attempt - 1)))


def read_retry_after(given: str | None, now: dt.datetime) -> float | None:
    """Return the seconds of a Retry-After header (a number or an HTTP date), None if unusable."""
    text = (given or "").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        return float(text)
    with contextlib.suppress(ValueError, OverflowError):
        moment = parsedate_to_datetime(text)
        moment = moment.replace(tzinfo=moment.tzinfo or dt.UTC)
        return max(0.0, (moment - now).total_seconds())
    return None


async def _attempt(call: _Call) -> Answer | Failure:
    # What aiohttp raises shows full addresses and headers: it becomes a value here, so that no
    # error of ours is chained to it.
    try:
        return await _follow(call)
    except TimeoutError:
        return Failure(f"did not answer in {call.endpoint.timeout_seconds:g} seconds")
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError):
        problem = "has no TLS certificate that can be trusted; check the endpoint's url"
    except aiohttp.ClientConnectorError as error:
        return Failure(f"could not be reached ({type(error.os_error).__name__})")
    except (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError):
        return Failure("cut the connection before the answer was complete")
    except aiohttp.ClientError as error:
        return Failure(f"answered in broken HTTP ({type(error).__name__})")
    raise TerminalError(f"{call.shown} {problem}.")


async def _follow(call: _Call) -> Answer | Failure:
    # aiohttp's own redirects drop Authorization on another host, and keep every other header.
    endpoint, url = call.endpoint, call.url
    headers = endpoint.secret_headers()
    pace = _PACES.setdefault(call.session, {}).setdefault(str(endpoint.url), Pace())
    for _ in range(MAX_REDIRECTS + 1):
        await pace.wait(1 / endpoint.requests_per_second, call.clock)
        async with call.session.get(
            url,
            headers=headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=endpoint.timeout_seconds),
            proxy=endpoint.proxy.get_secret_value() if endpoint.proxy else None,
            middlewares=(_refuse_silent_repeat,),
        ) as response:
            if response.status not in REDIRECTS or hdrs.LOCATION not in response.headers:
                return await _read(response, call)
            target = _resolve(response.url, response.headers[hdrs.LOCATION], call)
        if headers and not endpoint.is_home(target):
            headers = {}
            call.notes.append(f"{call.shown} redirects to {target.origin()}, sent no secrets")
        url = target
    raise TerminalError(f"{call.shown} redirects more than {MAX_REDIRECTS} times; check its url.")


async def _refuse_silent_repeat(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    # aiohttp repeats a GET once, unasked, past the rate limit and the count of attempts.
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
        raise ConnectionCutError from error


async def _read(response: aiohttp.ClientResponse, call: _Call) -> Answer | Failure:
    status = response.status
    if status in REPEATABLE:
        asked = read_retry_after(response.headers.get(hdrs.RETRY_AFTER), call.clock.now())
        return Failure(f"answered {status}", asked)
    if status not in call.readable:
        advice = "; ".join([*call.notes, ADVICE.get(status, "check the endpoint's settings")])
        raise TerminalError(f"{call.shown} answered {status}; {advice}.")
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > call.max_bytes:
            raise RefusedError(
                f"{call.shown} sends more than {call.endpoint.max_bytes} bytes; "
                "raise the endpoint's max_bytes or ask for less."
            )
    return Answer(
        url=response.url,
        status=status,
        content_type=response.headers.get(hdrs.CONTENT_TYPE, "none"),
        charset=response.charset,
        body=bytes(body),
        has_length=bool({hdrs.CONTENT_LENGTH, hdrs.TRANSFER_ENCODING} & response.headers.keys()),
        next_url=_find_next(response, call),
        notes=tuple(call.notes),
    )


def _find_next(response: aiohttp.ClientResponse, call: _Call) -> URL | None:
    for given in response.headers.getall(hdrs.LINK, []):
        for target, parameters in re.findall(r"<([^>]*)>((?:[^,\"<]|\"[^\"]*\")*)", given):
            relation = re.search(r";\s*rel\s*=\s*\"?([^\";]*)", parameters, re.IGNORECASE)
            if relation and "next" in relation[1].lower().split():
                return _resolve(response.url, target, call)
    return None


def _resolve(origin: URL, target: str, call: _Call) -> URL:
    with contextlib.suppress(ValueError):
        resolved = origin.join(URL(target))
        if resolved.scheme in {"http", "https"} and resolved.host:
            # A user and a password in the address would be sent as a header.
            return resolved.with_user(None).with_fragment(None)
    shown = call.endpoint.hide_secrets(show_url(target))[:80]
    raise RefusedError(
        f"{call.shown} goes on at '{shown}', which is no http address; tell its owner."
    )
