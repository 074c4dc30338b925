"""The dashboard as one ASGI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType

import dash
import httpx
from dash import Dash
from dash.exceptions import DependencyException
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

from dash_app import shell
from dash_app.access.layer import AccessLayer
from dash_app.export import register_export
from dash_app.export_uptime import register_uptime_export
from dash_app.pages import not_found_404
from dash_app.panels import Panels
from dash_app.plain_http import PlainHttp
from dash_app.reader import Reader
from infra.settings import Settings

PAGES = ("overview", "runs", "run", "data", "quality", "stream", "system", "logs")
"""Modules of dash_app.pages, in the order of the navigation. Each has PATH, NAME (empty: not in
the navigation), TITLE, lay_out(**parameters of the address) and register(panels)."""
ASSETS = Path(__file__).parent / "assets"
INDEX = Path(__file__).parent / "index.html"
"""The page around every page: Dash's own names no language."""


def build(settings: Settings) -> ASGIApp:
    """Return the dashboard behind its login.

    Raises SettingError where a setting does not do.
    """
    reader = Reader(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with reader.opened():
            await _finish(server)
            yield

    # No /docs and no /openapi.json: there is nothing behind them for a person.
    server = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    # Before Dash, which answers every other address with a page.
    register_export(server, reader)
    register_uptime_export(server, reader)
    server.add_exception_handler(DependencyException, _no_such_file)
    app = Dash(
        "dash_app",
        server=server,  # type: ignore[arg-type] # its type has not heard of FastAPI yet
        use_pages=True,
        pages_folder="",
        assets_folder=str(ASSETS),
        title="Sluiceway",
        update_title="",
        suppress_callback_exceptions=True,
        serve_locally=True,
        index_string=INDEX.read_text(encoding="utf-8"),
    )
    pages = [import_module(f"dash_app.pages.{name}") for name in PAGES]
    for module in pages:
        _add(module)
    _add(not_found_404)
    app.layout = shell.lay_out({each.PATH: each.NAME for each in pages if each.NAME})
    panels = Panels(app, reader, settings)
    shell.register(app, panels)
    for module in pages:
        module.register(panels)
    polite = PlainHttp(server, [each.PATH for each in pages], app.callback_map)
    return AccessLayer(polite, settings, inline_scripts=app.csp_hashes)


def _no_such_file(_: Request, __: Exception) -> Response:
    """Answer who asks for a script that no library of Dash's has."""
    return PlainTextResponse("There is no such file.", 404)


async def _finish(server: FastAPI) -> None:
    """Let Dash set itself up: it does so with the first request below /_dash-, and not with others.

    A page that is asked for before that comes without our assets.
    """
    transport = httpx.ASGITransport(server)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        (await client.get("/_dash-dependencies")).raise_for_status()


def _add(module: ModuleType) -> None:
    template = {"path_template": module.PATH} if "<" in module.PATH else {"path": module.PATH}
    dash.register_page(
        module.__name__, title=f"{module.TITLE} · Sluiceway", layout=module.lay_out, **template
    )
