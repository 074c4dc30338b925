"""What others wrote into names, errors and lines is text, and never a part of the page."""

from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
import pytest_asyncio

from tests.browser.dashboards import Dashboard
from tests.browser.expected import PAGES
from tests.browser.hostile import IMAGE, fill_with_hostile_text

pytestmark = pytest.mark.asyncio(loop_scope="session")

MADE_OF_TEXT = """
() => [...document.querySelectorAll(
    'img[src="x"], [onerror], a[href^="javascript:"], a[*|href^="javascript:"], iframe, object')]
  .map((each) => each.outerHTML.slice(0, 200))
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hostile(chromium, embedded_server) -> AsyncIterator[tuple[str, int]]:
    """A database whose every text is hostile; the reader's address and a run's id."""
    made = await embedded_server.create()
    connection = await asyncpg.connect(made.owner_url)
    failed = await fill_with_hostile_text(connection)
    await connection.close()
    yield made.reader_url, failed
    await embedded_server.drop(made)


@pytest.fixture(scope="module")
def hostile_dashboard(hostile, folder) -> Iterator[Dashboard]:
    with Dashboard(folder / "hostile", hostile[0]) as started:
        yield started


@pytest.mark.parametrize("path", PAGES)
async def test_hostile_text_is_shown_as_text(path, visit, hostile, hostile_dashboard) -> None:
    looked = await visit(hostile_dashboard, path.format(failed=hostile[1]))
    await looked.sees(PAGES[path].question, IMAGE)
    assert await looked.measure(MADE_OF_TEXT) == []
    assert await looked.measure("() => document.documentElement.scrollWidth - innerWidth") <= 0


async def test_hostile_addresses_are_taken_for_what_they_say(visit, dashboard, history) -> None:
    given = "%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E"
    for path in PAGES:
        names = ("range", "status", "pipeline", "table", "level", "text", "dataset", "rule", "page")
        query = "&".join(f"{name}={given}" for name in names)
        looked = await visit(dashboard, f"{path.format(failed=history.failed_run)}?{query}")
        assert await looked.measure(MADE_OF_TEXT) == []
