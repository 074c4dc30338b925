"""The dashboard: who is let in, and what those may do who are."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
from starlette.routing import Route
from websockets.asyncio.client import connect as connect_socket
from websockets.exceptions import InvalidStatus

from dash_app.application import build
from infra.settings import Settings
from tests.bench.dashboard_browser import Property
from tests.security import dashboard_paths, dashboard_script, dashboard_sql
from tests.security.claim import Area, Claim, FoiledError
from tests.security.dashboard_stage import (
    PASSWORDS,
    ROLES,
    WHO,
    Answer,
    LoggedIn,
    Site,
    Stage,
    open_stage,
)
from tests.security.weak_dashboard import OTHER_SITE

GUESSES = 6
_REFUSED = frozenset({303, 401, 403})


@dataclass(frozen=True, slots=True)
class Doors:
    """A site without a session, and everything that may be asked of it."""

    site: Site
    routes: tuple[tuple[str, str], ...]
    callbacks: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Act:
    """A viewer's attempt to set a maintenance window, and the database that would have it."""

    site: Site
    owner: asyncpg.Connection


async def name_me(site: Site) -> str:
    """Return as whom the dashboard takes one."""
    page = await asyncio.to_thread(site.ask, "GET", "/", Accept="text/html")
    who = await asyncio.to_thread(site.post, WHO)
    if page.status in _REFUSED and who.status in _REFUSED:
        raise FoiledError(f"page and callback were refused ({page.status}, {who.status})")
    told = [f"{name} ({role})" for name, role in ROLES.items() if f"{name} ({role})" in who.text]
    if page.status != 200 or not told:
        raise RuntimeError(f"it is answered {page.status} and {who.status}: {who.text[:100]}")
    return f"let in as {told[0]}"


async def try_doors(doors: Doors) -> str:
    """Return how many doors are open; raises FoiledError where every single one is closed."""
    tried = [*doors.routes, *(("POST", each) for each in doors.callbacks)]
    found = await asyncio.to_thread(lambda: [_knock(doors.site, *each) for each in tried])
    if opened := [each for each in found if each]:
        return f"{len(opened)} of {len(tried)} doors are open, {opened[0]} among them"
    raise FoiledError(
        f"{len(doors.routes)} routes and {len(doors.callbacks)} callbacks were all refused"
    )


def _knock(site: Site, method: str, door: str | dict[str, Any]) -> str:
    """Return the door where it is open."""
    answer = site.ask(method, door) if isinstance(door, str) else site.post(door)
    if answer.status in _REFUSED:
        return ""
    return door if isinstance(door, str) else str(door["output"])


async def find_doors(stage: Stage, address: str) -> Doors:
    """Return every route that the server knows, and every callback."""
    settings = Settings(reader_database_url=stage.session.url("sluiceway_reader"))
    built: Any = build(settings)
    known = vars(vars(built)["_app"])["_app"].routes
    routes = [
        (
            method,
            "/"
            + each.path_format.replace("{path}", "x").replace("{", "").replace("}", "").lstrip("/"),
        )
        for each in known
        if isinstance(each, Route)
        for method in sorted(each.methods or ())
    ]
    browser = LoggedIn(stage.site(stage.guarded, "otto"))
    try:
        callbacks = browser.list_callbacks()
    finally:
        browser.close()
    return Doors(Site(address), tuple(routes), tuple(_question(each) for each in callbacks))


def _question(callback: Any) -> dict[str, Any]:
    outputs = [{"id": each.id, "property": each.name} for each in callback.outputs]
    return {
        "output": callback.output,
        "outputs": outputs if callback.output.startswith("..") else next(iter(outputs), None),
        "inputs": [_value(each) for each in callback.inputs],
        "state": [_value(each) for each in callback.state],
        "changedPropIds": [],
    }


def _value(wanted: Property) -> Any:
    return [] if wanted.is_pattern else {"id": wanted.id, "property": wanted.name, "value": None}


async def open_socket(site: Site) -> str:
    """Return that the WebSocket was opened."""
    given = dict(site.headers)
    origin = given.pop("Origin", site.address)
    if site.cookie:
        given["Cookie"] = site.cookie
    where = f"{site.address.replace('http', 'ws', 1)}/_dash-ws-callback"
    try:
        async with connect_socket(
            where, origin=origin, additional_headers=given, proxy=None
        ) as peer:
            await peer.send('{"type": "heartbeat"}')
            said = await peer.recv()
    except InvalidStatus as error:
        raise FoiledError(f"it was answered {error.response.status_code}") from error
    return f"it answers {said!s:.60}"


async def send_from_elsewhere(site: Site) -> str:
    """Return what a callback answers to a page of another site, with the user's cookie."""
    answer = await asyncio.to_thread(site.post, WHO, Origin=OTHER_SITE)
    if answer.status == 403:
        raise FoiledError(answer.text)
    return f"answered: {_expect(answer)}"


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
    return f"the file begins {_expect(answer)}"


def _expect(answer: Answer) -> str:
    """Return the beginning of what was answered; raises RuntimeError where that is an error."""
    if answer.status != 200:
        raise RuntimeError(f"it is answered {answer.status}: {answer.text[:100]}")
    return answer.text[:60]


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


def _with_cookie(address: str, cookie: Callable[[Stage], str]) -> Callable[[Stage], Site]:
    return lambda stage: Site(getattr(stage, address), cookie(stage))


def _as(address: str, name: str, **headers: str) -> Callable[[Stage], Site]:
    return lambda stage: Site(getattr(stage, address), stage.cookie_of(name), headers)


def _cookie_claim(name: str, tried: str, cookie: Callable[[Stage], str]) -> Claim:
    return Claim(
        name,
        tried,
        name_me,
        _with_cookie("guarded", cookie),
        _with_cookie("weak", cookie),
        saying="401",
    )


CLAIMS = (
    _cookie_claim(
        "forged-cookie",
        "a cookie that names an operator, signed with another secret",
        lambda stage: stage.cookie_of("otto", secret="another secret, and as long as the one"),
    ),
    _cookie_claim(
        "altered-cookie",
        "a viewer's cookie with an operator's name put into it",
        lambda stage: stage.altered_cookie(),
    ),
    _cookie_claim(
        "expired-cookie",
        "an operator's cookie of more than twelve hours ago",
        lambda stage: stage.expired_cookie(),
    ),
    Claim(
        "no-cookie",
        "every route and every callback without a session",
        try_doors,
        lambda stage: find_doors(stage, stage.guarded),
        lambda stage: find_doors(stage, stage.unlocked),
        saying="were all refused",
    ),
    Claim(
        "no-cookie-websocket",
        "the WebSocket without a session",
        open_socket,
        lambda stage: Site(stage.guarded),
        lambda stage: Site(stage.unlocked),
        saying="401",
    ),
    Claim(
        "other-sites-page",
        "a page of another site lets a user's browser send",
        send_from_elsewhere,
        _as("guarded", "otto"),
        _as("weak", "otto"),
        saying="page of another host",
    ),
    Claim(
        "other-sites-websocket",
        "a page of another site lets a user's browser open the WebSocket",
        open_socket,
        _as("guarded", "otto", Origin=OTHER_SITE),
        _as("weak", "otto", Origin=OTHER_SITE),
        saying="403",
    ),
    Claim(
        "viewer-sets-maintenance",
        "a viewer sends what an operator's form sends",
        set_window,
        lambda stage: Act(stage.site(stage.guarded, "ada"), stage.owner),
        lambda stage: Act(stage.site(stage.weak, "ada"), stage.owner),
        saying="Only operators",
    ),
    Claim(
        "viewer-exports-quarantine",
        "a viewer asks for the quarantine as a file",
        export,
        _as("guarded", "ada"),
        _as("weak", "ada"),
        saying="Only an operator",
    ),
    Claim(
        "guessed-password",
        "a client tries one password after the other",
        guess,
        lambda stage: Site(stage.guarded),
        lambda stage: Site(stage.weak),
        saying="has to wait",
    ),
    Claim(
        "login-leads-away",
        "a link to the login that names another site to go on to",
        lead_away,
        lambda stage: Site(stage.guarded),
        lambda stage: Site(stage.weak),
        saying="own first page",
    ),
    *dashboard_paths.CLAIMS,
    *dashboard_sql.CLAIMS,
    *dashboard_script.CLAIMS,
)
AREA = Area("dashboard", "The dashboard", open_stage, CLAIMS)
