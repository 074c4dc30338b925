"""Logs."""

from typing import Any

from dash.development.base_component import Component

from dash_app.panels import Panels
from dash_app.parts import page

PATH, NAME, TITLE = "/logs", "Logs", "Logs"


def lay_out(**_: Any) -> Component:
    """Return the page."""
    return page("Logs")


def register(_: Panels) -> None:
    """Connect the page's panels."""
