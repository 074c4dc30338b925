"""Uptime as a CSV file, for whoever may look at the dashboard."""

import datetime as dt
from collections.abc import AsyncIterator, Sequence

from fastapi import FastAPI, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from dash_app.csv_lines import write_cell, write_lines
from dash_app.queries.system import Life, find_lives
from dash_app.reader import Reader
from infra.uptime import HEADER, UNITS, Unit, begin_of, find_uptime
from schemas.errors import SluicewayError

PATH = "/export/uptime.csv"
PIECE = dt.timedelta(days=90)
"""Of hours, as many are asked for at a time: memory does not grow with the history."""


def register_uptime_export(server: FastAPI, reader: Reader) -> None:
    """Let everybody who may look at the dashboard have the uptime at PATH; `by` is the period."""

    @server.get(PATH)
    async def export_uptime(request: Request) -> Response:
        if unknown := sorted(set(request.query_params) - {"by"}):
            return PlainTextResponse(
                f"'{unknown[0][:50]}' is nothing to ask for here: {PATH}?by= and one of "
                f"{', '.join(UNITS)} has all components and times.",
                status_code=400,
            )
        unit = read_unit(request.query_params.get("by", "month"))
        if unit is None:
            return PlainTextResponse(
                f"There is no uptime by that: ask for {PATH}?by= and one of {', '.join(UNITS)}.",
                status_code=400,
            )
        now = dt.datetime.now(dt.UTC)
        try:
            # Before the answer begins: later there is no way to say that there is none.
            lives = await find_lives(reader)
        except SluicewayError as error:
            return PlainTextResponse(str(error), status_code=503)
        return StreamingResponse(
            _write(reader, unit, lives, now),
            media_type="text/csv",
            headers={
                "Content-Disposition": "attachment; filename="
                f'"uptime-by-{unit}-{now:%Y-%m-%d}.csv"',
                "Cache-Control": "no-store",
            },
        )


def read_unit(given: str) -> Unit | None:
    """Return the period that an address asks for; None where there is none of that name."""
    return next((unit for unit in UNITS if unit == given), None)


async def _write(
    reader: Reader, unit: Unit, lives: Sequence[Life], now: dt.datetime
) -> AsyncIterator[str]:
    """Yield the file in pieces, each component's periods together.

    Raises AwayError where PostgreSQL goes away meanwhile: the download is then broken off, so that
    nobody takes a part for the whole.
    """
    yield write_lines([HEADER])
    for life in lives:
        begin = begin_of(life.first_at, unit)
        while begin < now:
            # Longer periods are few, and a piece may not end within one.
            end = begin + PIECE if unit == "hour" else now
            found = await find_uptime(
                reader, unit, begin=begin, end=end, now=now, component=life.component
            )
            if found:
                yield write_lines([[write_cell(each.component), *each.cells[1:]] for each in found])
            begin = end
