"""The stream: is it keeping up."""

from collections.abc import Mapping
from typing import Any

import asyncpg
import dash_mantine_components as dmc
from dash import Input, Output, html
from dash.development.base_component import Component

from dash_app import formats
from dash_app.formats import Sign
from dash_app.pages import stream_charts, stream_letters
from dash_app.pages.stream_charts import MAX_LINES, NO_STREAM, RANGES
from dash_app.panels import VIEW, Children, Panels, address
from dash_app.parts import aria, card, chart, empty, grid, moment, page, place, stat, stats, table
from dash_app.queries import stream as ask
from dash_app.view import View
from schemas.errors import SluicewayError

PATH, NAME, TITLE = "/stream", "Stream", "Stream"
SILENT_SECONDS = 60.0
"""A consumer measures its lag every 5 s, and commits at least every second what there is."""
LAG_SECONDS = 60.0
"""A lag beyond this is a problem; the promise is five minutes."""
_STATES = {
    "KEEPING": Sign("✓", "keeping up", "teal", ""),
    "BEHIND": Sign("✕", "behind", "red", "x"),
    "SILENT": Sign("✕", "silent", "red", "x"),
    "UNOWNED": Sign("?", "never claimed", "gray", "."),
}
START = (
    "Start one by the deployment stream_processing_pipeline, or by hand: "
    "python -m flows.stream_processing_pipeline --help"
)


def lay_out(
    of: str = "",
    range: str = "1h",  # noqa: A002 - the address says `range`
    **other: Any,
) -> Component:
    """Return the page."""
    return page(
        "Is it keeping up?",
        address("stream", "of", "range"),
        html.Div(
            [
                html.Div(
                    dmc.Select(
                        id="stream-of",
                        label="Group and topic",
                        placeholder="the one last moved",
                        data=[],
                        value=of or None,
                        clearable=True,
                        size="xs",
                        w=320,
                    ),
                    id="stream-choice",
                    hidden=True,
                ),
                dmc.SegmentedControl(
                    id="stream-range",
                    data=[{"value": value, "label": label} for value, label in RANGES.items()],
                    value=range if range in RANGES else "1h",
                    size="xs",
                    **aria(label="Time"),
                ),
            ],
            className="filters",
        ),
        place("stream-state", height=84),
        grid(
            card(
                "Lag in messages",
                chart("stream-lag-messages", "Messages not read yet, by partition over time"),
                note=f"The worst of each moment; of many partitions the {MAX_LINES} that are "
                "furthest behind now.",
            ),
            card(
                "Lag in seconds",
                chart("stream-lag-seconds", "Age of the oldest unread message over time"),
                note="Age of the oldest message that was not read yet.",
            ),
            card(
                "Throughput",
                chart("stream-throughput", "Messages a second by outcome over time"),
                note="Messages a second, by what became of them. Skipped ones changed nothing: "
                "duplicates, and those that came late.",
            ),
            card(
                "Batches",
                chart("stream-sizes", "Messages in a batch over time"),
                note="Messages in a batch.",
            ),
            card(
                "Flushes",
                chart("stream-flushes", "Seconds that a batch took to be committed over time"),
                note="How long PostgreSQL took for a batch, from its first row to the commit.",
            ),
        ),
        card("Consumers and their partitions", place("stream-partitions", height=160)),
        *stream_letters.lay_out(**other),
    )


def register(panels: Panels) -> None:
    """Connect the page's panels."""
    of, chosen = Input("stream-of", "value"), Input("stream-range", "value")
    panels.remember("stream", of, chosen)
    _register_choice(panels)
    panels.content("stream-state", draw_state, of)
    panels.figure("stream-lag-messages", stream_charts.draw_lag_messages, of, chosen)
    panels.figure("stream-lag-seconds", stream_charts.draw_lag_seconds, of, chosen)
    panels.figure("stream-throughput", stream_charts.draw_throughput, of, chosen)
    panels.figure("stream-sizes", stream_charts.draw_sizes, of, chosen)
    panels.figure("stream-flushes", stream_charts.draw_flushes, of, chosen)
    panels.content("stream-partitions", draw_partitions, of)
    stream_letters.register(panels, of)


def _register_choice(panels: Panels) -> None:
    @panels.app.callback(
        Output("stream-of", "data"), Output("stream-choice", "hidden"), Input(VIEW, "data")
    )
    async def answer(viewed: Mapping[str, Any] | None) -> tuple[list[dict[str, str]], bool]:
        try:
            return await list_streams(panels.read_view(viewed))
        except SluicewayError:
            # The panels below say so.
            return [], True


async def list_streams(view: View) -> tuple[list[dict[str, str]], bool]:
    """Return what can be chosen, and whether there is no choice."""
    found = await ask.find_streams(view.reader)
    choices = [
        {"value": ask.name_stream(each), "label": f"{each.group} on {each.topic}"} for each in found
    ]
    return choices, len(choices) <= 1


async def draw_state(view: View, of: str | None) -> Children:
    """Return how the group does as a whole."""
    stream = await ask.choose_stream(view.reader, of)
    rows = await ask.find_partitions(view.reader, stream) if stream else []
    if stream is None or not rows:
        return empty(NO_STREAM, START)
    last = await ask.find_last_batch(view.reader, stream)
    states = [judge(view, row) for row in rows]
    current = [row for row in rows if _is_current(view, row)]
    seconds = max((row["lag_seconds"] for row in current), default=None)
    messages = sum(row["lag_messages"] for row in current)
    silent = states.count("SILENT")
    owners = {row["owner"] for row in current if row["owner"]}
    return stats(
        stat(
            "Lag",
            formats.duration(seconds),
            f"{formats.count(messages)} messages"
            if current
            else "no consumer has reported in a minute",
            state="" if seconds is None else "BAD" if seconds > LAG_SECONDS else "GOOD",
        ),
        stat(
            "Consumers",
            formats.count(len(owners)),
            f"that report, of {stream.group} on {stream.topic}",
        ),
        stat(
            "Partitions",
            formats.count(len(rows)),
            f"{silent} silent" if silent else "none is silent",
            state="BAD" if silent else "GOOD",
        ),
        stat(
            "Last commit",
            formats.ago(view, last["committed_at"]) if last else "never",
            [
                html.Span(moment(view, last["committed_at"])),
                (
                    f": {formats.count(last['messages'])} messages"
                    f"{' of a replay' if last['is_replay'] else ''}"
                ),
            ]
            if last
            else "of this topic among the group's newest batches",
        ),
    )


def judge(view: View, row: asyncpg.Record) -> str:
    """Return the state of a partition: KEEPING, BEHIND, SILENT or UNOWNED.

    Silent is who does not report, and who reports a lag that does not shrink while it commits
    nothing.
    """
    if not row["epoch"]:
        return "UNOWNED"
    if not _is_current(view, row):
        return "SILENT"
    if not row["lag_messages"]:
        return "KEEPING"
    is_idle = view.age(row["updated_at"]) > SILENT_SECONDS
    grows = row["was_messages"] is not None and row["lag_messages"] >= row["was_messages"] > 0
    if is_idle and grows:
        return "SILENT"
    return "BEHIND" if row["lag_seconds"] > LAG_SECONDS else "KEEPING"


def _is_current(view: View, row: asyncpg.Record) -> bool:
    return row["measured_at"] is not None and view.age(row["measured_at"]) <= SILENT_SECONDS


async def draw_partitions(view: View, of: str | None) -> Children:
    """Return each partition with its owner and how far it is."""
    stream = await ask.choose_stream(view.reader, of)
    rows = await ask.find_partitions(view.reader, stream) if stream else []
    if not rows:
        return empty(NO_STREAM, START)
    return table(
        [
            "Partition",
            "State",
            "Consumer (host:process)",
            "Lag",
            "Lag in time",
            "Measured",
            "Next offset",
            "Epoch",
            "Last moved",
        ],
        [
            [
                str(row["partition"]),
                _mark(judge(view, row)),
                row["owner"] or formats.NOTHING,
                formats.count(row["lag_messages"]),
                formats.duration(row["lag_seconds"]),
                moment(view, row["measured_at"], relative=True),
                formats.count(row["next_offset"]),
                str(row["epoch"]),
                moment(view, row["updated_at"], relative=True),
            ]
            for row in rows
        ],
        caption="Partitions and their consumers",
        numbers=(0, 3, 4, 6, 7),
    )


def _mark(state: str) -> Component:
    sign = _STATES[state]
    return html.Span(
        [html.Span(sign.glyph, className="glyph", **aria(hidden="true")), f" {sign.word}"],
        className=f"badge {sign.colour}",
    )
