"""What is wrong now: a line for each open problem, with a way to where it is explained."""

import datetime as dt
from typing import Any

from dash_app import formats
from dash_app.pages.overview_charts import DAY
from dash_app.panels import Children
from dash_app.parts import badge, link, moment, table
from dash_app.queries import overview as ask
from dash_app.view import View
from schemas.datasets import DATASETS

LAG_SECONDS = 60.0
"""A lag beyond this is a problem; the promise is five minutes."""
RECENT = dt.timedelta(minutes=10)
"""What was measured longer ago says nothing about now."""

Line = list[Any]
"""State, what it is with a way to its explanation, since when."""


async def draw_problems(view: View) -> Children:
    """Return a line for each open problem, the worst first."""
    problems = [
        *await _find_failures(view),
        *await _find_bad_parts(view),
        *await _find_lag(view),
        *await _find_stale(view),
        *await _find_letters(view),
    ]
    if not problems:
        return [badge("GOOD"), " Nothing is wrong that is known of."]
    return table(
        ["", "Open problems", "since"],
        problems,
        caption="Open problems",
    )


def judge_freshness(view: View, at: dt.datetime, promised: dt.timedelta | None) -> str:
    """Return FRESH, or STALE where the load is older than was promised."""
    return "STALE" if promised and view.now - at > promised else "FRESH"


async def _find_failures(view: View) -> list[Line]:
    return [
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


async def _find_bad_parts(view: View) -> list[Line]:
    return [
        [
            badge("BAD"),
            link(f"{row['component']}: {row['detail'] or 'the health check failed'}", "/system"),
            moment(view, row["checked_at"], relative=True),
        ]
        for row in await ask.find_bad_components(view.reader, view.now - RECENT)
    ]


async def _find_lag(view: View) -> list[Line]:
    lag = await ask.find_lag(view.reader, view.now - RECENT)
    behind = [row for row in lag if row["lag_seconds"] > LAG_SECONDS]
    if not behind:
        return []
    worst = max(behind, key=lambda row: row["lag_seconds"])
    what = (
        f"The stream is {formats.duration(worst['lag_seconds'])} behind in "
        f"{len(behind)} partition(s) of {worst['topic']}"
    )
    since = moment(view, worst["measured_at"], relative=True)
    return [[badge("BAD"), link(what, "/stream"), since]]


async def _find_stale(view: View) -> list[Line]:
    last = await ask.find_last_loads(view.reader)
    return [
        [
            badge("STALE"),
            link(f"{table_} is older than it promises to be", f"/data?table={table_}"),
            moment(view, last[table_], relative=True),
        ]
        for table_, promised in ((each.spec.table, each.spec.freshness) for each in DATASETS)
        if table_ in last and judge_freshness(view, last[table_], promised) == "STALE"
    ]


async def _find_letters(view: View) -> list[Line]:
    letters = await ask.count_open_letters(view.reader, view.now - DAY)
    if not letters:
        return []
    more = "+" if letters >= ask.COUNTED_LETTERS else ""
    what = f"{formats.count(letters)}{more} dead letters of the last day are not loaded"
    return [[badge("BAD"), link(what, "/stream"), ""]]


def _cut(error: str | None) -> str:
    return (error or "no reason given")[:200]
