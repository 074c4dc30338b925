"""Data: what there is, table by table, and some rows of it without what is personal."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import asyncpg
import dash_mantine_components as dmc
from dash import Input, State, dcc, html
from dash.development.base_component import Component

from dash_app import formats
from dash_app.figures import PALETTE, Figure, Series, bars, say
from dash_app.masking import MASK
from dash_app.panels import Children, Panels, address
from dash_app.parts import (
    aria,
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
from dash_app.queries import data as ask
from dash_app.queries.data import Table, TableColumn
from dash_app.view import View
from infra.postgres.layout import STAGING

PATH, NAME, TITLE = "/data", "Data", "Data"
RANGES = {"7d": 7, "30d": 30, "90d": 90}
"""Days, by what the address says."""
_DEFAULT_RANGE = "30d"
_ASKED_CHARACTERS = 200
_SHOWN_COLUMNS = 60
_SHOWN_TABLES = 500
_SOURCE_CHARACTERS = 40
_HATCHES = ("", "/", "x", ".", "\\", "-", "+")
_LOADING = "A load is filling this table and nobody else can read it: look again when it is done."


def lay_out(table: object = "", range: object = _DEFAULT_RANGE, **_: Any) -> Component:  # noqa: A002 - the address says `range`
    """Return the page; table: schema.table, or a dataset's name."""
    # PostgreSQL knows no text with this character.
    asked = str(table).replace("\0", "")[:_ASKED_CHARACTERS] if table else ""
    chosen = range if isinstance(range, str) and range in RANGES else _DEFAULT_RANGE
    return page(
        "What do we have?",
        address("data", "range"),
        *(_lay_out_table(asked, chosen) if asked else ()),
        card(
            "Tables",
            place("data-tables", height=240),
            note="Rows with ≈ are PostgreSQL's estimate. Sizes with indexes and all batches.",
        ),
    )


def _lay_out_table(asked: str, chosen: str) -> tuple[Component, ...]:
    return (
        dcc.Store(id="data-table", data=asked),
        place("data-chosen", height=120),
        dmc.SegmentedControl(
            id="data-range",
            data=[{"value": value, "label": f"{days} days"} for value, days in RANGES.items()],
            value=chosen,
            size="xs",
            **aria(label="Time"),
        ),
        grid(
            card(
                "Rows by source and day",
                chart("data-days", "Rows loaded by source and day"),
                note="Rows that a load brought or confirmed; days in UTC.",
            ),
            card("Sources", place("data-sources", height=200)),
        ),
        card(
            f"{ask.PREVIEW_ROWS} rows",
            place("data-preview", height=300),
            note="In no particular order. Personal columns, and those that no contract describes, "
            f"are not read: {MASK} stands for their cells.",
        ),
        card("Columns", place("data-columns", height=200)),
    )


def register(panels: Panels) -> None:
    """Connect the page's panels."""
    chosen, asked = Input("data-range", "value"), State("data-table", "data")
    panels.remember("data", chosen)
    panels.content("data-tables", draw_tables)
    panels.content("data-chosen", draw_chosen, asked)
    panels.figure("data-days", draw_days, asked, chosen)
    panels.content("data-sources", draw_sources, asked, chosen)
    panels.content("data-preview", draw_preview, asked)
    panels.content("data-columns", draw_columns, asked)


async def draw_tables(view: View) -> Children:
    """Return a line for each table of staging and the warehouse."""
    found = (await ask.find_tables(view.reader))[:_SHOWN_TABLES]
    if not found:
        return empty(
            "There is no table yet.", "Make them: python -m deployments.bootstrap, as the owner."
        )
    # Those without a contract come last: their number knows no bounds, and some are not counted.
    found.sort(key=lambda each: each.schema == STAGING and each.spec is None)
    counted = await ask.count_rows(view.reader, found)
    changes = await ask.find_changes(
        view.reader, sorted({each.dataset for each in found if each.dataset})
    )
    return table(
        ["Table", "What it is", "Rows", "Size", "Last change"],
        [
            [
                link(each.qualified, _address(each)),
                _kind(each),
                _rows(each, counted.get(each.qualified)),
                formats.size(each.size_bytes),
                moment(view, _changed(each, changes), relative=True)
                if each.dataset
                else formats.NOTHING,
            ]
            for each in found
        ],
        caption="Tables of staging and the warehouse",
        numbers=(2, 3),
    )


async def draw_chosen(view: View, asked: object) -> Children:
    """Return the chosen table's name, what it holds, and its figures."""
    found = await ask.find_table(view.reader, str(asked))
    if found is None:
        return _no_table(asked)
    counted = await ask.count_rows(view.reader, [found])
    dataset = found.dataset
    changes = await ask.find_changes(view.reader, [dataset] if dataset else [])
    at = _changed(found, changes)
    spec = found.spec
    return [
        html.H2(found.qualified, className="table-name"),
        html.P(
            [
                _kind(found),
                ". ",
                spec.description if spec else found.comment,
                f" Key: {', '.join(spec.key)}." if spec and spec.key else "",
                " ",
                link("Its quality", f"/quality?dataset={dataset}") if dataset else "",
            ],
            className="card-note",
        ),
        stats(
            stat("Rows", _rows(found, counted.get(found.qualified)), _how_counted(found, counted)),
            stat(
                "Size",
                formats.size(found.size_bytes),
                "with indexes"
                if found.parts == 1
                else f"with indexes, in {formats.count(found.parts - 1)} batches of their own",
            ),
            stat(
                "Last change",
                formats.ago(view, at),
                moment(view, at) if at else "by none of its newest loads",
            ),
        ),
    ]


async def draw_days(view: View, asked: object, chosen: object) -> Figure:
    """Return rows loaded by source and day."""
    found = await ask.find_table(view.reader, str(asked))
    if found is None or found.dataset is None:
        return say(view, "No load fills this table.")
    rows = await ask.count_by_day(view.reader, found.dataset, _first_day(view, chosen))
    if not rows:
        return say(view, "No row was loaded in this time.")
    by_source: dict[str | None, list[asyncpg.Record]] = {}
    for row in rows:
        by_source.setdefault(row["source"], []).append(row)
    return bars(
        view,
        [
            Series(
                "all others" if source is None else _tail(source),
                [row["day"].isoformat() for row in part],
                [row["loaded"] for row in part],
                PALETTE[number % len(PALETTE)],
                hatch=_HATCHES[number % len(_HATCHES)],
            )
            for number, (source, part) in enumerate(by_source.items())
        ],
        unit="rows",
    )


async def draw_sources(view: View, asked: object, chosen: object) -> Children:
    """Return what became of the rows of each source."""
    found = await ask.find_table(view.reader, str(asked))
    if found is None or found.dataset is None:
        return empty("No load fills this table.", "Choose another one below.")
    rows = await ask.count_by_source(view.reader, found.dataset, _first_day(view, chosen))
    if not rows:
        return empty(
            "No row was read in this time.",
            "Choose a longer time, or start a load: "
            "prefect deployment run daily_etl_pipeline/daily",
        )
    drawn = table(
        ["Source", "Read", "Loaded", "Superseded", "Duplicates", "Quarantined", "Last day"],
        [
            [
                html.Span(_tail(row["source"]), title=row["source"]),
                *(
                    formats.count(row[name])
                    for name in ("read", "loaded", "superseded", "duplicates", "quarantined")
                ),
                row["last_day"].isoformat(),
            ]
            for row in rows
        ],
        caption="Sources",
        numbers=range(1, 6),
    )
    left = rows[0]["sources"] - len(rows)
    return [drawn, f"and {formats.count(left)} more" if left else ""]


async def draw_preview(view: View, asked: object) -> Children:
    """Return some rows of the chosen table, what is personal masked."""
    found = await ask.find_table(view.reader, str(asked))
    if found is None:
        return _no_table(asked)
    if found.is_locked:
        return empty("It is being loaded.", _LOADING)
    every = await ask.find_columns(view.reader, found)
    columns = every[:_SHOWN_COLUMNS]
    rows = await ask.preview(view.reader, found, columns)
    if not rows:
        return empty(
            "This table is empty.", "Start a load: prefect deployment run daily_etl_pipeline/daily"
        )
    left = len(every) - len(columns)
    return [
        table(
            [each.name for each in columns],
            [_cells(view, columns, row) for row in rows],
            caption=f"Rows of {found.qualified}",
            numbers=[
                number
                for number, each in enumerate(columns)
                if each.is_shown and each.type.startswith(("bigint", "double", "numeric"))
            ],
        ),
        f"and {formats.count(left)} more columns" if left else "",
    ]


async def draw_columns(view: View, asked: object) -> Children:
    """Return the chosen table's columns and what the contract says of them."""
    found = await ask.find_table(view.reader, str(asked))
    if found is None:
        return _no_table(asked)
    return table(
        ["Column", "Type", "Personal", "What it is"],
        [
            [each.name, each.type, _personal(found, each), _description(each)]
            for each in await ask.find_columns(view.reader, found)
        ],
        caption=f"Columns of {found.qualified}",
    )


def _first_day(view: View, chosen: object) -> dt.date:
    days = RANGES.get(str(chosen), RANGES[_DEFAULT_RANGE])
    return view.now.date() - dt.timedelta(days=days - 1)


def _address(found: Table) -> str:
    return f"/data?table={found.qualified}"


def _no_table(asked: object) -> Component:
    return empty(
        f"There is no table {str(asked)[:_ASKED_CHARACTERS]}.", "Choose one from the list below."
    )


def _kind(found: Table) -> Component:
    spec = found.spec
    if found.is_calendar:
        return html.Span("calendar")
    if spec is None:
        return html.Span("△ no contract", className="uncontracted", title=found.comment)
    return html.Span("as received" if found.schema == STAGING else str(spec.role))


def _rows(found: Table, counted: int | None) -> str:
    if counted is not None and counted > ask.COUNTED_ROWS and found.pages > ask.COUNTED_PAGES:
        return f"{formats.count(ask.COUNTED_ROWS)}+"
    if counted is not None:
        return formats.count(counted)
    return formats.NOTHING if found.estimate is None else f"≈ {formats.count(found.estimate)}"


def _how_counted(found: Table, counted: dict[str, int]) -> str:
    if found.is_locked:
        return "being loaded"
    return "counted" if found.qualified in counted else "PostgreSQL's estimate"


def _changed(found: Table, changes: dict[str, ask.Changes]) -> dt.datetime | None:
    known = changes.get(found.dataset or "")
    if known is None:
        return None
    return known.staged_at if found.schema == STAGING else known.merged_at


def _tail(source: str) -> str:
    if len(source) <= _SOURCE_CHARACTERS:
        return source
    return f"…{source[-_SOURCE_CHARACTERS:]}"


def _cells(view: View, columns: Sequence[TableColumn], row: asyncpg.Record) -> list[Any]:
    values = iter(row.values())
    return [_cell(view, each, next(values)) if each.is_shown else MASK for each in columns]


def _cell(view: View, column: TableColumn, text: str | None) -> Any:
    if text is None:
        return html.Span("null", className="null")
    if column.type == "timestamp with time zone":
        try:
            return moment(view, dt.datetime.fromisoformat(text))
        except (ValueError, OverflowError):  # infinity, and what Python's calendar does not have
            return text
    if len(text) > ask.SHOWN_CHARACTERS:
        return f"{text[: ask.SHOWN_CHARACTERS]}…"
    return text


def _personal(found: Table, column: TableColumn) -> str:
    if column.contract is not None:
        return f"{MASK} personal" if column.contract.pii else "no"
    if column.is_own or found.is_calendar:
        return "no" if column.is_shown else f"{MASK} may be"
    return f"{MASK} not known: no contract"


def _description(column: TableColumn) -> str:
    if column.contract is None:
        return "the platform's own" if column.is_own else ""
    named = column.contract.references
    parts = [
        column.contract.description,
        f"refers to {named.spec.table}" if named is not None else "",
        "may be missing" if column.contract.nullable else "",
    ]
    return "; ".join(part for part in parts if part)
