"""What a run left behind: rows, files, results of rules, log lines."""

from collections.abc import Sequence

import asyncpg
from dash import html
from dash.development.base_component import Component

from dash_app import formats
from dash_app.formats import Sign
from dash_app.pages.anomaly_table import list_anomalies
from dash_app.parts import Part, aria, badge, empty, link, moment, table
from dash_app.queries import run as ask
from dash_app.queries.anomalies import find_of_run
from dash_app.view import View

_TERMS = ("read", "inserted", "updated", "unchanged", "superseded", "duplicates", "quarantined")
_FILE_SIGNS = {
    "LOADED": Sign("✓", "loaded", "teal", ""),
    "UNCHANGED": Sign("=", "unchanged", "gray", ""),
    "REFUSED": Sign("✕", "refused", "red", ""),
}
_CUT = 2_000
"""Characters of a file's message, a log line or its fields that are shown here."""


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
    odd = await find_of_run(view.reader, number)
    rows = await ask.find_quality(view.reader, number)
    drawn: list[Part] = []
    if odd:
        drawn.append(list_anomalies(view, odd, caption="Anomalies", has_runs=False))
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
