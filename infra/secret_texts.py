"""The texts that are secret in this process, found in whatever spelling they turn up."""

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from urllib.parse import quote, quote_plus, unquote, urlsplit

from pydantic import BaseModel, SecretStr

from infra.endpoints import SHORTEST_SECRET, Endpoint

_SHORTEST_PART = 8
_BASE64 = (base64.b64encode, base64.urlsafe_b64encode)
_HOSTS_ARE_SHOWN = frozenset({"postgresql", "postgres", "http", "https"})
_NAMED_KEY = re.compile(r"[^\s,=]+=([A-Za-z0-9+/]{43}=)")
"""As `infra.cell_keys` makes them: 32 bytes in base64."""


class SecretTexts:
    """What is known to be secret; it only grows."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._known: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        self._shortest = 0

    def add(self, secrets: Iterable[str]) -> None:
        """Know these too; what is shorter than four characters occurs everywhere and is none."""
        forms: set[str] = set()
        for each in secrets:
            if len(each) >= SHORTEST_SECRET:
                forms |= _spellings(each)
        if forms <= self._known:
            return
        self._known |= forms
        longest_first = sorted(self._known, key=len, reverse=True)
        self._shortest = len(longest_first[-1])
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def hide(self, text: str, mask: str) -> str:
        """Return the text with `mask` in place of each secret."""
        if self._pattern is None or len(text) < self._shortest:
            return text
        return self._pattern.sub(mask, text)


def secrets_of(value: object) -> Iterator[str]:
    """Yield every secret within settings, however deep, and the parts that are one by themselves.

    They are the values of type SecretStr, the passwords within those that are addresses, and
    what stands in an endpoint's query (a page's size does not).
    """
    match value:
        case SecretStr():
            yield from parts_of(value.get_secret_value())
        case BaseModel():
            if isinstance(value, Endpoint):
                yield from _query_of(value)
            for name in type(value).model_fields:
                yield from secrets_of(getattr(value, name))
        case dict():
            for each in value.values():
                yield from secrets_of(each)
        case list() | tuple():
            for each in value:
                yield from secrets_of(each)


def parts_of(secret: str) -> Iterator[str]:
    """Yield the secret, and the part of it that is one by itself; an address only with a password.

    The `abc` of `Basic abc` is such a part, the password of an address, and each key of a list. Of
    an address of Apprise any part may be its secret.
    """
    if "://" not in secret:
        yield secret
        yield secret.rsplit(" ", 1)[-1]
        for key in _NAMED_KEY.findall(secret):
            yield key
            yield base64.b64decode(key).hex()
        return
    with suppress(ValueError):
        parts = urlsplit(secret)
        if parts.scheme not in _HOSTS_ARE_SHOWN:
            pieces = set(re.split(r"[/:@?&=#]+", secret)[1:])
            if "." in (host := parts.hostname or ""):
                # In some the host is a part of the secret, but it looks like none then.
                pieces -= {host}
            yield from (each for each in (secret, *pieces, *map(unquote, pieces)) if _is_long(each))
        if parts.password:
            password = unquote(parts.password)
            # With the user, as a login over HTTP has it in base64.
            yield from (secret, parts.password, password, f"{parts.username}:{password}")


def _is_long(piece: str) -> bool:
    """Tell whether a part is long enough to be a secret, and nothing that stands everywhere."""
    return len(piece) >= _SHORTEST_PART and not piece.isdecimal()


def _query_of(endpoint: Endpoint) -> Iterator[str]:
    for _, value in endpoint.url.query_params():
        if _is_long(value):
            yield value


def _spellings(secret: str) -> set[str]:
    """Return the secret as it stands in URLs, JSON, HTML, Python's own quotes, base64 and hex."""
    as_json = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    octets = secret.encode(errors="replace")
    sendable = octets.decode()
    in_urls = {quote(sendable, safe=""), quote(sendable), quote_plus(sendable)}
    # Without what fills them up: some leave it away.
    coded = {encode(octets).decode().rstrip("=") for encode in _BASE64} | {octets.hex()}
    return {secret, html.escape(secret), repr(secret)[1:-1]} | as_json | in_urls | coded
