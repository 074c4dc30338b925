"""Quality: whether the data can be trusted, rule by rule, and what was refused."""

import datetime as dt
from collections import Counter
from typing import Any

import dash_mantine_components as dmc
from dash import Input, html
from dash.development.base_component import Component

from dash_app import formats
from dash_app.figures import BLUE, GREY, Figure, Series, bars, say
from dash_app.masking import show_reason
from dash_app.pages import quality_profile, quarantine
from dash_app.pages.anomaly_table import list_anomalies
from dash_app.pages.days import DEFAULT_RANGE, RANGES, first_day, mark_days, read_range
from dash_app.pages.quality_rules import (
    draw_failures,
    draw_missing,
    draw_rates,
    draw_rules,
    read_dataset,
)
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
from dash_app.queries import anomalies as ask_anomalies
from dash_app.queries import quality as ask
from dash_app.queries.quarantine import read_choice
from dash_app.view import View

PATH, NAME, TITLE = "/quality", "Quality", "Quality"
_TALL = 340
"""Of a chart with a legend of several lines."""


def lay_out(
    dataset: object = "",
    range: object = DEFAULT_RANGE,  # noqa: A002 - the address says `range`
    rule: object = "",
    execution: object = "",
    text: object = "",
    row: object = "",
    **_: Any,
) -> Component:
    """Return the page."""
    choice = read_choice(dataset, rule, execution, text)
    return page(
        "Can I trust it?",
        address("quality", "dataset", "range", *quarantine.PARAMETERS),
        quarantine.lay_out_row(choice, row),
        html.Div(
            [
                dmc.Select(
                    id="quality-dataset",
                    label="Dataset",
                    placeholder="all",
                    data=[choice.dataset] if choice.dataset else [],
                    value=choice.dataset or None,
                    clearable=True,
                    searchable=True,
                    size="xs",
                ),
                dmc.SegmentedControl(
                    id="quality-range",
                    data=[
                        {"value": value, "label": f"{days} days"} for value, days in RANGES.items()
                    ],
                    value=read_range(range),
                    size="xs",
                    **aria(label="Time"),
                ),
            ],
            className="filters",
        ),
        place("quality-summary", height=84),
        card(
            "Anomalies",
            place("quality-anomalies", height=60),
            note="Loads that are not as the earlier ones of their feed let expect, in this time: "
            f"the newest {ask_anomalies.SHOWN}.",
        ),
        *quality_profile.lay_out(),
        grid(
            card(
                "Pass rate by rule",
                chart(
                    "quality-rates",
                    "Share of the checked rows that kept each rule, by day",
                    height=_TALL,
                ),
                note="Of the rows checked on a day (UTC), those that kept the rule; "
                "the rules that were broken most.",
            ),
            card(
                "Failures by rule",
                chart("quality-failures", "Rows that broke a rule, by day and rule", height=_TALL),
                note="Rows by day (UTC) and rule; a row can break several.",
            ),
            card(
                "Duplicates",
                chart("quality-duplicates", "Duplicates and superseded rows by day"),
                note="By day, UTC. Superseded rows came late, with an older version.",
            ),
        ),
        grid(
            card(
                "Broken rules",
                place("quality-rules", height=200),
                note="Of the checked rows of their dataset, in this time.",
            ),
            card(
                "Missing values",
                place("quality-missing", height=200),
                note="Of the cells of each column, in this time.",
            ),
            card(
                "Drift",
                place("quality-drift", height=120),
                note="Sources whose columns are not those of the contract.",
            ),
            least=460,
        ),
        quarantine.lay_out(choice),
    )


def register(panels: Panels) -> None:
    """Connect the page's panels."""
    dataset, chosen = Input("quality-dataset", "value"), Input("quality-range", "value")
    panels.remember("quality", dataset, chosen, *quarantine.FILTERS)
    panels.content("quality-summary", draw_summary, dataset, chosen)
    panels.content("quality-anomalies", draw_anomalies, dataset, chosen)
    quality_profile.register(panels, dataset)
    panels.figure("quality-rates", draw_rates, dataset, chosen)
    panels.figure("quality-failures", draw_failures, dataset, chosen)
    panels.figure("quality-duplicates", draw_duplicates, dataset, chosen)
    panels.content("quality-rules", draw_rules, dataset, chosen)
    panels.content("quality-missing", draw_missing, dataset, chosen)
    panels.content("quality-drift", draw_drift, dataset, chosen)
    quarantine.register(panels, dataset)


async def draw_summary(view: View, dataset: object, chosen: object) -> Children:
    """Return what became of all rows."""
    rows = await ask.count_rows(
        view.reader, read_dataset(dataset), first_day(view.now.date(), chosen)
    )
    total = Counter[str]()
    for row in rows:
        total.update({name: row[name] for name in row.keys() if name != "day"})  # noqa: SIM118 - a record's `in` looks at values
    read, kept = total["read"], total["read"] - total["quarantined"]
    return stats(
        stat(
            "Rows that kept their contract",
            formats.share(kept, read),
            f"of {formats.count(read)} read",
            state="GOOD" if read and kept == read else "",
        ),
        stat("Quarantined", formats.count(total["quarantined"]), "or dead letters, replays too"),
        stat(
            "Duplicates",
            formats.count(total["duplicates"]),
            formats.share(total["duplicates"], read),
        ),
        stat(
            "Superseded",
            formats.count(total["superseded"]),
            formats.share(total["superseded"], read),
        ),
    )


async def draw_anomalies(view: View, dataset: object, chosen: object) -> Children:
    """Return a line for each load that looked odd, the newest on top."""
    since = dt.datetime.combine(first_day(view.now.date(), chosen), dt.time.min, dt.UTC)
    rows = await ask_anomalies.find_newest(view.reader, read_dataset(dataset), since)
    if not rows:
        return empty(
            "No load looked odd in this time.",
            "Each is compared with earlier ones, once there are enough of them.",
        )
    return list_anomalies(view, rows, caption="Anomalies")


async def draw_duplicates(view: View, dataset: object, chosen: object) -> Figure:
    """Return duplicates and superseded rows by day."""
    rows = await ask.count_rows(
        view.reader, read_dataset(dataset), first_day(view.now.date(), chosen)
    )
    if not rows:
        return say(view, "No row was read in this time.")
    x = [row["day"].isoformat() for row in rows]
    figure = bars(
        view,
        [
            Series("duplicates", x, [row["duplicates"] for row in rows], BLUE),
            Series("superseded", x, [row["superseded"] for row in rows], GREY, hatch="/"),
        ],
        unit="rows",
    )
    return mark_days(figure, len(rows))


async def draw_drift(view: View, dataset: object, chosen: object) -> Children:
    """Return how sources differed from their contracts."""
    name = read_dataset(dataset)
    datasets = [name] if name else await ask.find_datasets(view.reader)
    since = dt.datetime.combine(first_day(view.now.date(), chosen), dt.time.min, dt.UTC)
    rows = await ask.find_drift(view.reader, datasets, since)
    unrecorded = html.P(
        "Which columns messages had beyond their contract is not recorded.",
        className="card-note",
    )
    if not rows:
        return [
            empty("Every source had the columns of its contract.", "There is nothing to do."),
            unrecorded,
        ]
    return [
        table(
            ["Dataset", "What", "Newest source", "Seen", "Run"],
            [
                [
                    row["dataset"],
                    ("refused: " if row["was_refused"] else "")
                    + show_note(row["dataset"], row["note"]),
                    html.Span(
                        f"{_file(row['path'])}"
                        + (f" and {row['sources'] - 1} more" if row["sources"] > 1 else ""),
                        title=row["path"],
                    ),
                    moment(view, row["last_at"], relative=True),
                    link(str(row["execution_id"]), f"/runs/{row['execution_id']}"),
                ]
                for row in rows
            ],
            caption="Drift",
        ),
        unrecorded,
    ]


def show_note(dataset: str, note: str) -> str:
    """Return a note on columns; an example of a cell in it is hidden where it may be personal."""
    return show_reason(dataset, note) if "cells in the file are not, such as" in note else note


def _file(path: str) -> str:
    return path.rsplit("/", maxsplit=1)[-1] or path
