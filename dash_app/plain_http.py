"""What HTTP has and Dash has not: 404 for a page that is none, 400 for rubbish, HEAD."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

UPDATE = "/_dash-update-component"
_VARIABLE = re.compile(r"<[^>]+>")


class PlainHttp:
    """An ASGI application around Dash's."""

    def __init__(
        self, app: ASGIApp, pages: Iterable[str], callbacks: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Remember what there is.

        pages: their paths; `<name>` in one stands for a part of it.
        callbacks: Dash's own map, which it fills later on.
        """
        self._app = app
        self._callbacks = callbacks
        self._pages = re.compile(
            "|".join(
                "[^/]+".join(re.escape(part) for part in _VARIABLE.split(path.strip("/")))
                for path in pages
            )
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            # The server leaves the body out by itself.
            scope = {**scope, "method": "GET"}
        path = scope["path"]
        if scope["method"] == "POST" and path == UPDATE:
            await self._update(scope, receive, send)
        elif self._pages.fullmatch(path.strip("/")):
            await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, _without_page(send))

    async def _update(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await _read(receive)
        if body is None:
            return  # whoever asked is gone
        if not (_is_json(scope) and self.is_question(body)):
            sentence = "That is no question that a page of the dashboard asks."
            await JSONResponse({"error": sentence}, 400)(scope, receive, send)
            return
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_again() -> Message:
            return messages.pop() if messages else await receive()

        await self._app(scope, receive_again, send)

    def is_question(self, body: bytes) -> bool:
        """Tell whether it names one of the callbacks, with as many inputs as that one takes."""
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError):
            return False
        if not isinstance(asked, dict) or not isinstance(asked.get("output"), str):
            return False
        callback = self._callbacks.get(asked["output"])
        changed = asked.get("changedPropIds", [])
        return (
            callback is not None
            and "callback" in callback  # else it is answered by the browser itself
            and isinstance(changed, list)
            and all(isinstance(each, str) for each in changed)
            and _fits(asked.get("inputs", []), callback["inputs"])
            and _fits(asked.get("state", []), callback["state"])
            and _names_outputs(asked.get("outputs", []))
        )


def _is_json(scope: Scope) -> bool:
    """Tell whether Dash will look at the body at all."""
    kinds = [value for name, value in scope["headers"] if name.lower() == b"content-type"]
    return bool(kinds) and kinds[0].startswith(b"application/json")


def _fits(given: Any, declared: Any) -> bool:
    """Tell whether what was sent names the properties that were declared, one by one."""
    if not isinstance(given, list) or len(given) != len(declared):
        return False
    # A list among them: all the components that a pattern stands for.
    return all(
        _is_component(part) and part.get("property") == name["property"]
        for each, name in zip(given, declared, strict=True)
        for part in (each if isinstance(each, list) else [each])
    )


def _names_outputs(given: Any) -> bool:
    outputs = given if isinstance(given, list) else [given]
    return all(_is_component(each) and "property" in each for each in outputs)


def _is_component(given: Any) -> bool:
    return isinstance(given, dict) and isinstance(given.get("id"), str | dict)


def _without_page(send: Send) -> Send:
    """Return a send that says 404 where Dash answers with its frame, which it does to anything."""

    async def send_not_found(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:  # noqa: PLR2004 - OK
            kinds = [value for name, value in message["headers"] if name.lower() == b"content-type"]
            if any(kind.startswith(b"text/html") for kind in kinds):
                message = {**message, "status": 404}
        await send(message)

    return send_not_found


async def _read(receive: Receive) -> bytes | None:
    """Return a request's body; None where the peer went away."""
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)
