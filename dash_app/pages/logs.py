"""The logs: what was said."""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any

import dash_ag_grid as dag
import dash_mantine_components as dmc
from dash import Input, Output, dcc, html, no_update
from dash.development.base_component import Component

from dash_app import formats, grids
from dash_app.formats import Sign
from dash_app.grids import Cell, Column, Row, Sort
from dash_app.moments import MomentError, read_moment
from dash_app.panels import VIEW, Children, Panels, address
from dash_app.parts import aria, card, empty, link, moment, page, place
from dash_app.queries import logs as ask
from dash_app.queries.logs import LEVELS, Reach, Search
from dash_app.view import View
from schemas.errors import SluicewayError

PATH, NAME, TITLE = "/logs", "Logs", "Logs"
SETTLE = dt.timedelta(seconds=3)
"""Lines are written together every second. Those of the last seconds are left out: others that were
logged before them may still come, and would push away what is being read."""
LEAST = {"DEBUG": "All", "INFO": "Info", "WARNING": "Warnings", "ERROR": "Errors"}
_SIGNS = {
    "DEBUG": Sign("·", "debug", "gray", ""),
    "INFO": Sign("i", "info", "blue", ""),
    "WARNING": Sign("!", "warning", "orange", ""),
    "ERROR": Sign("✕", "error", "red", ""),
    "CRITICAL": Sign("✕", "critical", "red", ""),
}
COLUMNS = (
    Column("logged", "Logged", width=165),
    Column("level", "Level", width=105),
    Column("pipeline", "Pipeline", width=190),
    Column("run", "Run", width=80),
    Column("dataset", "Dataset", width=120),
    Column("event", "What happened", width=260, grows=True),
    Column("fields", "More", width=260, grows=True),
)
HOW = "Choose a line with a click, or with the arrow keys and Space: all of it is shown here."


def lay_out(
    level: str = "DEBUG",
    pipeline: str = "",
    execution: str = "",
    text: str = "",
    until: str = "",
    line: str = "",
    **_: Any,
) -> Component:
    """Return the page."""
    return page(
        "What was said?",
        address("logs", "level", "pipeline", "execution", "text", "until", "line"),
        dcc.Store(id="logs-chosen", data=line),
        html.Div(
            [
                dmc.SegmentedControl(
                    id="logs-level",
                    data=[{"value": value, "label": label} for value, label in LEAST.items()],
                    value=level if level in LEAST else "DEBUG",
                    size="xs",
                    **aria(label="The least level"),
                ),
                dmc.Select(
                    id="logs-pipeline",
                    label="Pipeline",
                    placeholder="any",
                    data=[pipeline] if pipeline else [],
                    value=pipeline or None,
                    clearable=True,
                    searchable=True,
                    size="xs",
                    w=240,
                ),
                _field("logs-execution", "Run", "its number", execution, 100),
                _field("logs-text", "Text", "in the line or its fields", text, 240),
                _field("logs-until", "Until", "now, 14:00 or 2026-01-31 14:00", until, 220),
            ],
            className="filters",
        ),
        place("logs-reach", height=22),
        _selectable(
            grids.long_table(
                "logs-table",
                COLUMNS,
                label="Log lines",
                empty="No line matches: widen the filters, or look further back with an earlier "
                "Until.",
            )
        ),
        card("The chosen line", place("logs-line", height=120)),
    )


def _field(name: str, label: str, placeholder: str, value: str, width: int) -> Component:
    field: Component = dmc.TextInput(
        id=name,
        label=label,
        placeholder=placeholder,
        value=value,
        debounce=400,
        size="xs",
        w=width,
    )
    return field


def _selectable(table: Component) -> Component:
    """Let rows be chosen, one at a time, also with the Space key."""
    for each in table.children:
        if isinstance(each, dag.AgGrid):
            each.dashGridOptions["rowSelection"] = {
                "mode": "singleRow",
                "checkboxes": False,
                "enableClickSelection": True,
            }
    return table


def register(panels: Panels) -> None:
    """Connect the page's panels."""
    filters = [
        Input("logs-level", "value"),
        Input("logs-pipeline", "value"),
        Input("logs-execution", "value"),
        Input("logs-text", "value"),
        Input("logs-until", "value"),
    ]
    chosen = Input("logs-chosen", "data")
    panels.remember("logs", *filters, chosen)
    panels.content("logs-reach", draw_reach, *filters)
    grids.register(panels, "logs-table", COLUMNS, fetch_lines, *filters)
    panels.content("logs-line", draw_line, chosen)

    # Kept beside the table, which forgets a chosen row that new ones push out of its pages.
    @panels.app.callback(
        Output("logs-chosen", "data"),
        Input("logs-table", "selectedRows"),
        prevent_initial_call=True,
    )
    async def keep(rows: Sequence[Mapping[str, Any]] | None) -> Any:
        return str(rows[0].get("id", "")) if rows else no_update

    @panels.app.callback(Output("logs-pipeline", "data"), Input(VIEW, "data"))
    async def list_pipelines(viewed: Mapping[str, Any] | None) -> Any:
        try:
            return await ask.find_pipelines(panels.read_view(viewed).reader)
        except SluicewayError:
            # The panels below say so; what was chosen stays chosen.
            return no_update


def read_search(filters: Sequence[Any]) -> Search:
    """Return what the filters ask for; raises MomentError for a run that has no number."""
    level, pipeline, execution, text, *_ = filters
    given = str(execution or "").strip()
    if given and not (given.isascii() and given.isdigit() and int(given) < 2**63):
        raise MomentError(f"Run: '{given[:40]}' is no number of a run.")
    return Search(
        level=level if level in LEVELS else LEVELS[0],
        pipeline=str(pipeline or "").replace("\0", ""),
        execution_id=int(given) if given else None,
        text=str(text or "").strip()[:200],
    )


def read_until(view: View, filters: Sequence[Any]) -> dt.datetime:
    """Return up to when lines are wanted; raises MomentError."""
    return min(read_moment(str(filters[-1] or ""), view.now, view.zone, "Until"), view.now - SETTLE)


async def fetch_lines(
    view: View, filters: Sequence[Any], sort: Sort | None, start: int, end: int
) -> tuple[Sequence[Row], int | None]:
    """Return a page of lines, newest first."""
    del sort
    rows = await ask.find_lines(
        view.reader,
        read_search(filters),
        until=read_until(view, filters),
        first=start,
        count=end - start,
    )
    return [
        {
            "id": row["id"],
            "logged": grids.moment_cell(view, row["logged_at"]),
            "level": _level_cell(row["level"]),
            "pipeline": row["pipeline_name"],
            "run": grids.link_cell(str(row["execution_id"]), f"/runs/{row['execution_id']}")
            if row["execution_id"]
            else formats.NOTHING,
            "dataset": row["dataset"] or formats.NOTHING,
            "event": grids.text_cell(row["event"]),
            "fields": grids.text_cell(row["fields"]),
        }
        for row in rows
    ], None


def _level_cell(level: str) -> Cell:
    sign = _sign_of(level)
    return {"text": sign.word, "glyph": sign.glyph, "colour": f"badge {sign.colour}"}


def _sign_of(level: str) -> Sign:
    return _SIGNS.get(level) or Sign("?", level.lower(), "gray", "")


async def draw_reach(view: View, *filters: Any) -> Children:
    """Return how far back was looked."""
    search = read_search(filters)
    reach = await ask.find_reach(view.reader, search, read_until(view, filters))
    return html.P(_say(view, search, reach), className="card-note")


def _say(view: View, search: Search, reach: Reach) -> str:
    base = search.base
    kind = {"DEBUG": "lines", "WARNING": "warnings and errors"}.get(base.level, "errors")
    of = (
        f" of run {base.execution_id}"
        if base.execution_id is not None
        else f" of {base.pipeline}"
        if base.pipeline
        else ""
    )
    if not reach.lines:
        return f"There are no {kind}{of} up to that time."
    oldest = formats.moment_text(view, reach.oldest_at)
    if reach.is_all:
        return f"Looked through all {formats.count(reach.lines)} {kind}{of}, back to {oldest}."
    return (
        f"Looked through the newest {formats.count(reach.lines)} {kind}{of}, back to {oldest}. "
        "To look further back, give an earlier Until."
    )


async def draw_line(view: View, chosen: Any) -> Children:
    """Return all that the chosen line says."""
    given = str(chosen or "")
    if not given:
        return html.P(HOW, className="card-note")
    is_id = given.isascii() and given.isdigit() and int(given) < 2**63
    row = await ask.find_line(view.reader, int(given)) if is_id else None
    if row is None:
        return empty("That line is not kept any more.", HOW)
    sign = _sign_of(row["level"])
    run = row["execution_id"]
    return [
        html.P(
            [
                html.Span(
                    [html.Span(sign.glyph, className="glyph", **aria(hidden="true")), " "],
                    className=sign.colour,
                ),
                html.Span(sign.word, className=f"badge {sign.colour}"),
                " ",
                html.Span(moment(view, row["logged_at"])),
                f" {row['pipeline_name']} ",
                *([link(f"run {run}", f"/runs/{run}")] if run else []),
                f" {row['dataset'] or ''}",
            ]
        ),
        html.Pre(row["event"], className="raw"),
        html.Dl(
            [
                part
                for name, value in json.loads(row["fields"]).items()
                for part in (html.Dt(name), html.Dd(html.Pre(_write(value), className="raw")))
            ],
            className="log-fields",
        ),
    ]


def _write(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=1)
