"""Times of whole days (UTC), as the data and quality pages offer and draw them."""

import datetime as dt
from typing import Any

from dash_app.figures import Figure

RANGES = {"7d": 7, "30d": 30, "90d": 90}
"""Days, by what the address says."""
DEFAULT_RANGE = "30d"
_FEW = 10
_DAY_MS = 86_400_000


def read_range(asked: object) -> str:
    """Return the range that an address asks for, or the default one."""
    return asked if isinstance(asked, str) and asked in RANGES else DEFAULT_RANGE


def first_day(today: dt.date, chosen: object) -> dt.date:
    """Return the first day of the chosen time, whatever the browser sent."""
    return today - dt.timedelta(days=RANGES[read_range(chosen)] - 1)


def mark_days(figure: Figure, days: int) -> Figure:
    """Return the chart with its axis marked by days: of few days Plotly would mark the hours."""
    axis: dict[str, Any] = {"type": "date", "tickformat": "%b %-d\n%Y"}
    if days <= _FEW:
        axis |= {"dtick": _DAY_MS, "tick0": "2000-01-01"}
    figure["layout"]["xaxis"] |= axis
    return figure
