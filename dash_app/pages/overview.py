"""The overview: is all well now."""

from typing import Any

import dash_mantine_components as dmc
from dash import Input
from dash.development.base_component import Component

from dash_app import formats
from dash_app.pages.overview_charts import (
    DAY,
    DAYS,
    TIMELINE_HOURS,
    draw_durations,
    draw_rows,
    draw_runs,
    draw_timeline,
    first_day,
)
from dash_app.pages.overview_problems import (
    LAG_SECONDS,
    RECENT,
    draw_problems,
    judge_freshness,
)
from dash_app.panels import Children, Panels, address
from dash_app.parts import (
    aria,
    badge,
    card,
    chart,
    empty,
    grid,
    link,
    moment,
    page,
    place,
    stat,
    stats,
    table,
)
from dash_app.queries import overview as ask
from dash_app.view import View
from schemas.datasets import DATASETS

PATH, NAME, TITLE = "/", "Overview", "Overview"
RANGES = {"24h": "24 hours", "7d": "7 days", "30d": "30 days", "1y": "1 year"}


def lay_out(range: str = "24h", **_: Any) -> Component:  # noqa: A002 - the address says `range`
    """Return the page."""
    return page(
        "Is all well now?",
        address("overview", "range"),
        place("overview-problems", height=44),
        dmc.SegmentedControl(
            id="overview-range",
            data=[{"value": value, "label": label} for value, label in RANGES.items()],
            value=range if range in RANGES else "24h",
            size="xs",
            **aria(label="Time"),
        ),
        place("overview-rates", height=84),
        place("overview-now", height=84),
        grid(
            card(
                "Runs",
                chart("overview-runs", "Runs by outcome over time"),
                note="Ended runs by outcome; hours in your zone, days in UTC.",
            ),
            card(
                "Duration",
                chart("overview-durations", "Average duration of runs over time"),
                note="Average of the successful runs, the always-on stream aside.",
            ),
            card(
                "Rows",
                chart("overview-rows", "Rows loaded and quarantined by day"),
                note="Loaded and quarantined by day, UTC.",
            ),
            card("Freshness", place("overview-freshness", height=200)),
            least=460,
        ),
        card(
            f"The last {TIMELINE_HOURS} hours",
            chart("overview-timeline", "When each pipeline ran in the last hours", height=280),
            note="A bar is a run, from its start to its end; the newest 300.",
        ),
    )


def register(panels: Panels) -> None:
    """Connect the page's panels."""
    chosen = Input("overview-range", "value")
    panels.remember("overview", chosen)
    panels.content("overview-problems", draw_problems)
    panels.content("overview-rates", draw_rates, chosen)
    panels.content("overview-now", draw_now)
    panels.figure("overview-runs", draw_runs, chosen)
    panels.figure("overview-durations", draw_durations, chosen)
    panels.figure("overview-rows", draw_rows, chosen)
    panels.content("overview-freshness", draw_freshness)
    panels.figure("overview-timeline", draw_timeline)


async def draw_rates(view: View, chosen: str) -> Children:
    """Return how the runs of the chosen time went."""
    found = await _summarise(view, chosen)
    failed = found.ended - found.succeeded
    aside = f"{RANGES.get(chosen, RANGES['24h'])}, the stream aside"
    return stats(
        stat(
            "Success rate",
            formats.share(found.succeeded, found.ended),
            link(f"{formats.count(failed)} failed", "/runs?status=FAILED")
            if failed
            else f"{formats.count(found.ended)} runs",
            state="" if not found.ended else "BAD" if failed else "GOOD",
        ),
        stat("Average duration", formats.duration(found.average_seconds), aside),
        stat("p95 duration", formats.duration(found.p95_seconds), aside),
    )


async def draw_now(view: View) -> Children:
    """Return what is under way."""
    midnight = view.now.astimezone(view.zone).replace(hour=0, minute=0, second=0, microsecond=0)
    today = await ask.count_since(view.reader, midnight)
    running = await ask.find_running(view.reader)
    lag = await ask.find_lag(view.reader, view.now - RECENT)
    seconds = max((each["lag_seconds"] for each in lag), default=None)
    messages = sum(each["lag_messages"] for each in lag)
    return stats(
        stat("Runs today", formats.count(today), "since midnight"),
        stat(
            "Running now",
            formats.count(len(running)),
            [
                part
                for each in running[:3]
                for part in (
                    link(each["pipeline_name"], f"/runs/{each['id']}"),
                    f" for {formats.duration((view.now - each['start_time']).total_seconds())} ",
                )
            ],
        ),
        stat(
            "Stream lag",
            formats.duration(seconds) if lag else formats.NOTHING,
            link(f"{formats.count(messages)} messages", "/stream")
            if lag
            else "no consumer has reported in 10 minutes",
            state="" if seconds is None else "BAD" if seconds > LAG_SECONDS else "GOOD",
        ),
    )


async def draw_freshness(view: View) -> Children:
    """Return each dataset's age against its promise."""
    last = await ask.find_last_loads(view.reader)
    rows = []
    for dataset in DATASETS:
        spec = dataset.spec
        at = last.get(spec.table)
        promised = spec.freshness
        state = "NEVER" if at is None else judge_freshness(view, at, promised)
        rows.append(
            [
                link(spec.table, f"/data?table={spec.table}"),
                badge(state),
                moment(view, at, relative=True),
                formats.duration(promised.total_seconds()) if promised else formats.NOTHING,
            ]
        )
    if not rows:
        return empty("No dataset is known.", "Write a contract in schemas/datasets.py.")
    return table(["Dataset", "State", "Last load", "Promise"], rows, caption="Freshness")


async def _summarise(view: View, chosen: str) -> ask.Summary:
    if chosen not in DAYS:
        return await ask.summarise_recent(view.reader, view.now - DAY)
    return await ask.summarise_days(view.reader, first_day(view, chosen))
