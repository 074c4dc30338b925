"""No serious violation that axe-core knows of, and nothing that a keyboard does not reach."""

import pytest
from axe_playwright_python.async_playwright import Axe

from tests.browser.expected import PAGES, address_of
from tests.browser.visits import Visit

pytestmark = pytest.mark.asyncio(loop_scope="session")

# Numbers what a keyboard should reach, with what it looks like while it has no focus.
MARK = """
() => {
  const around = (it) => {
    const up = it.parentElement;
    return [it, it.nextElementSibling, up, up?.parentElement, up?.parentElement?.parentElement];
  };
  const look = (it) => around(it).filter(Boolean).map((each) => {
    const style = getComputedStyle(each);
    return [style.outlineStyle, style.outlineWidth, style.boxShadow, style.borderColor,
      style.backgroundColor, style.left].join();
  }).join(";");
  window.look = look;
  window.plain = [];
  const inGrid = new Set();
  const kinds = "a[href], button, input, select, textarea, summary, [tabindex]";
  for (const each of document.querySelectorAll(kinds)) {
    const seen = each.checkVisibility({ visibilityProperty: true });
    if (!seen || each.disabled || each.tabIndex < 0) continue;
    if (each.type === "radio" && !each.checked) continue;
    const grid = each.closest(".ag-root-wrapper");
    if (grid) {
      // A grid is one stop; the arrows move within it.
      if (inGrid.has(grid)) continue;
      inGrid.add(grid);
      grid.dataset.stop = window.plain.length;
    } else {
      each.dataset.stop = window.plain.length;
    }
    window.plain.push({
      name: each.outerHTML.slice(0, 160), look: look(each), grid: Boolean(grid),
      reached: false, seen: false,
    });
  }
  return window.plain.length;
}
"""
NOTE = """
() => {
  const at = document.activeElement;
  const stop = at.closest("[data-stop]");
  if (!stop) return at === document.body;
  const known = window.plain[Number(stop.dataset.stop)];
  known.reached = true;
  known.seen ||= known.grid || window.look(at) !== known.look;
  return false;
}
"""


async def violations(looked: Visit) -> list[str]:
    """Return what axe-core calls serious or critical, with the elements it means."""
    answer = await Axe().run(looked.page)
    return [
        f"{each['id']} ({each['impact']}): {each['help']}: "
        + "; ".join(
            f"{node['target']} {node['html'][:160]} {node['failureSummary']}"
            for node in each["nodes"][:5]
        )
        for each in answer.response["violations"]
        if each["impact"] in {"serious", "critical"}
    ]


@pytest.mark.parametrize("path", PAGES)
async def test_no_serious_violation(path, visit, dashboard, history) -> None:
    looked = await visit(dashboard, address_of(path, history), color_scheme="light")
    assert await violations(looked) == []
    await looked.page.emulate_media(color_scheme="dark")
    await looked.page.wait_for_function(
        "() => document.documentElement.getAttribute('data-mantine-color-scheme') === 'dark'"
    )
    await looked.drawn()
    assert await violations(looked) == []


@pytest.mark.parametrize("path", PAGES)
async def test_a_keyboard_reaches_everything_and_shows_where_it_is(
    path, visit, dashboard, history
) -> None:
    looked = await visit(dashboard, address_of(path, history), reduced_motion="reduce")
    stops = await looked.measure(MARK)
    for _ in range(3 * stops + 20):
        await looked.page.keyboard.press("Tab")
        if await looked.measure(NOTE):
            break
    else:
        held = await looked.measure("() => document.activeElement.outerHTML.slice(0, 300)")
        pytest.fail(f"The keyboard is held by {held}")
    left = "(what) => window.plain.filter((each) => !each[what]).map((each) => each.name)"
    assert await looked.measure(left, "reached") == []
    assert await looked.measure(left, "seen") == []


async def test_the_first_tab_leads_past_the_navigation(visit, dashboard) -> None:
    looked = await visit(dashboard, "/")
    page = looked.page
    await page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="To the content")
    assert await skip.evaluate("(it) => it === document.activeElement")
    box = await skip.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    assert await looked.measure("() => Boolean(document.activeElement.closest('#content'))")


async def test_a_select_opens_chooses_and_closes_by_keyboard(visit, dashboard) -> None:
    looked = await visit(dashboard, "/")
    page = looked.page
    await page.locator("#refresh").focus()
    await page.keyboard.press("Enter")
    options = page.get_by_role("listbox")
    await options.wait_for()
    await page.keyboard.press("Escape")
    await options.wait_for(state="hidden")
    assert await page.locator("#refresh").input_value() == "10 s"
    await page.keyboard.press("Enter")
    await options.wait_for()
    # A person sees where the keys have led. The first one, just after the opening, may lead to the
    # top of the list.
    chosen = page.locator("[data-combobox-selected]")
    for _ in range(4):
        await page.keyboard.press("ArrowDown")
        await chosen.wait_for()
        if await chosen.text_content() == "30 s":
            break
    await page.keyboard.press("Enter")
    await options.wait_for(state="hidden")
    await page.wait_for_function("() => document.querySelector('#refresh').value === '30 s'")
