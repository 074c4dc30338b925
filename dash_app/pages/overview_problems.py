"""What is wrong now: a line for each open problem, with a way to where it is explained."""

import datetime as dt
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import asyncpg

from dash_app import formats
from dash_app.pages.overview_charts import DAY
from dash_app.panels import Children
from dash_app.parts import badge, link, moment, table
from dash_app.queries import anomalies as ask_anomalies
from dash_app.queries import mails as ask_mails
from dash_app.queries import overview as ask
from dash_app.queries.quality import find_datasets
from dash_app.queries.system import find_checks
from dash_app.view import View
from schemas.datasets import DATASETS

LAG_SECONDS = 60.0
"""A lag beyond this is a problem; the promise is five minutes."""
RECENT = dt.timedelta(minutes=10)
"""What was measured longer ago says nothing about now."""
PATIENCE = dt.timedelta(minutes=15)
"""A mail that waits longer is one that cannot be sent."""
_LISTED = 5
"""Lines of one kind; the page that they lead to has all."""

Load = tuple[str, str, int | None, int | None]
"""Dataset, feed, run and batch."""
Line = list[Any]
"""State, what it is with a way to its explanation, since when."""


async def draw_problems(view: View) -> Children:
    """Return a line for each open problem, the worst first."""
    odd = [
        row
        for row in await ask_anomalies.find_recent(view.reader, view.now - DAY)
        if not _is_silence(row)
    ]
    problems = [
        *await _find_failures(view),
        *await _find_bad_parts(view),
        *_list_odd_loads(view, odd),
        *await _find_refused(view, odd),
        *await _find_lag(view),
        *await _find_stale(view),
        *await _find_letters(view),
        *await _find_mails(view),
        *_count_warnings(odd),
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
            link(
                f"{row['component']}: {_cut(row['detail'] or 'the health check failed')}",
                "/system",
            ),
            moment(view, row["checked_at"], relative=True),
        ]
        for row in await find_checks(view.reader)
        if row["status"] == "BAD" and row["checked_at"] >= view.now - RECENT
    ]


def _list_odd_loads(view: View, odd: Sequence[asyncpg.Record]) -> list[Line]:
    """Return a line for each load with an anomaly of severity error, the newest first."""
    loads: dict[Load, list[asyncpg.Record]] = defaultdict(list)
    for row in odd:
        if row["severity"] == "error":
            loads[_load_of(row)].append(row)
    return _shorten(
        [
            [
                badge("REFUSED" if rows[0]["was_refused"] else "ERROR"),
                link(
                    _cut(rows[0]["summary"])
                    + (f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""),
                    f"/quality?dataset={rows[0]['dataset']}",
                ),
                moment(view, rows[0]["detected_at"], relative=True),
            ]
            for rows in loads.values()
        ],
        "ERROR",
        "odd loads of the last day",
        "/quality",
    )


def _count_warnings(odd: Sequence[asyncpg.Record]) -> list[Line]:
    warned = {_load_of(row) for row in odd if row["severity"] == "warning"}
    warned -= {_load_of(row) for row in odd if row["severity"] == "error"}
    if not warned:
        return []
    number = "1 warning" if len(warned) == 1 else f"{len(warned)} warnings"
    return [[badge("WARNING"), link(f"{number} about loads of the last day", "/quality"), ""]]


async def _find_refused(view: View, odd: Sequence[asyncpg.Record]) -> list[Line]:
    """Return a line for each refused source, but for those that are listed as odd already."""
    known = {(row["dataset"], row["execution_id"]) for row in odd if row["was_refused"]}
    datasets = await find_datasets(view.reader)
    return _shorten(
        [
            [
                badge("REFUSED"),
                link(
                    f"{row['path'].rsplit('/', maxsplit=1)[-1][:100]} was refused: "
                    f"{_cut(row['message'])}",
                    f"/runs/{row['execution_id']}",
                ),
                moment(view, row["recorded_at"], relative=True),
            ]
            for row in await ask.find_refused(view.reader, datasets, view.now - DAY)
            if (row["dataset"], row["execution_id"]) not in known
        ],
        "REFUSED",
        "sources that were refused in the last day",
        "/runs",
    )


async def _find_mails(view: View) -> list[Line]:
    found = await ask_mails.find_stuck(view.reader, view.now - PATIENCE, view.now - DAY)
    problems: list[Line] = []
    if found["waiting"]:
        what = f"{_mails(found['waiting'])} cannot be sent"
        since = moment(view, found["oldest_at"], relative=True)
        problems.append([badge("BAD"), link(what, "/system"), since])
    if found["abandoned"]:
        what = f"{_mails(found['abandoned'])} of the last day will not be sent any more"
        since = moment(view, found["abandoned_at"], relative=True)
        problems.append([badge("BAD"), link(what, "/system"), since])
    return problems


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


def _mails(number: int) -> str:
    return "1 mail" if number == 1 else f"{formats.count(number)} mails"


def _load_of(row: asyncpg.Record) -> Load:
    return row["dataset"], row["feed"], row["execution_id"], row["batch_id"]


def _is_silence(row: asyncpg.Record) -> bool:
    """Tell whether it is of a promise that was broken by no load: who is stale still is listed."""
    is_of_no_load = row["execution_id"] is None and row["batch_id"] is None
    return bool(is_of_no_load and row["rule"] == "freshness" and row["severity"] == "error")


def _shorten(lines: list[Line], state: str, what: str, way: str) -> list[Line]:
    """Return the first lines, and one that says how many more there are."""
    more = len(lines) - _LISTED
    if more <= 0:
        return lines
    return [*lines[:_LISTED], [badge(state), link(f"{more} more {what}", way), ""]]


def _cut(error: str | None) -> str:
    return (error or "no reason given")[:200]
