"""What stands around every page: navigation, refresh, colours, and the word on the database."""

from collections.abc import Mapping
from typing import Any

import dash
import dash_mantine_components as dmc
from dash import ClientsideFunction, Dash, Input, Output, State, dcc, html
from dash.development.base_component import Component

from dash_app.access.users import current_user
from dash_app.panels import VIEW, Children, Panels
from dash_app.parts import aria, complain
from dash_app.reader import AwayError, SlowError
from dash_app.view import View

DEFAULT_REFRESH_SECONDS = 10
_REFRESHES = {0: "off", 5: "5 s", 10: "10 s", 30: "30 s", 60: "1 min", 300: "5 min"}
_THEME = {
    "primaryColor": "teal",
    # White is read on this shade of it, and on no lighter one.
    "primaryShade": 9,
    "fontFamily": "Inter, system-ui, -apple-system, 'Segoe UI', sans-serif",
    "defaultRadius": "md",
}


def lay_out(pages: Mapping[str, str]) -> Component:
    """Return the frame; pages: address to name, in the order of the navigation."""
    frame: Component = dmc.MantineProvider(
        id="mantine",
        defaultColorScheme="auto",
        theme=_THEME,
        children=[
            dcc.Location(id="address", refresh=False),
            dcc.Store(id=VIEW),
            dcc.Interval(id="clock", interval=DEFAULT_REFRESH_SECONDS * 1000),
            html.A("To the content", href="#content", className="skip"),
            dmc.AppShell(
                [
                    dmc.AppShellHeader(_head()),
                    dmc.AppShellNavbar(
                        html.Div(
                            [
                                dmc.NavLink(
                                    label=name,
                                    href=href,
                                    active="exact" if href == "/" else "partial",
                                )
                                for href, name in pages.items()
                            ],
                            className="navigation",
                        ),
                        **aria(label="Pages"),
                    ),
                    dmc.AppShellMain(
                        [
                            html.Div(id="database-state", role="alert"),
                            html.Div(dash.page_container, id="content", tabIndex=-1),
                        ]
                    ),
                ],
                id="frame",
                header={"height": 52},
                navbar={"width": 180, "breakpoint": "sm", "collapsed": {"mobile": True}},
                padding="md",
            ),
        ],
    )
    return frame


def _head() -> Component:
    return html.Div(
        [
            dmc.Burger(
                id="burger", size="sm", hiddenFrom="sm", opened=False, **aria(label="Pages")
            ),
            dcc.Link("Sluiceway", href="/", className="brand"),
            html.Div(className="grow"),
            html.Span("Refresh", className="refresh-label", **aria(hidden="true")),
            dmc.Select(
                id="refresh",
                data=[
                    {"value": str(seconds), "label": label} for seconds, label in _REFRESHES.items()
                ],
                value=str(DEFAULT_REFRESH_SECONDS),
                size="xs",
                w=88,
                allowDeselect=False,
                persistence=True,
                **aria(label="Refresh"),
            ),
            dmc.Button("Now", id="refresh-now", size="xs", variant="default"),
            dmc.ColorSchemeToggle(
                id="scheme",
                lightIcon="☾",
                darkIcon="☀",
                variant="default",
                size="md",
                **aria(label="Light or dark"),
            ),
            html.Div(id="who"),
        ],
        className="head",
    )


def register(app: Dash, panels: Panels) -> None:
    """Connect the frame's parts."""
    app.clientside_callback(
        ClientsideFunction("sluiceway", "look"),
        Output(VIEW, "data"),
        Input("clock", "n_intervals"),
        Input("refresh-now", "n_clicks"),
        Input("scheme", "computedColorScheme"),
        State(VIEW, "data"),
    )
    app.clientside_callback(
        ClientsideFunction("sluiceway", "setClock"),
        Output("clock", "interval"),
        Output("clock", "disabled"),
        Input("refresh", "value"),
    )
    app.clientside_callback(
        ClientsideFunction("sluiceway", "toggleNavigation"),
        Output("frame", "navbar"),
        Output("burger", "opened"),
        Input("burger", "opened"),
        Input("_pages_location", "pathname"),
        State("frame", "navbar"),
    )

    @app.callback(Output("who", "children"), Input("address", "pathname"))
    async def name_viewer(_: str | None) -> Any:
        user = current_user()
        if not user.name:
            return None
        return html.Form(
            [
                html.Span(f"{user.name} ({user.role})", className="viewer"),
                html.Button("Log out", type="submit", className="plain-button"),
            ],
            action="/logout",
            method="post",
        )

    panels.content("database-state", tell_database)


async def tell_database(view: View) -> Children:
    """Return a warning while PostgreSQL cannot be asked."""
    try:
        await view.reader.fetchval("SELECT 1")
    except (AwayError, SlowError) as error:
        return complain(
            f"{error} What is shown may be old; the pages go on by themselves when it is back."
        )
    return None
