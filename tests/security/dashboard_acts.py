"""What who is in, or comes in, tries on the dashboard and may not do."""

import asyncio
from dataclasses import dataclass

import asyncpg

from tests.security.claim import FoiledError
from tests.security.dashboard_stage import PASSWORDS, LoggedIn, Site, expect_success

GUESSES = 6


@dataclass(frozen=True, slots=True)
class Act:
    """A viewer's attempt to set a maintenance window, and the database that would have it."""

    site: Site
    owner: asyncpg.Connection


async def set_window(act: Act) -> str:
    """Return that uptime can be bent by who may only look."""
    count = "SELECT count(*) FROM metadata.maintenance_windows WHERE reason = 'by a viewer'"
    before = await act.owner.fetchval(count)
    values = {
        "maintenance-set.n_clicks": 1,
        "maintenance-component.value": None,
        "maintenance-from.value": "now",
        "maintenance-until.value": "2 h",
        "maintenance-reason.value": "by a viewer",
        "view.data": {"zone": "UTC", "dark": False},
    }

    def click() -> str:
        browser = LoggedIn(act.site)
        try:
            [callback] = [
                each for each in browser.list_callbacks() if each.trigger.id == "maintenance-set"
            ]
            asked = (*callback.inputs, *callback.state)
            answer = browser.ask(callback, {each: values[str(each)] for each in asked})
        finally:
            browser.close()
        return answer.body.decode()

    said = await asyncio.to_thread(click)
    if await act.owner.fetchval(count) > before:
        return "a viewer has set a maintenance window"
    if "Only operators may do this" not in said:
        raise RuntimeError(f"no window was set, and nobody says why: {said[:200]}")
    raise FoiledError("Only operators may do this, it said, and no window was set")


async def export(site: Site) -> str:
    """Return what of the quarantine a viewer takes home."""
    answer = await asyncio.to_thread(site.ask, "GET", "/export/quarantine.csv")
    if answer.status == 403:
        raise FoiledError(answer.text)
    return f"the file begins {expect_success(answer)}"


async def guess(site: Site) -> str:
    """Return that the right password was found after many guesses."""
    for number in range(GUESSES):
        await asyncio.to_thread(site.log_in, "otto", f"guess {number}", client="10.0.0.1")
    answer = await asyncio.to_thread(site.log_in, "otto", PASSWORDS["otto"], client="10.0.0.1")
    if answer.status == 429:
        raise FoiledError(f"after {GUESSES} guesses even the right password has to wait")
    if answer.status != 303:
        raise RuntimeError(f"it is answered {answer.status}: {answer.text[:100]}")
    return f"the right password is taken after {GUESSES} guesses"


async def lead_away(site: Site) -> str:
    """Return where a login sends its user."""
    answer = await asyncio.to_thread(
        site.log_in, "ada", PASSWORDS["ada"], client="10.0.0.2", then="//evil.example"
    )
    if answer.headers["location"] == "/":
        raise FoiledError("the login leads to the own first page")
    return f"the login leads to {answer.headers['location']}"
