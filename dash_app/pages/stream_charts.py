"""The stream's charts: how far behind, how fast, and how it was over time."""

import datetime as dt
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

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
from dash_app.queries import stream as ask
from dash_app.queries.stream import Stream
from dash_app.view import View

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
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
NO_STREAM = "No consumer has read anything yet."


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
