"""The headers of every response: what a browser may do with it."""

import base64
import hashlib
from collections.abc import Callable, Sequence

import dash
from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_STARTS = frozenset({"http.response.start", "websocket.http.response.start"})


def script_hash(text: str) -> str:
    """Return how a content policy names an inline script or style."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def content_policy(inline_scripts: Sequence[str]) -> str:
    """Return the content policy of Dash's pages; nothing comes from another host.

    inline_scripts: their hashes, as `Dash.csp_hashes()` gives them.
    """
    return "; ".join(
        (
            "default-src 'none'",
            " ".join(("script-src 'self'", *inline_scripts)),
            # Mantine and ag-grid make style elements as they go.
            "style-src 'self' 'unsafe-inline'",
            # Plotly's pictures of a chart, ag-grid's icons.
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "worker-src 'self'",
            "manifest-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


def dash_scripts() -> Sequence[str]:
    """Return the hashes of the inline scripts of the Dash app that was made last."""
    found: Sequence[str] = dash.get_app().csp_hashes()
    return found


def with_headers(send: Send, inline_scripts: Callable[[], Sequence[str]]) -> Send:
    """Return a send that adds the headers; a response's own content policy stays.

    What only users may see is kept by no cache but their own browser's.
    inline_scripts: asked with each response, because Dash adds one with the first page it serves.
    """

    async def send_with_headers(message: Message) -> None:
        if message["type"] in _STARTS:
            # Some servers send tuples, which no header can be added to.
            message = {**message, "headers": list(message.get("headers", ()))}
            headers = MutableHeaders(scope=message)
            for name, value in SECURITY_HEADERS.items():
                headers[name] = value
            if "Content-Security-Policy" not in headers:
                headers["Content-Security-Policy"] = content_policy(inline_scripts())
            caching = headers.get("Cache-Control", "no-cache")
            if "no-store" not in caching:
                kept = [each.strip() for each in caching.split(",")]
                headers["Cache-Control"] = ", ".join(
                    ["private", *(each for each in kept if each not in {"public", "private"})]
                )
        await send(message)

    return send_with_headers
