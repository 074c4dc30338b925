"""The parts that pages are built of: cards, figures' places, states, moments, tables, messages.

Whatever comes from the database goes in as text: React never takes it for markup.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import dcc, html
from dash.development.base_component import Component

from dash_app import formats
from dash_app.view import View

Part = Component | None
Child = Component | str | Sequence[Component | str] | None
CHART_HEIGHT = 260


def aria(**given: str) -> Any:
    """Return what assistive programs are told; `label` stands for `aria-label`, and so on."""
    # As Any: Dash's components declare no such keyword, and take it all the same.
    return {f"aria-{name}": value for name, value in given.items()}


def page(question: str, *children: Part) -> Component:
    """Return a page under the question that it answers."""
    return html.Div(
        [html.H1(question, className="question"), *(each for each in children if each is not None)],
        className="page",
    )


def card(title: str, *children: Part, note: str = "") -> Component:
    """Return a framed part of a page; note: what the figures in it are, in a sentence."""
    head: list[Component] = [html.H2(title, className="card-title")]
    if note:
        head.append(html.P(note, className="card-note"))
    framed: Component = dmc.Card(
        [*head, *(each for each in children if each is not None)],
        withBorder=True,
        radius="md",
        padding="md",
        className="card",
    )
    return framed


def grid(*children: Part, least: int = 340) -> Component:
    """Return cards side by side, as many as fit: one below the other on a phone."""
    return html.Div(
        [each for each in children if each is not None],
        className="grid",
        style={"--least": f"{least}px"},
    )


def place(panel: str, *, height: int = 60) -> Component:
    """Return where a content panel will be drawn; height: px that are kept free for it."""
    return html.Div(
        dmc.Skeleton(height=height, radius="sm"),
        id=panel,
        className="panel",
        style={"minHeight": height},
        **aria(live="off"),
    )


def chart(panel: str, says: str, *, height: int = CHART_HEIGHT) -> Component:
    """Return where a figure panel will be drawn; says: what it shows, for who does not see it."""
    return html.Div(
        dcc.Graph(
            id=panel,
            config={"displayModeBar": False, "responsive": True},
            style={"height": f"{height}px"},
            figure={
                "data": [],
                "layout": {
                    "xaxis": {"visible": False},
                    "yaxis": {"visible": False},
                    "paper_bgcolor": "rgba(0,0,0,0)",
                    "plot_bgcolor": "rgba(0,0,0,0)",
                },
            },
        ),
        role="img",
        className="chart",
        **aria(label=says),
    )


def stat(label: str, value: str, note: Child = None, *, state: str = "") -> Component:
    """Return one figure with its name; state: GOOD or BAD where it can be either."""
    sign = formats.sign_of(state) if state else None
    mark = html.Span(f"{sign.glyph} ", className=f"glyph {sign.colour}") if sign else ""
    return html.Div(
        [
            html.Div(label, className="stat-label"),
            html.Div([mark, value], className="stat-value"),
            html.Div(note, className="stat-note"),
        ],
        className="stat",
    )


def stats(*children: Component) -> Component:
    """Return figures in a row that wraps."""
    return html.Div(list(children), className="stats")


def badge(state: str) -> Component:
    """Return a state as sign and word."""
    sign = formats.sign_of(state)
    return html.Span(
        [html.Span(sign.glyph, className="glyph", **aria(hidden="true")), f" {sign.word}"],
        className=f"badge {sign.colour}",
    )


def moment(view: View, when: dt.datetime | None, *, relative: bool = False) -> Child:
    """Return a moment in the viewer's zone, with UTC on hover."""
    if when is None:
        return formats.NOTHING
    text = formats.ago(view, when) if relative else formats.moment_text(view, when)
    return html.Time(text, dateTime=when.isoformat(), title=formats.utc_text(when))


def link(text: Child, href: str) -> Component:
    """Return a way to another page of the dashboard."""
    return dcc.Link(text, href=href, className="link")


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    caption: str,
    numbers: Sequence[int] = (),
) -> Component:
    """Return a small table; numbers: which columns are set flush right."""
    right = frozenset(numbers)

    def cell(place_: int, child: Any) -> Component:
        return html.Td(child, className="number" if place_ in right else None)

    return html.Div(
        html.Table(
            [
                html.Caption(caption, className="visually-hidden"),
                html.Thead(
                    html.Tr(
                        [
                            html.Th(name, scope="col", className="number" if n in right else None)
                            for n, name in enumerate(heads)
                        ]
                    )
                ),
                html.Tbody(
                    [html.Tr([cell(n, each) for n, each in enumerate(row)]) for row in rows]
                ),
            ],
            className="table",
        ),
        className="table-scroll",
        # Keyboards scroll what has the focus.
        tabIndex=0,
        role="region",
        **aria(label=caption),
    )


def empty(what: str, then: str) -> Component:
    """Return what stands where nothing is yet: what is missing, and what to do about it."""
    return html.Div([html.Strong(what), " ", then], className="empty")


def complain(sentence: str) -> Component:
    """Return a failure, in the place of what it spoilt."""
    return html.Div(
        [html.Span("✕ ", className="glyph red", **aria(hidden="true")), sentence],
        className="failure",
        role="status",
    )
