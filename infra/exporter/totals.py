"""Counters: what happened since ever, from metadata.metric_sums, where it never falls."""

from collections import defaultdict
from dataclasses import dataclass
from itertools import product

from infra.exporter.sheet import Labels, Sheet
from infra.postgres.connection import Connection
from schemas.datasets import DATASETS

DURATION_BOUNDS = tuple(2.0**power for power in range(-3, 18))
"""Seconds: from an eighth of one to a day and a half."""
BUCKETS_PER_OCTAVE = 8
"""Of metadata.rollup_durations."""
STATUSES = ("SUCCESS", "FAILED")
STATES = ("good", "bad", "unknown", "maintenance")


@dataclass(frozen=True, slots=True)
class Total:
    """How much of it there was, in the order in which the labels came; last_at: in seconds."""

    labels: Labels
    value: float
    last_at: float | None


@dataclass(frozen=True, slots=True)
class _Counter:
    """A family that is a metric of metadata.metric_sums as it is."""

    metric: str
    name: str
    help_text: str
    labels: Labels
    at_zero: tuple[Labels, ...] = ()
    """What is shown before it happened: a rise from nothing is none to Prometheus."""


_TABLES = tuple(each.spec.table for each in DATASETS)
_BY_DATASET = tuple((table,) for table in _TABLES)
_ANOMALY_RULES = (
    "volume",
    "null_rate",
    "mistyped_rate",
    "duplicate_rate",
    "quarantine_rate",
    "freshness",
)
_COUNTERS = (
    _Counter(
        "rows_read", "sluiceway_rows_read", "Rows read from sources.", ("dataset",), _BY_DATASET
    ),
    _Counter(
        "rows_loaded",
        "sluiceway_rows_loaded",
        "Rows inserted, updated or found unchanged in the warehouse.",
        ("dataset",),
        _BY_DATASET,
    ),
    _Counter(
        "rows_superseded",
        "sluiceway_rows_superseded",
        "Rows of which a newer version was there.",
        ("dataset",),
        _BY_DATASET,
    ),
    _Counter(
        "rows_duplicate",
        "sluiceway_rows_duplicate",
        "Rows that the same load had already.",
        ("dataset",),
        _BY_DATASET,
    ),
    _Counter(
        "rows_quarantined",
        "sluiceway_rows_quarantined",
        "Rows that broke their contract.",
        ("dataset",),
        _BY_DATASET,
    ),
    _Counter(
        "stream_messages",
        "sluiceway_stream_messages",
        "Messages committed in micro-batches, replayed ones too.",
        ("group", "topic"),
    ),
    _Counter(
        "stream_batches",
        "sluiceway_stream_batches",
        "Micro-batches committed, of replays too.",
        ("group", "topic"),
    ),
    _Counter(
        "dead_letters", "sluiceway_dead_letters", "Messages buried as dead letters.", ("reason",)
    ),
    _Counter(
        "quality_checked",
        "sluiceway_quality_checked",
        "Values or rows that a rule was applied to.",
        ("dataset", "rule"),
    ),
    _Counter(
        "quality_failed",
        "sluiceway_quality_failed",
        "Values or rows that broke a rule.",
        ("dataset", "rule"),
    ),
    _Counter(
        "anomalies",
        "sluiceway_anomalies",
        "Loads that were unlike those before them.",
        ("dataset", "rule", "severity"),
        tuple(product(_TABLES, _ANOMALY_RULES, ("warning", "error"))),
    ),
    _Counter(
        "minutes",
        "sluiceway_component_minutes",
        "Minutes by what the health checks found; those that nobody checked are counted as unknown "
        "when the next hour with a check begins.",
        ("component", "state"),
    ),
    _Counter(
        "alert_events",
        "sluiceway_alert_events",
        "Things that somebody may want to be told.",
        ("kind", "severity"),
        (
            ("failure", "error"),
            ("recovery", "info"),
            ("success", "info"),
            ("anomaly", "warning"),
            ("anomaly", "error"),
            ("health", "error"),
        ),
    ),
    _Counter(
        "mails",
        "sluiceway_mails",
        "Mails and other notices that were sent, or given up.",
        ("state",),
        (("sent",), ("abandoned",)),
    ),
    _Counter(
        "janitor_acts",
        "sluiceway_janitor_acts",
        "What the janitor did about dead and late runs.",
        ("act",),
        (("marked dead",), ("told Prefect",), ("cancelled late",)),
    ),
)


async def read_totals(sheet: Sheet, connection: Connection) -> None:
    """Add every counter, and when runs ended and batches were committed last."""
    rows = await connection.fetch(
        """
        SELECT metric, labels, total, extract(epoch FROM last_at)::float8 AS last_at
        FROM metadata.metric_sums ORDER BY first_at, labels
        """
    )
    found: dict[str, list[Total]] = defaultdict(list)
    for row in rows:
        total = Total(tuple(row["labels"]), row["total"], row["last_at"])
        found[row["metric"]].append(total)
    _add_runs(sheet, found)
    for each in _COUNTERS:
        given = [(total.labels, total.value) for total in found[each.metric]]
        at_zero = each.at_zero
        if each.metric == "minutes":
            components = dict.fromkeys(total.labels[0] for total in found["minutes"])
            at_zero = tuple(product(components, STATES))
        nothing = [(labels, 0.0) for labels in at_zero]
        sheet.counter(each.name, each.help_text, each.labels, [*nothing, *given])
    sheet.gauge(
        "sluiceway_stream_last_commit_timestamp_seconds",
        "When the group's last micro-batch of the topic was committed.",
        ("group", "topic"),
        [(each.labels, each.last_at or 0) for each in found["stream_batches"]],
        unit="seconds",
    )


def _add_runs(sheet: Sheet, found: dict[str, list[Total]]) -> None:
    pipelines = [each.labels[0] for each in found["run_records"]]
    sheet.counter(
        "sluiceway_runs",
        "Runs that ended so; one that was taken for dead and went on counts for each of its ends.",
        ("pipeline", "status"),
        [
            *((labels, 0.0) for labels in product(pipelines, STATUSES)),
            *((each.labels, each.value) for each in found["runs"]),
        ],
    )
    for status, what in (("SUCCESS", "success"), ("FAILED", "failure")):
        sheet.gauge(
            f"sluiceway_last_{what}_timestamp_seconds",
            f"When a run of the pipeline last ended as {status}; absent where none ever did.",
            ("pipeline",),
            [
                (each.labels[:1], each.last_at)
                for each in found["runs"]
                if each.labels[1] == status and each.last_at is not None
            ],
            unit="seconds",
        )
    sheet.counter(
        "sluiceway_records_processed",
        "Records that runs processed, as far as those under way have said so.",
        ("pipeline",),
        [(each.labels, each.value) for each in found["run_records"]],
    )
    seconds = {each.labels[0]: each.value for each in found["run_seconds"]}
    counts: dict[str, dict[float, float]] = {pipeline: {} for pipeline in pipelines}
    for each in found["run_durations"]:
        pipeline, bucket = each.labels
        bound = _bound_of(int(bucket))
        mine = counts.setdefault(pipeline, {})
        mine[bound] = mine.get(bound, 0) + each.value
    sheet.histogram(
        "sluiceway_run_duration_seconds",
        "How long runs took that ended.",
        ("pipeline",),
        [((name,), mine, seconds.get(name, 0)) for name, mine in counts.items()],
        DURATION_BOUNDS,
    )


def _bound_of(bucket: int) -> float:
    """Return the least of our bounds that no duration of the rollup's bucket is above."""
    # The bucket reaches from 2^(n / 8) up to 2^((n + 1) / 8).
    octave = bucket // BUCKETS_PER_OCTAVE + 1
    return max(DURATION_BOUNDS[0], 2.0**octave)
