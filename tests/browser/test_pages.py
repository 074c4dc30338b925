"""Every page: with data, without any, with PostgreSQL gone and back, on a phone, in any zone."""

import asyncio
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from deployments.bootstrap import bootstrap
from infra.local.postgres import Postgres
from tests.browser.dashboards import Dashboard
from tests.browser.expected import AWAY, PAGES, address_of
from tests.browser.history import fill
from tests.conftest import FAST, LOADER_PASSWORD, READER_PASSWORD

pytestmark = pytest.mark.asyncio(loop_scope="session")

PHONE = {"width": 390, "height": 844}
BEYOND = """
() => [...document.querySelectorAll("body *")]
  .filter((each) => each.getBoundingClientRect().right > innerWidth + 1
    && !each.closest(".table-scroll, .ag-root-wrapper, .skip, .visually-hidden"))
  .map((each) => each.outerHTML.slice(0, 120))
"""


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_shows_what_is_there(path, visit, dashboard, history) -> None:
    said = PAGES[path]
    looked = await visit(dashboard, address_of(path, history))
    await looked.sees(
        said.question, *(each.format(failed=history.failed_run) for each in said.filled)
    )
    assert "Sluiceway" in await looked.page.title()


# The first page that this dashboard is asked for is another than the overview.
@pytest.mark.parametrize("path", list(reversed(PAGES)))
async def test_a_page_of_an_empty_database_says_what_to_do(path, visit, empty_dashboard) -> None:
    said = PAGES[path]
    looked = await visit(empty_dashboard, path.format(failed=1))
    await looked.sees(said.question, *said.empty)


@pytest.fixture(scope="module")
def mortal_server(chromium, tmp_path_factory) -> Iterator[Postgres]:
    """A PostgreSQL that is stopped while it is looked at."""
    folder = tmp_path_factory.mktemp("mortal") / "data"
    with Postgres(folder, settings=FAST) as server:
        server.ensure_database("mortal")
        yield server


async def test_pages_outlive_postgresql(visit, mortal_server, folder: Path) -> None:
    owner = mortal_server.url("mortal")
    await bootstrap(owner, loader_password=LOADER_PASSWORD, reader_password=READER_PASSWORD)
    loader, reader = (
        mortal_server.url("mortal", user=f"sluiceway_{role}", password=password)
        for role, password in (("loader", LOADER_PASSWORD), ("reader", READER_PASSWORD))
    )
    history = await fill(loader, owner)
    with Dashboard(folder / "mortal", reader) as dashboard:
        looked = {path: await visit(dashboard, address_of(path, history)) for path in PAGES}
        before = {path: await each.text() for path, each in looked.items()}
        mortal_server.stop()
        for path, each in looked.items():
            await each.refresh()
            alert = each.page.get_by_role("alert").filter(has_text=AWAY)
            await alert.wait_for()
            assert "go on by themselves" in await alert.inner_text(), path
        # A page that is opened now says so too.
        late = await visit(dashboard, "/")
        await late.sees(AWAY)
        mortal_server.start()
        for path, each in (looked | {"late": late}).items():
            # Nobody touches it: the refresh of every ten seconds does it.
            await each.page.wait_for_function(
                "(text) => !document.body?.innerText.includes(text)", arg=AWAY
            )
            await each.drawn()
            for text in PAGES["/" if path == "late" else path].filled:
                assert text in await each.text(), path
        assert before.keys() == looked.keys()
        for each in (*looked.values(), late):
            # They go on asking, and the dashboard ends before them.
            await each.page.context.close()


async def test_a_phone_has_all_pages_by_keyboard(visit, dashboard, history) -> None:
    looked = await visit(dashboard, "/", viewport=PHONE)
    page = looked.page
    for path, said in PAGES.items():
        if "{" in path:
            await looked.open(address_of(path, history))
        elif path != "/":
            link = page.get_by_role("navigation").locator(f'a[href="{path}"]')
            assert not await link.is_visible()
            await _tab_to(page, "#burger", "Shift+Tab")
            await page.keyboard.press("Enter")
            await link.wait_for()
            await _tab_to(page, f'nav a[href="{path}"]')
            await page.keyboard.press("Enter")
            await page.wait_for_url(f"**{path}")
            await link.wait_for(state="hidden")
        await looked.sees(said.question)
        await looked.drawn()
        assert await looked.measure("() => document.documentElement.scrollWidth") <= 390, path
        assert await looked.measure(BEYOND) == [], path


async def _tab_to(page, selector: str, key: str = "Tab") -> None:
    for _ in range(200):
        await page.keyboard.press(key)
        if await page.evaluate("(it) => document.activeElement.matches(it)", selector):
            return
    pytest.fail(f"The keyboard does not reach {selector}")


async def test_times_are_the_viewers_and_utc_on_hover(visit, dashboard, history) -> None:
    began = await history.fetchval(
        "SELECT start_time FROM metadata.pipeline_executions WHERE id = $1", history.failed_run
    )
    assert isinstance(began, dt.datetime)
    looked = await visit(
        dashboard, f"/runs/{history.failed_run}", timezone_id="Asia/Kolkata", locale="en-IN"
    )
    local = f"{began.astimezone(ZoneInfo('Asia/Kolkata')):%Y-%m-%d %H:%M:%S}"
    await looked.sees(local)
    shown = looked.page.locator("time", has_text=local).first
    assert await shown.get_attribute("title") == f"{began:%Y-%m-%d %H:%M:%S} UTC"


async def test_the_colours_are_the_systems_until_they_are_chosen(visit, dashboard) -> None:
    looked = await visit(dashboard, "/", color_scheme="dark")
    page = looked.page
    ink = "() => document.querySelector('.js-plotly-plot')?.layout?.font?.color"
    ground = "() => getComputedStyle(document.body).backgroundColor"
    scheme = "() => document.documentElement.getAttribute('data-mantine-color-scheme')"
    assert await looked.measure(scheme) == "dark"
    await page.wait_for_function(ink)  # Plotly itself comes after the first answer
    dark = [await looked.measure(ink), await looked.measure(ground)]
    await page.get_by_role("button", name="Light or dark").click()
    await page.wait_for_function(
        f"(dark) => {{ const now = ({ink})(); return now && now !== dark; }}", arg=dark[0]
    )
    assert await looked.measure(scheme) == "light"
    assert await looked.measure(ground) != dark[1]
    await page.reload()
    await looked.drawn()
    assert await looked.measure(scheme) == "light"


async def test_an_address_that_is_none_says_so(visit, dashboard) -> None:
    looked = await visit(dashboard, "/nowhere", allowed=[404])
    await looked.sees("There is no such page.")
    await looked.page.get_by_role("link", name="To the overview").click()
    await looked.sees("Is all well now?")
    missing = await visit(dashboard, "/runs/999999999")
    await missing.sees("There is no run 999999999.")
    wrong = await visit(dashboard, "/runs/abc%27%3B")
    await wrong.sees("is no number of a run")


async def test_several_viewers_are_served_at_once(visit, dashboard, history) -> None:
    looked = await asyncio.gather(*(visit(dashboard, "/") for _ in range(3)))
    for each in looked:
        await each.sees("replay_topic failed")
