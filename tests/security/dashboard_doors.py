"""The dashboard's doors: pages, callbacks and the WebSocket, with a session and without."""

import asyncio
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr
from starlette.routing import Route
from websockets.asyncio.client import connect as connect_socket
from websockets.exceptions import InvalidStatus

from dash_app.application import build
from infra.settings import Settings
from tests.bench.dashboard_browser import Property
from tests.security.claim import FoiledError
from tests.security.dashboard_stage import ROLES, WHO, LoggedIn, Site, Stage, expect_success
from tests.security.weak_dashboard import OTHER_SITE

_REFUSED = frozenset({303, 401, 403})


@dataclass(frozen=True, slots=True)
class Doors:
    """A site without a session, and everything that may be asked of it."""

    site: Site
    routes: tuple[tuple[str, str], ...]
    callbacks: tuple[dict[str, Any], ...]


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


async def reach(site: Site) -> str:
    """Return that a dashboard for its own machine answers somebody else."""
    answer = await asyncio.to_thread(site.ask, "GET", "/_dash-layout")
    if answer.status == 403:
        raise FoiledError(answer.text)
    return f"answered: {expect_success(answer)}"


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
    settings = Settings(reader_database_url=SecretStr(stage.session.url("sluiceway_reader")))
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
    return f"answered: {expect_success(answer)}"
