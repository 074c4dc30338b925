"""The dashboard of the pipelines: what ran, how long it took, how fresh that leaves the data."""

from infra.grafana.panels import ANY_IS_BAD, Dashboard, Panel, Query, Section, Variable, stat

_MINE = 'pipeline=~"$pipeline"'
_SUCCESS = f"sluiceway_last_success_timestamp_seconds{{{_MINE}}}"
_FAILURE = f"sluiceway_last_failure_timestamp_seconds{{{_MINE}}}"

_NOW = Section(
    "Now",
    (
        stat(
            "Under way",
            "Runs that go on at the moment.",
            f"sum(sluiceway_runs_running{{{_MINE}}})",
        ),
        stat(
            "Succeeded",
            "Runs that ended well in the chosen time.",
            f'sum(increase(sluiceway_runs_total{{{_MINE}, status="SUCCESS"}}[$__range]))',
            decimals=0,
        ),
        stat(
            "Failed",
            "Runs that failed in the chosen time, killed ones among them.",
            f'sum(increase(sluiceway_runs_total{{{_MINE}, status="FAILED"}}[$__range]))',
            thresholds=ANY_IS_BAD,
            decimals=0,
        ),
        stat(
            "Success rate",
            "Runs that ended well, of all that ended in the chosen time.",
            f'sum(increase(sluiceway_runs_total{{{_MINE}, status="SUCCESS"}}[$__range]))'
            f" / sum(increase(sluiceway_runs_total{{{_MINE}}}[$__range]))",
            unit="percentunit",
            thresholds=(("red", 0), ("orange", 0.9), ("green", 0.99)),
            decimals=1,
        ),
        stat(
            "Pipelines in trouble",
            "Pipelines whose last run failed, that are overdue, or that hang, by the alerts.",
            "count(count by (pipeline) (ALERTS{alertstate='firing', "
            "alertname=~'PipelineFailed|PipelineOverdue|RunHanging'})) or vector(0)",
            thresholds=ANY_IS_BAD,
        ),
        stat(
            "Stale datasets",
            "Datasets whose last rows are older than their contract promises.",
            "count(sluiceway_dataset_freshness_limit_seconds < on (dataset) "
            "(time() - sluiceway_dataset_last_load_timestamp_seconds)) or vector(0)",
            thresholds=ANY_IS_BAD,
        ),
        Panel(
            "table",
            "Each pipeline",
            "How long ago it last ended well and badly, and what of it runs now.",
            (
                Query(
                    f"time() - max by (pipeline) ({_SUCCESS})",
                    "Since success",
                    "s",
                ),
                Query(
                    f"time() - max by (pipeline) ({_FAILURE})",
                    "Since failure",
                    "s",
                ),
                Query(f"max by (pipeline) (sluiceway_runs_running{{{_MINE}}})", "Under way"),
                Query(
                    f"max by (pipeline) (sluiceway_oldest_run_age_seconds{{{_MINE}}})",
                    "Oldest run",
                    "s",
                ),
            ),
        ),
        Panel(
            "table",
            "Runs since the beginning",
            "All runs that ended, pruned ones among them.",
            (Query(f"sum by (pipeline, status) (sluiceway_runs_total{{{_MINE}}})", "Runs"),),
        ),
    ),
)

_RUNS = Section(
    "Runs",
    (
        Panel(
            "timeseries",
            "Runs that ended",
            "By how they ended.",
            (
                Query(
                    "sum by (status) "
                    f"(increase(sluiceway_runs_total{{{_MINE}}}[$__rate_interval]))",
                    "{{status}}",
                ),
            ),
            stacked=True,
            bars=True,
        ),
        Panel(
            "timeseries",
            "Duration",
            "Of the runs of the day before: the median, and what 95 of 100 stay below.",
            tuple(
                Query(
                    f"histogram_quantile({share}, sum by (pipeline, le) "
                    f"(increase(sluiceway_run_duration_seconds_bucket{{{_MINE}}}[1d])))",
                    f"{{{{pipeline}}}} {name}",
                )
                for share, name in ((0.5, "median"), (0.95, "p95"))
            ),
            unit="s",
        ),
        Panel(
            "timeseries",
            "Age of the oldest run",
            "How long the oldest run under way has been running: a line that climbs is a run that "
            "hangs. The stream's consumers run for ever.",
            (
                Query(
                    f"max by (pipeline) (sluiceway_oldest_run_age_seconds{{{_MINE}}})",
                    "{{pipeline}}",
                ),
            ),
            unit="s",
        ),
        Panel(
            "timeseries",
            "Records processed",
            "By pipeline, a second.",
            (
                Query(
                    "sum by (pipeline) "
                    f"(rate(sluiceway_records_processed_total{{{_MINE}}}[$__rate_interval]))",
                    "{{pipeline}}",
                ),
            ),
            unit="rowsps",
        ),
    ),
)

_FRESHNESS = Section(
    "Freshness",
    (
        Panel(
            "bargauge",
            "Age of datasets, of what contracts allow",
            "At 100 % the promise is broken.",
            (
                Query(
                    "max by (dataset) (time() - sluiceway_dataset_last_load_timestamp_seconds) "
                    "/ on (dataset) max by (dataset) (sluiceway_dataset_freshness_limit_seconds)",
                    "{{dataset}}",
                ),
            ),
            unit="percentunit",
            thresholds=(("green", 0), ("orange", 0.9), ("red", 1)),
        ),
        Panel(
            "bargauge",
            "Time since success, of what schedules allow",
            "Of pipelines with a schedule; at 100 % PipelineOverdue fires.",
            (
                Query(
                    f"max by (pipeline) (time() - {_SUCCESS}) "
                    "/ on (pipeline) pipeline:sluiceway_success_gap:limit_seconds",
                    "{{pipeline}}",
                ),
            ),
            unit="percentunit",
            thresholds=(("green", 0), ("orange", 0.9), ("red", 1)),
        ),
        Panel(
            "timeseries",
            "What the janitor did",
            "Runs that were killed and marked as failed, what Prefect was told, and late runs that "
            "gave way to newer ones.",
            (
                Query(
                    "sum by (act) (increase(sluiceway_janitor_acts_total[$__rate_interval]))",
                    "{{act}}",
                ),
            ),
            stacked=True,
            bars=True,
        ),
        Panel(
            "timeseries",
            "Events",
            "What people may have been told: failures, recoveries, anomalies, bad parts.",
            (
                Query(
                    "sum by (kind) (increase(sluiceway_alert_events_total[$__rate_interval]))",
                    "{{kind}}",
                ),
            ),
            stacked=True,
            bars=True,
        ),
    ),
)

PIPELINES = Dashboard(
    "sluiceway-pipelines",
    "Sluiceway: pipelines",
    "What ran, how long it took, and how fresh that leaves the data.",
    (Variable("pipeline", "sluiceway_runs_total", "Pipeline"),),
    (_NOW, _RUNS, _FRESHNESS),
)
