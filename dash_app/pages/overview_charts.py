"""The overview's charts: how runs went over time, and when each pipeline ran."""

import datetime as dt
from collections import defaultdict
from typing import Any

from dash_app import formats
from dash_app.figures import (
    BLUE,
    ORANGE,
    STATE_COLOURS,
    TEAL,
    Figure,
    Series,
    Span,
    bars,
    lines,
    say,
    timeline,
)
from dash_app.queries import overview as ask
from dash_app.view import View

DAY = dt.timedelta(days=1)
DAYS = {"7d": 7, "30d": 30, "1y": 365}
"""By what may be chosen; anything else is the last 24 hours."""
TIMELINE_HOURS = 6
NO_RUN = "No run has ended in this time. Start one: prefect deployment run daily_etl_pipeline/daily"


async def draw_runs(view: View, chosen: str) -> Figure:
    """Return ended runs by outcome."""
    rows = await _count(view, chosen)
    if not rows:
        return say(view, NO_RUN)
    by_status = defaultdict(list)
    for row in rows:
        by_status[row["status"]].append(row)
    figure = bars(
        view,
        [
            Series(
                formats.sign_of(status).word,
                [_axis(view, row["at"]) for row in part],
                [row["executions"] for row in part],
                STATE_COLOURS[status],
                hatch=formats.sign_of(status).hatch,
            )
            for status, part in sorted(by_status.items(), reverse=True)
        ],
        unit="runs",
    )
    return _set_time(view, chosen, figure)


async def draw_durations(view: View, chosen: str) -> Figure:
    """Return how long successful runs took."""
    rows = [row for row in await _count(view, chosen) if row["status"] == "SUCCESS"]
    rows = [row for row in rows if row["average_seconds"] is not None]
    if not rows:
        return say(view, NO_RUN)
    figure = lines(
        view,
        [
            Series(
                "average",
                [_axis(view, row["at"]) for row in rows],
                [row["average_seconds"] for row in rows],
                BLUE,
                hover=[formats.duration(row["average_seconds"]) for row in rows],
            )
        ],
        unit="seconds",
        hover="%{text}",
    )
    return _set_time(view, chosen, figure)


async def draw_rows(view: View, chosen: str) -> Figure:
    """Return rows by day."""
    days = chosen if chosen in DAYS else "7d"
    rows = await ask.count_rows_by_day(view.reader, first_day(view, days))
    if not rows:
        return say(view, "No row was read in this time.")
    x = [row["day"].isoformat() for row in rows]
    figure = bars(
        view,
        [
            Series("loaded", x, [row["loaded"] for row in rows], TEAL),
            Series("quarantined", x, [row["quarantined"] for row in rows], ORANGE, hatch="x"),
        ],
        unit="rows",
    )
    return _set_time(view, days, figure)


async def draw_timeline(view: View) -> Figure:
    """Return when each pipeline ran."""
    since = view.now - dt.timedelta(hours=TIMELINE_HOURS)
    rows = await ask.find_timeline(view.reader, since)
    if not rows:
        return say(view, f"No run began in the last {TIMELINE_HOURS} hours.")
    return timeline(
        view,
        [
            Span(
                row["pipeline_name"],
                view.local(row["start_time"]),
                ((row["end_time"] or view.now) - row["start_time"]).total_seconds(),
                row["status"],
                formats.sign_of(row["status"]).hatch,
                f"{row['pipeline_name']} {row['id']}: {formats.sign_of(row['status']).word}, "
                f"{formats.count(row['records_processed'])} rows, "
                f"{formats.utc_text(row['start_time'])}",
            )
            for row in rows
        ],
        begin=view.local(since),
        end=view.local(view.now),
    )


def first_day(view: View, chosen: str) -> dt.date:
    """Return the first day, in UTC, of a time that is chosen in days."""
    return view.now.date() - dt.timedelta(days=DAYS[chosen] - 1)


def _set_time(view: View, chosen: str, figure: Figure) -> Figure:
    """Return the chart over the whole of the chosen time, a bar as wide as its hour or day."""
    if chosen in DAYS:
        first, last = first_day(view, chosen), view.now.date() + dt.timedelta(days=1)
        ends, step = [first.isoformat(), last.isoformat()], dt.timedelta(days=1)
        marks = "%b %-d" if DAYS[chosen] < 365 else "%b %Y"  # noqa: PLR2004 - a year
    else:
        ends, step = [view.local(view.now - DAY), view.local(view.now)], dt.timedelta(hours=1)
        marks = "%H:%M"
    # Few marks, level: there is room for no more on a phone.
    figure["layout"]["xaxis"] |= {
        "type": "date",
        "range": ends,
        "tickformat": marks,
        "nticks": 5,
        "tickangle": 0,
    }
    for trace in figure["data"]:
        if trace["type"] == "bar":
            trace |= {"width": 900.0 * step.total_seconds(), "offset": 0}
    return figure


async def _count(view: View, chosen: str) -> list[Any]:
    if chosen not in DAYS:
        return await ask.count_by_hour(view.reader, view.now - DAY)
    return await ask.count_by_day(view.reader, first_day(view, chosen))


def _axis(view: View, at: dt.datetime | dt.date) -> str:
    return view.local(at) if isinstance(at, dt.datetime) else at.isoformat()
