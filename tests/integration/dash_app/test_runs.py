"""The runs: bars that lead to runs, and a table that shows those that the filters ask for."""

import datetime as dt
import re
from dataclasses import replace
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from dash import no_update

from dash_app.grids import Sort
from dash_app.pages import runs as page
from dash_app.queries import runs as ask
from dash_app.reader import AwayError
from dash_app.view import View

NOW = dt.datetime(2026, 3, 10, 12, 0, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)
NOTHING = (None, [], "", None, None)
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def noon(view) -> View:
    """The viewer, at a known moment."""
    return replace(view, now=NOW)


async def run(
    loader, name="daily", *, ago=HOUR, seconds=10.0, status="SUCCESS", error=None, rows=7
) -> int:
    start = NOW - ago
    end = None if status == "RUNNING" else start + dt.timedelta(seconds=seconds)
    return await loader.fetchval(
        """
        INSERT INTO metadata.pipeline_executions
            (pipeline_name, status, start_time, end_time, error_message, records_processed)
        VALUES ($1, $2, $3, $4, $5, $6) RETURNING id
        """,
        name,
        status,
        start,
        end,
        error,
        rows,
    )


async def shown(view, *filters: Any, sort=None, start=0, end=50) -> list[int]:
    """The ids of the runs in the table, in its order."""
    rows, total = await page.fetch_rows(view, filters or NOTHING, sort, start, end)
    assert total >= len(rows)
    return [int(row["id"]) for row in rows]


async def test_the_bars_of_each_pipeline_lead_to_its_last_runs(noon, loader, read) -> None:
    good = await run(loader, "daily", ago=2 * HOUR, seconds=3.2)
    bad = await run(loader, "daily", ago=HOUR, status="FAILED")
    under_way = await run(loader, "stream", ago=5 * MINUTE, status="RUNNING")
    lines = await page.draw_bars(noon)
    assert [read(line).split()[1] for line in lines] == ["daily", "stream"]
    bars = [bar.to_plotly_json()["props"] for line in lines for bar in line.children[1].children]
    assert [bar["href"] for bar in bars] == [f"/runs/{each}" for each in (bad, good, under_way)]
    assert [bar["children"] for bar in bars] == ["✕", "✓", "▶"]
    assert bars[1]["aria-label"] == f"Run {good}: success, 3.2 s, began 2026-03-10 15:30:00"
    assert bars[1]["title"].endswith("(2026-03-10 10:00:00 UTC)")
    assert "5 min 00 s" in bars[2]["aria-label"]


async def test_no_more_bars_than_are_promised(noon, loader) -> None:
    for minutes in range(ask.LAST_RUNS + 2):
        newest = await run(loader, ago=minutes * MINUTE)
    [line] = await page.draw_bars(noon)
    bars = line.children[1].children
    assert len(bars) == ask.LAST_RUNS
    assert newest not in {int(bar.href.rsplit("/", 1)[1]) for bar in bars}


async def test_a_bar_grows_with_the_logarithm_of_the_duration(noon, loader) -> None:
    for minutes, seconds in enumerate((0, 1, 10, 100, 1000)):
        await run(loader, ago=HOUR - minutes * MINUTE, seconds=seconds)
    [line] = await page.draw_bars(noon)
    tall = [int(bar.style["--tall"].removesuffix("px")) for bar in line.children[1].children]
    steps = [above - below for above, below in pairwise(tall)]
    assert tall[0] == 30
    assert tall[-1] == 4
    assert max(steps) - min(steps) <= 1


async def test_without_a_run_the_page_says_how_to_start_one(noon, read) -> None:
    assert "prefect deployment run" in read(await page.draw_bars(noon))
    assert await page.fetch_rows(noon, NOTHING, None, 0, 50) == ([], 0)


async def test_a_row_shows_what_a_run_was(noon, loader) -> None:
    one = await run(
        loader, ago=HOUR, seconds=245, status="FAILED", error=f"{HOSTILE}\nsecond", rows=12_345
    )
    [row], total = await page.fetch_rows(noon, NOTHING, None, 0, 50)
    assert total == 1
    assert row == {
        "id": str(one),
        "run": {"text": str(one), "href": f"/runs/{one}"},
        "pipeline": "daily",
        "state": {"text": "failed", "glyph": "✕", "colour": "badge red"},
        "start": {"text": "2026-03-10 16:30:00", "title": "2026-03-10 11:00:00 UTC"},
        "duration": "4 min 05 s",
        "rows": "12,345",
        "error": {"text": HOSTILE, "title": HOSTILE},
    }


async def test_each_filter_leaves_out_what_it_does_not_ask_for(noon, loader) -> None:
    old = await run(loader, "daily", ago=3 * DAY, status="FAILED", error="Disk 50% full")
    good = await run(loader, "daily", ago=2 * HOUR)
    bad = await run(loader, "hourly", ago=HOUR, status="FAILED", error="Line one\nno such FILE")
    going = await run(loader, "hourly", ago=MINUTE, status="RUNNING")
    assert await shown(noon) == [going, bad, good, old]
    assert await shown(noon, "daily", [], "", None, None) == [good, old]
    assert await shown(noon, "none", [], "", None, None) == []
    assert await shown(noon, None, ["FAILED"], "", None, None) == [bad, old]
    assert await shown(noon, None, ["FAILED", "RUNNING"], "", None, None) == [going, bad, old]
    assert await shown(noon, None, list(ask.STATES), "", None, None) == [going, bad, good, old]
    assert await shown(noon, "daily", ["FAILED"], "", None, None) == [old]
    assert await shown(noon, "daily", ["SUCCESS"], "", None, None) == [good]
    assert await shown(noon, None, [], "such file", None, None) == [bad]
    assert await shown(noon, None, ["SUCCESS"], "such file", None, None) == []
    assert await shown(noon, "daily", [], "50%", None, None) == [old]
    assert await shown(noon, None, [], "_", None, None) == []
    assert await shown(noon, None, [], "", "2026-03-10", None) == [going, bad, good]
    assert await shown(noon, None, [], "", None, "2026-03-09") == [old]


async def test_a_day_is_one_of_the_viewer(noon, loader) -> None:
    # 19:00 UTC of the 9th is half past midnight of the 10th in Kolkata.
    one = await run(loader, ago=NOW - dt.datetime(2026, 3, 9, 19, 0, tzinfo=dt.UTC))
    midnight = await run(loader, ago=NOW - dt.datetime(2026, 3, 9, 18, 30, tzinfo=dt.UTC))
    on_the_tenth = (None, [], "", "2026-03-10", "2026-03-10")
    assert await shown(noon, *on_the_tenth) == [one, midnight]
    assert await shown(noon, None, [], "", None, "2026-03-09") == []
    assert await shown(replace(noon, zone=ZoneInfo("UTC")), *on_the_tenth) == []


async def test_runs_are_sorted_as_asked(noon, loader) -> None:
    slow = await run(loader, ago=3 * HOUR, seconds=100, rows=1)
    big = await run(loader, ago=2 * HOUR, seconds=1, rows=1000)
    going = await run(loader, ago=90 * MINUTE, status="RUNNING", rows=50)

    async def by(column, *, is_descending) -> list[int]:
        return await shown(noon, sort=Sort(column, is_descending=is_descending))

    assert await by("start", is_descending=True) == [going, big, slow]
    assert await by("start", is_descending=False) == [slow, big, going]
    assert await by("duration", is_descending=True) == [going, slow, big]
    assert await by("rows", is_descending=True) == [big, going, slow]
    assert await by("rows", is_descending=False) == [slow, going, big]
    assert await shown(
        noon, "daily", ["SUCCESS"], "", None, None, sort=Sort("start", is_descending=False)
    ) == [slow, big]


async def test_pages_follow_each_other_also_where_runs_began_together(noon, loader) -> None:
    made = [await run(loader, ago=HOUR) for _ in range(7)]
    seen = [each for at in (0, 3, 6) for each in await shown(noon, start=at, end=at + 3)]
    assert seen == sorted(made, reverse=True)


async def test_what_began_after_the_table_was_shown_does_not_push_its_rows(noon, loader) -> None:
    before = await run(loader, ago=HOUR)
    await run(loader, ago=-MINUTE)
    assert await shown(noon) == [before]


async def test_counting_stops_where_it_is_said_to(noon, loader, monkeypatch) -> None:
    for minutes in range(5):
        await run(loader, ago=minutes * MINUTE, status="FAILED" if minutes % 2 else "SUCCESS")
    monkeypatch.setattr(ask, "COUNTED_RUNS", 3)
    wanted = ask.Wanted(as_of=NOW)
    assert await ask.count_runs(noon.reader, wanted) == 3
    both = replace(wanted, states=frozenset({"FAILED", "SUCCESS"}))
    assert await ask.count_runs(noon.reader, both) == 3
    failed = replace(wanted, states=frozenset({"FAILED"}))
    assert await ask.count_runs(noon.reader, failed) == 2


@pytest.mark.parametrize(
    "rubbish",
    [
        ("\0", ["\0"], "\0", "\0", "\0"),
        (3, "FAILED", {"a": 1}, 20260310, ["x"]),
        ({}, {"FAILED": 1}, None, "2026-13-45", "9999-12-31"),
        ("x" * 10_000, ["FAILED' OR true --"], "' OR true --", "0001-01-01", "-"),
    ],
)
async def test_no_filter_of_a_browser_breaks_the_table(noon, loader, rubbish) -> None:
    await run(loader, status="FAILED", error="broken")
    assert len(await shown(noon, *rubbish)) <= 1


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"pipeline": HOSTILE, "status": "FAILED,nope", "error": HOSTILE, "since": "x", "more": "y"},
        {"status": ",,,", "since": "2026-03-01", "until": "\0"},
    ],
)
def test_the_page_takes_any_address(given, read) -> None:
    text = read(page.lay_out(**given))
    assert text.startswith("What happened?")
    for label in ("Pipeline", "State", "Error contains", "From", "To, inclusive"):
        assert re.search(rf"\b{label}\b", text)


async def test_the_address_fills_the_filters(noon) -> None:
    drawn = page.lay_out(pipeline="daily", status="FAILED,RUNNING", error="x", since="2026-03-01")
    values = {each.id: each.value for each in drawn["runs-filters"].children}
    assert values == {
        "runs-pipeline": "daily",
        "runs-status": ["RUNNING", "FAILED"],
        "runs-error": "x",
        "runs-since": "2026-03-01",
        "runs-until": None,
    }


async def test_pipelines_to_choose_from_are_those_that_ran(noon, loader) -> None:
    for name in ("b", "a", "b", "c"):
        await run(loader, name)
    assert await page.find_choices(noon, []) == ["a", "b", "c"]
    assert await page.find_choices(noon, ["gone"]) == ["a", "b", "c", "gone"]
    assert await page.find_choices(noon, ["a", "b", "c"]) is no_update


async def test_while_the_database_is_gone_it_is_said(noon, gone) -> None:
    with pytest.raises(AwayError):
        await page.draw_bars(replace(noon, reader=gone))


@pytest.fixture
async def many(loader, database) -> asyncpg.Connection:
    """Enough runs for the planner to care, of which one in a hundred failed; one rare pipeline."""
    owner = await asyncpg.connect(database.owner_url)
    await owner.execute("SET session_replication_role = replica")
    await owner.execute(
        """
        INSERT INTO metadata.pipeline_executions (pipeline_name, status, start_time, end_time)
        SELECT 'pipeline_' || n % 5, CASE WHEN n % 100 = 0 THEN 'FAILED' ELSE 'SUCCESS' END,
            $1::timestamptz - n * interval '1 s', $1 FROM generate_series(1, 20000) AS n
        """,
        NOW,
    )
    await run(owner, "rare", ago=9 * HOUR)
    await owner.execute("ANALYZE metadata.pipeline_executions")
    yield owner
    await owner.close()


async def plan(owner, question) -> str:
    """How PostgreSQL answers what the reader is asked."""
    lines = []

    class Explaining:
        async def fetch(self, query, *given: Any) -> list[asyncpg.Record]:
            lines.extend(row[0] for row in await owner.fetch(f"EXPLAIN {query}", *given))
            return []

        async def fetchval(self, query, *given: Any) -> int:
            await self.fetch(query, *given)
            return 0

    await question(Explaining())
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        ({}, "pipeline_executions_start_time_idx "),
        ({"pipeline": "rare"}, "pipeline_executions_pipeline_name_start_time_idx "),
        # One run in five is its own: walking all of them by their start looks cheap, too.
        ({"pipeline": "pipeline_1"}, "pipeline_executions_pipeline_name_start_time_idx "),
        ({"states": frozenset({"FAILED"})}, "pipeline_executions_start_time_idx1 "),
        ({"error": "x"}, "pipeline_executions_start_time_idx1 "),
        ({"states": frozenset({"RUNNING"})}, "pipeline_executions_pipeline_name_idx "),
    ],
)
async def test_the_newest_runs_come_from_an_index(many, wanted, index) -> None:
    said = await plan(
        many,
        lambda reader: ask.find_runs(
            reader,
            ask.Wanted(as_of=NOW, **wanted),
            sort="start",
            is_descending=True,
            start=0,
            end=50,
        ),
    )
    assert index in said
    assert "Seq Scan" not in said


async def test_the_oldest_runs_of_a_pipeline_come_from_the_other_end(many) -> None:
    said = await plan(
        many,
        lambda reader: ask.find_runs(
            reader,
            ask.Wanted(as_of=NOW, pipeline="pipeline_1"),
            sort="start",
            is_descending=False,
            start=0,
            end=50,
        ),
    )
    assert "Scan Backward using pipeline_executions_pipeline_name_start_time_idx " in said


async def test_the_bars_of_a_rare_pipeline_come_from_its_own_index(many) -> None:
    said = await plan(many, lambda reader: ask.find_last_runs(reader, ["rare", "pipeline_1"]))
    assert "pipeline_executions_pipeline_name_start_time_idx " in said
    # Sorted but once, all of them together: each one's runs lie in the index as they are wanted.
    assert said.count("Sort Key") == 1
