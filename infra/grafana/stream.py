"""The dashboard of the stream: whether consumers keep up, and what they could not load."""

from infra.grafana.panels import Dashboard, Panel, Query, Section, Variable, stat

_MINE = 'group=~"$group"'
_CONSUMER = 'pipeline="stream_processing_pipeline"'

_NOW = Section(
    "Now",
    (
        stat(
            "Waiting",
            "Messages in Kafka that are not loaded.",
            f"sum(sluiceway_consumer_lag_messages{{{_MINE}}})",
            thresholds=(("green", 0), ("orange", 10_000), ("red", 100_000)),
        ),
        stat(
            "Behind",
            "Age of the oldest message that is not loaded.",
            f"max(sluiceway_consumer_lag_seconds{{{_MINE}}})",
            unit="s",
            thresholds=(("green", 0), ("orange", 60), ("red", 300)),
        ),
        stat(
            "Measured",
            "How long ago the lag was measured; nobody measures it while no consumer runs.",
            f"time() - min(sluiceway_consumer_lag_measured_timestamp_seconds{{{_MINE}}})",
            unit="s",
            thresholds=(("green", 0), ("orange", 60), ("red", 300)),
        ),
        stat(
            "Last commit",
            "How long ago the last micro-batch was committed; an idle topic has none.",
            f"time() - max(sluiceway_stream_last_commit_timestamp_seconds{{{_MINE}}})",
            unit="s",
        ),
        stat(
            "Consumers",
            "Runs of the stream's pipeline under way.",
            f"sum(sluiceway_runs_running{{{_CONSUMER}}})",
            thresholds=(("red", 0), ("green", 1)),
        ),
        stat(
            "Open dead letters",
            "Messages that could not be loaded and have not been replayed with success.",
            "max(sluiceway_dead_letters_open)",
            thresholds=(("green", 0), ("orange", 1), ("red", 1000)),
        ),
    ),
)

_LAG = Section(
    "Lag",
    (
        Panel(
            "timeseries",
            "Messages waiting, by partition",
            "A line that only climbs is a partition that nobody reads.",
            (
                Query(
                    "sum by (group, topic, partition) "
                    f"(sluiceway_consumer_lag_messages{{{_MINE}}})",
                    "{{topic}} {{partition}}",
                ),
            ),
            stacked=True,
        ),
        Panel(
            "timeseries",
            "Seconds behind, by partition",
            "StreamBehind fires above the dashed line.",
            (
                Query(
                    f"max by (group, topic, partition) (sluiceway_consumer_lag_seconds{{{_MINE}}})",
                    "{{topic}} {{partition}}",
                ),
            ),
            unit="s",
            thresholds=(("transparent", 0), ("red", 300)),
        ),
    ),
)

_THROUGHPUT = Section(
    "Throughput",
    (
        Panel(
            "timeseries",
            "Messages a second",
            "Taken from the topic and committed, whatever became of them.",
            (
                Query(
                    "sum by (group, topic) "
                    f"(rate(sluiceway_stream_messages_total{{{_MINE}}}[$__rate_interval]))",
                    "{{group}} {{topic}}",
                ),
            ),
            unit="cps",
        ),
        Panel(
            "timeseries",
            "Messages a batch",
            "Many to a batch is fast; few is what a trickle looks like.",
            (
                Query(
                    "sum by (group, topic) "
                    f"(rate(sluiceway_stream_messages_total{{{_MINE}}}[$__rate_interval]))"
                    " / (sum by (group, topic) "
                    f"(rate(sluiceway_stream_batches_total{{{_MINE}}}[$__rate_interval])) > 0)",
                    "{{group}} {{topic}}",
                ),
            ),
        ),
        Panel(
            "table",
            "Since the beginning",
            "All messages and batches that were committed.",
            (
                Query(
                    f"sum by (group, topic) (sluiceway_stream_messages_total{{{_MINE}}})",
                    "Messages",
                ),
                Query(
                    f"sum by (group, topic) (sluiceway_stream_batches_total{{{_MINE}}})", "Batches"
                ),
            ),
        ),
        Panel(
            "timeseries",
            "Consumers",
            "Runs of the stream's pipeline: under way, and failed within the hour before.",
            (
                Query(f"sum(sluiceway_runs_running{{{_CONSUMER}}})", "under way"),
                Query(
                    "sum(pipeline_status:sluiceway_runs:increase1h"
                    f'{{{_CONSUMER}, status="FAILED"}})',
                    "failed within an hour",
                ),
            ),
        ),
    ),
)

_LETTERS = Section(
    "Dead letters",
    (
        Panel(
            "timeseries",
            "Buried",
            "By the reason why they could not be loaded.",
            (
                Query(
                    "sum by (reason) (increase(sluiceway_dead_letters_total[$__rate_interval]))",
                    "{{reason}}",
                ),
            ),
            stacked=True,
            bars=True,
        ),
        Panel(
            "timeseries",
            "Open",
            "Not replayed with success; counted up to 100,000.",
            (Query("max(sluiceway_dead_letters_open)", "open"),),
        ),
        Panel(
            "table",
            "Dead letters since the beginning",
            "All that were ever buried, replayed ones among them.",
            (Query("sum by (reason) (sluiceway_dead_letters_total)", "Letters"),),
            width=24,
        ),
    ),
)

STREAM = Dashboard(
    "sluiceway-stream",
    "Sluiceway: stream",
    "Whether the consumers keep up, and what they could not load.",
    (Variable("group", "sluiceway_stream_messages_total", "Consumer group"),),
    (_NOW, _LAG, _THROUGHPUT, _LETTERS),
)
