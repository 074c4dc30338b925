"""One table of the data page: its figures, sources, columns, and some of its rows."""

import datetime as dt
from collections.abc import Sequence

import asyncpg
import dash_mantine_components as dmc
from dash import Input, State, dcc, html
from dash.development.base_component import Component

from dash_app import formats
from dash_app.figures import PALETTE, Figure, Series, bars, say
from dash_app.masking import MASK
from dash_app.pages.days import RANGES, first_day, mark_days
from dash_app.panels import Children, Panels
from dash_app.parts import (
    aria,
    card,
    chart,
    empty,
    grid,
    link,
    moment,
    place,
    stat,
    stats,
    table,
)
from dash_app.queries import data as ask
from dash_app.queries.data import Table, TableColumn
from dash_app.view import View
from infra.postgres.layout import STAGING

RANGE = Input("data-range", "value")
"""What stands in the page's address beside the table."""
ASKED_CHARACTERS = 200
_SHOWN_COLUMNS = 60
_SOURCE_CHARACTERS = 40
_HATCHES = ("", "/", "x", ".", "\\", "-", "+")
_LOADING = "A load is filling this table and nobody else can read it: look again when it is done."


def lay_out(asked: str, chosen: str) -> tuple[Component, ...]:
    """Return the chosen table's cards."""
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
    """Connect the panels of the chosen table."""
    asked = State("data-table", "data")
    panels.content("data-chosen", draw_chosen, asked)
    panels.figure("data-days", draw_days, asked, RANGE)
    panels.content("data-sources", draw_sources, asked, RANGE)
    panels.content("data-preview", draw_preview, asked)
    panels.content("data-columns", draw_columns, asked)


async def draw_chosen(view: View, asked: object) -> Children:
    """Return the chosen table's name, what it holds, and its figures."""
    found = await ask.find_table(view.reader, str(asked))
    if found is None:
        return _no_table(asked)
    counted = await ask.count_rows(view.reader, [found])
    dataset = found.dataset
    changes = await ask.find_changes(view.reader, [dataset] if dataset else [])
    at = last_change(found, changes)
    spec = found.spec
    return [
        html.H2(found.qualified, className="table-name"),
        html.P(
            [
                name_kind(found),
                ". ",
                spec.description if spec else found.comment,
                f" Key: {', '.join(spec.key)}." if spec and spec.key else "",
                " ",
                link("Its quality", f"/quality?dataset={dataset}") if dataset else "",
            ],
            className="card-note",
        ),
        stats(
            stat(
                "Rows", show_rows(found, counted.get(found.qualified)), _how_counted(found, counted)
            ),
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
    rows = await ask.count_by_day(view.reader, found.dataset, first_day(view.now.date(), chosen))
    if not rows:
        return say(view, "No row was loaded in this time.")
    by_source: dict[str | None, list[asyncpg.Record]] = {}
    for row in rows:
        by_source.setdefault(row["source"], []).append(row)
    figure = bars(
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
    return mark_days(figure, len({row["day"] for row in rows}))


async def draw_sources(view: View, asked: object, chosen: object) -> Children:
    """Return what became of the rows of each source."""
    found = await ask.find_table(view.reader, str(asked))
    if found is None or found.dataset is None:
        return empty("No load fills this table.", "Choose another one below.")
    rows = await ask.count_by_source(view.reader, found.dataset, first_day(view.now.date(), chosen))
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
    label = f"Rows of {found.qualified}"
    # One component, not one a cell: a browser takes a second for a thousand of them.
    sheet = dmc.Table(
        data={
            "caption": label,
            "head": [each.name for each in columns],
            "body": [_cells(view, columns, row) for row in rows],
        },
        className="table",
    )
    return [
        html.Div(
            sheet, className="table-scroll preview", tabIndex=0, role="region", **aria(label=label)
        ),
        f"and {formats.count(left)} more columns" if left else "",
    ]


async def draw_columns(view: View, asked: object) -> Children:
    """Return the chosen table's columns and what the contract says of them."""
    found = await ask.find_table(view.reader, str(asked))
    if found is None:
        return _no_table(asked)
    every = await ask.find_columns(view.reader, found)
    left = len(every) - _SHOWN_COLUMNS
    return [
        table(
            ["Column", "Type", "Personal", "What it is"],
            [
                [each.name, each.type, _personal(found, each), _description(each)]
                for each in every[:_SHOWN_COLUMNS]
            ],
            caption=f"Columns of {found.qualified}",
        ),
        f"and {formats.count(left)} more" if left > 0 else "",
    ]


def name_kind(found: Table) -> Component:
    """Return what kind of table it is; one without a contract is marked so."""
    spec = found.spec
    if found.is_calendar:
        return html.Span("calendar")
    if spec is None:
        return html.Span("△ no contract", className="uncontracted", title=found.comment)
    return html.Span("as received" if found.schema == STAGING else str(spec.role))


def show_rows(found: Table, counted: int | None) -> str:
    """Return how many rows it has, as exactly as is known."""
    if counted is not None and counted > ask.COUNTED_ROWS and found.pages > ask.COUNTED_PAGES:
        return f"{formats.count(ask.COUNTED_ROWS)}+"
    if counted is not None:
        return formats.count(counted)
    return formats.NOTHING if found.estimate is None else f"≈ {formats.count(found.estimate)}"


def last_change(found: Table, changes: dict[str, ask.Changes]) -> dt.datetime | None:
    """Return when one of its newest loads last changed it."""
    known = changes.get(found.dataset or "")
    if known is None:
        return None
    return known.staged_at if found.schema == STAGING else known.merged_at


def _no_table(asked: object) -> Component:
    return empty(
        f"There is no table {str(asked)[:ASKED_CHARACTERS]}.", "Choose one from the list below."
    )


def _how_counted(found: Table, counted: dict[str, int]) -> str:
    if found.is_locked:
        return "being loaded"
    return "counted" if found.qualified in counted else "PostgreSQL's estimate"


def _tail(source: str) -> str:
    if len(source) <= _SOURCE_CHARACTERS:
        return source
    return f"…{source[-_SOURCE_CHARACTERS:]}"


def _cells(view: View, columns: Sequence[TableColumn], row: asyncpg.Record) -> list[str]:
    values = iter(row.values())
    return [_cell(view, each, next(values)) if each.is_shown else MASK for each in columns]


def _cell(view: View, column: TableColumn, text: str | None) -> str:
    if text is None:
        return "NULL"
    if column.type == "timestamp with time zone":
        try:
            when = dt.datetime.fromisoformat(text)
            return f"{formats.moment_text(view, when)} ({formats.utc_text(when)})"
        except (ValueError, OverflowError):  # infinity, and what Python's calendar does not have
            return text
    return f"{text[: ask.SHOWN_CHARACTERS]}…" if len(text) > ask.SHOWN_CHARACTERS else text


def _personal(found: Table, column: TableColumn) -> str:
    if column.contract is not None:
        return f"{MASK} personal, encrypted" if column.contract.pii else "no"
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
