"""Panels: the parts of a page, each drawn by a callback of its own that fails alone."""

import datetime as dt
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol

import structlog
from dash import ClientsideFunction, Dash, Input, Output, State, ctx, dcc
from dash.development.base_component import Component

from dash_app.access.users import current_user
from dash_app.figures import Figure, keep_zoom, say
from dash_app.parts import complain
from dash_app.reader import Reader
from dash_app.view import View, find_zone
from infra.settings import Settings
from schemas.errors import SluicewayError

log = structlog.get_logger("sluiceway.dashboard")

VIEW = "view"
"""Id of the store that holds the viewer's zone and colours; it changes with each refresh."""

Children = Component | str | Sequence[Component | str] | None
_UNEXPECTED = "This could not be drawn: the dashboard's log says why."


class DrawContent(Protocol):
    """Draws a panel as components."""

    def __call__(self, view: View, *values: Any) -> Awaitable[Children]:
        """Return what stands in the panel."""


class DrawFigure(Protocol):
    """Draws a panel as a chart."""

    def __call__(self, view: View, *values: Any) -> Awaitable[Figure]:
        """Return the chart."""


Given = Input | State


class Panels:
    """Registers the callbacks of one Dash app."""

    def __init__(self, app: Dash, reader: Reader, settings: Settings) -> None:
        """Remember for whom."""
        self.app = app
        self.reader = reader
        self.settings = settings

    def content(self, panel: str, draw: DrawContent, *given: Given) -> None:
        """Draw the children of the component `panel`, now and with every refresh.

        given: what else the drawing depends on; its values follow the view.
        """

        @self.app.callback(Output(panel, "children"), Input(VIEW, "data"), *given)
        async def answer(viewed: Mapping[str, Any] | None, *values: Any) -> Any:
            try:
                return await draw(self.read_view(viewed), *values)
            except SluicewayError as error:
                return complain(str(error))
            except Exception:
                log.exception("a panel could not be drawn", panel=panel)
                return complain(_UNEXPECTED)

    def figure(self, panel: str, draw: DrawFigure, *given: Given) -> None:
        """Draw the figure of the graph `panel`, now and with every refresh; a zoom is kept."""
        zoom = State(panel, "relayoutData")

        @self.app.callback(Output(panel, "figure"), Input(VIEW, "data"), *given, zoom)
        async def answer(viewed: Mapping[str, Any] | None, *values: Any) -> Any:
            view = self.read_view(viewed)
            try:
                figure = await draw(view, *values[:-1])
            except SluicewayError as error:
                return say(view, str(error))
            except Exception:
                log.exception("a panel could not be drawn", panel=panel)
                return say(view, _UNEXPECTED)
            return keep_zoom(figure, values[-1]) if ctx.triggered_id == VIEW else figure

    def remember(self, page: str, *filters: Input) -> None:
        """Keep filters in the page's address, so that it can be sent to somebody.

        filters: what to keep; `address(page, ...)` on the page names their parameters, in the same
            order. The page's layout is given them as keywords when it is opened by that address.
        """
        self.app.clientside_callback(
            ClientsideFunction("sluiceway", "writeAddress"),
            Output(_address_id(page), "storage_type"),
            *filters,
            State(_address_id(page), "data"),
            prevent_initial_call=True,
        )

    def read_view(self, viewed: Mapping[str, Any] | None) -> View:
        """Return the view that a browser sent, nothing of which is trusted."""
        found = viewed if isinstance(viewed, Mapping) else {}
        return View(
            user=current_user(),
            zone=find_zone(str(found.get("zone") or "UTC")),
            dark=bool(found.get("dark")),
            now=dt.datetime.now(dt.UTC),
            reader=self.reader,
            settings=self.settings,
        )


def address(page: str, *names: str) -> dcc.Store:
    """Return what says how the page's filters are called in its address."""
    return dcc.Store(id=_address_id(page), data=list(names))


def _address_id(page: str) -> str:
    return f"{page}-address"
