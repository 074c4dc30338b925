"""Runs."""

from typing import Any

from dash.development.base_component import Component

from dash_app.panels import Panels
from dash_app.parts import page

PATH, NAME, TITLE = "/runs", "Runs", "Runs"


def lay_out(**_: Any) -> Component:
    """Return the page."""
    return page("Runs")


def register(_: Panels) -> None:
    """Connect the page's panels."""
