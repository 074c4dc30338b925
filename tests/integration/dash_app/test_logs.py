"""The logs' page over a real PostgreSQL."""

import datetime as dt
import json
from dataclasses import replace

import pytest

from dash_app import grids
from dash_app.moments import MomentError
from dash_app.pages import logs
from dash_app.queries import logs as ask
from dash_app.queries.logs import Search
from dash_app.reader import AwayError

HOSTILE = "<b>50%_\\ off</b>"
ANY = ["DEBUG", None, "", "", ""]


async def _log(
    loader, at, event="said", *, level="INFO", pipeline="daily", run=None, **fields: object
):
    await loader.execute(
        """
        INSERT INTO metadata.pipeline_logs
            (logged_at, level, pipeline_name, execution_id, event, fields)
        VALUES ($1, $2, $3, $4, $5, $6)
        """,
        at,
        level,
        pipeline,
        run,
        event,
        json.dumps(fields),
    )


@pytest.fixture
async def lines(loader, view) -> None:
    """Six lines, the first is the newest."""
    begin = view.now - dt.timedelta(seconds=10)
    for place, given in enumerate(
        [
            {"event": "all is well", "rows": 12},
            {"event": HOSTILE, "level": "ERROR", "path": "a_b.csv", "run": 7},
            {"event": "slow", "level": "WARNING", "pipeline": "stream"},
            {"event": "gone", "level": "CRITICAL", "pipeline": "stream"},
            {"event": "Detail", "level": "DEBUG", "run": 7},
            {"event": "oldest", "pipeline": "stream", "path": "axb.csv"},
        ]
    ):
        await _log(loader, begin - dt.timedelta(minutes=place), **given)


async def _events(view, filters, start=0, end=50):
    rows, _ = await logs.fetch_lines(view, filters, None, start, end)
    return [row["event"]["text"] for row in rows]


async def test_lines_come_newest_first_with_level_run_and_fields(view, lines, read) -> None:
    rows, total = await logs.fetch_lines(view, ANY, None, 0, 50)
    assert [row["event"]["text"] for row in rows] == [
        "all is well",
        HOSTILE,
        "slow",
        "gone",
        "Detail",
        "oldest",
    ]
    assert total is None
    assert {each.name for each in logs.COLUMNS} | {"id"} == set(rows[0])
    assert rows[0]["fields"]["text"] == "rows=12"
    assert rows[1]["level"] == {"text": "error", "glyph": "✕", "colour": "badge red"}
    assert rows[1]["run"] == grids.link_cell("7", "/runs/7")
    assert rows[0]["logged"]["title"].endswith("UTC")
    assert await _events(view, ANY, 2, 4) == ["slow", "gone"]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (["WARNING", None, "", "", ""], [HOSTILE, "slow", "gone"]),
        (["ERROR", None, "", "", ""], [HOSTILE, "gone"]),
        (["INFO", None, "", "", ""], ["all is well", HOSTILE, "slow", "gone", "oldest"]),
        (["DEBUG", "stream", "", "", ""], ["slow", "gone", "oldest"]),
        (["WARNING", "stream", "", "", ""], ["slow", "gone"]),
        (["DEBUG", None, "7", "", ""], [HOSTILE, "Detail"]),
        (["ERROR", None, "7", "", ""], [HOSTILE]),
        (["DEBUG", "stream", "7", "", ""], []),
        # What a person types is text and no pattern, in capitals or not, also within the fields.
        (["DEBUG", None, "", "DETAIL", ""], ["Detail"]),
        (["DEBUG", None, "", "a_b", ""], [HOSTILE]),
        (["DEBUG", None, "", "%", ""], [HOSTILE]),
        (["DEBUG", None, "", "\\", ""], [HOSTILE]),
        (["DEBUG", None, "", "</B>", ""], [HOSTILE]),
        (["DEBUG", None, "", "nothing says this", ""], []),
        (["DEBUG", None, "", "\0", ""], []),
        (["rubbish", None, None, None, None], 6),
    ],
)
async def test_filters_keep_what_matches(view, lines, filters, found) -> None:
    events = await _events(view, filters)
    assert (len(events) if isinstance(found, int) else events) == found
    # What was looked through is told of every search.
    assert await logs.draw_reach(view, *filters) is not None


async def test_until_leads_further_back(view, lines) -> None:
    # In the viewer's zone, to the second.
    until = (view.now - dt.timedelta(minutes=2, seconds=30)).astimezone(view.zone)
    given = ["DEBUG", None, "", "", f"{until:%Y-%m-%d %H:%M:%S}"]
    assert await _events(view, given) == ["gone", "Detail", "oldest"]


@pytest.mark.parametrize(
    ("place", "given", "sentence"),
    [
        (2, "seven", "Run: 'seven' is no number"),
        (2, "-1", "no number"),
        (2, "9" * 30, "no number"),
        (2, "٣", "no number"),
        (4, "yesterday", "Until: 'yesterday' is no time"),
        (4, "2026-13-01", "Until: there is no such time"),
    ],
)
async def test_rubbish_in_a_filter_is_answered_with_a_sentence(
    view, place, given, sentence
) -> None:
    filters = [*ANY]
    filters[place] = given
    with pytest.raises(MomentError, match=sentence):
        await logs.fetch_lines(view, filters, None, 0, 50)
    with pytest.raises(MomentError, match=sentence):
        await logs.draw_reach(view, *filters)


async def test_new_lines_do_not_move_what_is_read_further_down(view, lines, loader) -> None:
    # The table is asked as of the moment when its top was shown.
    before = await _events(view, ANY, 2, 5)
    await _log(loader, view.now + dt.timedelta(seconds=1), "new")
    # One that was logged just before that moment, and written only after it.
    await _log(loader, view.now - dt.timedelta(seconds=1), "late")
    assert await _events(view, ANY, 2, 5) == before
    soon = replace(view, now=view.now + dt.timedelta(seconds=10))
    assert (await _events(soon, ANY))[:3] == ["new", "late", "all is well"]


async def test_a_search_looks_no_further_than_it_says(view, loader, monkeypatch, read) -> None:
    monkeypatch.setattr(ask, "SEARCHED", 5)
    begin = view.now - dt.timedelta(hours=1)
    for place in range(8):
        await _log(loader, begin - dt.timedelta(minutes=place), f"line {place}")
    await _log(loader, begin - dt.timedelta(hours=9), "bad", level="ERROR")
    said = read(await logs.draw_reach(view, "DEBUG", None, "", "line 7", ""))
    assert "Looked through the newest 5 lines, back to" in said
    assert "earlier Until" in said
    assert await _events(view, ["DEBUG", None, "", "line 7", ""]) == []
    until = (begin - dt.timedelta(minutes=4)).astimezone(view.zone)
    further = ["DEBUG", None, "", "line 7", f"{until:%Y-%m-%d %H:%M:%S}"]
    assert await _events(view, further) == ["line 7"]
    # Few errors among many lines are found however old they are.
    assert await _events(view, ["ERROR", None, "", "", ""]) == ["bad"]
    said = read(await logs.draw_reach(view, "ERROR", None, "", "", ""))
    assert "Looked through all 1 errors" in said


async def test_the_reach_is_told_in_words(view, lines, read) -> None:
    assert "all 6 lines" in read(await logs.draw_reach(view, *ANY))
    assert "all 2 lines of run 7" in read(await logs.draw_reach(view, "DEBUG", None, "7", "x", ""))
    said = read(await logs.draw_reach(view, "DEBUG", "stream", "", "", ""))
    assert "all 3 lines of stream" in said
    said = read(await logs.draw_reach(view, "WARNING", "stream", "", "", ""))
    assert "all 3 warnings and errors" in said
    said = read(await logs.draw_reach(view, "DEBUG", "nobody", "", "", ""))
    assert "There are no lines of nobody" in said


async def test_a_chosen_line_is_shown_in_full(view, loader, read) -> None:
    await _log(
        loader,
        view.now,
        HOSTILE,
        level="ERROR",
        run=7,
        exception="Traceback\n  line 1",
        rows=3,
        where={"file": "<i>"},
    )
    found = await loader.fetchval("SELECT id FROM metadata.pipeline_logs")
    shown = read(await logs.draw_line(view, str(found)))
    assert HOSTILE in shown
    assert "✕" in shown
    assert "/runs/7" in shown
    assert "Traceback line 1" in " ".join(shown.split())
    assert '"file": "<i>"' in shown


@pytest.mark.parametrize("given", ["99", "x", "-1", "9" * 40, 7, {"a": 1}])
async def test_a_line_that_is_not_kept_is_said_to_be_gone(view, given, read) -> None:
    assert "not kept any more" in read(await logs.draw_line(view, given))


async def test_without_a_chosen_line_the_page_says_how_to_choose_one(view, read) -> None:
    assert "Space" in read(await logs.draw_line(view, None))


async def test_pipelines_to_choose_are_those_that_logged(view, lines) -> None:
    assert await ask.find_pipelines(view.reader) == ["daily", "stream"]


async def test_each_part_fails_with_a_sentence_where_the_database_is_gone(view, gone) -> None:
    away = replace(view, reader=gone)
    with pytest.raises(AwayError, match="cannot be reached"):
        await logs.fetch_lines(away, ANY, None, 0, 50)
    with pytest.raises(AwayError, match="cannot be reached"):
        await logs.draw_reach(away, *ANY)
    with pytest.raises(AwayError, match="cannot be reached"):
        await logs.draw_line(away, "1")


def test_the_base_of_a_search_is_what_one_index_finds() -> None:
    assert Search(level="ERROR", pipeline="x", execution_id=3).base == Search(execution_id=3)
    assert Search(level="CRITICAL", pipeline="x").base == Search(level="ERROR")
    assert Search(level="WARNING", pipeline="x").base == Search(level="WARNING")
    assert Search(level="INFO", pipeline="x", text="y").base == Search(pipeline="x")
    assert Search(level="INFO", text="y").base == Search()


@pytest.mark.parametrize(
    "given", [{}, dict.fromkeys(["level", "pipeline", "execution", "text", "until", "line"], "?")]
)
def test_the_page_takes_whatever_stands_in_the_address(given, read) -> None:
    drawn = logs.lay_out(**given, other="1")
    assert "What was said?" in read(drawn)
    assert "singleRow" in str(drawn.to_plotly_json())
