"""Long tables: ag-grids that ask for a page of rows at a time.

A page names its columns and a function that fetches rows; what happens in the browser stands in
assets/grids.js.

    COLUMNS = (Column("id", "Run"), Column("error", "Error", grows=True))

    def lay_out(...):
        long_table("runs-table", COLUMNS, label="Runs", empty="No run matches: widen the filters.")

    def register(panels):
        grids.register(panels, "runs-table", COLUMNS, fetch_rows, Input("runs-status", "value"))

    async def fetch_rows(view, filters, sort, start, end):
        ...
        return rows, total
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import dash_ag_grid as dag
import structlog
from dash import ClientsideFunction, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component
from dash.exceptions import PreventUpdate

from dash_app import formats
from dash_app.panels import VIEW, Panels
from dash_app.parts import aria, complain
from dash_app.view import View
from schemas.errors import SluicewayError

log = structlog.get_logger("sluiceway.dashboard")

_UNEXPECTED = "The rows could not be fetched: the dashboard's log says why."
PAGE_ROWS = 50
COUNTED_ROWS = 10_000
"""Rows are counted no further, and no table goes deeper: a filter finds what lies below. A total of
this many is shown as 10,000+."""

Cell = str | int | float | Mapping[str, str | None] | None
Row = Mapping[str, Any]
"""Cells by column, and `id`: what tells the row from every other."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a long table."""

    name: str
    head: str
    width: int = 120
    grows: bool = False
    """Takes the width that is left; `width` is then the least."""
    is_number: bool = False
    is_sortable: bool = False


@dataclass(frozen=True, slots=True)
class Sort:
    """How the viewer wants the rows sorted: by a sortable column of the table, and no other."""

    column: str
    is_descending: bool


class Fetch(Protocol):
    """Fetches one page of rows."""

    async def __call__(
        self, view: View, filters: Sequence[Any], sort: Sort | None, start: int, end: int
    ) -> tuple[Sequence[Row], int | None]:
        """Return the rows from start up to and without end, and how many there are in all.

        view.now is the moment as of which the table is shown: leave out rows that came after it,
        so that they do not push away what the viewer is reading further down.
        filters: the values of the filters, in their order, as the browser sent them.
        The total may be COUNTED_ROWS where there are more, or None where counting costs too much.
        """


@dataclass(frozen=True, slots=True)
class Asked:
    """What a grid asks for."""

    start: int
    end: int
    sort: Sort | None
    is_held: bool
    """Whether the viewer reads further down than the top."""


def long_table(
    name: str, columns: Sequence[Column], *, label: str, empty: str, height: int = 560
) -> Component:
    """Return the table `name`; empty: what it says without rows, and what to do about it."""
    return html.Div(
        [
            html.Div(id=_failure_id(name), role="status"),
            dcc.Store(id=_memory_id(name)),
            dag.AgGrid(
                id=name,
                columnDefs=[_define(each) for each in columns],
                defaultColDef={
                    "resizable": True,
                    "sortable": False,
                    "cellDataType": False,
                    "cellRenderer": "SluicewayCell",
                    "suppressHeaderMenuButton": True,
                },
                rowModelType="infinite",
                getRowId="params.data.id",
                eventListeners={
                    "modelUpdated": ["nameGrid(params)"],
                    "cellKeyDown": ["followLink(params)"],
                },
                dashGridOptions={
                    "context": {"label": f"{label}. Arrow keys move, Enter follows a link."},
                    "localeText": {"noRowsToShow": empty},
                    "pagination": True,
                    "paginationPageSize": PAGE_ROWS,
                    "paginationPageSizeSelector": False,
                    "paginationNumberFormatter": {"function": "formatCount(params)"},
                    # Tab leaves the grid, arrows move in it: its rows are no hurdle.
                    "tabToNextCell": {"function": "leaveGrid(params)"},
                    "tabToNextHeader": {"function": "leaveGrid(params)"},
                    "cacheBlockSize": PAGE_ROWS,
                    "maxBlocksInCache": 3,
                    # The grid hands every answer to its newest question: never two at a time.
                    "maxConcurrentDatasourceRequests": 1,
                    "animateRows": False,
                    "enableCellTextSelection": True,
                    "ensureDomOrder": True,
                    "suppressColumnVirtualisation": True,
                    "suppressMultiSort": True,
                    "rowHeight": 34,
                    "headerHeight": 36,
                },
                style={"height": f"{height}px"},
            ),
        ],
        className="long-table",
        role="region",
        **aria(label=label),
    )


def register(
    panels: Panels, name: str, columns: Sequence[Column], fetch: Fetch, *filters: Input
) -> None:
    """Let the table ask `fetch` for its rows: at first, when a filter changes, when refreshed."""
    panels.app.clientside_callback(
        ClientsideFunction("grids", "renew"),
        Output(_memory_id(name), "storage_type"),
        Input(VIEW, "data"),
        *filters,
        State(name, "getRowsRequest"),
        State(name, "id"),
    )
    panels.app.clientside_callback(
        ClientsideFunction("grids", "giveUp"),
        Output(_failure_id(name), "title"),
        Input(_memory_id(name), "data"),
        State(name, "getRowsRequest"),
        prevent_initial_call=True,
    )

    @panels.app.callback(
        Output(name, "getRowsResponse"),
        Output(_failure_id(name), "children"),
        Output(_memory_id(name), "data"),
        Input(name, "getRowsRequest"),
        State(VIEW, "data"),
        State(_memory_id(name), "data"),
        State(name, "paginationInfo"),
        *(State(each.component_id, each.component_property) for each in filters),
        prevent_initial_call=True,
    )
    async def answer_grid(
        request: Mapping[str, Any] | None,
        viewed: Mapping[str, Any] | None,
        memory: Mapping[str, Any] | None,
        pages: Mapping[str, Any] | None,
        *given: Any,
    ) -> tuple[Any, Any, Any]:
        if request is None:
            raise PreventUpdate
        asked = read_request(request, columns)
        was_empty = (pages or {}).get("rowCount") == 0
        view = panels.read_view(viewed)
        try:
            return await answer(view, fetch, asked, memory, given, was_empty=was_empty)
        except Exception:
            log.exception("a table could not be filled", table=name)
            return fail(view, memory, _UNEXPECTED)


async def answer(
    view: View,
    fetch: Fetch,
    asked: Asked,
    memory: Mapping[str, Any] | None,
    filters: Sequence[Any],
    *,
    was_empty: bool = False,
) -> tuple[Any, Any, Any]:
    """Return the rows, what is said above the table, and what to remember until the next question.

    Where rows cannot be had, the ones in the table stay.
    """
    as_of = _find_moment(memory, asked, view.now)
    try:
        filled = await fill(replace(view, now=as_of), fetch, asked, filters)
    except SluicewayError as error:
        return fail(view, memory, str(error))
    if was_empty and filled["rowCount"] is None:
        # The grid takes no unknown total after an empty table.
        filled["rowCount"] = asked.end + 1
    remembered = {"as_of": as_of.isoformat()}
    return filled, None, no_update if memory == remembered else remembered


def fail(view: View, memory: Mapping[str, Any] | None, sentence: str) -> tuple[Any, Any, Any]:
    """Return what leaves the rows as they are, says why, and lets the grid ask again."""
    failed = {**(memory or {}), "failed": view.now.isoformat()}
    return no_update, complain(sentence), failed


async def fill(view: View, fetch: Fetch, asked: Asked, filters: Sequence[Any]) -> dict[str, Any]:
    """Return the answer to a grid: rows, and the total where it is known."""
    if asked.start >= COUNTED_ROWS:
        return {"rowData": [], "rowCount": COUNTED_ROWS}
    rows, total = await fetch(view, filters, asked.sort, asked.start, asked.end)
    if total is None and len(rows) < asked.end - asked.start:
        total = asked.start + len(rows)
    if total is None and asked.end >= COUNTED_ROWS:
        total = COUNTED_ROWS
    return {"rowData": [{**row, "id": str(row["id"])} for row in rows], "rowCount": total}


def read_request(request: Mapping[str, Any], columns: Sequence[Column]) -> Asked:
    """Return what a grid asks for; whatever a browser sends, it is a page of a sortable column."""
    start = min(max(_number(request.get("startRow")), 0), COUNTED_ROWS)
    return Asked(
        start=start,
        end=min(max(_number(request.get("endRow")), start + 1), start + PAGE_ROWS),
        sort=_read_sort(request.get("sortModel"), columns),
        is_held=isinstance(request.get("context"), dict) and request["context"].get("held") is True,
    )


def moment_cell(view: View, when: dt.datetime | None) -> Cell:
    """Return a moment in the viewer's zone, with UTC on hover."""
    return {"text": formats.moment_text(view, when), "title": formats.utc_text(when)}


def link_cell(text: str, href: str) -> Cell:
    """Return a way to another page of the dashboard."""
    return {"text": text, "href": href}


def state_cell(state: str) -> Cell:
    """Return a state as sign and word."""
    sign = formats.sign_of(state)
    return {"text": sign.word, "glyph": sign.glyph, "colour": f"badge {sign.colour}"}


def text_cell(text: str | None, title: str | None = None) -> Cell:
    """Return text, with more of it on hover."""
    return {"text": text or "", "title": text if title is None else title}


def _define(column: Column) -> dict[str, Any]:
    defined: dict[str, Any] = {"field": column.name, "headerName": column.head}
    if column.grows:
        defined |= {"flex": 1, "minWidth": column.width}
    else:
        defined |= {"width": column.width}
    if column.is_number:
        defined |= {"type": "rightAligned"}
    if column.is_sortable:
        defined |= {"sortable": True, "sortingOrder": ["desc", "asc", None]}
    return defined


def _find_moment(memory: Mapping[str, Any] | None, asked: Asked, now: dt.datetime) -> dt.datetime:
    """Return as of when to answer: the moment of the rows above, unless the top is shown anew."""
    if not asked.is_held and asked.start == 0:
        return now
    try:
        found = dt.datetime.fromisoformat(str((memory or {}).get("as_of")))
        return min(found, now)
    except (ValueError, TypeError, AttributeError):
        return now


def _read_sort(model: Any, columns: Sequence[Column]) -> Sort | None:
    if not isinstance(model, list) or not model or not isinstance(model[0], dict):
        return None
    name, way = str(model[0].get("colId")), str(model[0].get("sort"))
    if way not in {"asc", "desc"} or name not in {c.name for c in columns if c.is_sortable}:
        return None
    return Sort(name, is_descending=way == "desc")


def _number(given: Any) -> int:
    try:
        return int(given)
    except (TypeError, ValueError, OverflowError):
        return 0


def _memory_id(name: str) -> str:
    return f"{name}-memory"


def _failure_id(name: str) -> str:
    return f"{name}-failure"
