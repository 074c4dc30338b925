"""Hostile text in every place of the database that the dashboard shows."""

import asyncpg

from infra.postgres.identifiers import quote

IMAGE = "<img src=x onerror=alert(1)>"
SCRIPT = "<script>alert(2)</script>"
LINK = "javascript:alert(3)"
BRACES = "{{7*7}} ${7*7} %(seven)s"
TURNED = "invoice_\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe"
LONG = "x" * 10_000
HOSTILE = f"{IMAGE} {SCRIPT} {LINK} {BRACES} {TURNED}"
TABLE = "<img src=x onerror=alert(1)>"


async def fill_with_hostile_text(connection: asyncpg.Connection) -> int:
    """Leave a row of every kind, as the owner; returns the run's id."""
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
