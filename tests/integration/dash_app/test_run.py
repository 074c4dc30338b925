"""One run: what is known of it stands on its page, and nothing of another's."""

import datetime as dt
import json
import uuid
from dataclasses import replace
from typing import Any

import pytest

from dash_app.pages import run as page
from dash_app.panels import Children
from dash_app.queries import run as ask
from dash_app.reader import AwayError
from dash_app.view import View

NOW = dt.datetime(2026, 3, 10, 12, 0, tzinfo=dt.UTC)
FLOW_RUN = uuid.UUID("018f3b1c-0000-7000-8000-000000000001")
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def noon(view) -> View:
    """The viewer, at a known moment."""
    return replace(view, now=NOW)


async def run(loader, *, status="SUCCESS", **given: Any) -> int:
    values = {
        "pipeline_name": "daily",
        "status": status,
        "start_time": NOW - dt.timedelta(minutes=5),
        "end_time": None if status == "RUNNING" else NOW - dt.timedelta(minutes=2),
        **given,
    }
    columns = ", ".join(values)
    places = ", ".join(f"${place}" for place in range(1, len(values) + 1))
    return await loader.fetchval(
        f"INSERT INTO metadata.pipeline_executions ({columns}) VALUES ({places}) RETURNING id",  # noqa: S608 - the test's own names
        *values.values(),
    )


async def look(loader, execution, *, path="a.csv", status="LOADED", **given: Any) -> int:
    """Write down that the run looked at a file; returns its batch."""
    values = {"message": None, "notes": [], "rows": 10, "contracted": True, **given}
    return await loader.fetchval(
        """
        INSERT INTO metadata.source_files
            (execution_id, load_id, dataset, path, status, contracted, size_bytes, rows, message,
             notes)
        VALUES ($1, gen_random_uuid(), 'customers', $2, $3, $4, 2048, $5, $6, $7) RETURNING id
        """,
        execution,
        path,
        status,
        values["contracted"],
        values["rows"],
        values["message"],
        values["notes"],
    )


async def count(loader, execution, batch, *, dataset="customers", source="a.csv", good=8) -> None:
    await loader.execute(
        """
        INSERT INTO metadata.dataset_counts
            (execution_id, batch_id, dataset, source, read, inserted, updated, unchanged,
             superseded, duplicates, quarantined)
        VALUES ($1, $2, $3, $4, $5::bigint + 6, $5, 1, 2, 0, 1, 2)
        """,
        execution,
        batch,
        dataset,
        source,
        good,
    )


async def drawn(view, title, draw, execution) -> Children:
    """What stands in the panel, as the page draws it."""
    return await page.in_card(title, draw)(view, str(execution))


async def test_the_head_says_what_is_known_of_the_run(noon, loader, read) -> None:
    one = await run(
        loader,
        status="FAILED",
        records_processed=1234,
        host="box",
        process_id=42,
        parameters=json.dumps({"folder": HOSTILE}),
        warnings=["a file is odd", HOSTILE],
    )
    text = read(await page.draw_head(noon, str(one)))
    assert text.startswith("daily ✕ failed Duration 3 min 00 s Rows processed 1,234")
    assert "2026-03-10 11:55:00 UTC" in text
    assert "2026-03-10 17:28:00" in text
    assert f'"folder": "{HOSTILE}"' in text
    assert f"a file is odd {HOSTILE}" in text
    assert "Host box Process 42" in text


async def test_a_running_run_goes_on(noon, loader, read) -> None:
    one = await run(loader, status="RUNNING")
    text = read(await page.draw_head(noon, str(one)))
    assert "Duration 5 min 00 s so far" in text
    assert "End still running" in text
    later = replace(noon, now=NOW + dt.timedelta(minutes=1))
    assert "Duration 6 min 00 s so far" in read(await page.draw_head(later, str(one)))


async def test_the_way_to_prefect_stands_only_where_it_leads_somewhere(noon, loader, read) -> None:
    known = await run(loader, flow_run_id=FLOW_RUN)
    unknown = await run(loader)

    async def head(root, execution) -> str:
        settings = noon.settings.model_copy(update={"prefect_ui_url": root})
        return read(await page.draw_head(replace(noon, settings=settings), str(execution)))

    url = f"http://prefect:4200/runs/flow-run/{FLOW_RUN}"
    assert url in await head("http://prefect:4200", known)
    assert url in await head("http://prefect:4200/", known)
    assert "Prefect" not in await head("http://prefect:4200", unknown)
    assert "Prefect" not in await head("", known)
    assert "Prefect" not in await head("javascript:alert(1)", known)


async def test_the_ledger_sums_each_dataset_and_each_source(noon, loader, read) -> None:
    one, other = await run(loader), await run(loader)
    for path, good in (("a.csv", 8), (HOSTILE, 100)):
        await count(loader, one, await look(loader, one, path=path), source=path, good=good)
    await count(loader, other, await look(loader, other), source="not mine")
    text = read(await drawn(noon, "Rows", page.draw_ledger, one))
    assert "/data?table=customers customers all 120 108 2 4 0 2 4" in text
    assert f"{HOSTILE} 106 100 1 2 0 1 2" in text
    assert "a.csv 14 8 1 2 0 1 2" in text
    assert "not mine" not in text
    assert "micro-batches" not in text


async def stream(loader, execution, batches) -> None:
    await loader.execute(
        """
        INSERT INTO metadata.stream_batches
            (execution_id, consumer_group, topic, partitions, messages, loaded, dead, skipped,
             flush_seconds)
        SELECT $1, 'g', 'data-stream', '{0}', 20, 17, 2, 1, 0.1 FROM generate_series(1, $2)
        """,
        execution,
        batches,
    )


async def test_a_streaming_run_is_summed_over_its_batches(noon, loader, read) -> None:
    one = await run(loader, status="RUNNING")
    await stream(loader, one, 3)
    for batch in (1001, 1002):
        await count(loader, one, batch, source="data-stream")
    text = read(await drawn(noon, "Rows", page.draw_ledger, one))
    assert "data-stream 28 16 2 4 0 2 4" in text
    assert (
        "3 micro-batches brought 60 messages: 51 loaded, 6 dead letters, 3 that changed nothing."
        in text
    )
    assert "Only the newest" not in text


async def test_beyond_a_number_of_batches_it_is_said_that_more_are_not_summed(
    noon, loader, read, monkeypatch
) -> None:
    monkeypatch.setattr(ask, "SUMMED", 2)
    one = await run(loader, status="RUNNING")
    await stream(loader, one, 3)
    text = read(await drawn(noon, "Rows", page.draw_ledger, one))
    assert "2 micro-batches brought 40 messages" in text
    assert "Only the newest 2 loads are summed" in text


async def test_files_stand_with_what_was_said_of_them_refused_ones_first(
    noon, loader, read
) -> None:
    one = await run(loader)
    await look(loader, one, path="fine.csv", notes=["a new column: colour"])
    await look(loader, one, path=HOSTILE, status="REFUSED", message="no header", contracted=False)
    await look(loader, one, path="same.csv", status="UNCHANGED", rows=None)
    text = read(await drawn(noon, "Files", page.draw_files, one))
    first, second, third = (text.index(each) for each in ("✕ refused", "✓ loaded", "= unchanged"))
    assert first < second < third
    assert f"{HOSTILE} customers (no contract) 10 2.0 kB no header" in text
    assert "fine.csv customers 10 2.0 kB a new column: colour" in text
    assert "same.csv customers - 2.0 kB" in text


async def test_of_very_many_files_some_are_shown(noon, loader, read, monkeypatch) -> None:
    monkeypatch.setattr(ask, "SHOWN", 2)
    one = await run(loader)
    for name in ("a", "b", "c"):
        await look(loader, one, path=name)
    text = read(await drawn(noon, "Files", page.draw_files, one))
    assert text.count("✓ loaded") == 2
    assert "There are more than these 2." in text


async def test_quality_shows_failed_rules_first_and_leads_to_the_quarantine(
    noon, loader, read
) -> None:
    one = await run(loader)
    await loader.executemany(
        """
        INSERT INTO metadata.quality_results
            (execution_id, batch_id, dataset, column_name, rule, severity, checked, failed)
        VALUES ($1, $2, 'customers', $3, $4, $5, 50, $6)
        """,
        [
            (one, 1, None, "complete", "error", 0),
            (one, 1, "age", "in_range", "error", 3),
            (one, 2, "age", "in_range", "error", 4),
            (one, 1, "email", "looks_odd", "warning", 9),
        ],
    )
    await loader.execute(
        """
        INSERT INTO metadata.quarantine
            (execution_id, batch_id, dataset, source, line, rule, reason, raw)
        SELECT $1, 1, 'customers', 'a.csv', n, 'r', 'bad', 'SECRET' FROM generate_series(1, 7) AS n
        """,
        one,
    )
    text = read(await drawn(noon, "Quality", page.draw_quality, one))
    assert f"/quality?execution={one} 7 rows in quarantine" in text
    assert "✕ bad in_range customers age 7 100" in text
    assert "✕ bad looks_odd (warning) customers email 9 50" in text
    assert "✓ good complete customers 0 50" in text
    assert text.index("in_range") < text.index("looks_odd") < text.index("complete")
    assert "SECRET" not in text


async def test_the_error_stands_open_and_its_traceback_where_it_stays_open(
    noon, loader, read
) -> None:
    bad = await run(
        loader, status="FAILED", error_message=HOSTILE, error_traceback="Traceback: line 3"
    )
    assert read(await page.draw_error(noon, str(bad))) == f"Error {HOSTILE}"
    assert read(await page.draw_traceback(noon, str(bad))) == "Traceback: line 3"
    box = page.lay_out(execution_id=str(bad))["run-traceback-box"]
    # The panel lies within what the viewer opens: a refresh draws the panel, and not the box.
    assert type(box).__name__ == "Details"
    assert box["run-traceback"].id == "run-traceback"


async def test_a_run_that_did_not_fail_has_no_error(noon, loader) -> None:
    good = await run(loader)
    assert await page.draw_error(noon, str(good)) is None
    assert await page.draw_traceback(noon, str(good)) is None


async def test_the_newest_log_lines_of_the_run_stand_first(noon, loader, read, monkeypatch) -> None:
    monkeypatch.setattr(ask, "SHOWN", 2)
    one, other = await run(loader), await run(loader)
    for minutes, execution, event in (
        (3, one, "the oldest"),
        (2, one, HOSTILE),
        (1, one, "the newest"),
        (0, other, "another's"),
    ):
        await loader.execute(
            """
            INSERT INTO metadata.pipeline_logs
                (logged_at, level, pipeline_name, execution_id, dataset, event, fields)
            VALUES ($1, 'INFO', 'daily', $2, 'customers', $3, '{"rows": 7}')
            """,
            NOW - dt.timedelta(minutes=minutes),
            execution,
            event,
        )
    text = read(await drawn(noon, "Log", page.draw_logs, one))
    assert text.index("the newest") < text.index(HOSTILE)
    assert '{"rows": 7}' in text
    assert "the oldest" not in text
    assert "another's" not in text
    assert f"/logs?execution={one}" in text


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (page.draw_ledger, "No row is counted."),
        (page.draw_files, "The run looked at no file."),
        (page.draw_quality, "No rule was checked."),
        (page.draw_logs, "No log line is kept."),
    ],
)
async def test_what_a_run_left_none_of_is_said_and_of_no_run_nothing(
    noon, loader, read, draw, said
) -> None:
    one = await run(loader)
    assert said in read(await drawn(noon, "Title", draw, one))
    assert await drawn(noon, "Title", draw, one + 1) is None


async def test_a_run_that_does_not_exist_is_said_with_a_way_back(noon, read) -> None:
    assert read(await page.draw_head(noon, "77")).startswith("There is no run 77.")
    assert await page.draw_error(noon, "77") is None
    assert "/runs To all runs" in read(page.lay_out(execution_id="77"))


@pytest.mark.parametrize(
    "rubbish", ["", "x", "-1", "0", "1.5", "٣", "1e3", "9" * 30, "9223372036854775808", HOSTILE]
)
async def test_what_is_no_number_is_said_with_a_way_back(noon, read, rubbish) -> None:
    text = read(page.lay_out(execution_id=rubbish))
    assert text.startswith("Which run?")
    assert "is no number of a run" in text
    assert "To all runs" in text
    # Nor does it reach PostgreSQL by way of the store.
    assert await page.in_card("Log", page.draw_logs)(noon, rubbish) is None
    assert "There is no run" in read(await page.draw_head(noon, rubbish))


def test_the_largest_number_is_one() -> None:
    assert page.read_number("9223372036854775807") == 2**63 - 1
    assert page.read_number(None) is None


async def test_while_the_database_is_gone_it_is_said(noon, gone) -> None:
    with pytest.raises(AwayError):
        await page.draw_head(replace(noon, reader=gone), "1")
