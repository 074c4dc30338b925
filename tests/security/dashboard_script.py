"""HTML and script in the rows that pages show: Chromium shows them and runs none."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from playwright.async_api import Dialog, async_playwright

from tests.browser.hostile import HOSTILE, IMAGE
from tests.browser.visits import CHROMIUM, launch
from tests.security.claim import Claim, FoiledError, MissingError
from tests.security.dashboard_stage import Site, Stage

_MADE_OF_TEXT = """
() => document.querySelectorAll('img[src="x"], [onerror], a[href^="javascript:"]').length
"""
_SHOWN = "(text) => document.body && document.body.innerText.includes(text)"
_PATH = "/logs"


@dataclass(frozen=True, slots=True)
class Look:
    """A page with hostile rows."""

    site: Site | None
    """None: of a careless server."""


class _CarelessHandler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = f"<!doctype html><title>Logs</title><body>{HOSTILE}".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@asynccontextmanager
async def _careless() -> AsyncIterator[Site]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _CarelessHandler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Site(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def look(given: Look) -> str:
    """Return that a row's text was run as a part of the page."""
    if not CHROMIUM.exists():
        raise MissingError("Chromium is not installed: run `make system-packages`")
    if given.site is None:
        async with _careless() as site:
            return await _visit(site)
    return await _visit(given.site)


async def _visit(site: Site) -> str:
    ran = asyncio.Event()

    async def note(dialog: Dialog) -> None:
        ran.set()
        await dialog.dismiss()

    async with async_playwright() as playwright:
        browser = await launch(playwright)
        try:
            context = await browser.new_context(
                extra_http_headers={"Cookie": site.cookie} if site.cookie else {}
            )
            page = await context.new_page()
            page.on("dialog", note)
            await page.goto(site.address + _PATH)
            if site.cookie:
                # All of it is drawn once the hostile text can be read.
                await page.wait_for_function(_SHOWN, arg=IMAGE)
            made = await page.evaluate(_MADE_OF_TEXT)
        finally:
            await browser.close()
    if ran.is_set() or made:
        return f"{made} elements were made of a row's text, and a script ran"
    raise FoiledError("the text is shown as text; no element was made of it, and nothing ran")


def _choose(*, is_guarded: bool) -> Callable[[Stage], Look]:
    return lambda stage: Look(stage.site(stage.guarded, "otto") if is_guarded else None)


CLAIMS = (
    Claim(
        "script-in-rows",
        "rows of the log hold HTML and script",
        look,
        _choose(is_guarded=True),
        _choose(is_guarded=False),
        saying="shown as text",
    ),
)
