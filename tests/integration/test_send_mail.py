"""From events in PostgreSQL to mails on a real SMTP server with STARTTLS and a login."""

import asyncio
import datetime as dt
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from infra.postgres.connection import Pool
from schemas.errors import RefusedError
from tasks.mail_compose import compose_mails
from tasks.record import hold_execution, record_execution
from tasks.send_mail import send_mail
from tests.conftest import Database
from tests.mail_server import MailServer, Received, mail_server, mail_settings

PIPELINE = "daily_etl_pipeline"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MailServer]:
    with mail_server(tmp_path, user="sluiceway", password="s3cret-word") as started:
        yield started


async def run(pool: Pool, error: str = "", pipeline: str = PIPELINE) -> int:
    """Leave a run that failed with this error, or succeeded; returns its id."""
    with suppress(RefusedError):
        async with record_execution(pool, pipeline) as execution:
            refuse(error)
    return execution.id


def refuse(error: str) -> None:
    if error:
        raise RefusedError(error)


async def go_back(pool: Pool, minutes: float) -> None:
    """Have everything so far be so much longer ago."""
    async with pool.acquire() as connection:
        await connection.execute(
            "UPDATE metadata.alert_events"
            " SET happened_at = happened_at - make_interval(secs => $1),"
            " handled_at = handled_at - make_interval(secs => $1)",
            minutes * 60,
        )
        await connection.execute(
            "UPDATE metadata.mail_outbox SET created_at = created_at - make_interval(secs => $1)",
            minutes * 60,
        )


async def turn(pool: Pool, server: MailServer, **more: Any) -> list[Received]:
    """Take a turn of the mailer a little later; returns the mails that it brought."""
    before = len(server.received)
    await go_back(pool, 0.1)
    await send_mail(pool, mail_settings(server, **more), ("mail",))
    return server.received[before:]


async def fetch(pool: Pool, query: str, *given: Any) -> list[dict[str, Any]]:
    async with pool.acquire() as connection:
        return [dict(row) for row in await connection.fetch(query, *given)]


async def test_a_failure_is_told_with_what_was_loaded_what_not_and_why(
    pool: Pool, server: MailServer
) -> None:
    flow_run_id = "0b7b6c2e-0000-4000-8000-000000000001"
    with suppress(RefusedError):
        async with record_execution(pool, PIPELINE) as execution, pool.acquire() as connection:
            await add_sources(connection, execution.id)
            await connection.execute(
                "UPDATE metadata.pipeline_executions SET flow_run_id = $2 WHERE id = $1",
                execution.id,
                flow_run_id,
            )
            refuse("1 of 3 sources could not be loaded: ask ann@example.com.")
    [mail] = await turn(
        pool,
        server,
        dashboard_url="https://board.example/",
        prefect_ui_url="https://prefect.example",
    )
    assert mail.message["Subject"] == "[Sluiceway] daily_etl_pipeline failed"
    assert mail.message["Auto-Submitted"] == "auto-generated"
    text, html = mail.body(), mail.body("html")
    for shown in (
        "1 of 3 sources could not be loaded: ask •••.",
        f"https://board.example/runs/{execution.id}",
        f"https://prefect.example/runs/flow-run/{flow_run_id}",
        "sales.csv",
        "it has no column order_id",
        "10 read = 6 inserted + 3 unchanged + 1 quarantined",
        "a line of the run",
    ):
        assert " ".join(shown.split()) in " ".join(text.split())
        assert shown in html
    assert "Unchanged since its last load, and left alone: 1 source." in " ".join(text.split())
    assert "raise RefusedError(error)" in text
    assert text.index("Not loaded") < text.index("Loaded\n") < text.index("Last log lines")
    [kept] = await fetch(pool, "SELECT * FROM metadata.mail_outbox")
    assert (kept["kind"], kept["occurrences"], kept["attempts"], kept["last_error"]) == (
        "failure",
        1,
        1,
        None,
    )
    assert kept["sent_at"] is not None
    assert mail.message["Message-ID"] == f"<{kept['notice']}@example.com>"
    assert await turn(pool, server) == []


async def add_sources(connection: Any, execution_id: int) -> None:
    await connection.execute(
        """
        WITH files AS (
            INSERT INTO metadata.source_files
                (execution_id, load_id, dataset, path, status, contracted, message)
            VALUES ($1, gen_random_uuid(), 'customers', '/raw/customers.csv', 'LOADED', true, ''),
                ($1, gen_random_uuid(), 'sales_data', '/raw/sales.csv', 'REFUSED', true,
                 'it has no column order_id'),
                ($1, gen_random_uuid(), 'products', '/raw/products.csv', 'UNCHANGED', true, '')
            RETURNING id, dataset
        )
        INSERT INTO metadata.dataset_counts (execution_id, batch_id, dataset, source, read,
            inserted, updated, unchanged, superseded, duplicates, quarantined)
        SELECT $1, id, dataset, 'customers.csv', 10, 6, 0, 3, 0, 0, 1 FROM files
        WHERE dataset = 'customers'
        """,
        execution_id,
    )
    await connection.execute(
        "INSERT INTO metadata.pipeline_logs (logged_at, level, pipeline_name, execution_id, event,"
        " fields) VALUES (now(), 'INFO', 'p', $1, 'a line of the run', $2)",
        execution_id,
        json.dumps({"path": "/raw/customers.csv"}),
    )


async def test_sources_that_a_failed_run_did_not_come_to_are_named(
    pool: Pool, server: MailServer
) -> None:
    async with record_execution(pool, PIPELINE) as execution, pool.acquire() as connection:
        await add_sources(connection, execution.id)
    await run(pool, "The run was killed.")
    [mail] = await turn(pool, server)
    text = " ".join(mail.body().split())
    assert "the last good run had them: customers.csv, sales.csv, products.csv." in text


@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE metadata.pipeline_logs SET fields = '[1]'",
        "REVOKE SELECT ON metadata.pipeline_logs FROM sluiceway_loader",
    ],
)
async def test_one_that_cannot_be_told_in_full_is_told_and_so_are_the_others(
    database: Database, pool: Pool, server: MailServer, spoil: str
) -> None:
    with suppress(RefusedError):
        async with record_execution(pool, PIPELINE) as execution, pool.acquire() as connection:
            await add_sources(connection, execution.id)
            refuse("It broke.")
    await write_event(pool, "anomaly", "dataset:sales_data", "error")
    owner = await asyncpg.connect(database.owner_url)
    await owner.execute(spoil)
    await owner.close()
    mails = await turn(pool, server)
    assert [str(each.message["Subject"]) for each in mails] == [
        "[Sluiceway] daily_etl_pipeline: 1 event",
        "[Sluiceway] sales_data: an odd load",
    ]


async def test_failures_of_one_problem_come_together_once_in_the_minutes_set(
    pool: Pool, server: MailServer
) -> None:
    await run(pool, "First.")
    assert len(await turn(pool, server)) == 1
    for number in range(3):
        await run(pool, f"Again {number}.")
    assert await turn(pool, server) == []
    await run(pool, "Elsewhere.", "other_pipeline")
    [other] = await turn(pool, server)
    assert other.message["Subject"] == "[Sluiceway] other_pipeline failed"
    await go_back(pool, 15)
    [later] = await turn(pool, server)
    assert later.message["Subject"] == "[Sluiceway] daily_etl_pipeline failed (3 times)"
    assert "4 failures" in later.body()
    assert "Again 2." in later.body()
    told = await fetch(
        pool,
        "SELECT m.subject, m.occurrences, count(*) AS events FROM metadata.mail_outbox AS m"
        " JOIN metadata.alert_events AS e ON e.mail_id = m.id GROUP BY m.id ORDER BY m.id",
    )
    assert [each["occurrences"] for each in told] == [each["events"] for each in told] == [1, 1, 3]


async def test_an_event_waits_until_the_lines_of_its_run_are_in_the_table(
    pool: Pool, server: MailServer
) -> None:
    await run(pool, "Just now.")
    await send_mail(pool, mail_settings(server), ("mail",))
    assert server.received == []
    assert len(await turn(pool, server)) == 1


async def test_recovery_says_since_when_and_only_to_those_who_knew(
    pool: Pool, server: MailServer
) -> None:
    await run(pool, "It broke.")
    await turn(pool, server)
    await go_back(pool, 60)
    await run(pool, "Still.")
    await turn(pool, server)
    await go_back(pool, 60)
    good = await run(pool)
    [mail] = await turn(pool, server, dashboard_url="https://board.example")
    assert mail.message["Subject"] == "[Sluiceway] daily_etl_pipeline works again"
    assert "Broken for:   2 h 0 min" in mail.body()
    assert "Failures:     2" in mail.body()
    assert f"https://board.example/runs/{good}" in mail.body()
    await go_back(pool, 60)
    await run(pool)
    assert await turn(pool, server) == []


async def test_a_failure_that_is_over_before_it_was_told_is_told_together_with_its_end(
    pool: Pool, server: MailServer
) -> None:
    await run(pool, "A blip.")
    await run(pool)
    [mail] = await turn(pool, server)
    assert mail.message["Subject"] == ("[Sluiceway] daily_etl_pipeline failed once and works again")
    assert "A blip." in mail.body()


async def test_one_that_fails_again_after_it_recovered_is_told_as_failed(
    pool: Pool, server: MailServer
) -> None:
    for error in ("One.", "", "Two."):
        await run(pool, error)
    [mail] = await turn(pool, server)
    assert mail.message["Subject"] == "[Sluiceway] daily_etl_pipeline failed (2 times)"
    assert "In between it worked again once." in mail.body()


async def test_success_is_told_of_the_pipelines_that_are_named_with_the_ledger(
    pool: Pool, server: MailServer
) -> None:
    async with record_execution(pool, PIPELINE) as execution, pool.acquire() as connection:
        await add_sources(connection, execution.id)
        execution.warnings.append("The API was down.")
    await run(pool, pipeline="other_pipeline")
    [mail] = await turn(pool, server, mail_success_of=(PIPELINE,))
    assert mail.message["Subject"] == "[Sluiceway] daily_etl_pipeline succeeded"
    for shown in ("- Read: 10", "- Inserted: 6", "- Quarantined: 1", "The API was down."):
        assert shown in mail.body()
    [unhandled] = await fetch(
        pool, "SELECT count(*) FROM metadata.alert_events WHERE handled_at IS NULL"
    )
    assert unhandled["count"] == 0
    # It does not hold up what goes wrong a minute later.
    await run(pool, "It broke.")
    [mail] = await turn(pool, server, mail_success_of=(PIPELINE,))
    assert mail.message["Subject"] == "[Sluiceway] daily_etl_pipeline failed"


async def test_a_run_taken_for_dead_that_lives_is_told_as_recovered(
    pool: Pool, server: MailServer
) -> None:
    async with record_execution(pool, PIPELINE) as execution, pool.acquire() as connection:
        mark = (
            "UPDATE metadata.pipeline_executions SET status = 'FAILED', end_time = now(),"
            " error_message = 'The run was killed.' WHERE id = $1"
        )
        await connection.execute(mark, execution.id)
        [told] = await turn(pool, server)
        await hold_execution(connection, execution)
        await go_back(pool, 15)
        [back] = await turn(pool, server)
        await connection.execute(mark, execution.id)
        await hold_execution(connection, execution)
        await go_back(pool, 15)
        [both] = await turn(pool, server)
    assert told.message["Subject"] == "[Sluiceway] daily_etl_pipeline failed"
    assert back.message["Subject"] == "[Sluiceway] daily_etl_pipeline works again"
    assert both.message["Subject"] == "[Sluiceway] daily_etl_pipeline failed once and works again"
    assert "1 run had been taken for dead" in both.body()
    await go_back(pool, 15)
    assert await turn(pool, server) == []


async def test_a_run_that_ends_well_after_it_was_taken_for_dead_is_no_failure(pool: Pool) -> None:
    async with record_execution(pool, PIPELINE) as execution, pool.acquire() as connection:
        await connection.execute(
            "UPDATE metadata.pipeline_executions SET status = 'FAILED', end_time = now()"
            " WHERE id = $1",
            execution.id,
        )
    events = await fetch(pool, "SELECT kind, summary FROM metadata.alert_events ORDER BY id")
    assert [each["kind"] for each in events] == ["failure", "recovery"]
    assert "no reason given" in events[0]["summary"]
    assert "had been taken for dead" in events[1]["summary"]


async def write_event(pool: Pool, kind: str, problem: str, severity: str, **detail: Any) -> None:
    async with pool.acquire() as connection:
        await connection.execute(
            "INSERT INTO metadata.alert_events (kind, problem, severity, summary, detail)"
            " VALUES ($1, $2, $3, $4, $5)",
            kind,
            problem,
            severity,
            f"a sentence on {problem}",
            json.dumps(detail),
        )


async def test_odd_loads_and_bad_parts_are_told_with_their_sentences(
    pool: Pool, server: MailServer
) -> None:
    found = [{"summary": "Half of the rows are missing.", "severity": "error"}]
    await write_event(
        pool, "anomaly", "dataset:sales_data", "error", anomalies=found, was_refused=True
    )
    await write_event(pool, "health", "component:kafka", "error", latency_seconds=10)
    health, odd = sorted(
        await turn(pool, server, dashboard_url="https://board.example"),
        key=lambda each: str(each.message["Subject"]),
    )
    assert odd.message["Subject"] == "[Sluiceway] sales_data: an odd load"
    assert "Half of the rows are missing." in odd.body()
    assert "It was not merged: the contract demands" in " ".join(odd.body().split())
    assert health.message["Subject"] == "[Sluiceway] kafka is bad"
    assert "a sentence on component:kafka" in health.body()
    assert "https://board.example/system" in health.body()
    await go_back(pool, 15)
    await write_event(pool, "health", "component:kafka", "info")
    [again] = await turn(pool, server)
    assert again.message["Subject"] == "[Sluiceway] kafka works again"


async def test_hostile_words_stay_words(pool: Pool, server: MailServer) -> None:
    await run(
        pool,
        "<script>alert(1)</script>\r\nBcc: victim@example.com\r\n\r\nline 3: 'ann@example.com'"
        " password=hunter22\x1b[31m\u202e",
        "p<b>\r\nBcc: x@example.com",
    )
    [mail] = await turn(pool, server)
    raw = mail.message.as_string() + mail.body() + mail.body("html")
    assert mail.message["Bcc"] is None
    assert mail.recipients == ("ops@example.com",)
    assert mail.message["Subject"] == "[Sluiceway] p<b> Bcc: ••• failed"
    assert "<script>" not in mail.body("html")
    assert "&lt;script&gt;" in mail.body("html")
    for hidden in ("ann@example.com", "victim@example.com", "hunter22", "\x1b", "\u202e"):
        assert hidden not in raw


async def test_what_nobody_set_a_channel_up_for_is_forgotten_after_a_day(
    pool: Pool, server: MailServer
) -> None:
    await run(pool, "Long ago.", "old_pipeline")
    await go_back(pool, 60 * 25)
    await run(pool, "Now.")
    await compose_mails(pool, mail_settings(server), ())
    await go_back(pool, 1)
    [mail] = await turn(pool, server)
    assert mail.message["Subject"] == "[Sluiceway] daily_etl_pipeline failed"


async def test_a_trial_keeps_nothing(pool: Pool, server: MailServer) -> None:
    await run(pool, "It broke.")
    await go_back(pool, 1)
    [shown] = await compose_mails(pool, mail_settings(server), ("mail",), is_trial=True)
    assert shown.document.subject == "[Sluiceway] daily_etl_pipeline failed"
    assert await fetch(pool, "SELECT FROM metadata.mail_outbox") == []
    assert len(await turn(pool, server)) == 1


async def test_two_mailers_at_once_tell_everything_once(pool: Pool, server: MailServer) -> None:
    for number in range(12):
        await run(pool, "It broke.", f"pipeline_{number}")
    await go_back(pool, 1)
    settings = mail_settings(server)
    for _ in range(2):
        await asyncio.gather(*(send_mail(pool, settings, ("mail",)) for _ in range(3)))
    subjects = [str(each.message["Subject"]) for each in server.received]
    assert sorted(subjects) == sorted(f"[Sluiceway] pipeline_{n} failed" for n in range(12))


async def test_mail_that_fails_is_no_event(pool: Pool, server: MailServer) -> None:
    await run(pool, "It broke.")
    server.stop()
    assert await turn(pool, server) == []
    assert len(await fetch(pool, "SELECT FROM metadata.alert_events")) == 1
    [kept] = await fetch(pool, "SELECT * FROM metadata.mail_outbox")
    assert kept["sent_at"] is None
    assert kept["next_attempt_at"] > dt.datetime.now(dt.UTC) + dt.timedelta(seconds=20)
