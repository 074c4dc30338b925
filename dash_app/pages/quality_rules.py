"""The rules on the quality page: which were kept, which were broken, and what is missing."""

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Sequence

import asyncpg

from dash_app import formats
from dash_app.figures import PALETTE, TEAL, Figure, Series, bars, lines, say
from dash_app.pages import quarantine
from dash_app.pages.days import first_day, mark_days
from dash_app.panels import Children
from dash_app.parts import empty, link, table
from dash_app.queries import quality as ask
from dash_app.queries.quarantine import read_choice
from dash_app.view import View

NOTHING = "No row was checked in this time."
THEN = "Choose a longer one, or start a load: prefect deployment run daily_etl_pipeline/daily"
_SHOWN_RULES = 6
_LISTED_RULES = 30
_LISTED_COLUMNS = 40
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_HATCHES = ("", "/", "x", ".", "\\", "-", "+")


async def draw_rates(view: View, dataset: object, chosen: object) -> Figure:
    """Return the share of the checked rows that kept a rule, day by day, for the worst rules."""
    checked, _, failed = await _count(view, dataset, chosen)
    if not checked:
        return say(view, f"{NOTHING} {THEN}")
    by_rule = _by_rule(failed, is_one=bool(read_dataset(dataset)))
    days = sorted(checked)
    x = [day.isoformat() for day in days]
    if not by_rule:
        kept = Series("every rule", x, [100.0] * len(x), TEAL)
        return mark_days(lines(view, [kept], unit="% of rows", from_zero=False), len(days))
    worst = sorted(by_rule, key=lambda name: (-by_rule[name].total(), name))[:_SHOWN_RULES]
    figure = lines(
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
    return mark_days(figure, len(days))


async def draw_failures(view: View, dataset: object, chosen: object) -> Figure:
    """Return rows that broke a rule, by day and rule."""
    checked, _, failed = await _count(view, dataset, chosen)
    if not checked:
        return say(view, f"{NOTHING} {THEN}")
    by_rule = _by_rule(failed, is_one=bool(read_dataset(dataset)))
    if not by_rule:
        return say(view, "No row broke a rule in this time.")
    ordered = sorted(by_rule, key=lambda name: (-by_rule[name].total(), name))
    series = [
        _failures(name, by_rule[name], number) for number, name in enumerate(ordered[:_SHOWN_RULES])
    ]
    if others := ordered[_SHOWN_RULES:]:
        summed = sum((by_rule[name] for name in others), Counter[dt.date]())
        series.append(_failures("all others", summed, _SHOWN_RULES))
    return mark_days(bars(view, series, unit="rows"), len(checked))


async def draw_rules(view: View, dataset: object, chosen: object) -> Children:
    """Return a line for each broken rule, the one broken most on top."""
    _, checked, failed = await _count(view, dataset, chosen)
    if not checked:
        return empty(NOTHING, THEN)
    total = Counter[tuple[str, str | None, str]]()
    for row in failed:
        total[row["dataset"], row["column_name"], row["rule"]] += row["failed"]
    if not total:
        return empty("No row broke a rule in this time.", "There is nothing to do.")
    drawn = table(
        ["Dataset", "Column", "Rule", "Rows", "of those checked"],
        [
            [
                name,
                column or formats.NOTHING,
                link(rule, _quarantine_of(name, rule)),
                formats.count(count),
                formats.small_share(count, checked[name]),
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
    rows = await ask.count_missing(
        view.reader, read_dataset(dataset), first_day(view.now.date(), chosen)
    )
    if not rows:
        return empty(NOTHING, THEN)
    drawn = table(
        ["Column", "Missing", "of rows", "Filled in", "Of another type"],
        [
            [
                f"{row['dataset']}.{row['column_name']}",
                formats.small_share(row["missing"], row["checked"]),
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


def read_dataset(dataset: object) -> str | None:
    """Return the chosen dataset; None: all of them."""
    return read_choice(dataset, None, None, None).dataset or None


async def _count(
    view: View, dataset: object, chosen: object
) -> tuple[Counter[dt.date], Counter[str], list[asyncpg.Record]]:
    """Return the checked rows by day and by dataset, and which rules were broken when."""
    name, begin = read_dataset(dataset), first_day(view.now.date(), chosen)
    by_day, by_dataset = Counter[dt.date](), Counter[str]()
    for row in await ask.count_checked(view.reader, name, begin):
        by_day[row["day"]] += row["checked"]
        by_dataset[row["dataset"]] += row["checked"]
    return by_day, by_dataset, await ask.count_failed(view.reader, name, begin)


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
