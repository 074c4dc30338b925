"""Loads that looked odd, as the quality page and a run's page list them."""

from collections.abc import Sequence

import asyncpg
from dash import html
from dash.development.base_component import Component

from dash_app import formats
from dash_app.parts import badge, link, moment, table
from dash_app.view import View

RULES = {
    "volume": "rows",
    "null_rate": "missing cells",
    "mistyped_rate": "cells of another type",
    "duplicate_rate": "duplicates",
    "quarantine_rate": "quarantined rows",
    "freshness": "time since the load before",
}
"""What a rule looks at."""


def list_anomalies(
    view: View, rows: Sequence[asyncpg.Record], *, caption: str, has_runs: bool = True
) -> Component:
    """Return a line for each anomaly; has_runs: with a way to the run of the load."""
    heads = ["State", "When", "What", "Dataset", "Column", "Rule", "Found", "Expected", "Load"]
    return html.Div(
        table(
            [*heads, "Run"] if has_runs else heads,
            [
                [
                    badge(row["severity"].upper()),
                    moment(view, row["detected_at"], relative=True),
                    row["summary"],
                    link(row["dataset"], f"/quality?dataset={row['dataset']}")
                    if has_runs
                    else row["dataset"],
                    row["column_name"] or formats.NOTHING,
                    RULES.get(row["rule"], row["rule"]),
                    show_figure(row["rule"], row["observed"]),
                    _expected(row),
                    _fate(row),
                    *([_way(row["execution_id"])] if has_runs else []),
                ]
                for row in rows
            ],
            caption=caption,
            numbers=(6, 7),
        ),
        className="anomalies",
    )


def show_figure(rule: str, figure: float | None) -> str:
    """Return a figure in the unit of its rule: rows, a length of time, or a share."""
    if rule == "volume":
        return formats.count(figure)
    if rule == "freshness":
        return formats.duration(figure)
    return formats.small_share(figure)


def _expected(row: asyncpg.Record) -> Component:
    rule, low, high = row["rule"], row["low"], row["high"]
    if low is not None and high is not None:
        limits = f"{show_figure(rule, low)} to {show_figure(rule, high)}"
    elif low is not None:
        limits = f"{show_figure(rule, low)} or more"
    elif high is not None:
        limits = f"{show_figure(rule, high)} or less"
    else:
        limits = ""
    return html.Div([show_figure(rule, row["expected"]), html.Div(limits, className="limits")])


def _fate(row: asyncpg.Record) -> Component | str:
    """Return what became of the load; there is none where a feed was silent."""
    if row["execution_id"] is None and row["batch_id"] is None:
        return formats.NOTHING
    return badge("REFUSED" if row["was_refused"] else "MERGED")


def _way(execution_id: int | None) -> Component | str:
    if execution_id is None:
        return formats.NOTHING
    return link(str(execution_id), f"/runs/{execution_id}")
