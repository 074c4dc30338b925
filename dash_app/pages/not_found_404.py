"""What stands in the place of a page that is none; Dash finds it by this module's name."""

from typing import Any

from dash import html
from dash.development.base_component import Component

from dash_app.parts import link, page

PATH, NAME, TITLE = "/not-found", "", "No such page"


def lay_out(**_: Any) -> Component:
    """Return the page."""
    return page(
        "There is no such page.",
        html.P("Its address is mistyped, or it is from another version of the dashboard."),
        html.P(link("To the overview", "/")),
    )
