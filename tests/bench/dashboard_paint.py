"""When the overview is seen, in a real Chromium."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from playwright.sync_api import Error, sync_playwright

from tests.bench.server import BenchError

CHROMIUM = Path("/usr/bin/chromium")
_OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
_DEADLINE_MS = 60_000

# Dash's own page says "Loading..." first: the overview is seen when its question stands there.
_WATCH = """
    window.seen = {};
    const mark = (name, isThere) => {
        if (!(name in window.seen) && isThere()) {
            requestAnimationFrame(() => { window.seen[name] ??= performance.now(); });
        }
    };
    const hasText = (panel) => !panel.querySelector(".mantine-Skeleton-root")
        && (panel.innerText.trim() !== "");
    const isDrawn = (chart) => {
        const plot = chart.querySelector(".js-plotly-plot");
        return plot && plot.querySelector(".main-svg")
            && (plot.data.length > 0 || (plot.layout.annotations || []).length > 0);
    };
    const look = () => {
        mark("question", () => document.querySelector("h1.question") !== null);
        mark("panels", () => {
            const panels = [...document.querySelectorAll("#content .panel")];
            const charts = [...document.querySelectorAll("#content .chart")];
            return panels.length > 0 && panels.every(hasText) && charts.every(isDrawn);
        });
        if (!("panels" in window.seen)) { requestAnimationFrame(look); }
    };
    requestAnimationFrame(look);
"""
_CONTENTFUL = """
    () => performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? null
"""


@dataclass(frozen=True, slots=True)
class Paint:
    """One load of the overview, in milliseconds from when its address was entered."""

    contentful_ms: float
    """Anything at all: Dash's own word that it is loading."""
    first_ms: float
    """The page's frame and question."""
    panels_ms: float
    """Every panel has its text and every chart its lines."""


def measure_paint(address: str, *, loads: int) -> list[Paint]:
    """Return so many loads, each in a browser that has never been there."""
    if not CHROMIUM.exists():
        raise BenchError(f"There is no {CHROMIUM}: install Debian's chromium, or use --no-paint.")
    paints = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(_OPTIONS))
        try:
            for _ in range(loads):
                context = browser.new_context(viewport={"width": 1280, "height": 900})
                page = context.new_page()
                page.add_init_script(_WATCH)
                page.goto(address, wait_until="commit", timeout=_DEADLINE_MS)
                page.wait_for_function("() => 'panels' in window.seen", timeout=_DEADLINE_MS)
                seen = page.evaluate("() => window.seen")
                contentful = page.evaluate(_CONTENTFUL)
                if contentful is None:
                    raise BenchError("Chromium does not say when it painted first.")
                if failures := page.locator(".failure").all_inner_texts():
                    raise BenchError(f"The overview shows a failure: {failures[0]}")
                paints.append(Paint(contentful, seen["question"], seen["panels"]))
                context.close()
        except Error as error:
            raise BenchError(f"The overview was not painted: {error}") from error
        finally:
            browser.close()
    return paints


def middle(paints: Sequence[Paint]) -> Paint:
    """Return the median of each moment."""
    return Paint(
        median(each.contentful_ms for each in paints),
        median(each.first_ms for each in paints),
        median(each.panels_ms for each in paints),
    )
