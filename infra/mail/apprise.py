"""Further channels, by URLs of Apprise: chats, push messages, anybody's HTTP service."""

import asyncio
import logging
import re
import threading
from typing import Self
from urllib.parse import parse_qsl, unquote, urlsplit

from apprise import Apprise, AppriseAsset, NotifyBase, NotifyFormat, NotifyType

from infra.redaction import MASK, redact
from schemas.errors import SettingError, TransientError

_SHORTEST_SECRET = 4
_TYPES = {
    "bad": NotifyType.FAILURE,
    "odd": NotifyType.WARNING,
    "good": NotifyType.SUCCESS,
    "plain": NotifyType.INFO,
}
_one_at_a_time = threading.RLock()
"""Why a service refused is known by Apprise's log lines alone, which do not say whose they are."""


def check_urls(urls: tuple[str, ...]) -> None:
    """Raise SettingError for a URL that Apprise does not know; its number is named, it is not."""
    for number, url in enumerate(urls, start=1):
        with _Listener():
            known = _service(url)
        if known is None:
            raise SettingError(
                f"SLUICEWAY_NOTIFY_URLS: Apprise does not understand URL number {number}: write it "
                "as its documentation says, as ntfy://ntfy.example/topic or "
                "mmost://chat.example/token."
            )


async def notify(url: str, *, title: str, text: str, tone: str) -> None:
    """Leave the message with the service of this URL; raises TransientError when it did not."""
    said = await asyncio.to_thread(_notify, url, title, text, tone)
    if said is not None:
        kind = urlsplit(url).scheme
        raise TransientError(f"The {kind}:// channel took no message: {hide_url(said, url)}")


def _notify(url: str, title: str, text: str, tone: str) -> str | None:
    """Return None when it was delivered, and else what there is to say."""
    with _Listener() as listener:
        service = _service(url)
        if service is None:
            return "Apprise does not understand its URL."
        channel = Apprise(asset=_asset())
        channel.add(service)
        was_taken = channel.notify(
            title=title,
            body=text,
            notify_type=_TYPES.get(tone, NotifyType.INFO),
            body_format=NotifyFormat.TEXT,
        )
    return None if was_taken else " ".join(listener.said) or "it gave no reason."


def _service(url: str) -> NotifyBase | None:
    return Apprise.instantiate(url, asset=_asset(), suppress_exceptions=True)


def _asset() -> AppriseAsset:
    return AppriseAsset(app_id="Sluiceway", app_desc="Sluiceway alerts", async_mode=False)


class _Listener(logging.Handler):
    """Takes what Apprise logs meanwhile, which would go to stderr with parts of URLs in it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []
        self._logger = logging.getLogger("apprise")

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(" ".join(record.getMessage().split()))

    def __enter__(self) -> Self:
        _one_at_a_time.acquire()
        self._logger.addHandler(self)
        self._logger.propagate = False
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        _one_at_a_time.release()


def hide_url(text: str, url: str) -> str:
    """Return the text without any part of the URL: in most of them the path is the password."""
    parts = urlsplit(url)
    values = [value for _, value in parse_qsl(parts.query)]
    # In some of them even the host is a part of the password.
    pieces = [url, *re.split("[@:]", parts.netloc), *re.split("[/#]", parts.path), *values]
    pieces += re.split("[/?&=]", parts.fragment)
    for piece in sorted({*pieces, *map(unquote, pieces)}, key=len, reverse=True):
        if len(piece) >= _SHORTEST_SECRET:
            text = text.replace(piece, MASK)
    return redact(text)[:300]
