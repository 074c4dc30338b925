"""What the last loads of a dataset looked like: a card of the quality page, and its charts."""

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Sequence

import asyncpg
from dash import Input, html
from dash.development.base_component import Component

from dash_app import formats
from dash_app.figures import GREY, PALETTE, RED, Figure, Series, lines, mark, say
from dash_app.masking import show_bounds
from dash_app.pages.anomaly_table import show_figure
from dash_app.pages.days import mark_days
from dash_app.pages.quality_rules import read_dataset
from dash_app.panels import Children, Panels
from dash_app.parts import card, chart, empty, grid, link, moment, place, table
from dash_app.queries import anomalies as ask_anomalies
from dash_app.queries import profiles as ask
from dash_app.view import View
from schemas.datasets import DATASETS

DAYS = 90
NOTHING = "No load of it was profiled."
THEN = "Each load is, once it is written: prefect deployment run daily_etl_pipeline/daily"
_SHOWN = 5
"""Lines of a chart; more cannot be told apart."""
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_SYMBOLS = ("x-thin", "triangle-up-open")


def lay_out() -> list[Component]:
    """Return the cards."""
    return [
        grid(
            card(
                "Rows a load",
                chart("quality-volume", "Rows a load by day and feed, odd loads marked"),
                note=f"Average of the loads of a day (UTC), {DAYS} days; ✕ is a load of an odd "
                "size, △ one that was odd otherwise.",
            ),
            card(
                "Missing cells",
                chart("quality-missing-days", "Share of missing cells by day and column"),
                note=f"Share of a column's cells by day (UTC), {DAYS} days: the columns that miss "
                "most; ✕ is a load with oddly many or few, △ one with cells of another type.",
            ),
            least=460,
        ),
        card("The last loads", place("quality-profile", height=300)),
    ]


def register(panels: Panels, dataset: Input) -> None:
    """Connect the cards' panels."""
    panels.content("quality-profile", draw_profile, dataset)
    panels.figure("quality-volume", draw_volume, dataset)
    panels.figure("quality-missing-days", draw_missing_days, dataset)


async def draw_profile(view: View, dataset: object) -> Children:
    """Return the columns of the dataset's last load, and its last loads."""
    name = await _choose(view, dataset)
    if name is None:
        return empty("No load was profiled yet.", THEN)
    loads = await ask.find_loads(view.reader, name)
    if not loads:
        return empty(NOTHING, THEN)
    last = loads[0]
    columns = await ask.describe_columns(view.reader, last["id"], show_bounds(name))
    return [
        html.P(
            [
                html.Strong(name),
                "" if read_dataset(dataset) else " (loaded last; choose another above)",
                f": {formats.count(last['read'])} rows of {last['feed']}, ",
                html.Span(moment(view, last["profiled_at"], relative=True)),
                ".",
            ],
            className="card-note",
        ),
        _list_columns(name, columns),
        html.H3("Loads", className="form-title profile-loads"),
        _list_loads(view, loads),
    ]


def _list_columns(dataset: str, columns: Sequence[asyncpg.Record]) -> Component:
    shown, order = set(show_bounds(dataset)), _order(dataset)
    return table(
        ["Column", "Cells", "Missing", "before", "Other type", "Distinct", "Least", "Most"],
        [
            [
                row["column_name"],
                formats.count(row["rows"]),
                formats.small_share(row["missing"], row["rows"]),
                formats.small_share(row["missing_before"]),
                formats.count(row["mistyped"]),
                formats.count(row["distinct_values"]),
                *(
                    (row[bound] or formats.NOTHING) if row["column_name"] in shown else "•••"
                    for bound in ("minimum", "maximum")
                ),
            ]
            for row in sorted(columns, key=lambda row: order.get(row["column_name"], len(order)))
        ],
        caption=f"Columns of the last load of {dataset}",
        numbers=(1, 2, 3, 4, 5),
    )


def _list_loads(view: View, loads: Sequence[asyncpg.Record]) -> Component:
    return table(
        ["When", "Feed", "Rows", "Duplicates", "Quarantined", "Run"],
        [
            [
                moment(view, row["profiled_at"]),
                row["feed"],
                formats.count(row["read"]),
                formats.count(row["duplicates"]),
                formats.count(row["quarantined"]),
                link(str(row["execution_id"]), f"/runs/{row['execution_id']}"),
            ]
            for row in loads
        ],
        caption="The last loads",
        numbers=(2, 3, 4),
    )


async def draw_volume(view: View, dataset: object) -> Figure:
    """Return rows a load, day by day, a line for each feed, with the loads that looked odd."""
    name, first = await _choose(view, dataset), _first_day(view)
    rows = await ask.chart_volume(view.reader, name, first) if name else []
    if not rows or name is None:
        return say(view, f"{NOTHING} {THEN}")
    total = Counter[str]()
    by_feed: dict[str, list[asyncpg.Record]] = defaultdict(list)
    for row in rows:
        total[row["feed"]] += row["loads"]
        by_feed[row["feed"]].append(row)
    figure = lines(
        view,
        [
            Series(
                feed,
                [row["day"].isoformat() for row in by_feed[feed]],
                [round(row["rows"] / row["loads"], 1) for row in by_feed[feed]],
                PALETTE[number],
                dash=_DASHES[number],
                hover=[f"{formats.count(row['loads'])} load(s)" for row in by_feed[feed]],
            )
            for number, (feed, _) in enumerate(total.most_common(_SHOWN))
        ],
        unit="rows a load",
    )
    marks = await ask_anomalies.find_marks(view.reader, name, _begin(first))
    odd = [row for row in marks if row["rule"] == "volume"]
    others = [row for row in marks if row["column_name"] is None and row["rule"] != "volume"]
    mark(
        figure,
        [
            _marked("odd size", odd, [row["observed"] for row in odd], RED),
            _marked("odd otherwise", others, [0.0] * len(others), GREY),
        ],
        symbols=_SYMBOLS,
    )
    return mark_days(figure, len({row["day"] for row in rows}))


async def draw_missing_days(view: View, dataset: object) -> Figure:
    """Return the share of missing cells, day by day, of the columns that miss most."""
    name, first = await _choose(view, dataset), _first_day(view)
    rows = await ask.chart_missing(view.reader, name, first) if name else []
    if not rows or name is None:
        return say(view, f"{NOTHING} {THEN}")
    marks = await ask_anomalies.find_marks(view.reader, name, _begin(first))
    odd = [row for row in marks if row["rule"] == "null_rate"]
    mistyped = [row for row in marks if row["rule"] == "mistyped_rate"]
    by_column: dict[str, list[asyncpg.Record]] = defaultdict(list)
    missing, cells = Counter[str](), Counter[str]()
    for row in rows:
        by_column[row["column_name"]].append(row)
        missing[row["column_name"]] += row["missing"]
        cells[row["column_name"]] += row["rows"]
    # A column that looked odd comes before one that always misses much.
    marked = {row["column_name"] for row in odd}
    worst = sorted(
        by_column, key=lambda each: (each not in marked, -missing[each] / max(1, cells[each]), each)
    )
    figure = lines(
        view,
        [
            Series(
                column,
                [row["day"].isoformat() for row in by_column[column]],
                [
                    round(100.0 * row["missing"] / row["rows"], 3) if row["rows"] else None
                    for row in by_column[column]
                ],
                PALETTE[number],
                dash=_DASHES[number],
            )
            for number, column in enumerate(worst[:_SHOWN])
        ],
        unit="% of cells",
        hover="%{y:.2f} %",
    )
    mark(
        figure,
        [
            _marked("oddly missing", odd, [100 * row["observed"] for row in odd], RED),
            _marked("another type", mistyped, [100 * row["observed"] for row in mistyped], GREY),
        ],
        symbols=_SYMBOLS,
    )
    return mark_days(figure, len({row["day"] for row in rows}))


def _marked(
    name: str, rows: Sequence[asyncpg.Record], heights: Sequence[float], colour: str
) -> Series:
    return Series(
        name,
        [row["detected_at"].astimezone(dt.UTC).date().isoformat() for row in rows],
        heights,
        colour,
        hover=[
            f"{row['column_name'] + ': ' if row['column_name'] else ''}"
            f"{show_figure(row['rule'], row['observed'])}: {row['summary'][:150]}"
            for row in rows
        ],
    )


async def _choose(view: View, dataset: object) -> str | None:
    """Return the chosen dataset, or else the one that was loaded last."""
    return read_dataset(dataset) or await ask.find_last_dataset(view.reader)


def _order(dataset: str) -> dict[str, int]:
    """Return the places of the contract's columns."""
    for each in DATASETS:
        if each.spec.table == dataset:
            return {column.name: number for number, column in enumerate(each.spec.columns)}
    return {}


def _first_day(view: View) -> dt.date:
    return view.now.astimezone(dt.UTC).date() - dt.timedelta(days=DAYS - 1)


def _begin(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time.min, dt.UTC)
