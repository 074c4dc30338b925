"""Filters stand in the address and come from it; long tables are paged, and stay where they are."""

from urllib.parse import parse_qs, urlsplit

import pytest

from tests.browser.visits import Visit

pytestmark = pytest.mark.asyncio(loop_scope="session")

CELLS = """
(column) => [...document.querySelectorAll(`.ag-center-cols-container .ag-cell[col-id="${column}"]`)]
  .map((each) => each.innerText.trim())
"""
MARK = "() => { window.sameDocument = true; }"
IS_MARKED = "() => window.sameDocument === true"
BEGIN = """
INSERT INTO metadata.pipeline_executions (pipeline_name, status, start_time, end_time)
SELECT 'daily_etl_pipeline', 'SUCCESS', now(), clock_timestamp() FROM generate_series(1, 5)
"""


async def cells(looked: Visit, column: str) -> list[str]:
    found: list[str] = await looked.measure(CELLS, column)
    return found


async def until_cells(looked: Visit, column: str, test: str) -> None:
    """Wait until the texts of a column, as `all`, pass a test in JavaScript."""
    await looked.page.wait_for_function(
        f"(column) => {{ const all = ({CELLS})(column); return all.length && ({test}); }}",
        arg=column,
    )


def parameters(looked: Visit) -> dict[str, list[str]]:
    return parse_qs(urlsplit(looked.page.url).query)


async def test_an_address_brings_its_filters_and_a_filter_its_address(visit, dashboard) -> None:
    looked = await visit(dashboard, "/runs?pipeline=replay_topic&status=FAILED")
    page = looked.page
    assert await page.locator("#runs-pipeline").input_value() == "replay_topic"
    await until_cells(looked, "pipeline", "all.every((each) => each === 'replay_topic')")
    await until_cells(looked, "state", "all.every((each) => each === '✕ failed')")
    await looked.measure(MARK)
    await page.locator("#runs-pipeline").click()
    await page.get_by_role("option", name="daily_etl_pipeline").click()
    await until_cells(looked, "pipeline", "all.every((each) => each === 'daily_etl_pipeline')")
    await until_cells(looked, "state", "all.every((each) => each === '✕ failed')")
    assert parameters(looked) == {"pipeline": ["daily_etl_pipeline"], "status": ["FAILED"]}
    assert await looked.measure(IS_MARKED)
    # Whoever is sent the address sees the same.
    rows = await cells(looked, "run")
    sent = await visit(dashboard, page.url.removeprefix(dashboard.address))
    await until_cells(sent, "pipeline", "all.every((each) => each === 'daily_etl_pipeline')")
    assert await cells(sent, "run") == rows


async def test_a_filter_on_text_finds_lines(visit, dashboard, history) -> None:
    looked = await visit(dashboard, f"/logs?level=ERROR&execution={history.running}")
    await until_cells(looked, "level", "all.every((each) => each === '✕ error')")
    await looked.measure(MARK)
    await looked.page.get_by_label("Text").fill("no line has this")
    await looked.sees("No line matches")
    assert parameters(looked)["text"] == ["no line has this"]
    assert await looked.measure(IS_MARKED)


async def test_the_overviews_time_stands_in_its_address(visit, dashboard) -> None:
    looked = await visit(dashboard, "/?range=30d")
    page = looked.page
    assert await page.get_by_role("radio", name="30 days").is_checked()
    await page.locator("#overview-range").get_by_text("7 days").click()
    await page.wait_for_url("**/?range=7d")
    await page.wait_for_function(
        "() => [...document.querySelectorAll('.stat-note')]"
        ".some((it) => it.innerText === '7 days, the stream aside')"
    )


async def test_a_page_of_a_table_stays_through_a_refresh(visit, dashboard, history) -> None:
    looked = await visit(dashboard, "/runs")
    page = looked.page
    await until_cells(looked, "run", "all.length > 5")
    first = await cells(looked, "run")
    await page.get_by_role("button", name="Next Page").click()
    await page.wait_for_function(f"(first) => !({CELLS})('run').includes(first)", arg=first[0])
    await until_cells(looked, "run", "all.length > 5")
    body = page.locator(".ag-body-viewport")
    await body.evaluate("(it) => { it.scrollTop = 680; }")
    await until_cells(looked, "run", "all.length > 5")
    await looked.drawn()
    read, place = await cells(looked, "run"), await body.evaluate("(it) => it.scrollTop")
    await page.get_by_label("Error contains").focus()
    await history.execute(BEGIN)
    await looked.refresh()
    assert await body.evaluate("(it) => it.scrollTop") == place
    assert await cells(looked, "run") == read
    # What was typed but not sent yet stays too.
    assert await looked.measure("() => document.activeElement.id") == "runs-error"


async def test_an_open_detail_stays_open(visit, dashboard, history) -> None:
    looked = await visit(dashboard, f"/runs/{history.failed_run}")
    page = looked.page
    await page.get_by_text("Traceback", exact=True).click()
    await looked.sees("Traceback (most recent call last)")
    await looked.refresh()
    assert await page.get_by_text("Traceback (most recent call last)").is_visible()
