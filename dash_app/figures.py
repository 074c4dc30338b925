"""Charts as plain dictionaries, in the viewer's colours.

Plotly's own classes check every value they are given, which takes longer than the query did.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dash_app.view import LocalTime, View

Figure = dict[str, Any]

# Okabe and Ito's colours, which people with any colour vision tell apart.
TEAL, RED, BLUE, ORANGE, PURPLE, GREY = (
    "#009e73",
    "#d55e00",
    "#0072b2",
    "#e69f00",
    "#cc79a7",
    "#868e96",
)
PALETTE = (BLUE, ORANGE, TEAL, PURPLE, "#56b4e9", RED, GREY)
STATE_COLOURS = {
    "SUCCESS": TEAL,
    "FAILED": RED,
    "RUNNING": BLUE,
    "GOOD": TEAL,
    "BAD": RED,
    "UNKNOWN": GREY,
}
_FONT = "Inter, system-ui, -apple-system, 'Segoe UI', sans-serif"


@dataclass(frozen=True, slots=True)
class Series:
    """One line or one kind of bar."""

    name: str
    x: Sequence[Any]
    y: Sequence[float | None]
    colour: str
    hatch: str = ""
    """A pattern of Plotly's bars, so that colour is not the only sign."""
    dash: str = "solid"
    """A dash of Plotly's lines, likewise."""
    hover: Sequence[str] | None = None
    """What is said of each point besides; plain text."""


def plain(text: object) -> str:
    """Return text that Plotly shows as it is: it takes some HTML for markup."""
    return html.escape(str(text), quote=False)


def bars(
    view: View, series: Sequence[Series], *, unit: str, stacked: bool = True, hover: str = "%{y:,}"
) -> Figure:
    """Return upright bars; unit: what stands beside the axis."""
    data = [
        {
            "type": "bar",
            "name": plain(each.name),
            "x": list(each.x),
            "y": list(each.y),
            "marker": _marker(each),
            **_hover(each, hover, is_first=place == 0),
        }
        for place, each in enumerate(series)
    ]
    layout = _layout(view, unit=unit, has_legend=len(series) > 1)
    return {"data": data, "layout": layout | {"barmode": "stack" if stacked else "group"}}


def lines(
    view: View,
    series: Sequence[Series],
    *,
    unit: str,
    hover: str = "%{y:,}",
    from_zero: bool = True,
) -> Figure:
    """Return a line for each series; None in a series is a gap."""
    data = [
        {
            "type": "scatter",
            "mode": "lines+markers" if len(each.x) <= 60 else "lines",  # noqa: PLR2004 - more would touch each other
            "name": plain(each.name),
            "x": list(each.x),
            "y": list(each.y),
            "line": {"color": each.colour, "width": 2, "dash": each.dash},
            "marker": {"size": 4},
            **_hover(each, hover, is_first=place == 0),
        }
        for place, each in enumerate(series)
    ]
    layout = _layout(view, unit=unit, has_legend=len(series) > 1)
    if from_zero:
        layout["yaxis"]["rangemode"] = "tozero"
    return {"data": data, "layout": layout}


def mark(figure: Figure, series: Sequence[Series], *, symbols: Sequence[str]) -> Figure:
    """Return the chart with points on it that stand for themselves, each series with its symbol."""
    figure["data"] += [
        {
            "type": "scatter",
            "mode": "markers",
            "name": plain(each.name),
            "x": list(each.x),
            "y": list(each.y),
            "marker": {
                "color": each.colour,
                "size": 11,
                "symbol": symbol,
                "line": {"color": each.colour, "width": 2},
            },
            **_hover(each, "%{y:,}", is_first=False),
        }
        for each, symbol in zip(series, symbols, strict=True)
        if each.x
    ]
    figure["layout"]["showlegend"] = len(figure["data"]) > 1
    return figure


@dataclass(frozen=True, slots=True)
class Span:
    """One bar of a timeline."""

    row: str
    start: str
    """As `View.local` gives it."""
    seconds: float
    state: str
    hatch: str
    hover: str


def timeline(view: View, spans: Sequence[Span], *, begin: str, end: str) -> Figure:
    """Return bars that lie in a row for each pipeline, from when a run began to when it ended."""
    data = []
    for state in dict.fromkeys(each.state for each in spans):
        part = [each for each in spans if each.state == state]
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": plain(state.lower()),
                "y": [plain(each.row) for each in part],
                "base": [each.start for each in part],
                "x": [each.seconds * 1000 for each in part],
                "marker": {
                    "color": STATE_COLOURS.get(state, GREY),
                    "pattern": {"shape": part[0].hatch, "size": 5, "solidity": 0.3},
                    # A run of a second is seen among hours too.
                    "line": {"color": STATE_COLOURS.get(state, GREY), "width": 1.5},
                },
                "text": [plain(each.hover) for each in part],
                "textposition": "none",
                "hovertemplate": "%{text}<extra></extra>",
            }
        )
    layout = _layout(view, unit="", has_legend=True)
    layout["barmode"] = "overlay"
    layout["xaxis"] |= {"type": "date", "range": [begin, end]}
    layout["yaxis"] |= {"type": "category", "automargin": True, "autorange": "reversed"}
    layout["hovermode"] = "closest"
    return {"data": data, "layout": layout}


def say(view: View, text: str) -> Figure:
    """Return an empty chart that says why it is empty."""
    layout = _layout(view, unit="", has_legend=False)
    layout["xaxis"]["visible"] = layout["yaxis"]["visible"] = False
    layout["annotations"] = [
        {
            "text": "<br>".join(_wrap(plain(text))),
            "x": 0.5,
            "y": 0.5,
            "xref": "paper",
            "yref": "paper",
            "showarrow": False,
            "font": {"size": 13},
        }
    ]
    return {"data": [], "layout": layout}


def keep_zoom(figure: Figure, zoomed: Mapping[str, Any] | None) -> Figure:
    """Return the figure with the axes where the viewer has them, by Plotly's last word on that.

    Plotly's own `uirevision` forgets them: dcc.Graph hands it back a figure that it has changed.
    """
    for axis in ("xaxis", "yaxis"):
        ends = [(zoomed or {}).get(f"{axis}.range[{end}]") for end in (0, 1)]
        if all(isinstance(each, str | int | float) for each in ends):
            figure["layout"][axis] |= {"range": ends, "autorange": False}
    return figure


def _wrap(text: str, width: int = 40) -> list[str]:
    lines_: list[str] = [""]
    for word in text.split():
        if lines_[-1] and len(lines_[-1]) + len(word) >= width:
            lines_.append(word)
        else:
            lines_[-1] = f"{lines_[-1]} {word}".strip()
    return lines_


def _marker(series: Series) -> dict[str, Any]:
    return {
        "color": series.colour,
        "pattern": {"shape": series.hatch, "size": 5, "solidity": 0.3},
    }


def _hover(series: Series, template: str, *, is_first: bool) -> dict[str, Any]:
    """Return what is said of each point; the first series of a chart tells the time in UTC too."""
    said: dict[str, Any] = {}
    if series.hover is not None:
        said |= {"text": [plain(each) for each in series.hover], "textposition": "none"}
        template += "" if "%{text}" in template else "<br>%{text}"
    if is_first and any(isinstance(each, LocalTime) and each.utc for each in series.x):
        said["customdata"] = [getattr(each, "utc", "") for each in series.x]
        template += "<br>%{customdata}"
    return said | {"hovertemplate": f"{template}<extra>{plain(series.name)}</extra>"}


def _layout(view: View, *, unit: str, has_legend: bool) -> dict[str, Any]:
    ink = "#dee2e6" if view.dark else "#212529"
    grid = "#373a40" if view.dark else "#e9ecef"
    axis = {"gridcolor": grid, "linecolor": grid, "zerolinecolor": grid, "automargin": True}
    return {
        # A zoom stays when the figures are refreshed.
        "uirevision": "kept",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": ink, "family": _FONT, "size": 12},
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "xaxis": {**axis, "showgrid": False},
        "yaxis": {**axis, "title": {"text": unit}},
        "showlegend": has_legend,
        "legend": {"orientation": "h", "y": -0.2, "x": 0},
        "hovermode": "x unified",
        "hoverlabel": {
            "bgcolor": "#25262b" if view.dark else "#ffffff",
            "font": {"color": ink, "family": _FONT},
        },
    }
