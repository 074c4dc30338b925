"""The quarantine, a part of the quality page: rows that were refused, with the reason."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import asyncpg
import dash_mantine_components as dmc
import structlog
from dash import Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from dash_app import formats, grids
from dash_app.export import MAX_ROWS, export_address
from dash_app.grids import Column, Row, Sort, link_cell, moment_cell, text_cell
from dash_app.masking import may_be_personal, show_raw, show_reason
from dash_app.panels import VIEW, Children, Panels
from dash_app.parts import card, empty, link, moment, place, table
from dash_app.queries import quarantine as ask
from dash_app.queries.quality import find_datasets
from dash_app.queries.quarantine import Choice, read_choice
from dash_app.view import View
from schemas.datasets import DATASETS
from schemas.errors import SluicewayError

log = structlog.get_logger("sluiceway.dashboard")

PARAMETERS = ("rule", "execution", "text")
FILTERS = tuple(Input(f"quarantine-{name}", "value") for name in PARAMETERS)
"""What stands in the page's address beside the dataset, in the order of PARAMETERS."""
COLUMNS = (
    Column("row", "Row", 90),
    Column("at", "When", 165),
    Column("dataset", "Dataset", 110),
    Column("rule", "Rule", 130),
    Column("column", "Column", 120),
    Column("reason", "Reason", 280, grows=True),
    Column("raw", "Row as received", 280, grows=True),
    Column("origin", "Origin", 170),
    Column("run", "Run", 80),
)
_ID_DIGITS = 18


def lay_out_row(choice: Choice, row: object) -> Component | None:
    """Return the card of the row that an address asks for, if it asks for one."""
    number = str(row) if row else ""
    if not (number.isascii() and number.isdecimal() and len(number) <= _ID_DIGITS):
        return None
    return card(
        f"Row {number} of the quarantine",
        dcc.Store(id="quarantine-row-id", data=number),
        place("quarantine-row", height=160),
        link("Close", page_address(choice)),
    )


def lay_out(choice: Choice) -> Component:
    """Return the quarantine's card."""
    return card(
        "Quarantine",
        html.Div(
            [
                dmc.Select(
                    id="quarantine-rule",
                    label="Rule",
                    placeholder="all",
                    data=[choice.rule] if choice.rule else [],
                    value=choice.rule or None,
                    clearable=True,
                    searchable=True,
                    size="xs",
                ),
                dmc.TextInput(
                    id="quarantine-execution",
                    label="Run",
                    placeholder="number",
                    value="" if choice.execution is None else str(choice.execution),
                    debounce=300,
                    size="xs",
                    w=110,
                ),
                dmc.TextInput(
                    id="quarantine-text",
                    label="Text in the reason",
                    value=choice.text,
                    debounce=300,
                    size="xs",
                ),
                html.Div(id="quarantine-export"),
            ],
            className="filters",
        ),
        grids.long_table(
            "quarantine-table",
            COLUMNS,
            label="Rows in quarantine",
            empty="No row is in quarantine here: clear the filters, or be glad.",
        ),
        note="Refused rows of files and answers of APIs, whenever they came, the newest first; "
        "a text is looked for in the newest 10,000 of those that the other filters choose. "
        "Refused messages are on the Stream page. • hides what may be personal, and from "
        "viewers every row; rows of datasets with personal columns are encrypted.",
    )


def register(panels: Panels, dataset: Input) -> None:
    """Connect the cards; dataset: the page's filter."""
    grids.register(panels, "quarantine-table", COLUMNS, fetch_rows, dataset, *FILTERS)
    panels.content("quarantine-export", draw_export, dataset, *FILTERS)
    panels.content("quarantine-row", draw_row, State("quarantine-row-id", "data"))

    @panels.app.callback(
        Output(dataset.component_id, "data"),
        Output("quarantine-rule", "data"),
        Input(VIEW, "data"),
        dataset,
        FILTERS[0],
        State(dataset.component_id, "data"),
        State("quarantine-rule", "data"),
    )
    async def offer(viewed: Any, chosen: Any, rule: Any, *before: Any) -> Any:
        try:
            offered = await find_options(panels.read_view(viewed), chosen, rule)
        except SluicewayError:
            return no_update, no_update  # the panels say it
        except Exception:
            log.exception("the quarantine's filters could not be filled")
            return no_update, no_update
        # An unchanged list is not sent again: it could close what the viewer has opened.
        return tuple(
            no_update if given == found else found
            for given, found in zip(before, offered, strict=True)
        )


async def find_options(view: View, dataset: object, rule: object) -> tuple[list[str], list[str]]:
    """Return the datasets and the rules to choose from, those that are chosen among them."""
    choice = read_choice(dataset, rule, None, None)
    pairs = await ask.find_choices(view.reader)
    datasets = {each.spec.table for each in DATASETS} | {choice.dataset}
    datasets |= {name for name, _ in pairs} | {*await find_datasets(view.reader)}
    rules = {each for name, each in pairs if choice.dataset in {"", name}} | {choice.rule}
    return sorted(datasets - {""}), sorted(rules - {""})


async def fetch_rows(
    view: View,
    filters: Sequence[Any],
    sort: Sort | None,  # noqa: ARG001 - the table's protocol; no column can be sorted by
    start: int,
    end: int,
) -> tuple[Sequence[Row], int | None]:
    """Return a page of the quarantine, and how many rows there are as far as they are counted."""
    choice = read_choice(*filters)
    rows = await ask.find_page(view.reader, choice, until=view.now, start=start, end=end)
    total = await ask.count(view.reader, choice, until=view.now)
    return [_show(view, choice, row) for row in rows], total


async def draw_export(view: View, *filters: object) -> Children:
    """Return a way to the chosen rows as a file, for operators."""
    if not view.user.is_operator:
        return None
    choice = read_choice(*filters)
    return html.A(
        "Export as CSV",
        href=export_address(choice),
        title=f"At most the newest {formats.count(MAX_ROWS)} rows.",
        className="plain-button export",
    )


async def draw_row(view: View, row_id: object) -> Children:
    """Return one row with all that is known of it."""
    row = await ask.find_one(view.reader, int(str(row_id)))
    if row is None:
        return empty("This row is not in quarantine.", "Its address may be mistyped.")
    dataset = row["dataset"]
    raw = show_raw(dataset, row["raw"], is_operator=view.user.is_operator)
    is_cut = (row["raw_characters"] or 0) > ask.RAW_CHARACTERS
    outcome = row["outcome"] or "replayed"
    return [
        table(
            ["", ""],
            [
                ["Dataset", link(dataset, page_address(Choice(dataset=dataset)))],
                ["Rule", f"{row['rule']} ({row['column_name'] or 'the whole row'})"],
                ["Reason", show_reason(dataset, row["reason"])],
                ["Origin", f"{row['source']}, line {row['line']}"],
                ["When", moment(view, row["quarantined_at"])],
                ["Run", link(str(row["execution_id"]), f"/runs/{row['execution_id']}")],
                ["Contract", row["contract_version"] or "none"],
                ["Replayed", moment(view, row["replayed_at"])],
                ["Outcome", outcome if row["replayed_at"] else formats.NOTHING],
            ],
            caption="The row",
        ),
        html.Pre(f"{raw}…" if is_cut else raw, className="raw raw-row", tabIndex=0),
        html.P(_explain(view, row), className="card-note"),
    ]


def page_address(choice: Choice, *, row: int | None = None) -> str:
    """Return the quality page's address for these filters; row: one to show as a whole."""
    given = {
        "dataset": choice.dataset,
        "rule": choice.rule,
        "execution": "" if choice.execution is None else str(choice.execution),
        "text": choice.text,
        "row": "" if row is None else str(row),
    }
    asked = urlencode({name: value for name, value in given.items() if value})
    return f"/quality?{asked}" if asked else "/quality"


def _show(view: View, choice: Choice, row: asyncpg.Record) -> Row:
    dataset, source = row["dataset"], row["source"]
    file = source.rsplit("/", maxsplit=1)[-1] or source
    return {
        "id": row["id"],
        "row": link_cell(str(row["id"]), page_address(choice, row=row["id"])),
        "at": moment_cell(view, row["quarantined_at"]),
        "dataset": dataset,
        "rule": text_cell(row["rule"]),
        "column": text_cell(row["column_name"]),
        "reason": text_cell(show_reason(dataset, row["reason"])),
        "raw": text_cell(show_raw(dataset, row["raw"], is_operator=view.user.is_operator)),
        "origin": text_cell(f"{file}:{row['line']}", f"{source}, line {row['line']}"),
        "run": link_cell(str(row["execution_id"]), f"/runs/{row['execution_id']}"),
    }


def _explain(view: View, row: asyncpg.Record) -> Children:
    if row["raw"] is None:
        return [
            (
                "This dataset has personal columns, so the row is kept encrypted, and the "
                "dashboard has no keys. Where they are set, this prints it: "
            ),
            html.Code(f"python -m tasks.open_sealed quarantine {row['id']}"),
            ".",
        ]
    if may_be_personal(row["dataset"]):
        return "• hides every character: this dataset has personal columns, or no contract."
    return "" if view.user.is_operator else "• hides every character: operators see the row."
