"""The texts that are secret in this process, found in whatever spelling they turn up."""

import html
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus, unquote, urlsplit

from pydantic import BaseModel, SecretStr

from infra.endpoints import SHORTEST_SECRET, Endpoint

_SHORTEST_IN_QUERY = 8
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

    The `abc` of `Basic abc` is such a part, the password of an address, and each key of a list.
    """
    if "://" not in secret:
        yield secret
        yield secret.rsplit(" ", 1)[-1]
        yield from _NAMED_KEY.findall(secret)
        return
    try:
        password = urlsplit(secret).password
    except ValueError:
        password = None
    if password:
        yield from (secret, password, unquote(password))


def _query_of(endpoint: Endpoint) -> Iterator[str]:
    for _, value in endpoint.url.query_params():
        if len(value) >= _SHORTEST_IN_QUERY and not value.isdecimal():
            yield value


def _spellings(secret: str) -> set[str]:
    """Return the secret as it stands in a URL, in JSON, in HTML and in Python's own quotes."""
    as_json = {json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    sendable = secret.encode(errors="replace").decode()
    in_urls = {quote(sendable, safe=""), quote(sendable), quote_plus(sendable)}
    return {secret, html.escape(secret), repr(secret)[1:-1]} | as_json | in_urls
