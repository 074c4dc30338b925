"""The quarantine as a CSV file, for operators.

Rows of datasets without a contract are masked here as on the page, and those of datasets with
personal columns stand there as `encrypted`: the dashboard has no keys. Whoever has them reads the
rows by `python -m tasks.open_sealed quarantine`, with the numbers of the column `id`.

Rows come from PostgreSQL some thousands at a time, each by a short query that goes on where the
one before ended, so that memory does not grow, and a slow download keeps no connection of the
dashboard's, nor an old snapshot that would hold up VACUUM.
"""

import datetime as dt
from collections.abc import AsyncIterator, Sequence
from urllib.parse import urlencode

import asyncpg
from fastapi import FastAPI, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from dash_app.access.users import current_user
from dash_app.csv_lines import write_cell, write_lines
from dash_app.masking import show_raw, show_reason
from dash_app.queries.quarantine import RAW_CHARACTERS, Choice, find_before, read_choice
from dash_app.reader import Reader
from schemas.errors import SluicewayError

PATH = "/export/quarantine.csv"
MAX_ROWS = 1_000_000
"""As many as a spreadsheet can open."""
BLOCK_ROWS = 2000
HEADER = (
    "id",
    "quarantined_at",
    "dataset",
    "source",
    "line",
    "rule",
    "column_name",
    "reason",
    "raw",
    "contract_version",
    "execution_id",
    "batch_id",
    "replayed_at",
    "outcome",
)


def register_export(server: FastAPI, reader: Reader) -> None:
    """Let operators have the chosen rows of the quarantine at PATH."""

    @server.get(PATH)
    async def export(request: Request) -> Response:
        if not current_user().is_operator:
            return PlainTextResponse(
                "Only an operator may export the quarantine: log in as one.", status_code=403
            )
        asked = request.query_params
        names = ("dataset", "rule", "execution", "text")
        choice = read_choice(*(asked.get(name) for name in names))
        try:
            # Before the answer begins: later there is no way to say that there is none.
            first = await find_before(reader, choice, before=None, limit=BLOCK_ROWS)
        except SluicewayError as error:
            return PlainTextResponse(str(error), status_code=503)
        return StreamingResponse(
            _write(reader, choice, first),
            media_type="text/csv",
            headers={
                "Content-Disposition": "attachment; filename="
                f'"quarantine-{dt.datetime.now(dt.UTC):%Y-%m-%d}.csv"',
                "Cache-Control": "no-store",
            },
        )


def export_address(choice: Choice) -> str:
    """Return where the chosen rows are to be had."""
    given = {
        "dataset": choice.dataset,
        "rule": choice.rule,
        "execution": "" if choice.execution is None else str(choice.execution),
        "text": choice.text,
    }
    asked = urlencode({name: value for name, value in given.items() if value})
    return f"{PATH}?{asked}" if asked else PATH


async def _write(
    reader: Reader, choice: Choice, first: Sequence[asyncpg.Record]
) -> AsyncIterator[str]:
    """Yield the file in pieces.

    Raises AwayError where PostgreSQL goes away meanwhile: the download is then broken off, so that
    nobody takes a part for the whole.
    """
    yield write_lines([HEADER])
    left, block = MAX_ROWS, first
    while block:
        rows = [_cells(row) for row in block if _says(row, choice.text)][:left]
        left -= len(rows)
        if rows:
            yield write_lines(rows)
        if left == 0 or len(block) < BLOCK_ROWS:
            return
        block = await find_before(reader, choice, before=block[-1]["id"], limit=BLOCK_ROWS)


def _says(row: asyncpg.Record, text: str) -> bool:
    return text.lower() in show_reason(row["dataset"], row["reason"]).lower()


def _cells(row: asyncpg.Record) -> list[str]:
    raw = show_raw(row["dataset"], row["raw"], is_operator=True)
    shown = dict(row) | {
        "reason": show_reason(row["dataset"], row["reason"]),
        "raw": f"{raw}…" if (row["raw_characters"] or 0) > RAW_CHARACTERS else raw,
    }
    return [write_cell(shown[name]) for name in HEADER]
