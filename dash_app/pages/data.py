"""Data."""

from typing import Any

from dash.development.base_component import Component

from dash_app.panels import Panels
from dash_app.parts import page

PATH, NAME, TITLE = "/data", "Data", "Data"


def lay_out(**_: Any) -> Component:
    """Return the page."""
    return page("Data")


def register(_: Panels) -> None:
    """Connect the page's panels."""
