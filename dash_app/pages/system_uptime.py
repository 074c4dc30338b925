"""Uptime against its target: a card of the system's page.

A component's uptime is its good minutes over the minutes in which it was expected to be good: all
since its first check but for maintenance. A minute in which nobody checked was not good.
"""

import datetime as dt
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dash_mantine_components as dmc
from dash import Input, Output, html
from dash.development.base_component import Component

from dash_app import formats
from dash_app.export_uptime import PATH as EXPORT_PATH
from dash_app.figures import BLUE, STATE_COLOURS, Figure, Series, bars, say
from dash_app.panels import VIEW, Children, Panels, address
from dash_app.parts import aria, card, chart, empty, place, table
from dash_app.queries import system as ask
from dash_app.queries.system import Life, Minutes
from dash_app.view import View
from infra.uptime import TARGET
from schemas.errors import SluicewayError

RANGES = {"24h": "24 hours", "7d": "7 days", "30d": "30 days", "90d": "90 days"}
_DAYS = {"24h": 1, "7d": 7, "30d": 30, "90d": 90}
_HOURLY_DAYS = 7
NO_CHECK = "Not recorded yet: no health check has been written."
_MINUTE = dt.timedelta(minutes=1)
_HATCHES = {"good": "", "bad": "x", "unknown": ".", "maintenance": "/"}
_COLOURS = {
    "good": STATE_COLOURS["GOOD"],
    "bad": STATE_COLOURS["BAD"],
    "unknown": STATE_COLOURS["UNKNOWN"],
    "maintenance": BLUE,
}


@dataclass(frozen=True, slots=True)
class Period:
    """A time that uptime is promised for."""

    name: str
    begin: dt.datetime
    end: dt.datetime


@dataclass(frozen=True, slots=True)
class Uptime:
    """How a component did in a period, in minutes."""

    expected: int
    good: int
    bad: int
    unknown: int
    """Not checked, or without an answer."""
    maintenance: int
    allowed: float
    """That may be other than good by the end of the period."""

    @property
    def share(self) -> float | None:
        """Good minutes over expected ones; None where none was expected yet."""
        counted = self.expected - self.maintenance
        return self.good / counted if counted > 0 else None

    @property
    def left(self) -> float:
        """Minutes of the budget that are left; negative where it is overdrawn."""
        return self.allowed - self.bad - self.unknown


def make_periods(now: dt.datetime) -> list[Period]:
    """Return today, 7 and 30 days, this month and this quarter, in UTC."""
    midnight = now.astimezone(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    hour = now.astimezone(dt.UTC).replace(minute=0, second=0, microsecond=0)
    month = midnight.replace(day=1)
    quarter = month.replace(month=3 * ((month.month - 1) // 3) + 1)
    return [
        Period("Today", midnight, midnight + dt.timedelta(days=1)),
        Period("7 days", hour - dt.timedelta(days=7), now),
        Period("30 days", hour - dt.timedelta(days=30), now),
        Period("This month", month, _months_later(month, 1)),
        Period("This quarter", quarter, _months_later(quarter, 3)),
    ]


def _months_later(begin: dt.datetime, months: int) -> dt.datetime:
    years, month = divmod(begin.month - 1 + months, 12)
    return begin.replace(year=begin.year + years, month=month + 1)


def reckon(found: Minutes, period: Period, now: dt.datetime) -> Uptime:
    """Return the uptime that the minutes found make in the period so far."""
    begin = max(period.begin, found.first_at)
    elapsed = max(0, math.floor((now - begin) / _MINUTE))
    recorded = found.good + found.bad + found.unknown + found.maintenance
    # The minute under way may have been checked already.
    expected = max(elapsed, recorded)
    length = max(float(expected), (period.end - begin) / _MINUTE)
    return Uptime(
        expected=expected,
        good=found.good,
        bad=found.bad,
        unknown=found.unknown + expected - recorded,
        maintenance=found.maintenance,
        allowed=(1 - TARGET) * max(0.0, length - found.maintenance),
    )


def lay_out(component: str = "", uptime: str = "24h", **_: Any) -> list[Component]:
    """Return the card."""
    return [
        address("uptime", "component", "uptime"),
        card(
            "Uptime",
            place("uptime-table", height=120),
            html.Div(
                [
                    dmc.Select(
                        id="uptime-component",
                        label="Part",
                        placeholder="all, added up",
                        data=[],
                        value=component or None,
                        clearable=True,
                        size="xs",
                        w=220,
                    ),
                    dmc.SegmentedControl(
                        id="uptime-range",
                        data=[{"value": value, "label": label} for value, label in RANGES.items()],
                        value=uptime if uptime in RANGES else "24h",
                        size="xs",
                        **aria(label="Time of the chart"),
                    ),
                ],
                className="filters",
            ),
            chart("uptime-chart", "Minutes by state over time", height=220),
            html.Div(
                [
                    "As CSV, all there is: ",
                    *(
                        html.A(
                            f"by {unit}",
                            href=f"{EXPORT_PATH}?by={unit}",
                            download="",
                            className="plain-button export",
                        )
                        for unit in ("hour", "month", "quarter")
                    ),
                ],
                className="downloads",
            ),
            note=f"Good minutes of those expected, against {100 * TARGET:g} %; days, months and "
            "quarters in UTC. Maintenance is set apart; a minute in which nobody checked counts "
            "as not good. The budget is what may still go wrong by the end of the period.",
        ),
    ]


def register(panels: Panels) -> None:
    """Connect the card's panels."""
    component, uptime = Input("uptime-component", "value"), Input("uptime-range", "value")
    panels.remember("uptime", component, uptime)
    panels.content("uptime-table", draw_uptime)
    panels.figure("uptime-chart", draw_chart, component, uptime)

    @panels.app.callback(Output("uptime-component", "data"), Input(VIEW, "data"))
    async def answer(viewed: Mapping[str, Any] | None) -> list[str]:
        try:
            return [
                each.component for each in await ask.find_lives(panels.read_view(viewed).reader)
            ]
        except SluicewayError:
            # The panels beside it say so.
            return []


async def draw_uptime(view: View) -> Children:
    """Return each component's uptime in each period, with what is left of its budget."""
    lives = await ask.find_lives(view.reader)
    if not lives:
        return empty(NO_CHECK, "Start python -m flows.check_health --every 60; `make up` does.")
    periods = make_periods(view.now)
    found = await ask.sum_minutes(
        view.reader, lives, [period.begin for period in periods], view.now
    )
    by_place = {(each.component, each.since): each for each in found}
    return table(
        ["Part", *(period.name for period in periods)],
        [
            [
                life.component,
                *(
                    _cell(reckon(by_place[life.component, period.begin], period, view.now))
                    for period in periods
                ),
            ]
            for life in lives
        ],
        caption=f"Uptime against {100 * TARGET:g} %",
    )


def _cell(uptime: Uptime) -> Component:
    said = (
        f"{uptime.good:,} good, {uptime.bad:,} bad, {uptime.unknown:,} unknown and "
        f"{uptime.maintenance:,} maintenance of {uptime.expected:,} minutes"
    )
    if uptime.share is None:
        return html.Span("maintenance" if uptime.maintenance else formats.NOTHING, title=said)
    sign = formats.SIGNS["GOOD" if uptime.share >= TARGET else "BAD"]
    budget = (
        f"{uptime.left:,.1f} min left" if uptime.left >= 0 else f"{-uptime.left:,.1f} min overdrawn"
    )
    return html.Div(
        [
            html.Span(
                [
                    html.Span(sign.glyph, className="glyph", **aria(hidden="true")),
                    f" {percent(uptime.share)}",
                    html.Span(f" {sign.word}", className="visually-hidden"),
                ],
                className=f"badge {sign.colour}",
            ),
            html.Div(budget, className="uptime-budget"),
        ],
        title=said,
    )


def percent(share: float) -> str:
    """Return the share in percent, cut and not rounded: what misses the target never seems to."""
    # The small addition makes up for shares that binary fractions put just below.
    return f"{math.floor(share * 10_000 + 1e-9) / 100:.2f} %"


async def draw_chart(view: View, component: str | None, uptime: str) -> Figure:
    """Return minutes by state."""
    days = _DAYS.get(uptime, 1)
    unit = "hour" if days <= _HOURLY_DAYS else "day"
    step = dt.timedelta(hours=1) if unit == "hour" else dt.timedelta(days=1)
    since = view.now.astimezone(dt.UTC).replace(minute=0, second=0, microsecond=0)
    if unit == "day":
        since = since.replace(hour=0)
    since -= dt.timedelta(days=days) - (step if unit == "day" else dt.timedelta())
    lives = [
        each
        for each in await ask.find_lives(view.reader)
        if component in {None, "", each.component}
    ]
    if not lives:
        return say(view, NO_CHECK)
    rows = await ask.chart_minutes(view.reader, component or "", since, unit)
    recorded = {(row["component"], row["at"]): row for row in rows}
    starts = [since]
    while starts[-1] + step <= view.now:
        starts.append(starts[-1] + step)
    minutes = _add_up(lives, recorded, starts, step, view.now)
    x = [view.local(at) if unit == "hour" else at.date().isoformat() for at in starts]
    return bars(
        view,
        [
            Series(state, x, minutes[state], _COLOURS[state], hatch=_HATCHES[state])
            for state in _HATCHES
        ],
        unit="minutes",
    )


def _add_up(
    lives: Sequence[Life],
    recorded: Mapping[tuple[str, dt.datetime], Any],
    starts: Sequence[dt.datetime],
    step: dt.timedelta,
    now: dt.datetime,
) -> dict[str, list[int]]:
    """Return minutes by state, a figure for each start; what nobody recorded is unknown."""
    minutes: dict[str, list[int]] = defaultdict(list)
    for at in starts:
        sums = dict.fromkeys(_HATCHES, 0)
        for life in lives:
            row = recorded.get((life.component, at))
            told = {state: row[state] if row else 0 for state in _HATCHES}
            expected = math.floor((min(at + step, now) - max(at, life.first_at)) / _MINUTE)
            told["unknown"] += max(0, expected - sum(told.values()))
            for state, number in told.items():
                sums[state] += number
        for state, number in sums.items():
            minutes[state].append(number)
    return minutes
