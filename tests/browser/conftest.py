"""Chromium on real dashboards over a real PostgreSQL; every visit is checked at its end."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from tests.browser.dashboards import Dashboard
from tests.browser.history import History, fill
from tests.browser.visits import CHROMIUM, Visit, launch
from tests.conftest import Database, Server, skip_or_fail

Open = Callable[..., Awaitable[Visit]]
DESK = {"width": 1280, "height": 800}


@pytest.fixture(scope="session")
def chromium() -> None:
    """The browser's program."""
    if not CHROMIUM.exists():
        skip_or_fail("Chromium is not installed: run `make system-packages`")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(chromium) -> AsyncIterator[Browser]:
    """One browser for all tests; each has a profile of its own in it."""
    async with async_playwright() as playwright:
        found = await launch(playwright)
        yield found
        await found.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def filled(chromium, embedded_server: Server) -> AsyncIterator[tuple[Database, History]]:
    """A database with a month behind it."""
    made = await embedded_server.create()
    yield made, await fill(made.loader_url, made.owner_url)
    await embedded_server.drop(made)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the dashboards write."""
    return tmp_path_factory.mktemp("dashboards")


@pytest.fixture(scope="session")
def dashboard(filled, folder: Path) -> Iterator[Dashboard]:
    """A dashboard with a month behind it, open to everybody on this machine."""
    with Dashboard(folder / "filled", filled[0].reader_url) as started:
        yield started


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def nothing(chromium, embedded_server: Server) -> AsyncIterator[Database]:
    """A database in which nothing ever ran."""
    made = await embedded_server.create()
    yield made
    await embedded_server.drop(made)


@pytest.fixture(scope="session")
def empty_dashboard(nothing, folder: Path) -> Iterator[Dashboard]:
    """A dashboard before anything ran."""
    with Dashboard(folder / "empty", nothing.reader_url) as started:
        yield started


@pytest.fixture(scope="session")
def history(filled) -> History:
    """What the dashboard's database holds."""
    return filled[1]


@pytest_asyncio.fixture(loop_scope="session")
async def visit(browser: Browser) -> AsyncIterator[Open]:
    """Called with a dashboard, an address and options of a browser's context: a visit."""
    visits: list[Visit] = []

    async def go(
        dashboard: Dashboard, path: str = "/", *, allowed: Iterable[int] = (), **options: Any
    ) -> Visit:
        context = await browser.new_context(
            **{"viewport": DESK, "reduced_motion": "reduce", **options}
        )
        made = Visit(await context.new_page(), dashboard.address, frozenset(allowed))
        visits.append(made)
        await made.open(path)
        return made

    yield go
    for each in visits:
        await each.page.context.close()
    for each in visits:
        each.check()
