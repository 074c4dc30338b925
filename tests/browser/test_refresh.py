"""A refresh brings what is new, and moves nothing that is being read."""

import pytest

from tests.browser.visits import UPDATE, Visit

pytestmark = pytest.mark.asyncio(loop_scope="session")

RANGE = "() => document.querySelector('#overview-runs .js-plotly-plot').layout.xaxis.range"
BEGIN = """
INSERT INTO metadata.pipeline_executions (pipeline_name, status, start_time, end_time)
VALUES ($1, 'SUCCESS', now(), clock_timestamp())
"""
CHECK = """
INSERT INTO metadata.health_checks (checked_at, component, status, detail)
VALUES (now(), $1, 'BAD', 'a disk that is nearly full')
"""


async def choose_refresh(looked: Visit, label: str) -> None:
    page = looked.page
    await page.locator("#refresh").click()
    await page.get_by_role("option", name=label, exact=True).click()


async def test_what_is_new_appears_by_itself(visit, dashboard, history) -> None:
    looked = await visit(dashboard, "/")
    await looked.page.clock.install()
    await looked.page.reload()
    await looked.drawn()
    await choose_refresh(looked, "5 s")
    await history.execute(CHECK, "cellar")
    await looked.page.clock.run_for(5100)
    await looked.sees("cellar: a disk that is nearly full")
    # It is the viewer's choice on the next page, and after a reload.
    await looked.page.reload()
    await looked.drawn()
    assert await looked.page.locator("#refresh").input_value() == "5 s"


async def test_off_is_off(visit, dashboard) -> None:
    looked = await visit(dashboard, "/")
    await looked.page.clock.install()
    await looked.page.reload()
    await looked.drawn()
    await choose_refresh(looked, "off")
    await looked.drawn()
    asked = looked.asked.count(UPDATE)
    await looked.page.clock.run_for(600_000)
    assert looked.asked.count(UPDATE) == asked
    await looked.refresh()
    assert looked.asked.count(UPDATE) > asked


async def test_a_zoom_and_the_place_on_the_page_stay(visit, dashboard, history) -> None:
    looked = await visit(dashboard, "/?range=7d")
    page = looked.page
    drawing = page.locator("#overview-runs .nsewdrag").first
    await drawing.scroll_into_view_if_needed()
    box = await drawing.bounding_box()
    assert box is not None
    before = await looked.measure(RANGE)
    await page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.5)
    await page.mouse.down()
    await page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.5, steps=5)
    await page.mouse.up()
    await page.wait_for_function(f"(before) => ({RANGE})().join() !== before.join()", arg=before)
    zoomed = await looked.measure(RANGE)
    place = (
        "() => [scrollY, document.querySelector('#overview-timeline').getBoundingClientRect().y]"
    )
    await page.evaluate("() => scrollTo(0, 400)")
    stood = await looked.measure(place)
    assert stood[0] > 0
    await history.execute(BEGIN, "a new pipeline")
    await looked.refresh()
    await page.wait_for_function(
        "() => document.querySelector('#overview-timeline .js-plotly-plot')"
        ".data.some((each) => each.y.includes('a new pipeline'))"
    )
    assert await looked.measure(RANGE) == zoomed
    assert await looked.measure(place) == stood


async def test_the_keyboards_place_stays(visit, dashboard, history) -> None:
    looked = await visit(dashboard, "/")
    link = looked.page.get_by_role("link", name="replay_topic failed").first
    await link.focus()
    await looked.refresh()
    assert await looked.measure("() => document.activeElement.textContent.slice(0, 19)") == (
        "replay_topic failed"
    )
