"""The overview: is all well now."""

import datetime as dt
from collections import defaultdict
from typing import Any

import dash_mantine_components as dmc
from dash import Input
from dash.development.base_component import Component

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
_DAYS = {"7d": 7, "30d": 30, "1y": 365}
TIMELINE_HOURS = 6
LAG_SECONDS = 60.0
"""A lag beyond this is a problem; the promise is five minutes."""
DAY = dt.timedelta(days=1)
RECENT = dt.timedelta(minutes=10)
"""What was measured longer ago says nothing about now."""
NO_RUN = "No run has ended in this time. Start one: prefect deployment run daily_etl_pipeline/daily"


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
                note="Average of the successful runs.",
            ),
            card(
                "Rows",
                chart("overview-rows", "Rows loaded and quarantined by day"),
                note="Loaded and quarantined by day, UTC.",
            ),
            card("Freshness", place("overview-freshness", height=200)),
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


async def draw_problems(view: View) -> Children:
    """Return a line for each open problem, the worst first."""
    problems = await _find_problems(view)
    if not problems:
        return [badge("GOOD"), " Nothing is wrong that is known of."]
    return table(
        ["", "Open problems", "since"],
        problems,
        caption="Open problems",
    )


async def draw_rates(view: View, chosen: str) -> Children:
    """Return how the runs of the chosen time went."""
    found = await _summarise(view, chosen)
    failed = found.ended - found.succeeded
    return stats(
        stat(
            "Success rate",
            formats.share(found.succeeded, found.ended),
            link(f"{formats.count(failed)} failed", "/runs?status=FAILED")
            if failed
            else f"{formats.count(found.ended)} runs",
            state="" if not found.ended else "BAD" if failed else "GOOD",
        ),
        stat("Average duration", formats.duration(found.average_seconds), RANGES.get(chosen)),
        stat("p95 duration", formats.duration(found.p95_seconds), RANGES.get(chosen)),
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
    days = chosen if chosen in _DAYS else "7d"
    rows = await ask.count_rows_by_day(view.reader, _first_day(view, days))
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


async def draw_freshness(view: View) -> Children:
    """Return each dataset's age against its promise."""
    last = await ask.find_last_loads(view.reader)
    rows = []
    for dataset in DATASETS:
        spec = dataset.spec
        at = last.get(spec.table)
        promised = spec.freshness
        state = "NEVER" if at is None else _freshness(view, at, promised)
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


def _set_time(view: View, chosen: str, figure: Figure) -> Figure:
    """Return the chart over the whole of the chosen time, a bar as wide as its hour or day."""
    if chosen in _DAYS:
        first, last = _first_day(view, chosen), view.now.date() + dt.timedelta(days=1)
        ends, step = [first.isoformat(), last.isoformat()], dt.timedelta(days=1)
        marks = "%b %-d" if _DAYS[chosen] < 365 else "%b %Y"  # noqa: PLR2004 - a year
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


def _first_day(view: View, chosen: str) -> dt.date:
    return view.now.date() - dt.timedelta(days=_DAYS[chosen] - 1)


async def _summarise(view: View, chosen: str) -> ask.Summary:
    if chosen not in _DAYS:
        return await ask.summarise_recent(view.reader, view.now - DAY)
    return await ask.summarise_days(view.reader, _first_day(view, chosen))


async def _count(view: View, chosen: str) -> list[Any]:
    if chosen not in _DAYS:
        return await ask.count_by_hour(view.reader, view.now - DAY)
    return await ask.count_by_day(view.reader, _first_day(view, chosen))


def _axis(view: View, at: dt.datetime | dt.date) -> str:
    return view.local(at) if isinstance(at, dt.datetime) else at.isoformat()


def _freshness(view: View, at: dt.datetime, promised: dt.timedelta | None) -> str:
    return "STALE" if promised and view.now - at > promised else "FRESH"


async def _find_problems(view: View) -> list[list[Any]]:
    """Return a line for each: state, what it is with a way to its explanation, since when."""
    day_ago = view.now - DAY
    found: list[list[Any]] = [
        [
            badge("FAILED"),
            link(
                f"{row['pipeline_name']} failed: {_cut(row['error_message'])}",
                f"/runs/{row['id']}",
            ),
            moment(view, row["end_time"], relative=True),
        ]
        for row in await ask.find_failed_pipelines(view.reader)
    ]
    found += [
        [
            badge("BAD"),
            link(f"{row['component']}: {row['detail'] or 'the health check failed'}", "/system"),
            moment(view, row["checked_at"], relative=True),
        ]
        for row in await ask.find_bad_components(view.reader, view.now - RECENT)
    ]
    behind = [
        row
        for row in await ask.find_lag(view.reader, view.now - RECENT)
        if row["lag_seconds"] > LAG_SECONDS
    ]
    if behind:
        worst = max(behind, key=lambda row: row["lag_seconds"])
        found.append(
            [
                badge("BAD"),
                link(
                    f"The stream is {formats.duration(worst['lag_seconds'])} behind in "
                    f"{len(behind)} partition(s) of {worst['topic']}",
                    "/stream",
                ),
                moment(view, worst["measured_at"], relative=True),
            ]
        )
    last = await ask.find_last_loads(view.reader)
    found += [
        [
            badge("STALE"),
            link(
                f"{each.spec.table} is older than it promises to be",
                f"/data?table={each.spec.table}",
            ),
            moment(view, last[each.spec.table], relative=True),
        ]
        for each in DATASETS
        if each.spec.table in last
        and _freshness(view, last[each.spec.table], each.spec.freshness) == "STALE"
    ]
    if letters := await ask.count_open_letters(view.reader, day_ago):
        more = "+" if letters >= ask.COUNTED_LETTERS else ""
        what = f"{formats.count(letters)}{more} dead letters of the last day are not loaded"
        found.append([badge("BAD"), link(what, "/stream"), ""])
    return found


def _cut(error: str | None) -> str:
    return (error or "no reason given")[:200]
