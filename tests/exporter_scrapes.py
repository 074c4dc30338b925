"""What tests of the exporter share: something of everything in the tables, and scrapes."""

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import asyncpg
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from infra.exporter.serve import serve_metrics
from infra.settings import Settings

Series = tuple[str, frozenset[tuple[str, str]]]
OPEN_METRICS = "application/openmetrics-text;version=1.0.0"


@dataclass(frozen=True)
class Scrape:
    """What one answer of the exporter said."""

    families: dict[str, Metric]
    text: str
    content_type: str

    @property
    def samples(self) -> dict[Series, float]:
        """Every value by its name and labels."""
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    @property
    def counters(self) -> dict[Series, float]:
        """What may never fall: counters, and the counts of histograms."""
        return {
            key: value
            for family in self.families.values()
            if family.type in {"counter", "histogram"} and family.name.startswith("sluiceway_")
            for sample in family.samples
            for key, value in [((sample.name, frozenset(sample.labels.items())), sample.value)]
        }

    def of(self, name: str) -> dict[tuple[str, ...], float]:
        """Return a sample's values by the values of its labels, in the order of their names."""
        return {
            tuple(value for _, value in sorted(labels)): value
            for (found, labels), value in self.samples.items()
            if found == name
        }

    def value(self, name: str) -> float:
        """Return the value of a sample without labels."""
        return self.of(name)[()]


class Exporter:
    """A client of an exporter that is being served."""

    def __init__(self, address: str, session: aiohttp.ClientSession) -> None:
        self.address = address
        self.session = session

    async def scrape(self, *, accept: str = "") -> Scrape:
        headers = {"Accept": accept} if accept else {}
        async with self.session.get(f"{self.address}/metrics", headers=headers) as response:
            assert response.status == 200, await response.text()
            text = await response.text()
            kind = response.headers["Content-Type"]
        parse = parse_openmetrics if "openmetrics" in kind else parse_text
        return Scrape({family.name: family for family in parse(text)}, text, kind)


@asynccontextmanager
async def served(url: str, *, share_seconds: float = 0) -> AsyncIterator[Exporter]:
    """Serve the metrics of a database; each scrape reads it anew."""
    settings = Settings(monitor_database_url=url, exporter_port=0)  # type: ignore[arg-type]
    async with (
        serve_metrics(settings, share_seconds=share_seconds) as address,
        aiohttp.ClientSession() as session,
    ):
        yield Exporter(address, session)


async def fill(owner: asyncpg.Connection, *, batches: int = 3) -> None:
    """Add something of everything that is counted, some of it now and some of it long ago."""
    await owner.execute(
        """
        INSERT INTO metadata.pipeline_executions (pipeline_name, start_time)
        SELECT 'p' || n % 2, now() - n * interval '1 hour' FROM generate_series(1, 9) AS n;

        UPDATE metadata.pipeline_executions
        SET status = CASE WHEN id % 4 = 0 THEN 'FAILED' ELSE 'SUCCESS' END,
            end_time = start_time + id * interval '1.7 s', records_processed = 10 * id
        WHERE id % 5 <> 0;

        UPDATE metadata.pipeline_executions SET records_processed = 3 WHERE status = 'RUNNING';
        """
    )
    await owner.execute(
        """
        INSERT INTO metadata.dataset_counts
            (execution_id, batch_id, dataset, source, read, inserted, updated, unchanged,
             superseded, duplicates, quarantined, recorded_at)
        SELECT (SELECT max(id) FROM metadata.pipeline_executions),
            (SELECT coalesce(max(batch_id), 0) FROM metadata.dataset_counts) + n,
            CASE WHEN n % 3 = 0 THEN 'uncontracted' ELSE 'sales_data' END, 'a file',
            21 * n, n, 2 * n, 3 * n, 4 * n, 5 * n, 6 * n, now() - n * interval '1 day'
        FROM generate_series(1, $1) AS n
        """,
        batches * 2,
    )
    await owner.execute(
        """
        INSERT INTO metadata.quality_results
            (execution_id, batch_id, dataset, column_name, rule, checked, failed, recorded_at)
        SELECT 1, n, 'sales_data', CASE WHEN n % 2 = 0 THEN 'quantity' END, 'rule ' || n % 3,
            10 * n, n, now() - n * interval '1 day'
        FROM generate_series(1, 7) AS n
        """
    )
    await owner.execute(
        """
        INSERT INTO metadata.stream_batches
            (consumer_group, topic, partitions, messages, loaded, dead, skipped, flush_seconds,
             committed_at)
        SELECT 'g' || n % 2, 't', '{0}', 10 * n, 8 * n, n, n, 0.1, now() - n * interval '1 min'
        FROM generate_series(1, $1) AS n
        """,
        batches,
    )
    await owner.execute(
        """
        INSERT INTO metadata.stream_offsets (consumer_group, topic, partition, next_offset)
        SELECT 'g0', 't', n, 5 FROM generate_series(0, 2) AS n ON CONFLICT DO NOTHING;

        INSERT INTO metadata.stream_lag
            (consumer_group, topic, partition, measured_at, lag_messages, lag_seconds)
        SELECT 'g0', 't', n % 2, clock_timestamp() - n * interval '10 s', 100 - n, 10 - n
        FROM generate_series(1, 6) AS n;

        INSERT INTO metadata.dead_letters
            (consumer_group, topic, partition, message_offset, reason, detail, message_value,
             outcome)
        SELECT 'g0', 't', 0, (SELECT count(*) FROM metadata.dead_letters) + n,
            'rule ' || n % 2, 'a secret', 'a secret',
            (ARRAY['loaded', 'failed', NULL])[1 + n % 3]
        FROM generate_series(1, 10) AS n;

        INSERT INTO metadata.health_checks (checked_at, component, status, latency_seconds)
        SELECT date_trunc('hour', now()) + n * interval '1 minute', component,
            CASE WHEN n = -20 AND component = 'kafka' THEN 'BAD' WHEN n = -30 THEN 'UNKNOWN'
                 ELSE 'GOOD' END,
            0.25
        FROM unnest(ARRAY['kafka', 'postgres']) AS component, generate_series(-70, -2) AS n;

        INSERT INTO metadata.health_checks (checked_at, component, status, latency_seconds)
        VALUES (now(), 'kafka', 'BAD', NULL), (now(), 'postgres', 'GOOD', 0.5),
            (now(), 'disk', 'UNKNOWN', NULL), (now() - interval '6 minutes', 'cpu', 'GOOD', 0.1);

        INSERT INTO metadata.anomalies
            (dataset, feed, rule, severity, observed, summary)
        SELECT 'sales_data', 'f', 'volume', 'error', 1, 's' FROM generate_series(1, 4);

        INSERT INTO metadata.janitor_acts (act, reason)
        SELECT 'marked dead', 'r' FROM generate_series(1, 2);

        INSERT INTO metadata.mail_outbox (problem, subject, body_text, body_html)
        SELECT 'p', 's', 'a secret', 'a secret' FROM generate_series(1, 6);

        UPDATE metadata.mail_outbox SET sent_at = now()
        WHERE sent_at IS NULL AND abandoned_at IS NULL AND id % 3 = 0;

        UPDATE metadata.mail_outbox SET abandoned_at = now()
        WHERE sent_at IS NULL AND abandoned_at IS NULL AND id % 6 = 1;
        """
    )


def now() -> dt.datetime:
    """Return the time in UTC."""
    return dt.datetime.now(dt.UTC)
