"""Strangers see the login and nothing else, viewers look, operators change."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from dash_app.access.passwords import PasswordHash
from tests.browser.dashboards import Dashboard
from tests.browser.expected import PAGES, address_of
from tests.browser.visits import Visit

pytestmark = pytest.mark.asyncio(loop_scope="session")

VIEWER, OPERATOR = "vera", "otto"
PASSWORD = "correct horse battery staple"
WRONG = "The name or the password is wrong."
WINDOWS = "SELECT count(*) FROM metadata.maintenance_windows WHERE reason = $1"
FETCH = """
async ([address, body]) => {
  const answer = await fetch(address, body === null ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: body });
  return [answer.status, await answer.text()];
}
"""


@pytest.fixture(scope="module")
def guarded(filled, folder: Path) -> Iterator[Dashboard]:
    """A dashboard with a login."""
    password_hash = PasswordHash.of(PASSWORD).text
    users = {
        name: {"password_hash": password_hash, "role": role}
        for name, role in ((VIEWER, "viewer"), (OPERATOR, "operator"))
    }
    with Dashboard(
        folder / "guarded",
        filled[0].reader_url,
        dashboard_users=json.dumps(users),
        dashboard_secret="a secret that is as long as it has to be",
    ) as started:
        yield started


async def log_in(looked: Visit, name: str, password: str = PASSWORD) -> None:
    page = looked.page
    await page.get_by_label("Name").fill(name)
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Log in").click()


@pytest.mark.parametrize("path", [*PAGES, "/nowhere"])
async def test_a_stranger_sees_the_login_only(path, visit, guarded, history) -> None:
    looked = await visit(guarded, address_of(path, history))
    await looked.sees("Log in to Sluiceway")
    text = await looked.text()
    assert not [name for name in ("replay_topic", "Refresh", "Overview") if name in text]
    assert {urlsplit(each).path for each in looked.asked} <= {address_of(path, history), "/login"}


async def test_the_right_password_leads_to_where_one_was_going(visit, guarded) -> None:
    looked = await visit(guarded, "/?range=30d", allowed={401})
    await log_in(looked, VIEWER, "a wrong password")
    await looked.sees(WRONG)
    await log_in(looked, "nobody", PASSWORD)
    await looked.sees(WRONG)
    await log_in(looked, VIEWER)
    await looked.sees("Is all well now?", f"{VIEWER} (viewer)")
    await looked.drawn()
    assert looked.page.url == f"{guarded.address}/?range=30d"
    assert await looked.page.get_by_role("radio", name="30 days").is_checked()
    await looked.page.get_by_role("button", name="Log out").click()
    await looked.sees("Log in to Sluiceway")
    await looked.page.goto(f"{guarded.address}/runs")
    await looked.sees("Log in to Sluiceway")


async def test_a_session_that_is_over_leads_to_the_login_and_back(visit, guarded) -> None:
    looked = await visit(guarded, "/?range=7d", allowed={401})
    await log_in(looked, VIEWER)
    await looked.sees("Is all well now?")
    await looked.drawn()
    await looked.page.context.clear_cookies()
    await looked.page.locator("#refresh-now").click()
    await looked.sees("Log in to Sluiceway")
    await log_in(looked, VIEWER)
    await looked.sees("Is all well now?")
    assert looked.page.url == f"{guarded.address}/?range=7d"


async def test_an_operator_sets_maintenance_and_a_viewer_cannot(visit, guarded, history) -> None:
    reason = "a new disk for the cellar"
    looked = await visit(guarded, "/system")
    await log_in(looked, OPERATOR)
    page = looked.page
    await page.get_by_label("Until").fill("2 h")
    await page.get_by_label("Reason").fill(reason)
    async with page.expect_request(
        lambda request: "maintenance-set.n_clicks" in (request.post_data or "")
    ) as sent:
        await page.get_by_role("button", name="Set", exact=True).click()
    await looked.sees("Set: maintenance of", reason)
    await looked.drawn()
    assert await history.fetchval(WINDOWS, reason) == 1
    request = await sent.value
    export = await _find_export(visit, guarded)

    watching = await visit(guarded, "/system", allowed={401, 403})
    await log_in(watching, VIEWER)
    await watching.sees(reason)
    await watching.drawn()
    assert await watching.page.get_by_role("button", name="Set", exact=True).count() == 0
    assert await watching.page.get_by_role("button", name="End").count() == 0
    _, said = await watching.measure(FETCH, [request.url, request.post_data])
    assert "Only operators" in said
    assert await history.fetchval(WINDOWS, reason) == 1
    assert (await watching.measure(FETCH, [export, None]))[0] == 403
    await watching.open("/quality")
    assert await watching.page.get_by_text("Export as CSV").count() == 0

    await watching.page.context.clear_cookies()
    for address, body in ((request.url, request.post_data), (export, None)):
        answer = await watching.page.context.request.fetch(
            f"{guarded.address}{urlsplit(address).path}",
            method="POST" if body else "GET",
            data=body,
            headers={"Content-Type": "application/json"},
            max_redirects=0,
        )
        assert answer.status in {303, 401}
        assert "Teapot" not in await answer.text()
    assert await history.fetchval(WINDOWS, reason) == 1


async def _find_export(visit, guarded: Dashboard) -> str:
    """Return the export's address, after it was followed by who may."""
    looked = await visit(guarded, "/quality")
    await log_in(looked, OPERATOR)
    way = looked.page.get_by_role("link", name="Export as CSV")
    await way.wait_for()
    await looked.drawn()
    async with looked.page.expect_download() as download:
        await way.click()
    written = Path(await (await download.value).path()).read_text()
    assert "Teapot" in written
    return str(await way.get_attribute("href"))
