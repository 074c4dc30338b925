"""Each pipeline's last runs as bars, side by side."""

import datetime as dt
import math
from itertools import groupby
from urllib.parse import quote

import asyncpg
from dash import html
from dash.development.base_component import Component

from dash_app import formats
from dash_app.panels import Children
from dash_app.parts import aria, empty, link
from dash_app.queries import runs as ask
from dash_app.view import View

_BAR_LEAST, _BAR_MOST = 4, 30
"""Heights in px of the shortest and the longest run."""
_SHORTEST_SECONDS = 0.1


async def draw_bars(view: View) -> Children:
    """Return each pipeline's last runs as bars that lead to them."""
    names = await ask.find_pipelines(view.reader)
    if not names:
        return empty(
            "Nothing has run yet.", "Start a run: prefect deployment run daily_etl_pipeline/daily"
        )
    found = await ask.find_last_runs(view.reader, names[: ask.PIPELINES])
    longest = max(find_seconds(view, row) for row in found)
    lines: list[Component | str] = [
        html.Div(
            [
                html.Div(
                    link(name, f"/runs?pipeline={quote(name, safe='')}"), className="runs-name"
                ),
                html.Div(
                    [_draw_bar(view, row, longest) for row in rows],
                    className="runs-bars",
                    role="group",
                    **aria(label=f"Last runs of {name}, the newest first"),
                ),
            ],
            className="runs-line",
        )
        for name, rows in groupby(found, key=lambda row: str(row["pipeline_name"]))
    ]
    if len(names) > ask.PIPELINES:
        lines.append(f"{len(names) - ask.PIPELINES} more pipelines are found by the filter below.")
    return lines


def find_seconds(view: View, row: asyncpg.Record) -> float:
    """Return how long a run took, or takes so far."""
    end: dt.datetime = row["end_time"] or view.now
    began: dt.datetime = row["start_time"]
    return max(0.0, (end - began).total_seconds())


def _draw_bar(view: View, row: asyncpg.Record, longest: float) -> Component:
    sign = formats.sign_of(row["status"])
    seconds = find_seconds(view, row)
    took = formats.duration(seconds)
    began = formats.moment_text(view, row["start_time"])
    said = f"Run {row['id']}: {sign.word}, {took}, began {began}"
    return html.A(
        sign.glyph,
        href=f"/runs/{row['id']}",
        className=f"runs-bar in-app {sign.colour}",
        style={"--tall": f"{_height(seconds, longest)}px"},
        title=f"{said} ({formats.utc_text(row['start_time'])})",
        **aria(label=said),
    )


def _height(seconds: float, longest: float) -> int:
    """Return a bar's height: each doubling of the duration adds as much."""
    span = math.log(max(longest, 2 * _SHORTEST_SECONDS) / _SHORTEST_SECONDS)
    part = math.log(max(seconds, _SHORTEST_SECONDS) / _SHORTEST_SECONDS) / span
    return round(_BAR_LEAST + (_BAR_MOST - _BAR_LEAST) * part)
