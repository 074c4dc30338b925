"""Takes the README's screenshots: `python -m tests.docs.screenshots FOLDER`.

What they show is in the database that SLUICEWAY_READER_DATABASE_URL names, as the demo leaves it.
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.async_api import async_playwright

from tests.browser.dashboards import Dashboard
from tests.browser.visits import CHROMIUM, Visit, launch

SHOTS = (
    ("overview", "/", "light", ("Success rate", "Freshness")),
    ("runs", "/runs", "dark", ("daily_etl_pipeline",)),
)
"""Name of the file, page, colours, and what has to stand on it."""
MOST_BYTES = 300_000
SIZE = {"width": 1280, "height": 800}


def main() -> int:
    """Return 0 once each picture is there."""
    parser = argparse.ArgumentParser(prog="python -m tests.docs.screenshots", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the pictures go, as NAME.png")
    parser.add_argument("--address", help="of a dashboard that runs; else one is started")
    given = parser.parse_args()
    if not CHROMIUM.exists():
        return _fail("Chromium is not installed: run `make system-packages`.")
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.address:
        too_large = asyncio.run(shoot(given.address.rstrip("/"), given.folder))
    else:
        reader_url = os.environ.get("SLUICEWAY_READER_DATABASE_URL", "")
        if not reader_url:
            return _fail("Set SLUICEWAY_READER_DATABASE_URL, or name a dashboard by --address.")
        with TemporaryDirectory() as folder, Dashboard(Path(folder), reader_url) as dashboard:
            too_large = asyncio.run(shoot(dashboard.address, given.folder))
    return _fail(f"Larger than {MOST_BYTES:,} bytes: {', '.join(too_large)}.") if too_large else 0


async def shoot(address: str, folder: Path) -> list[str]:
    """Leave the pictures in the folder; returns the names of those that are too large."""
    too_large = []
    async with async_playwright() as playwright:
        browser = await launch(playwright)
        for name, path, colours, texts in SHOTS:
            context = await browser.new_context(viewport=SIZE, color_scheme=colours)
            visit = Visit(await context.new_page(), address)
            await visit.open(path)
            await visit.sees(*texts)
            picture = folder / f"{name}.png"
            await visit.page.screenshot(path=picture)
            visit.check()
            sys.stdout.write(f"{picture}: {picture.stat().st_size:,} bytes\n")
            if picture.stat().st_size > MOST_BYTES:
                too_large.append(picture.name)
            await context.close()
        await browser.close()
    return too_large


def _fail(sentence: str) -> int:
    sys.stderr.write(f"{sentence}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
