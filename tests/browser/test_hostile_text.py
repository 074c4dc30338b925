"""What others wrote into names, errors and lines is text, and never a part of the page."""

from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
import pytest_asyncio

from infra.postgres.identifiers import quote
from tests.browser.dashboards import Dashboard
from tests.browser.expected import PAGES

pytestmark = pytest.mark.asyncio(loop_scope="session")

IMAGE = "<img src=x onerror=alert(1)>"
SCRIPT = "<script>alert(2)</script>"
LINK = "javascript:alert(3)"
BRACES = "{{7*7}} ${7*7} %(seven)s"
TURNED = "invoice_\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe"
LONG = "x" * 10_000
HOSTILE = f"{IMAGE} {SCRIPT} {LINK} {BRACES} {TURNED}"
TABLE = "<img src=x onerror=alert(1)>"

MADE_OF_TEXT = """
() => [...document.querySelectorAll(
    'img[src="x"], [onerror], a[href^="javascript:"], a[*|href^="javascript:"], iframe, object')]
  .map((each) => each.outerHTML.slice(0, 200))
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hostile(chromium, embedded_server) -> AsyncIterator[tuple[str, int]]:
    """A database whose every text is hostile; the reader's address and a run's id."""
    made = await embedded_server.create()
    connection = await asyncpg.connect(made.owner_url)
    failed = await _fill(connection)
    await connection.close()
    yield made.reader_url, failed
    await embedded_server.drop(made)


@pytest.fixture(scope="module")
def hostile_dashboard(hostile, folder) -> Iterator[Dashboard]:
    with Dashboard(folder / "hostile", hostile[0]) as started:
        yield started


@pytest.mark.parametrize("path", PAGES)
async def test_hostile_text_is_shown_as_text(path, visit, hostile, hostile_dashboard) -> None:
    looked = await visit(hostile_dashboard, path.format(failed=hostile[1]))
    await looked.sees(PAGES[path].question, IMAGE)
    assert await looked.measure(MADE_OF_TEXT) == []
    assert await looked.measure("() => document.documentElement.scrollWidth - innerWidth") <= 0


async def test_hostile_addresses_are_taken_for_what_they_say(visit, dashboard, history) -> None:
    given = "%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E"
    for path in PAGES:
        names = ("range", "status", "pipeline", "table", "level", "text", "dataset", "rule", "page")
        query = "&".join(f"{name}={given}" for name in names)
        looked = await visit(dashboard, f"{path.format(failed=history.failed_run)}?{query}")
        assert await looked.measure(MADE_OF_TEXT) == []


async def _fill(connection: asyncpg.Connection) -> int:
    text = f"{HOSTILE} {LONG}"
    failed: int = await connection.fetchval(
        """
        INSERT INTO metadata.pipeline_executions
            (pipeline_name, status, start_time, end_time, error_message, error_traceback, warnings,
             host, parameters)
        VALUES ($1, 'FAILED', now() - INTERVAL '2 minutes', now() - INTERVAL '1 minute', $2,
            $2, ARRAY[$2], $1, jsonb_build_object($1::text, $2::text))
        RETURNING id
        """,
        HOSTILE,
        text,
    )
    batch = await connection.fetchval(
        """
        INSERT INTO metadata.source_files
            (execution_id, load_id, dataset, path, status, contracted, message, notes, staged_in,
             rows)
        VALUES ($1, gen_random_uuid(), $2, $3, 'LOADED', false, $3, ARRAY[$3], $2, 1)
        RETURNING id
        """,
        failed,
        TABLE,
        f"/data/raw/{text}",
    )
    given = (failed, batch, TABLE, text, HOSTILE)
    await connection.execute(
        """
        INSERT INTO metadata.dataset_counts
            (execution_id, batch_id, dataset, source, read, inserted, updated, unchanged,
             superseded, duplicates, quarantined)
        SELECT $1::bigint, $2::bigint, $3, $4, 2, 1, 0, 0, 0, 0, 1
        """,
        *given[:4],
    )
    await connection.execute(
        """
        INSERT INTO metadata.quarantine
            (execution_id, batch_id, dataset, source, line, rule, column_name, reason, raw, outcome)
        SELECT $1::bigint, $2::bigint, $3, $4, 1, $5, $5, $4, $4, $4
        """,
        *given,
    )
    await connection.execute(
        """
        INSERT INTO metadata.quality_results
            (execution_id, batch_id, dataset, column_name, rule, checked, failed, statistics)
        SELECT $1::bigint, $2::bigint, $3, $4, $4, 2, 1, jsonb_build_object($4::text, $4::text)
        """,
        failed,
        batch,
        TABLE,
        HOSTILE,
    )
    for level in ("ERROR", HOSTILE):
        await connection.execute(
            """
            INSERT INTO metadata.pipeline_logs
                (logged_at, level, pipeline_name, execution_id, dataset, event, fields)
            SELECT now(), $5, $4, $1::bigint, $2, $3, jsonb_build_object($4::text, $3::text)
            """,
            failed,
            TABLE,
            text,
            HOSTILE,
            level,
        )
    await connection.execute(
        """
        INSERT INTO metadata.health_checks (checked_at, component, status, detail)
        SELECT now(), $1, 'BAD', $2
        """,
        HOSTILE,
        text,
    )
    await connection.execute(
        """
        INSERT INTO metadata.maintenance_windows (component, starts_at, ends_at, reason, created_by)
        SELECT $1, now() - INTERVAL '1 hour', now() + INTERVAL '1 hour', $2, $1
        """,
        HOSTILE,
        text,
    )
    await connection.execute(
        """
        INSERT INTO metadata.anomalies
            (dataset, feed, column_name, rule, severity, observed, expected, summary, execution_id)
        SELECT $3, $2, $2, given, 'error', 0.5, 0.1, $4, $1::bigint
        FROM unnest(ARRAY[$2, 'null_rate', 'volume']) AS given
        """,
        failed,
        HOSTILE,
        TABLE,
        text,
    )
    await connection.execute(
        """
        INSERT INTO metadata.load_profiles
            (execution_id, dataset, feed, read, duplicates, quarantined, columns)
        SELECT $1::bigint, $3, $2, 2, 0, 0, jsonb_build_object($2::text, jsonb_build_object(
            'rows', 2, 'missing', 1, 'mistyped', 0, 'minimum', $4::text, 'maximum', $4::text))
        """,
        failed,
        HOSTILE,
        TABLE,
        text,
    )
    await connection.execute(
        """
        INSERT INTO metadata.mail_outbox
            (problem, subject, body_text, body_html, last_error, created_at)
        SELECT $1, $1, $1, $1, $2, now() - INTERVAL '1 hour'
        """,
        HOSTILE,
        text,
    )
    await connection.execute(
        """
        INSERT INTO metadata.janitor_acts (act, execution_id, pipeline_name, reason)
        SELECT 'marked dead', $1::bigint, $2, $3
        """,
        failed,
        HOSTILE,
        text,
    )
    for statement in (
        "INSERT INTO metadata.stream_offsets SELECT $1, $1, 0, 5, 1, $1",
        "INSERT INTO metadata.stream_lag SELECT $1, $1, 0, now(), 500, 500.0",
        """
        INSERT INTO metadata.stream_batches
            (consumer_group, topic, partitions, messages, loaded, dead, flush_seconds,
             first_offsets, next_offsets)
        SELECT $1, $1, '{0}', 2, 1, 1, 0.1, '{0}', '{2}'
        """,
        """
        INSERT INTO metadata.dead_letters
            (consumer_group, topic, partition, message_offset, source, reason, detail, outcome,
             message_value)
        SELECT $1, $1, 0, 1, $1, $1, $1, $1, convert_to($1, 'UTF8')
        """,
    ):
        await connection.execute(statement, HOSTILE)
    name = quote(TABLE)
    await connection.execute(
        f"""
        CREATE TABLE staging.{name} (
            {quote(HOSTILE[:60])} text, "_line" bigint, "_batch_id" bigint, "_source" text,
            "_version" timestamptz, "_extracted_at" timestamptz
        );
        GRANT SELECT ON staging.{name} TO sluiceway_reader;
        """
    )
    await connection.execute(
        f"INSERT INTO staging.{name} SELECT $1, 1, $2::bigint, $1, now(), now()",
        HOSTILE,
        batch,
    )
    return failed
