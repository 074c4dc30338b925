"""One run: what it did, to which rows, and why it failed."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
from dash import Input, dcc, html
from dash.development.base_component import Component

from dash_app import formats
from dash_app.pages.run_results import draw_files, draw_ledger, draw_logs, draw_quality
from dash_app.panels import Children, Panels
from dash_app.parts import Part, badge, card, empty, link, moment, page, place, stat, stats
from dash_app.queries import run as ask
from dash_app.queries.janitor import find_acts_of
from dash_app.view import View

PATH, NAME, TITLE = "/runs/<execution_id>", "", "Run"
_LARGEST_ID = 2**63 - 1


def lay_out(execution_id: str = "", **_: Any) -> Component:
    """Return the page; a sentence where the address names no run."""
    number = read_number(execution_id)
    if number is None:
        return page(
            "Which run?",
            html.P(f"“{execution_id[:100]}” is no number of a run."),
            html.P(link("To all runs", "/runs")),
        )
    return page(
        f"What did run {number} do?",
        # As text: JavaScript's numbers are too short for the largest.
        dcc.Store(id="run-id", data=str(number)),
        html.P(link("To all runs", "/runs"), className="run-back"),
        place("run-head", height=180),
        html.Div(id="run-error", className="panel"),
        # Not drawn anew with what is in it: once opened, it stays open.
        html.Details(
            [html.Summary("Traceback"), html.Div(id="run-traceback", className="panel")],
            id="run-traceback-box",
        ),
        place("run-ledger", height=130),
        place("run-files", height=110),
        place("run-quality", height=110),
        place("run-logs", height=170),
    )


def register(panels: Panels) -> None:
    """Connect the page's panels."""
    number = Input("run-id", "data")
    panels.content("run-head", draw_head, number)
    panels.content("run-error", draw_error, number)
    panels.content("run-traceback", draw_traceback, number)
    panels.content("run-ledger", in_card("Rows", draw_ledger), number)
    panels.content("run-files", in_card("Files", draw_files), number)
    panels.content("run-quality", in_card("Quality", draw_quality), number)
    panels.content("run-logs", in_card("Log", draw_logs), number)


def in_card(
    title: str, draw: Callable[[View, int], Awaitable[list[Part]]]
) -> Callable[..., Awaitable[Children]]:
    """Return a drawing that stands under a title where the run exists, and nowhere else."""

    async def draw_card(view: View, *values: Any) -> Children:
        number = read_number(values[0])
        if number is None or not await ask.is_run(view.reader, number):
            return None
        return card(title, *await draw(view, number))

    return draw_card


def read_number(given: Any) -> int | None:
    """Return the number of a run; None where it is none that PostgreSQL could know."""
    text = str(given)
    if not (text.isascii() and text.isdecimal()) or len(text) > len(str(_LARGEST_ID)):
        return None
    number = int(text)
    return number if 0 < number <= _LARGEST_ID else None


async def draw_head(view: View, given: Any) -> Children:
    """Return the run's state, times and origin."""
    number = read_number(given)
    row = None if number is None else await ask.find_run(view.reader, number)
    if row is None:
        return empty(
            f"There is no run {number}." if number else "There is no run of that number.",
            "It was pruned, or never was: “To all runs” shows those that are.",
        )
    end = row["end_time"]
    seconds = ((end or view.now) - row["start_time"]).total_seconds()
    facts: list[tuple[str, Any]] = [
        ("Start", moment(view, row["start_time"])),
        ("End", moment(view, end) if end else "still running"),
        ("Host", row["host"] or formats.NOTHING),
        ("Process", str(row["process_id"] or formats.NOTHING)),
        ("Parameters", html.Pre(_pretty(row["parameters"]), className="raw")),
    ]
    if row["warnings"]:
        facts.append(("Warnings", html.Ul([html.Li(each) for each in row["warnings"][:100]])))
    if acts := await find_acts_of(view.reader, row["id"]):
        facts.append(("Janitor", [_act(view, each) for each in acts]))
    if way := _prefect(view, row):
        facts.append(("Prefect", way))
    return [
        html.P(
            [html.Strong(row["pipeline_name"]), badge(row["status"])],
            className="run-head",
        ),
        stats(
            stat("Duration", formats.duration(max(0.0, seconds)), None if end else "so far"),
            stat("Rows processed", formats.count(row["records_processed"])),
        ),
        html.Dl(
            [part for name, said in facts for part in (html.Dt(name), html.Dd(said))],
            className="facts",
        ),
    ]


async def draw_error(view: View, given: Any) -> Children:
    """Return why the run failed; nothing for one that did not."""
    row = await ask.find_error(view.reader, read_number(given) or 0)
    if row is None or row["status"] != "FAILED":
        return None
    return [
        html.H2("Error", className="card-title"),
        html.P(row["error_message"] or "No reason was given.", className="run-error raw"),
    ]


async def draw_traceback(view: View, given: Any) -> Children:
    """Return the traceback, if there is one."""
    row = await ask.find_error(view.reader, read_number(given) or 0)
    if row is None or not row["error_traceback"]:
        return None
    return html.Pre(row["error_traceback"], className="traceback")


def _act(view: View, act: asyncpg.Record) -> Component:
    return html.Div(
        [f"{act['act']} ", html.Span(moment(view, act["acted_at"])), f": {act['reason']}"]
    )


def _prefect(view: View, row: asyncpg.Record) -> Component | None:
    root = view.settings.prefect_ui_url.rstrip("/")
    if not root.startswith(("http://", "https://")) or row["flow_run_id"] is None:
        return None
    return html.A(
        "This run in the Prefect UI",
        href=f"{root}/runs/flow-run/{row['flow_run_id']}",
        target="_blank",
        rel="noopener noreferrer",
        className="link",
    )


def _pretty(parameters: Any) -> str:
    try:
        return json.dumps(json.loads(parameters), indent=1, ensure_ascii=False, sort_keys=True)
    except (TypeError, ValueError):
        return str(parameters)
