"""One run: what it did, to which rows, and why it failed."""

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
from dash import Input, dcc, html
from dash.development.base_component import Component

from dash_app import formats
from dash_app.formats import Sign
from dash_app.panels import Children, Panels
from dash_app.parts import (
    Part,
    aria,
    badge,
    card,
    empty,
    link,
    moment,
    page,
    place,
    stat,
    stats,
    table,
)
from dash_app.queries import run as ask
from dash_app.view import View

PATH, NAME, TITLE = "/runs/<execution_id>", "", "Run"
_TERMS = ("read", "inserted", "updated", "unchanged", "superseded", "duplicates", "quarantined")
_FILE_SIGNS = {
    "LOADED": Sign("✓", "loaded", "teal", ""),
    "UNCHANGED": Sign("=", "unchanged", "gray", ""),
    "REFUSED": Sign("✕", "refused", "red", ""),
}
_LARGEST_ID = 2**63 - 1
_CUT = 2_000
"""Characters of a file's message, a log line or its fields that are shown here."""


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
    panels.content("run-ledger", _in_card("Rows", draw_ledger), number)
    panels.content("run-files", _in_card("Files", draw_files), number)
    panels.content("run-quality", _in_card("Quality", draw_quality), number)
    panels.content("run-logs", _in_card("Log", draw_logs), number)


def _in_card(
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
            f"There is no run {number}.",
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


async def draw_ledger(view: View, number: int) -> list[Part]:
    """Return what became of the rows that the run read: by dataset, and by source."""
    rows = await ask.find_ledger(view.reader, number)
    batches = await ask.sum_batches(view.reader, number)
    drawn: list[Part] = []
    if rows:
        drawn.append(
            table(
                ["Dataset", "Source", *_TERMS],
                [
                    [
                        link(row["dataset"], f"/data?table={row['dataset']}")
                        if row["source"] is None
                        else "",
                        "all" if row["source"] is None else row["source"],
                        *(formats.count(row[each]) for each in _TERMS),
                    ]
                    for row in rows
                ],
                caption="What became of the rows that were read",
                numbers=range(2, 2 + len(_TERMS)),
            )
        )
    if batches is not None and batches["batches"]:
        drawn.append(
            html.P(
                f"{formats.count(batches['batches'])} micro-batches brought "
                f"{formats.count(batches['messages'])} messages: "
                f"{formats.count(batches['loaded'])} loaded, {formats.count(batches['dead'])} "
                f"dead letters, {formats.count(batches['skipped'])} that changed nothing."
            )
        )
    if not drawn:
        return [empty("No row is counted.", "A run counts rows when it commits a load.")]
    loads = sum(row["loads"] for row in rows if row["source"] is None)
    if loads >= ask.SUMMED or (batches is not None and batches["batches"] >= ask.SUMMED):
        drawn.append(
            html.P(
                f"Only the newest {formats.count(ask.SUMMED)} loads are summed: “Data” has all.",
                className="card-note",
            )
        )
    return drawn


async def draw_files(view: View, number: int) -> list[Part]:
    """Return the files and endpoints that the run looked at."""
    rows = await ask.find_files(view.reader, number)
    if not rows:
        return [empty("The run looked at no file.", "A stream's origin is its topic.")]
    drawn: list[Part] = [
        table(
            ["State", "File", "Dataset", "Rows", "Size", "Message"],
            [
                [
                    _file_state(row["status"]),
                    row["path"],
                    row["dataset"] if row["contracted"] else f"{row['dataset']} (no contract)",
                    formats.count(row["rows"]),
                    formats.size(row["size_bytes"]),
                    [html.Div(each[:_CUT]) for each in (row["message"], *row["notes"]) if each],
                ]
                for row in rows[: ask.SHOWN]
            ],
            caption="Files",
            numbers=(3, 4),
        )
    ]
    if len(rows) > ask.SHOWN:
        drawn.append(html.P(f"There are more than these {ask.SHOWN}.", className="card-note"))
    return drawn


async def draw_quality(view: View, number: int) -> list[Part]:
    """Return the rules that were checked, and how many rows are in quarantine."""
    rejects = await ask.count_quarantined(view.reader, number)
    rows = await ask.find_quality(view.reader, number)
    drawn: list[Part] = []
    if rejects:
        more = "+" if rejects >= ask.COUNTED_REJECTS else ""
        drawn.append(
            html.P(
                link(
                    f"{formats.count(rejects)}{more} rows in quarantine",
                    f"/quality?execution={number}",
                )
            )
        )
    if rows:
        drawn.append(
            table(
                ["State", "Rule", "Dataset", "Column", "Failed", "Checked"],
                [
                    [
                        badge("BAD" if row["failed"] else "GOOD"),
                        row["rule"] if row["severity"] == "error" else _rule(row),
                        row["dataset"],
                        row["column_name"] or "",
                        formats.count(row["failed"]),
                        formats.count(row["checked"]),
                    ]
                    for row in rows
                ],
                caption="Rules, failed ones first",
                numbers=(4, 5),
            )
        )
    return drawn or [
        empty(
            "No rule was checked.", "Rules are checked where a dataset with a contract is loaded."
        )
    ]


async def draw_logs(view: View, number: int) -> list[Part]:
    """Return the run's newest log lines."""
    rows = await ask.find_logs(view.reader, number)
    way = html.P(link("To all lines of this run", f"/logs?execution={number}"))
    if not rows:
        return [empty("No log line is kept.", "Old ones are pruned; the log files have more."), way]
    return [
        table(
            ["Time", "Level", "Dataset", "Line"],
            [
                [
                    moment(view, row["logged_at"]),
                    row["level"],
                    row["dataset"] or "",
                    _line(row),
                ]
                for row in rows
            ],
            caption=f"The newest {ask.SHOWN} log lines",
        ),
        way,
    ]


def _file_state(state: str) -> Component:
    sign = _FILE_SIGNS.get(state) or formats.sign_of(state)
    glyph = html.Span(sign.glyph, className="glyph", **aria(hidden="true"))
    return html.Span([glyph, f" {sign.word}"], className=f"badge {sign.colour}")


def _line(row: asyncpg.Record) -> Sequence[Component | str]:
    fields = row["fields"]
    said: list[Component | str] = [html.Span(row["event"][:_CUT])]
    if fields and fields != "{}":
        said.append(html.Div(fields[:_CUT], className="raw"))
    return said


def _rule(row: asyncpg.Record) -> str:
    return f"{row['rule']} ({row['severity']})"


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
