"""Which events make which mail, and when."""

import datetime as dt
from typing import Any

import pytest

from infra.mail.text import render_text
from infra.settings import Settings
from tasks.ledger import Ledger
from tasks.mail_documents import tell_failure
from tasks.mail_events import Event
from tasks.mail_findings import tell_outage
from tasks.mail_outbox import FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS, wait_after
from tasks.mail_problems import Kind, Problem, is_due, kind_of
from tasks.mail_runs import Run
from tasks.mail_words import count, duration, equation, times

NOW = dt.datetime(2026, 1, 2, 12, tzinfo=dt.UTC)


def problem(**given: Any) -> Problem:
    usual: dict[str, Any] = {
        "problem": "pipeline:p",
        "events": 1,
        "failures": 0,
        "revived": 0,
        "outages": 0,
        "anomalies": 0,
        "recoveries": 0,
        "successes": 0,
        "newest": 9,
        "newest_trouble": None,
        "trouble_kind": None,
        "newest_good": None,
        "is_error": True,
        "first_at": NOW - dt.timedelta(minutes=1),
        "last_at": NOW - dt.timedelta(minutes=1),
        "good_at": None,
        "is_outstanding": False,
        "told_at": None,
        "told_success_at": None,
    }
    return Problem(**(usual | given))


FAILED = {"failures": 1, "newest_trouble": 5, "trouble_kind": "failure"}


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (FAILED, "failure"),
        (FAILED | {"recoveries": 1, "newest_good": 4}, "failure"),
        (FAILED | {"recoveries": 1, "newest_good": 6}, "recovery"),
        ({"failures": 1, "revived": 1}, "recovery"),
        ({"recoveries": 1, "newest_good": 6}, None),
        ({"recoveries": 1, "newest_good": 6, "is_outstanding": True}, "recovery"),
        ({"successes": 3}, None),
        ({"successes": 3, "problem": "pipeline:wanted"}, "success"),
        ({"recoveries": 1, "newest_good": 6, "problem": "pipeline:wanted"}, "success"),
        ({"outages": 1, "newest_trouble": 5, "trouble_kind": "health"}, "health"),
        ({"anomalies": 1, "newest_trouble": 5, "trouble_kind": "anomaly"}, "anomaly"),
    ],
)
def test_what_happened_last_decides_what_is_told(given: dict[str, Any], kind: str | None) -> None:
    assert kind_of(problem(**given), ("wanted",)) == kind


@pytest.mark.parametrize(
    ("given", "kind", "due"),
    [
        ({}, "failure", True),
        ({"first_at": NOW - dt.timedelta(seconds=2)}, "failure", False),
        ({"told_at": NOW - dt.timedelta(minutes=14)}, "failure", False),
        ({"told_at": NOW - dt.timedelta(minutes=15)}, "failure", True),
        ({"told_success_at": NOW - dt.timedelta(minutes=1)}, "failure", True),
        ({"told_success_at": NOW - dt.timedelta(minutes=1)}, "success", False),
        ({"told_at": NOW - dt.timedelta(minutes=1)}, "success", False),
    ],
)
def test_a_problem_is_told_at_once_and_then_once_in_the_minutes_set(
    given: dict[str, Any], kind: Kind, *, due: bool
) -> None:
    assert is_due(problem(**given), kind, now=NOW, mail_minutes=15) is due


def test_waits_grow_up_to_the_longest_however_many_attempts_there_were() -> None:
    waits = [wait_after(attempts) for attempts in range(2000)]
    assert waits[0] == FIRST_WAIT_SECONDS
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_WAIT_SECONDS


def run(**given: Any) -> Run:
    usual: dict[str, Any] = {
        "id": 7,
        "pipeline_name": "p",
        "status": "FAILED",
        "start_time": NOW - dt.timedelta(minutes=5),
        "end_time": NOW,
        "records_processed": 0,
        "error_message": "It broke.",
        "error_traceback": "",
        "warnings": (),
        "host": "etl-1",
        "flow_run_id": None,
        "sources": (),
        "source_counts": {},
        "streamed": {},
        "missed": (),
        "lines": (),
    }
    return Run(**(usual | given))


EVENT = Event("failure", "error", "p failed: It broke.", 7, {}, NOW)


def text_of(told: Run | None, **settings: Any) -> str:
    given = Settings(**settings)
    document = tell_failure(
        problem(**FAILED), EVENT, told, reasons=[("p failed", 1)], of_day=1, settings=given
    )
    return render_text(document)


def test_of_a_traceback_the_last_fifty_lines_are_shown() -> None:
    text = text_of(run(error_traceback="\n".join(f"line {n}" for n in range(100))))
    assert "    line 50\n" in text
    assert "line 49\n" not in text
    assert text.count("    line ") == 50


def test_what_came_from_messages_is_told_by_dataset() -> None:
    text = text_of(run(streamed={"sales_data": Ledger(read=5, inserted=4, quarantined=1)}))
    assert "- sales_data: 4 rows\n  5 read = 4 inserted + 1 quarantined" in text
    assert "had loaded nothing" not in text


def test_links_are_there_only_where_the_settings_say_where() -> None:
    assert "http" not in text_of(run())
    assert "https://board.example/x/runs/7" in text_of(
        run(), dashboard_url="https://board.example/x/"
    )


def test_a_run_whose_row_is_gone_is_told_by_its_event() -> None:
    assert "> p failed: It broke." in text_of(None)


def test_a_bad_part_is_told_with_what_its_checks_found() -> None:
    found = {"component": "kafka", "detail": "no broker answered", "checks": 3}
    event = Event("health", "error", "kafka is BAD", None, found, NOW)
    document = tell_outage(
        problem(problem="component:kafka", outages=1),
        event,
        since=NOW - dt.timedelta(minutes=3),
        of_day=2,
        settings=Settings(dashboard_url="https://board.example"),
    )
    text = render_text(document)
    assert "Bad since:     2026-01-02 11:57:00 UTC" in text
    assert "Found:         no broker answered" in text
    assert "https://board.example/system" in text


def test_figures_are_written_for_people() -> None:
    assert (count(1, "run"), count(2000, "run")) == ("1 run", "2,000 runs")
    assert (times(1), times(3)) == ("once", "3 times")
    shown = [duration(dt.timedelta(seconds=each)) for each in (5, 65, 3700, 100_000, -5)]
    assert shown == ["5 s", "1 min 5 s", "1 h 1 min", "1 d 3 h", "0 s"]
    assert equation(Ledger()) == "nothing to read"
