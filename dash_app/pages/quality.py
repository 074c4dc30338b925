"""Quality: whether the data can be trusted, rule by rule, and what was refused."""

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import asyncpg
import dash_mantine_components as dmc
from dash import Input, html
from dash.development.base_component import Component

from dash_app import formats
from dash_app.figures import BLUE, GREY, PALETTE, TEAL, Figure, Series, bars, lines, say
from dash_app.masking import show_reason
from dash_app.pages import quarantine
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
from dash_app.queries import quality as ask
from dash_app.queries.quarantine import read_choice
from dash_app.view import View

PATH, NAME, TITLE = "/quality", "Quality", "Quality"
RANGES = {"7d": 7, "30d": 30, "90d": 90}
"""Days, by what the address says."""
_DEFAULT_RANGE = "30d"
_SHOWN_RULES = 6
_LISTED_RULES = 30
_LISTED_COLUMNS = 40
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_HATCHES = ("", "/", "x", ".", "\\", "-", "+")
_NOTHING_CHECKED = (
    "No row was checked in this time. Choose a longer one, or start a load: "
    "prefect deployment run daily_etl_pipeline/daily"
)


def lay_out(
    dataset: object = "",
    range: object = _DEFAULT_RANGE,  # noqa: A002 - the address says `range`
    rule: object = "",
    execution: object = "",
    text: object = "",
    row: object = "",
    **_: Any,
) -> Component:
    """Return the page."""
    choice = read_choice(dataset, rule, execution, text)
    chosen = range if isinstance(range, str) and range in RANGES else _DEFAULT_RANGE
    return page(
        "Can I trust it?",
        address("quality", "dataset", "range", *quarantine.PARAMETERS),
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
                    value=chosen,
                    size="xs",
                    **aria(label="Time"),
                ),
            ],
            className="filters",
        ),
        place("quality-summary", height=84),
        grid(
            card(
                "Pass rate by rule",
                chart("quality-rates", "Share of the checked rows that kept each rule, by day"),
                note="Of the rows checked on a day (UTC), those that kept the rule; "
                "the rules that were broken most.",
            ),
            card(
                "Failures by rule",
                chart("quality-failures", "Rows that broke a rule, by day and rule"),
                note="Rows by day (UTC) and rule; a row can break several.",
            ),
            card(
                "Duplicates",
                chart("quality-duplicates", "Duplicates and superseded rows by day"),
                note="By day, UTC. Superseded rows came late, with an older version.",
            ),
            card("Broken rules", place("quality-rules", height=200)),
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
        ),
        *quarantine.lay_out(choice, row),
    )


def register(panels: Panels) -> None:
    """Connect the page's panels."""
    dataset, chosen = Input("quality-dataset", "value"), Input("quality-range", "value")
    panels.remember("quality", dataset, chosen, *quarantine.FILTERS)
    panels.content("quality-summary", draw_summary, dataset, chosen)
    panels.figure("quality-rates", draw_rates, dataset, chosen)
    panels.figure("quality-failures", draw_failures, dataset, chosen)
    panels.figure("quality-duplicates", draw_duplicates, dataset, chosen)
    panels.content("quality-rules", draw_rules, dataset, chosen)
    panels.content("quality-missing", draw_missing, dataset, chosen)
    panels.content("quality-drift", draw_drift, dataset, chosen)
    quarantine.register(panels, dataset)


async def draw_summary(view: View, dataset: object, chosen: object) -> Children:
    """Return what became of all rows."""
    rows = await ask.count_rows(view.reader, _text(dataset), _first_day(view, chosen))
    total = Counter[str]()
    for row in rows:
        total.update({name: row[name] for name in row.keys() if name != "day"})  # noqa: SIM118 - a record's `in` looks at values
    read, kept = total["read"], total["read"] - total["quarantined"]
    return stats(
        stat(
            "Rows that kept their contract",
            formats.share(kept, read),
            f"of {formats.count(read)} read",
            state="" if not read else "GOOD" if kept == read else "BAD",
        ),
        stat("Quarantined", formats.count(total["quarantined"]), "or dead letters"),
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


async def draw_rates(view: View, dataset: object, chosen: object) -> Figure:
    """Return the share of the checked rows that kept a rule, day by day, for the worst rules."""
    checked, failed = await _count(view, dataset, chosen)
    if not checked:
        return say(view, _NOTHING_CHECKED)
    by_rule = _by_rule(failed, is_one=bool(_text(dataset)))
    days = sorted(checked)
    x = [day.isoformat() for day in days]
    if not by_rule:
        return lines(
            view,
            [Series("every rule", x, [100.0] * len(x), TEAL)],
            unit="% of rows",
            from_zero=False,
        )
    worst = sorted(by_rule, key=lambda name: (-by_rule[name].total(), name))[:_SHOWN_RULES]
    return lines(
        view,
        [
            Series(
                name,
                x,
                [100.0 * max(0.0, 1 - by_rule[name][day] / checked[day]) for day in days],
                PALETTE[number],
                dash=_DASHES[number],
                hover=[
                    f"{formats.count(by_rule[name][day])} of {formats.count(checked[day])} broke it"
                    for day in days
                ],
            )
            for number, name in enumerate(worst)
        ],
        unit="% of rows",
        hover="%{y:.2f} %",
        from_zero=False,
    )


async def draw_failures(view: View, dataset: object, chosen: object) -> Figure:
    """Return rows that broke a rule, by day and rule."""
    checked, failed = await _count(view, dataset, chosen)
    if not checked:
        return say(view, _NOTHING_CHECKED)
    by_rule = _by_rule(failed, is_one=bool(_text(dataset)))
    if not by_rule:
        return say(view, "No row broke a rule in this time.")
    ordered = sorted(by_rule, key=lambda name: (-by_rule[name].total(), name))
    series = [
        _failures(name, by_rule[name], number) for number, name in enumerate(ordered[:_SHOWN_RULES])
    ]
    if others := ordered[_SHOWN_RULES:]:
        summed = sum((by_rule[name] for name in others), Counter[dt.date]())
        series.append(_failures("all others", summed, _SHOWN_RULES))
    return bars(view, series, unit="rows")


async def draw_duplicates(view: View, dataset: object, chosen: object) -> Figure:
    """Return duplicates and superseded rows by day."""
    rows = await ask.count_rows(view.reader, _text(dataset), _first_day(view, chosen))
    if not rows:
        return say(view, "No row was read in this time.")
    x = [row["day"].isoformat() for row in rows]
    return bars(
        view,
        [
            Series("duplicates", x, [row["duplicates"] for row in rows], BLUE),
            Series("superseded", x, [row["superseded"] for row in rows], GREY, hatch="/"),
        ],
        unit="rows",
    )


async def draw_rules(view: View, dataset: object, chosen: object) -> Children:
    """Return a line for each broken rule, the one broken most on top."""
    checked, failed = await _count(view, dataset, chosen)
    if not checked:
        return empty("No row was checked in this time.", _then())
    total = Counter[tuple[str, str | None, str]]()
    for row in failed:
        total[row["dataset"], row["column_name"], row["rule"]] += row["failed"]
    if not total:
        return empty("No row broke a rule in this time.", "There is nothing to do.")
    rows = sum(checked.values())
    drawn = table(
        ["Dataset", "Column", "Rule", "Rows", "of those checked"],
        [
            [
                name,
                column or formats.NOTHING,
                link(rule, _quarantine_of(name, rule)),
                formats.count(count),
                formats.share(count, rows),
            ]
            for (name, column, rule), count in total.most_common(_LISTED_RULES)
        ],
        caption="Broken rules",
        numbers=(3, 4),
    )
    left = len(total) - _LISTED_RULES
    return [drawn, f"and {formats.count(left)} more" if left > 0 else ""]


async def draw_missing(view: View, dataset: object, chosen: object) -> Children:
    """Return how many cells of each column were empty, the worst column on top."""
    rows = await ask.count_missing(view.reader, _text(dataset), _first_day(view, chosen))
    if not rows:
        return empty("No row was checked in this time.", _then())
    drawn = table(
        ["Column", "Missing", "of rows", "Filled in", "Of another type"],
        [
            [
                f"{row['dataset']}.{row['column_name']}",
                formats.share(row["missing"], row["checked"]),
                formats.count(row["checked"]),
                formats.count(row["filled"]),
                formats.count(row["mistyped"]),
            ]
            for row in rows[:_LISTED_COLUMNS]
        ],
        caption="Missing values by column",
        numbers=(1, 2, 3, 4),
    )
    left = len(rows) - _LISTED_COLUMNS
    return [drawn, f"and {formats.count(left)} more columns, with fewer" if left > 0 else ""]


async def draw_drift(view: View, dataset: object, chosen: object) -> Children:
    """Return how sources differed from their contracts."""
    name = _text(dataset)
    datasets = [name] if name else await ask.find_datasets(view.reader)
    since = dt.datetime.combine(_first_day(view, chosen), dt.time.min, dt.UTC)
    rows = await ask.find_drift(view.reader, datasets, since)
    unrecorded = html.P(
        "Which columns messages had beyond their contract, and how values are distributed, is not "
        "recorded yet.",
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


def _then() -> str:
    return _NOTHING_CHECKED.split(". ", maxsplit=1)[1]


def _first_day(view: View, chosen: object) -> dt.date:
    days = RANGES.get(str(chosen), RANGES[_DEFAULT_RANGE])
    return view.now.date() - dt.timedelta(days=days - 1)


def _text(dataset: object) -> str | None:
    return read_choice(dataset, None, None, None).dataset or None


async def _count(
    view: View, dataset: object, chosen: object
) -> tuple[dict[dt.date, int], list[asyncpg.Record]]:
    """Return how many rows were checked each day, and which rules were broken then."""
    name, first_day = _text(dataset), _first_day(view, chosen)
    checked = await ask.count_checked(view.reader, name, first_day)
    return checked, await ask.count_failed(view.reader, name, first_day)


def _by_rule(failed: Sequence[asyncpg.Record], *, is_one: bool) -> dict[str, Counter[dt.date]]:
    """Return failures by rule and day; is_one: of one dataset: its columns are told apart."""
    by_rule: dict[str, Counter[dt.date]] = defaultdict(Counter)
    for row in failed:
        column = row["column_name"]
        name = f"{column}: {row['rule']}" if is_one and column else row["rule"]
        by_rule[name][row["day"]] += row["failed"]
    return by_rule


def _failures(name: str, by_day: Counter[dt.date], number: int) -> Series:
    days = sorted(by_day)
    return Series(
        name,
        [day.isoformat() for day in days],
        [by_day[day] for day in days],
        PALETTE[number % len(PALETTE)],
        hatch=_HATCHES[number % len(_HATCHES)],
    )


def _quarantine_of(dataset: str, rule: str) -> str:
    return quarantine.page_address(read_choice(dataset, rule, None, None))


def _file(path: str) -> str:
    return path.rsplit("/", maxsplit=1)[-1] or path
