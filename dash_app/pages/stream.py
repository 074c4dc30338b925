"""The stream: is it keeping up."""

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import dash_mantine_components as dmc
from dash import Input, Output, html
from dash.development.base_component import Component

from dash_app import formats
from dash_app.figures import (
    BLUE,
    GREY,
    ORANGE,
    PALETTE,
    RED,
    TEAL,
    Figure,
    Series,
    bars,
    lines,
    say,
)
from dash_app.formats import Sign
from dash_app.pages import stream_letters
from dash_app.panels import VIEW, Children, Panels, address
from dash_app.parts import aria, card, chart, empty, grid, moment, page, place, stat, stats, table
from dash_app.queries import stream as ask
from dash_app.queries.stream import Stream
from dash_app.view import View
from schemas.errors import SluicewayError

PATH, NAME, TITLE = "/stream", "Stream", "Stream"
RANGES = {"15m": "15 min", "1h": "1 hour", "6h": "6 hours", "24h": "24 hours"}
_SPANS = {
    "15m": dt.timedelta(minutes=15),
    "1h": dt.timedelta(hours=1),
    "6h": dt.timedelta(hours=6),
    "24h": dt.timedelta(hours=24),
}
_POINTS = 180
_LEAST_BUCKET = dt.timedelta(minutes=1)
MAX_LINES = 6
"""Lines of a chart that a person can tell apart."""
SILENT_SECONDS = 60.0
"""A consumer measures its lag every 5 s, and commits at least every second what there is."""
LAG_SECONDS = 60.0
"""A lag beyond this is a problem; the promise is five minutes."""
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
_STATES = {
    "KEEPING": Sign("✓", "keeping up", "teal", ""),
    "BEHIND": Sign("✕", "behind", "red", "x"),
    "SILENT": Sign("✕", "silent", "red", "x"),
    "UNOWNED": Sign("?", "never claimed", "gray", "."),
}
NO_STREAM = "No consumer has read anything yet."
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
    panels.figure("stream-lag-messages", draw_lag_messages, of, chosen)
    panels.figure("stream-lag-seconds", draw_lag_seconds, of, chosen)
    panels.figure("stream-throughput", draw_throughput, of, chosen)
    panels.figure("stream-sizes", draw_sizes, of, chosen)
    panels.figure("stream-flushes", draw_flushes, of, chosen)
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


async def draw_lag_messages(view: View, of: str | None, chosen: str) -> Figure:
    """Return messages not read yet, a line a partition."""
    return await _draw_lag(view, of, chosen, "lag_messages", "messages", formats.count)


async def draw_lag_seconds(view: View, of: str | None, chosen: str) -> Figure:
    """Return the age of the oldest unread message, a line a partition."""
    return await _draw_lag(view, of, chosen, "lag_seconds", "seconds", formats.duration)


async def _draw_lag(
    view: View, of: str | None, chosen: str, column: str, unit: str, write: Any
) -> Figure:
    stream = await ask.choose_stream(view.reader, of)
    if stream is None:
        return say(view, NO_STREAM)
    partitions = await _worst_partitions(view, stream)
    since, bucket = _cut(view, chosen, _SPANS["15m"] / _POINTS)
    rows = await ask.find_lag(view.reader, stream, partitions, since=since, bucket=bucket)
    if not rows:
        return say(view, "No lag was measured in this time: no consumer was alive.")
    by_partition = defaultdict(list)
    for row in rows:
        by_partition[row["partition"]].append((row["at"], row[column]))
    series = []
    for place_, (partition, points) in enumerate(sorted(by_partition.items())):
        broken = _break(points, 3 * bucket)
        series.append(
            Series(
                f"partition {partition}",
                [view.local(at) for at, _ in broken],
                [value for _, value in broken],
                PALETTE[place_ % len(PALETTE)],
                dash=_DASHES[place_ % len(_DASHES)],
                hover=[write(value) for _, value in broken],
            )
        )
    return _from_to(view, lines(view, series, unit=unit, hover="%{text}"), since, chosen)


async def _worst_partitions(view: View, stream: Stream) -> list[int]:
    rows = await ask.find_partitions(view.reader, stream)
    worst = sorted(rows, key=lambda row: (-(row["lag_messages"] or 0), row["partition"]))
    return sorted(row["partition"] for row in worst[:MAX_LINES])


def _break(
    points: Sequence[tuple[dt.datetime, float]], longest: dt.timedelta
) -> list[tuple[dt.datetime, float | None]]:
    """Return the points with a gap where nothing was measured, so that no line is drawn there."""
    broken: list[tuple[dt.datetime, float | None]] = []
    for at, value in points:
        if broken and at - broken[-1][0] > longest:
            broken.append((at - longest / 2, None))
        broken.append((at, value))
    return broken


async def draw_throughput(view: View, of: str | None, chosen: str) -> Figure:
    """Return messages a second."""
    found = await _find_batches(view, of, chosen)
    if found is None:
        return say(view, NO_STREAM)
    rows, since, bucket = found
    if not rows:
        return say(view, "No batch was committed in this time.")
    x = [view.local(row["at"]) for row in rows]
    seconds = [min(bucket, view.now - row["at"]).total_seconds() or 1.0 for row in rows]

    def rates(column: str) -> list[float]:
        return [round(row[column] / length, 2) for row, length in zip(rows, seconds, strict=True)]

    series = [Series("loaded", x, rates("loaded"), TEAL)]
    if any(row["skipped"] for row in rows):
        series.append(Series("skipped", x, rates("skipped"), GREY, hatch="/"))
    if any(row["dead"] for row in rows):
        series.append(Series("dead letters", x, rates("dead"), RED, hatch="x"))
    return _from_to(view, bars(view, series, unit="messages/s"), since, chosen)


async def draw_sizes(view: View, of: str | None, chosen: str) -> Figure:
    """Return how many messages a batch had."""
    return await _draw_batches(
        view, of, chosen, {"average": "average_messages", "largest": "most_messages"}, "messages"
    )


async def draw_flushes(view: View, of: str | None, chosen: str) -> Figure:
    """Return how long a batch took to be committed."""
    return await _draw_batches(
        view, of, chosen, {"average": "average_seconds", "longest": "longest_seconds"}, "seconds"
    )


async def _draw_batches(
    view: View, of: str | None, chosen: str, columns: Mapping[str, str], unit: str
) -> Figure:
    found = await _find_batches(view, of, chosen)
    if found is None:
        return say(view, NO_STREAM)
    rows, since, bucket = found
    if not rows:
        return say(view, "No batch was committed in this time.")
    series = []
    looks = ((BLUE, "solid"), (ORANGE, "dot"))
    for (name, column), (colour, dash) in zip(columns.items(), looks, strict=True):
        broken = _break([(row["at"], row[column]) for row in rows], 5 * bucket)
        series.append(
            Series(
                name,
                [view.local(at) for at, _ in broken],
                [value for _, value in broken],
                colour,
                dash=dash,
            )
        )
    shown = "%{y:,.0f}" if unit == "messages" else "%{y:.3f} s"
    return _from_to(view, lines(view, series, unit=unit, hover=shown), since, chosen)


async def _find_batches(
    view: View, of: str | None, chosen: str
) -> tuple[list[asyncpg.Record], dt.datetime, dt.timedelta] | None:
    stream = await ask.choose_stream(view.reader, of)
    if stream is None:
        return None
    since, bucket = _cut(view, chosen, _LEAST_BUCKET)
    rows = await ask.find_batches(view.reader, stream, since=since, bucket=bucket)
    return rows, since, bucket


def _cut(view: View, chosen: str, least: dt.timedelta) -> tuple[dt.datetime, dt.timedelta]:
    """Return since when to look, and how long a point of the chart lasts.

    The first point begins at a multiple of its length: refreshes do not move the points.
    """
    span = _SPANS.get(chosen, _SPANS["1h"])
    bucket = max(span / _POINTS, least)
    since = (view.now - span).timestamp()
    length = bucket.total_seconds()
    return dt.datetime.fromtimestamp(since - since % length, dt.UTC), bucket


def _from_to(view: View, figure: Figure, since: dt.datetime, chosen: str) -> Figure:
    """Let the chart show the whole of its time, also where nothing happened.

    A zoom stays when it is refreshed, until another time is chosen.
    """
    layout = figure["layout"]
    layout["xaxis"] |= {"type": "date", "range": [view.local(since), view.local(view.now)]}
    layout["uirevision"] = chosen
    return figure
