"""A browser's pages on a dashboard, under watch: whatever is wrong with them is kept."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Browser, ConsoleMessage, Page, Playwright, Request, Response

CHROMIUM = Path("/usr/bin/chromium")
SWITCHES = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
DRAW_SECONDS = 60.0
UPDATE = "/_dash-update-component"
"""What panels are asked for by."""
UNDRAWN = "This could not be drawn"
"""What stands in the place of a panel that raised what nobody expected."""

_DRAWN = """
() => document.readyState === "complete"
  && (!document.getElementById("react-entry-point")
    || document.getElementById("content")?.innerText)
  && !document.querySelector(".mantine-Skeleton-root, ._dash-loading, .ag-loading")
  && document.querySelectorAll(".chart .js-plotly-plot").length
    === document.querySelectorAll(".chart").length
  && [...document.querySelectorAll(".js-plotly-plot")].every(
    (each) => each.data?.length || each.layout?.annotations?.length)
  && [...document.querySelectorAll(".ag-root-wrapper")].every(
    (each) => each.querySelector(".ag-header-cell")
      && (each.querySelector(".ag-cell")?.textContent
        || each.querySelector(".ag-overlay-no-rows-wrapper")))
"""


async def launch(playwright: Playwright) -> Browser:
    """Return Debian's Chromium, which asks nobody for anything by itself."""
    return await playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)


class Visit:
    """One page of a browser on one dashboard."""

    def __init__(self, page: Page, address: str, allowed: frozenset[int] = frozenset()) -> None:
        """Keep what the page says and asks from here on.

        address: of the dashboard, without a slash at its end.
        allowed: statuses of answers that are no fault, as 401 where a password is wrong.
        """
        self.page = page
        self._allowed = allowed
        self.address = address
        self.faults: list[str] = []
        """What no page may do: complain, fail, ask another host, open a dialog."""
        self.asked: list[str] = []
        """Paths of the requests, in their order."""
        self._under_way: set[Request] = set()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._host = urlsplit(address).netloc
        page.set_default_timeout(DRAW_SECONDS * 1000)
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("dialog", self._refuse_dialog)
        page.on("request", self._note)
        page.on("requestfinished", self._end)
        page.on("requestfailed", self._fail)
        page.on("response", self._look)
        page.on("websocket", lambda socket: self._judge(socket.url))

    async def open(self, path: str) -> None:
        """Go to an address of the dashboard, and wait until all of it is drawn."""
        await self.page.goto(f"{self.address}{path}")
        await self.drawn()

    async def drawn(self) -> None:
        """Wait until nothing is asked any more and no part of the page waits for its content."""
        await self.page.wait_for_function(_DRAWN)
        try:
            await asyncio.wait_for(self._quiet.wait(), DRAW_SECONDS)
        except TimeoutError:
            waited = [each.url for each in self._under_way]
            raise AssertionError(f"No answer came to {waited}") from None
        await self.page.wait_for_function(_DRAWN)
        if UNDRAWN in await self.text():
            self.faults.append(f"on {self.page.url}: {UNDRAWN}")

    async def refresh(self) -> None:
        """Let the page ask for everything again, and wait until it is there."""
        await self.after(self.page.locator("#refresh-now").dispatch_event("click"))

    async def after(self, act: Awaitable[None]) -> None:
        """Do something that panels are drawn anew for, and wait until they are."""
        async with self.page.expect_response(lambda answer: UPDATE in answer.url):
            await act
        await self.drawn()

    async def sees(self, *texts: str) -> None:
        """Wait until each of these stands somewhere on the page."""
        for text in texts:
            await self.page.wait_for_function(
                "(text) => document.body?.innerText.includes(text)", arg=text
            )

    async def text(self) -> str:
        """Return what stands on the page, as it is seen."""
        return await self.page.inner_text("body")

    async def measure(self, script: str, given: object = None) -> Any:
        """Return what a function says in the page."""
        return await self.page.evaluate(script, given)

    def check(self) -> None:
        """Fail where the page did anything that no page may do."""
        assert not self.faults, "\n".join(self.faults)

    def _hear(self, message: ConsoleMessage) -> None:
        # Chromium says of each such answer that it is one.
        said = any(f"responded with a status of {each}" in message.text for each in self._allowed)
        if message.type in {"error", "warning", "assert"} and not said:
            self.faults.append(f"console {message.type}: {message.text} ({message.location})")

    async def _refuse_dialog(self, dialog: Any) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        await dialog.dismiss()

    def _note(self, request: Request) -> None:
        if request.url.startswith(("data:", "blob:")):
            return
        path = urlsplit(request.url).path
        if path == UPDATE:
            self._under_way.add(request)
            self._quiet.clear()
        self.asked.append(path)
        self._judge(request.url)

    def _judge(self, url: str) -> None:
        if urlsplit(url).netloc != self._host:
            self.faults.append(f"a request to another host: {url}")

    def _end(self, request: Request) -> None:
        self._under_way.discard(request)
        if not self._under_way:
            self._quiet.set()

    def _fail(self, request: Request) -> None:
        self._end(request)
        # Whoever leaves a page leaves its questions too.
        if request.failure != "net::ERR_ABORTED":
            self.faults.append(f"no answer: {request.url} ({request.failure})")

    def _look(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self._allowed:
            self.faults.append(f"answer {response.status}: {response.url}")
