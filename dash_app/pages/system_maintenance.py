"""Maintenance windows: a card of the system's page that everybody reads and operators write."""

import datetime as dt
from collections.abc import Awaitable, Mapping
from typing import Any

import asyncpg
import dash_mantine_components as dmc
import structlog
from dash import ALL, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component

from dash_app.formats import Sign
from dash_app.pages.maintenance_windows import EVERYTHING, end_window, judge, set_window
from dash_app.panels import VIEW, Children, Panels
from dash_app.parts import aria, card, complain, empty, moment, place, table
from dash_app.queries import system as ask
from dash_app.view import View
from schemas.errors import SluicewayError

log = structlog.get_logger("sluiceway.dashboard")

SHOWN = dt.timedelta(days=30)
_END = "maintenance-end"
_UNEXPECTED = "It could not be set: the dashboard's log says why."
_STATES = {
    "RUNNING": Sign("▶", "running", "blue", "/"),
    "PLANNED": Sign("…", "planned", "gray", "."),
    "PAST": Sign("✓", "over", "teal", ""),
    "CANCELLED": Sign("✕", "called off", "gray", "x"),
}


def lay_out() -> list[Component]:
    """Return the card."""
    return [
        card(
            "Maintenance",
            place("maintenance-windows", height=44),
            html.Div(id="maintenance-form"),
            html.Div(id="maintenance-zone", className="card-note"),
            html.Div(id="maintenance-answer", role="status", **aria(live="polite")),
            dcc.Store(id="maintenance-changes"),
            note="Minutes within a window count neither for uptime nor against it. Running, "
            "planned, and of the past 30 days.",
        )
    ]


def register(panels: Panels) -> None:
    """Connect the card's panels."""
    panels.content("maintenance-windows", draw_windows, Input("maintenance-changes", "data"))
    panels.content("maintenance-zone", draw_zone)

    # Once for each visit, not with each refresh: what is being typed stays.
    @panels.app.callback(
        Output("maintenance-form", "children"), Input("maintenance-form", "id"), State(VIEW, "data")
    )
    async def draw_once(_: str, viewed: Mapping[str, Any] | None) -> Any:
        try:
            return await draw_form(panels.read_view(viewed))
        except SluicewayError as error:
            return complain(str(error))

    answers = (Output("maintenance-answer", "children"), Output("maintenance-changes", "data"))

    @panels.app.callback(
        *answers,
        Input("maintenance-set", "n_clicks"),
        State("maintenance-component", "value"),
        State("maintenance-from", "value"),
        State("maintenance-until", "value"),
        State("maintenance-reason", "value"),
        State(VIEW, "data"),
        prevent_initial_call=True,
    )
    async def answer_set(clicks: int | None, *values: Any) -> tuple[Any, Any]:
        # A button that was only just drawn triggers too, without a click.
        if not clicks:
            return no_update, no_update
        *fields, viewed = values
        return await _answer(view := panels.read_view(viewed), set_window(view, *fields))

    # For the windows' buttons, which are there while the form is not drawn yet.
    @panels.app.callback(
        *(
            Output(each.component_id, each.component_property, allow_duplicate=True)
            for each in answers
        ),
        Input({"type": _END, "window": ALL}, "n_clicks"),
        State(VIEW, "data"),
        prevent_initial_call=True,
    )
    async def answer_end(_: Any, viewed: Mapping[str, Any] | None) -> tuple[Any, Any]:
        pressed = ctx.triggered_id
        if not pressed or not any(each["value"] for each in ctx.triggered):
            return no_update, no_update
        return await _answer(view := panels.read_view(viewed), end_window(view, pressed["window"]))


async def _answer(view: View, change: Awaitable[str]) -> tuple[Any, Any]:
    try:
        said = await change
    except SluicewayError as error:
        return complain(str(error)), no_update
    except Exception:
        log.exception("a maintenance window could not be set")
        return complain(_UNEXPECTED), no_update
    return html.Span([html.Span("✓ ", className="glyph teal"), said]), view.now.isoformat()


async def draw_windows(view: View, _: Any = None) -> Children:
    """Return the windows; operators can end those that are not over."""
    rows = await ask.find_windows(view.reader, view.now - SHOWN)
    if not rows:
        return empty(
            "No maintenance is planned, and there was none in 30 days.",
            "Set it below." if view.user.is_operator else "Operators set it here.",
        )
    heads = ["State", "Part", "From", "Until", "Reason", "By"]
    return table(
        [*heads, "Change"] if view.user.is_operator else heads,
        [
            [
                _mark(state := judge(row, view.now)),
                row["component"] or EVERYTHING,
                moment(view, row["starts_at"]),
                moment(view, row["ends_at"]),
                row["reason"],
                row["created_by"]
                + (f", changed by {row['changed_by']}" if row["changed_by"] else ""),
                *([_button(row, state)] if view.user.is_operator else []),
            ]
            for row in rows
        ],
        caption="Maintenance windows",
    )


def _mark(state: str) -> Component:
    sign = _STATES[state]
    return html.Span(
        [html.Span(sign.glyph, className="glyph", **aria(hidden="true")), f" {sign.word}"],
        className=f"badge {sign.colour}",
    )


def _button(row: asyncpg.Record, state: str) -> Component | str:
    if state not in {"RUNNING", "PLANNED"}:
        return ""
    says = "End now" if state == "RUNNING" else "Call off"
    return html.Button(
        says,
        id={"type": _END, "window": row["id"]},
        type="button",
        className="plain-button",
        **aria(label=f"{says}: {row['reason'][:100]}"),
    )


async def draw_zone(view: View) -> Children:
    """Return which zone the form's times are in, for who sees the form."""
    if not view.user.is_operator:
        return None
    local = view.now.astimezone(view.zone)
    return f"Times are in your zone, {view.zone.key}, where it is {local:%H:%M}."


async def draw_form(view: View) -> Children:
    """Return the form that sets a window; nothing for who may not."""
    if not view.user.is_operator:
        return None
    parts = [each.component for each in await ask.find_lives(view.reader)]
    return html.Div(
        [
            html.H3("Set a maintenance window", className="form-title"),
            html.Div(
                [
                    dmc.Select(
                        id="maintenance-component",
                        label="Part",
                        placeholder=EVERYTHING,
                        data=parts,
                        clearable=True,
                        size="xs",
                        w=180,
                    ),
                    dmc.TextInput(
                        id="maintenance-from",
                        label="From",
                        placeholder="now, 14:00 or 2026-01-31 14:00",
                        size="xs",
                        w=220,
                    ),
                    dmc.TextInput(
                        id="maintenance-until",
                        label="Until",
                        placeholder="2 h, 15:30 or 2026-01-31 15:30",
                        size="xs",
                        w=220,
                    ),
                    dmc.TextInput(
                        id="maintenance-reason",
                        label="Reason",
                        placeholder="why",
                        size="xs",
                        w=260,
                    ),
                    dmc.Button("Set", id="maintenance-set", size="xs"),
                ],
                className="filters",
            ),
        ],
        role="group",
        className="maintenance-form",
        **aria(label="Set a maintenance window"),
    )
