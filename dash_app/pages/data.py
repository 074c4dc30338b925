"""Data: what there is, table by table."""

from typing import Any

from dash.development.base_component import Component

from dash_app import formats
from dash_app.pages import data_table
from dash_app.pages.data_table import last_change, name_kind, show_rows
from dash_app.pages.days import DEFAULT_RANGE, read_range
from dash_app.panels import Children, Panels, address
from dash_app.parts import card, empty, link, moment, page, place, table
from dash_app.queries import data as ask
from dash_app.view import View
from infra.postgres.layout import STAGING

PATH, NAME, TITLE = "/data", "Data", "Data"
_SHOWN_TABLES = 500


def lay_out(table: object = "", range: object = DEFAULT_RANGE, **_: Any) -> Component:  # noqa: A002 - the address says `range`
    """Return the page; table: schema.table, or a dataset's name."""
    # PostgreSQL knows no text with this character.
    asked = str(table).replace("\0", "")[: data_table.ASKED_CHARACTERS] if table else ""
    return page(
        "What do we have?",
        address("data", "range"),
        *(data_table.lay_out(asked, read_range(range)) if asked else ()),
        card(
            "Tables",
            place("data-tables", height=240),
            note="Rows with ≈ are PostgreSQL's estimate. Sizes with indexes and all batches.",
        ),
    )


def register(panels: Panels) -> None:
    """Connect the page's panels."""
    panels.remember("data", data_table.RANGE)
    panels.content("data-tables", draw_tables)
    data_table.register(panels)


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
                link(each.qualified, f"/data?table={each.qualified}"),
                name_kind(each),
                show_rows(each, counted.get(each.qualified)),
                formats.size(each.size_bytes),
                moment(view, last_change(each, changes), relative=True)
                if each.dataset
                else formats.NOTHING,
            ]
            for each in found
        ],
        caption="Tables of staging and the warehouse",
        numbers=(2, 3),
    )
