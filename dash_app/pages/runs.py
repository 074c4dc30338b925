"""The runs: what happened."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import dash_mantine_components as dmc
import structlog
from dash import Input, Output, State, html, no_update
from dash.development.base_component import Component

from dash_app import formats, grids
from dash_app.grids import Cell, Column, Sort, link_cell, long_table, moment_cell, state_cell
from dash_app.pages.runs_bars import draw_bars, find_seconds
from dash_app.panels import VIEW, Panels, address
from dash_app.parts import aria, card, page, place
from dash_app.queries import runs as ask
from dash_app.view import View
from schemas.errors import SluicewayError

log = structlog.get_logger("sluiceway.dashboard")

PATH, NAME, TITLE = "/runs", "Runs", "Runs"
COLUMNS = (
    Column("run", "Run", 100),
    Column("pipeline", "Pipeline", 215),
    Column("state", "State", 110),
    Column("start", "Start", 165, is_sortable=True),
    Column("duration", "Duration", 140, is_number=True, is_sortable=True),
    Column("rows", "Rows", 100, is_number=True, is_sortable=True),
    Column("error", "Error", 260, grows=True),
)


def lay_out(
    pipeline: str = "",
    status: str = "",
    error: str = "",
    since: str = "",
    until: str = "",
    **_: Any,
) -> Component:
    """Return the page."""
    states = [each for each in ask.STATES if each in status.split(",")]
    return page(
        "What happened?",
        address("runs", "pipeline", "status", "error", "since", "until"),
        card(
            "Pipelines by run",
            html.A("Past the bars", href="#runs-filters", className="skip-bars"),
            place("runs-bars", height=120),
            note=f"The last {ask.LAST_RUNS} runs of each, the newest on the right. Sign and colour "
            "are the state; the height is the duration, on a logarithmic scale.",
        ),
        html.Div(
            [
                dmc.Select(
                    id="runs-pipeline",
                    label="Pipeline",
                    placeholder="all",
                    data=[pipeline] if pipeline else [],
                    value=pipeline or None,
                    clearable=True,
                    searchable=True,
                    size="xs",
                    w=230,
                ),
                dmc.MultiSelect(
                    id="runs-status",
                    label="State",
                    placeholder="" if states else "all",
                    data=[
                        {"value": each, "label": formats.sign_of(each).word} for each in ask.STATES
                    ],
                    value=states,
                    clearable=True,
                    size="xs",
                    miw=180,
                ),
                dmc.TextInput(
                    id="runs-error",
                    label="Error contains",
                    value=error,
                    debounce=400,
                    size="xs",
                    w=200,
                ),
                _date_input("runs-since", "From", since),
                _date_input("runs-until", "To, inclusive", until),
            ],
            id="runs-filters",
            className="filters",
            tabIndex=-1,
            role="group",
            **aria(label="Filters"),
        ),
        card(
            "Runs",
            long_table(
                "runs-table",
                COLUMNS,
                label="Runs",
                empty="No run matches. Clear a filter, or start one: "
                "prefect deployment run daily_etl_pipeline/daily",
            ),
            note=f"The newest first; {formats.count(grids.COUNTED_ROWS)} at most: filters find "
            "what is older. Duration and rows are sorted among that many, the newest. Errors are "
            f"searched in the newest {formats.count(ask.SEARCHED_RUNS)} failed runs.",
        ),
    )


def register(panels: Panels) -> None:
    """Connect the page's panels."""
    filters = [
        Input(f"runs-{each}", "value") for each in ("pipeline", "status", "error", "since", "until")
    ]
    panels.remember("runs", *filters)
    panels.content("runs-bars", draw_bars)
    grids.register(panels, "runs-table", COLUMNS, fetch_rows, *filters)

    @panels.app.callback(
        Output("runs-pipeline", "data"), Input(VIEW, "data"), State("runs-pipeline", "data")
    )
    async def name_pipelines(viewed: Mapping[str, Any] | None, before: list[str] | None) -> Any:
        view = panels.read_view(viewed)
        try:
            return await find_choices(view, before or [])
        except SluicewayError:
            # The frame says already that the database is away.
            return no_update
        except Exception:
            log.exception("the pipelines could not be listed")
            return no_update


async def find_choices(view: View, before: Sequence[str]) -> Any:
    """Return the pipelines to choose from; no update where they are the same as before."""
    found = await ask.find_pipelines(view.reader)
    # A pipeline that the address names stays chosen, even where it never ran.
    names = sorted({*found, *(each for each in before if isinstance(each, str))})
    return no_update if names == list(before) else names


async def fetch_rows(
    view: View, filters: Sequence[Any], sort: Sort | None, start: int, end: int
) -> tuple[list[dict[str, Cell]], int]:
    """Return one page of the table."""
    wanted = read_filters(view, *filters)
    total = await ask.count_runs(view.reader, wanted)
    by, is_descending = (sort.column, sort.is_descending) if sort else ("start", True)
    rows = await ask.find_runs(
        view.reader, wanted, sort=by, is_descending=is_descending, start=start, end=end
    )
    return [_row(view, row) for row in rows], total


def read_filters(
    view: View, pipeline: Any, status: Any, error: Any, since: Any, until: Any
) -> ask.Wanted:
    """Return which runs are wanted; a filter with rubbish in it filters nothing."""
    last_day = _read_day(until)
    return ask.Wanted(
        as_of=view.now,
        pipeline=_read_text(pipeline),
        states=frozenset(status if isinstance(status, list) else ()) & frozenset(ask.STATES),
        error=_read_text(error).strip(),
        since=_midnight(view, _read_day(since)),
        before=_midnight(view, last_day + dt.timedelta(days=1)) if last_day else None,
    )


def _date_input(name: str, label: str, value: str) -> Component:
    day = _read_day(value)
    made: Component = dmc.DateInput(
        id=name,
        label=label,
        value=day.isoformat() if day else None,
        valueFormat="YYYY-MM-DD",
        placeholder="YYYY-MM-DD",
        clearable=True,
        size="xs",
        w=150,
    )
    return made


def _row(view: View, row: asyncpg.Record) -> dict[str, Cell]:
    is_running = row["end_time"] is None
    took = formats.duration(find_seconds(view, row))
    return {
        "id": str(row["id"]),
        "run": link_cell(str(row["id"]), f"/runs/{row['id']}"),
        "pipeline": row["pipeline_name"],
        "state": state_cell(row["status"]),
        "start": moment_cell(view, row["start_time"]),
        "duration": f"{took} so far" if is_running else took,
        "rows": formats.count(row["records_processed"]),
        "error": grids.text_cell(row["error"]),
    }


def _midnight(view: View, day: dt.date | None) -> dt.datetime | None:
    return dt.datetime.combine(day, dt.time(), tzinfo=view.zone) if day else None


def _read_day(given: Any) -> dt.date | None:
    try:
        day = dt.date.fromisoformat(str(given)[:10])
    except ValueError:
        return None
    # Beyond these PostgreSQL or a zone has no moment for it.
    return day if dt.date(1970, 1, 1) <= day <= dt.date(2200, 1, 1) else None


def _read_text(given: Any) -> str:
    # PostgreSQL's text knows no NUL.
    return given.replace("\0", "")[:500] if isinstance(given, str) else ""
