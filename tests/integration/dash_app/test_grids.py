"""Long tables: whatever a browser asks for, it gets a page of rows, or a sentence."""

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest
from dash import no_update

from dash_app import grids
from dash_app.grids import Asked, Column, Fetch, Sort
from dash_app.view import View

NOW = dt.datetime(2026, 3, 10, 12, 0, tzinfo=dt.UTC)
COLUMNS = (Column("run", "Run"), Column("rows", "Rows", is_sortable=True))


@pytest.fixture
def noon(view) -> View:
    return replace(view, now=NOW)


def asking(start=0, end=50, *, sort=None, is_held=False) -> Asked:
    return Asked(start, end, sort, is_held=is_held)


def numbers(total, *, says=True) -> Fetch:
    """A function that fetches of so many rows, and knows how many, or does not say."""

    async def fetch(view, filters, sort, start, end):
        found = await view.reader.fetch(
            "SELECT generate_series($1::int, $2::int - 1) AS id", start, min(end, total)
        )
        return [{"id": row["id"]} for row in found], total if says else None

    return fetch


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({}, asking(0, 1)),
        ({"startRow": 50, "endRow": 100}, asking(50, 100)),
        ({"startRow": -5, "endRow": 10**9}, asking(0, 50)),
        ({"startRow": "x", "endRow": None, "sortModel": 3, "context": "y"}, asking(0, 1)),
        ({"startRow": 1e300, "endRow": 0}, asking(10_000, 10_001)),
        ({"startRow": float("inf"), "endRow": 20}, asking(0, 20)),
        ({"endRow": 50, "context": {"held": True}}, asking(is_held=True)),
        ({"endRow": 50, "context": {"held": "yes"}}, asking()),
        (
            {"endRow": 50, "sortModel": [{"colId": "rows", "sort": "asc"}]},
            asking(sort=Sort("rows", is_descending=False)),
        ),
        ({"endRow": 50, "sortModel": [{"colId": "run", "sort": "asc"}]}, asking()),
        ({"endRow": 50, "sortModel": [{"colId": "rows", "sort": "asc; DROP"}]}, asking()),
        ({"endRow": 50, "sortModel": [{"colId": ["rows"], "sort": {}}]}, asking()),
    ],
)
def test_a_request_becomes_a_page_of_a_sortable_column(request_, expected) -> None:
    assert grids.read_request(request_, COLUMNS) == expected


async def test_a_page_comes_with_the_total_and_ids_of_text(noon) -> None:
    filled = await grids.fill(noon, numbers(120), asking(100, 150), ())
    assert [row["id"] for row in filled["rowData"]] == [str(each) for each in range(100, 120)]
    assert filled["rowCount"] == 120


async def test_a_total_that_is_not_said_is_known_at_the_end(noon) -> None:
    assert (await grids.fill(noon, numbers(120, says=False), asking(), ()))["rowCount"] is None
    last = await grids.fill(noon, numbers(120, says=False), asking(100, 150), ())
    assert last["rowCount"] == 120


async def test_no_table_goes_deeper_than_is_counted(noon) -> None:
    endless = numbers(50_000, says=False)
    last = await grids.fill(noon, endless, asking(9_950, 10_000), ())
    assert (len(last["rowData"]), last["rowCount"]) == (50, 10_000)
    below = await grids.fill(noon, endless, asking(10_000, 10_050), ())
    assert below == {"rowData": [], "rowCount": 10_000}


async def moment_of(view, asked, memory) -> tuple[dt.datetime, Any]:
    """The moment as of which a table is filled, and what is remembered of it."""
    seen = []

    async def fetch(view, filters, sort, start, end):
        seen.append(view.now)
        return [], 0

    _, _, remembered = await grids.answer(view, fetch, asked, memory, ())
    return seen[0], remembered


async def test_what_is_read_further_down_stays_as_of_when_the_top_was_shown(noon) -> None:
    shown = NOW - dt.timedelta(minutes=5)
    memory = {"as_of": shown.isoformat()}
    assert await moment_of(noon, asking(), memory) == (NOW, {"as_of": NOW.isoformat()})
    assert await moment_of(noon, asking(is_held=True), memory) == (shown, no_update)
    assert await moment_of(noon, asking(50, 100), memory) == (shown, no_update)


@pytest.mark.parametrize(
    "memory",
    [
        None,
        {},
        {"as_of": "yesterday"},
        {"as_of": "2026-03-10T11:00:00"},
        {"as_of": "2999-01-01T00:00:00+00:00"},
    ],
)
async def test_no_moment_but_a_past_one_is_taken_from_a_browser(noon, memory) -> None:
    assert (await moment_of(noon, asking(is_held=True), memory))[0] == NOW


async def test_an_unknown_total_after_an_empty_table_is_one_row_more(noon) -> None:
    filled, *_ = await grids.answer(
        noon, numbers(120, says=False), asking(), None, (), was_empty=True
    )
    assert filled["rowCount"] == 51


async def test_while_the_database_is_gone_the_rows_stay(noon, gone, read) -> None:
    memory = {"as_of": NOW.isoformat()}
    rows, said, remembered = await grids.answer(
        replace(noon, reader=gone), numbers(5), asking(), memory, ()
    )
    assert rows is no_update
    assert "cannot be reached" in read(said)
    assert remembered == memory | {"failed": NOW.isoformat()}


def test_a_table_says_what_it_is_and_what_to_do_when_it_is_empty() -> None:
    drawn = grids.long_table("t", COLUMNS, label="Things", empty="Make one.").to_plotly_json()
    grid = drawn["props"]["children"][-1].to_plotly_json()["props"]
    assert drawn["props"]["aria-label"] == "Things"
    assert grid["dashGridOptions"]["localeText"] == {"noRowsToShow": "Make one."}
    assert [each.get("sortable", False) for each in grid["columnDefs"]] == [False, True]
    assert "dangerously_allow_code" not in grid
    # Two questions at a time, and an answer goes to the wrong one.
    assert grid["dashGridOptions"]["maxConcurrentDatasourceRequests"] == 1


def test_cells_are_text_with_what_stands_beside_it(noon) -> None:
    assert grids.moment_cell(noon, NOW) == {
        "text": "2026-03-10 17:30:00",
        "title": "2026-03-10 12:00:00 UTC",
    }
    assert grids.state_cell("FAILED") == {"text": "failed", "glyph": "✕", "colour": "badge red"}
    assert grids.text_cell(None) == {"text": "", "title": None}
