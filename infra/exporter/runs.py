"""Runs that are under way."""

from infra.exporter.sheet import Sheet, add
from infra.postgres.connection import Connection


async def read_running(sheet: Sheet, connection: Connection) -> None:
    """Add how many runs of each pipeline are under way, and since when the oldest is."""
    rows = await connection.fetch(
        """
        SELECT pipeline_name, coalesce(running, 0) AS running, coalesce(greatest(age, 0), 0) AS age
        FROM (
            SELECT labels[1] AS pipeline_name FROM metadata.metric_sums
            WHERE metric = 'run_records'
        ) AS named FULL JOIN (
            SELECT pipeline_name, count(*) AS running,
                extract(epoch FROM clock_timestamp() - min(start_time))::float8 AS age
            FROM metadata.pipeline_executions WHERE status = 'RUNNING' GROUP BY pipeline_name
        ) AS run USING (pipeline_name)
        ORDER BY running DESC, pipeline_name
        """
    )
    sheet.gauge(
        "sluiceway_runs_running",
        "Runs under way.",
        ("pipeline",),
        [((row["pipeline_name"],), row["running"]) for row in rows],
        combine=add,
    )
    sheet.gauge(
        "sluiceway_oldest_run_age_seconds",
        "How long the oldest run under way has been running; 0 where none is.",
        ("pipeline",),
        [((row["pipeline_name"],), row["age"]) for row in rows],
        unit="seconds",
    )
