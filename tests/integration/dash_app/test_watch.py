"""Mails that wait, and what the janitor did: on the system page, the overview and a run's page."""

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest
from pydantic import SecretStr

from dash_app.pages import overview, run, system_watch
from dash_app.view import View

NOW = dt.datetime(2026, 3, 10, 12, 0, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
HOUR = dt.timedelta(hours=1)
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def noon(view) -> View:
    """The viewer, at a known moment."""
    return replace(view, now=NOW)


async def mail(loader, *, ago: dt.timedelta, **given: Any) -> None:
    values = {"attempts": 3, "last_error": None, "sent_at": None, "abandoned_at": None, **given}
    await loader.execute(
        """
        INSERT INTO metadata.mail_outbox
            (problem, subject, body_text, body_html, created_at, next_attempt_at, attempts,
             last_error, sent_at, abandoned_at)
        VALUES ('pipeline:daily', 'a subject', 'a body', '<p>a body</p>', $1, $2, $3, $4, $5, $6)
        """,
        NOW - ago,
        NOW + HOUR,
        *values.values(),
    )


async def test_mails_are_counted_by_what_became_of_them(noon, loader, read) -> None:
    await mail(loader, ago=2 * HOUR, sent_at=NOW - HOUR)
    await mail(loader, ago=40 * HOUR, sent_at=NOW - HOUR)
    await mail(loader, ago=40 * HOUR, sent_at=NOW - 30 * HOUR)
    await mail(loader, ago=5 * HOUR, abandoned_at=NOW - HOUR)
    await mail(loader, ago=3 * MINUTE)
    said = read(await system_watch.draw_mail(noon))
    assert "Waiting ✓ 1" in said
    assert "Sent 2" in said
    assert "Given up ✕ 1" in said
    assert "Newest error" not in said
    assert "a body" not in said
    assert "a subject" not in said


async def test_the_newest_error_stands_without_anybodys_address(noon, loader, read) -> None:
    await mail(loader, ago=3 * HOUR, last_error="an old error")
    await mail(
        loader,
        ago=HOUR,
        last_error="550 ops@localhost, <eve@example.org>: no such mailbox; "
        "slack://T0ken/An0ther/Third is refused",
    )
    await mail(loader, ago=MINUTE, last_error="the first try failed", sent_at=NOW)
    said = read(await system_watch.draw_mail(noon))
    assert "550 •••, <•••>: no such mailbox; slack://••• is refused" in said
    assert "pipeline:daily" in said
    assert "3, by mail" in said
    assert "2026-03-10 18:30:00" in said  # the next try, in the viewer's zone
    for hidden in ("ops", "eve", "example", "T0ken", "an old error", "first try"):
        assert hidden not in said
    assert "Waiting ✕ 2" in said


async def test_where_nobody_is_told_anything_it_is_said_how_they_would_be(noon, read) -> None:
    said = read(await system_watch.draw_mail(noon))
    assert "Nobody was told of anything in the last day." in said
    assert "SLUICEWAY_SMTP_HOST" in said
    settings = noon.settings.model_copy(update={"notify_urls": (SecretStr("ntfy://x"),)})
    assert "SMTP" not in read(await system_watch.draw_mail(replace(noon, settings=settings)))


async def test_mails_that_cannot_be_sent_are_problems(noon, loader, read) -> None:
    await mail(loader, ago=14 * MINUTE)
    await mail(loader, ago=HOUR, sent_at=NOW)
    await mail(loader, ago=90 * HOUR, abandoned_at=NOW - 30 * HOUR)
    assert "mail" not in read(await overview.draw_problems(noon))
    await mail(loader, ago=16 * MINUTE)
    await mail(loader, ago=90 * HOUR, abandoned_at=NOW - HOUR)
    said = read(await overview.draw_problems(noon))
    assert "/system 1 mail cannot be sent 2026-03-10 11:44:00 UTC" in said
    assert "1 mail of the last day will not be sent any more" in said


async def act(loader, execution_id: int | None, *, reason="its process is gone", ago=HOUR) -> None:
    await loader.execute(
        """
        INSERT INTO metadata.janitor_acts (act, execution_id, pipeline_name, reason, acted_at)
        VALUES ('marked dead', $1, 'daily', $2, $3)
        """,
        execution_id,
        reason,
        NOW - ago,
    )


async def test_what_the_janitor_did_stands_with_why(noon, loader, read) -> None:
    await act(loader, 12, ago=2 * HOUR)
    await act(loader, None, reason=HOSTILE)
    said = read(await system_watch.draw_janitor(noon))
    assert "marked dead daily /runs/12 12 its process is gone" in said
    assert said.index(HOSTILE) < said.index("its process is gone")


async def test_a_janitor_with_nothing_to_do_says_so(noon, read) -> None:
    said = read(await system_watch.draw_janitor(noon))
    assert "The janitor never had to do anything." in said
    assert "flows.mark_dead_runs --every 30" in said


async def test_a_run_tells_what_the_janitor_did_to_it(noon, loader, read) -> None:
    first, second = [
        await loader.fetchval(
            "INSERT INTO metadata.pipeline_executions (pipeline_name, start_time)"
            " VALUES ('daily', $1) RETURNING id",
            NOW - HOUR,
        )
        for _ in range(2)
    ]
    await act(loader, first, reason=HOSTILE)
    said = read(await run.draw_head(noon, str(first)))
    assert "Janitor marked dead 2026-03-10 11:00:00 UTC" in said
    assert HOSTILE in said
    assert "Janitor" not in read(await run.draw_head(noon, str(second)))


async def test_parts_that_are_bad_now_are_problems_and_the_others_are_not(
    noon, loader, read
) -> None:
    await loader.executemany(
        "INSERT INTO metadata.health_checks (checked_at, component, status, detail)"
        " VALUES ($1, $2, $3, $4)",
        [
            (NOW - 2 * MINUTE, "kafka", "BAD", HOSTILE),
            (NOW - MINUTE, "kafka", "BAD", "no broker answers"),
            (NOW - 2 * MINUTE, "postgres", "BAD", "it is away"),
            (NOW - MINUTE, "postgres", "GOOD", None),
            (NOW - 2 * MINUTE, "prefect", "BAD", "it is away"),
            (NOW - MINUTE, "prefect", "UNKNOWN", None),
            (NOW - 11 * MINUTE, "disk", "BAD", "it is full"),
            (NOW - MINUTE, "memory", "BAD", None),
        ],
    )
    said = read(await overview.draw_problems(noon))
    assert "kafka: no broker answers" in said
    assert "memory: the health check failed" in said
    assert said.count("✕ bad") == 2
