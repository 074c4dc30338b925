"""The dashboard of quality: what became of every row, which rules broke, and what looks odd."""

from infra.grafana.panels import ANY_IS_BAD, Dashboard, Panel, Query, Section, Variable, stat

_MINE = 'dataset=~"$dataset"'
_OUTCOMES = ("loaded", "superseded", "duplicate", "quarantined")

_NOW = Section(
    "Now",
    (
        stat(
            "Read",
            "Rows read in the chosen time.",
            f"sum(increase(sluiceway_rows_read_total{{{_MINE}}}[$__range]))",
            decimals=0,
            width=5,
        ),
        stat(
            "Loaded",
            "Rows inserted, updated or found unchanged in the chosen time.",
            f"sum(increase(sluiceway_rows_loaded_total{{{_MINE}}}[$__range]))",
            decimals=0,
            width=5,
        ),
        stat(
            "Quarantined",
            "Share of the rows read in the chosen time that broke their contract.",
            f"sum(increase(sluiceway_rows_quarantined_total{{{_MINE}}}[$__range]))"
            f" / sum(increase(sluiceway_rows_read_total{{{_MINE}}}[$__range]))",
            unit="percentunit",
            thresholds=(("green", 0), ("orange", 0.01), ("red", 0.05)),
            decimals=2,
            width=5,
        ),
        stat(
            "Anomalies",
            "Loads in the chosen time that were not like those before them.",
            f"sum(increase(sluiceway_anomalies_total{{{_MINE}}}[$__range]))",
            thresholds=ANY_IS_BAD,
            decimals=0,
            width=5,
        ),
        stat(
            "Passed checks",
            "Of all cells and rows that were checked against a rule in the chosen time.",
            f"1 - sum(increase(sluiceway_quality_failed_total{{{_MINE}}}[$__range]))"
            f" / sum(increase(sluiceway_quality_checked_total{{{_MINE}}}[$__range]))",
            unit="percentunit",
            thresholds=(("red", 0), ("orange", 0.95), ("green", 0.99)),
            decimals=2,
        ),
    ),
)

_ROWS = Section(
    "Rows",
    (
        Panel(
            "timeseries",
            "What became of the rows",
            "Every row read is loaded, superseded, a duplicate or quarantined.",
            tuple(
                Query(
                    f"sum(increase(sluiceway_rows_{outcome}_total{{{_MINE}}}[$__rate_interval]))",
                    outcome,
                )
                for outcome in _OUTCOMES
            ),
            stacked=True,
            bars=True,
        ),
        Panel(
            "timeseries",
            "Quarantined share of a day's rows",
            "QuarantineShareHigh fires above the dashed line.",
            (Query(f"dataset:sluiceway_rows_quarantined:ratio1d{{{_MINE}}}", "{{dataset}}"),),
            unit="percentunit",
            thresholds=(("transparent", 0), ("red", 0.05)),
        ),
        Panel(
            "table",
            "Rows since the beginning",
            "The ledger of each dataset: what was read is the sum of the rest.",
            tuple(
                Query(
                    f"sum by (dataset) (sluiceway_rows_{name}_total{{{_MINE}}})", name.capitalize()
                )
                for name in ("read", *_OUTCOMES)
            ),
            width=24,
        ),
    ),
)

_RULES = Section(
    "Rules",
    (
        Panel(
            "timeseries",
            "Failed checks",
            "By rule.",
            (
                Query(
                    "sum by (dataset, rule) "
                    f"(increase(sluiceway_quality_failed_total{{{_MINE}}}[$__rate_interval]))",
                    "{{dataset}} {{rule}}",
                ),
            ),
            stacked=True,
            bars=True,
        ),
        Panel(
            "table",
            "Each rule",
            "Cells and rows that were checked since the beginning, and those that failed.",
            (
                Query(
                    f"sum by (dataset, rule) (sluiceway_quality_checked_total{{{_MINE}}})",
                    "Checked",
                ),
                Query(
                    f"sum by (dataset, rule) (sluiceway_quality_failed_total{{{_MINE}}})", "Failed"
                ),
                Query(
                    f"sum by (dataset, rule) (sluiceway_quality_failed_total{{{_MINE}}})"
                    f" / (sum by (dataset, rule) (sluiceway_quality_checked_total{{{_MINE}}}) > 0)",
                    "Failed share",
                    "percentunit",
                ),
            ),
        ),
    ),
)

_ANOMALIES = Section(
    "Anomalies and freshness",
    (
        Panel(
            "timeseries",
            "Anomalies",
            "Loads that were not like those before them, by rule.",
            (
                Query(
                    "sum by (rule, severity) "
                    f"(increase(sluiceway_anomalies_total{{{_MINE}}}[$__rate_interval]))",
                    "{{rule}} ({{severity}})",
                ),
            ),
            stacked=True,
            bars=True,
        ),
        Panel(
            "table",
            "Anomalies since the beginning",
            "By dataset and rule.",
            (
                Query(
                    f"sum by (dataset, rule, severity) (sluiceway_anomalies_total{{{_MINE}}}) > 0",
                    "Anomalies",
                ),
            ),
        ),
        Panel(
            "timeseries",
            "Age of the last rows",
            "A saw: each load brings it back to 0.",
            (
                Query(
                    "max by (dataset) (time() - "
                    f"sluiceway_dataset_last_load_timestamp_seconds{{{_MINE}}})",
                    "{{dataset}}",
                ),
            ),
            unit="s",
            width=24,
        ),
    ),
)

QUALITY = Dashboard(
    "sluiceway-quality",
    "Sluiceway: quality",
    "What became of every row, which rules broke, and what looks odd.",
    (Variable("dataset", "sluiceway_rows_read_total", "Dataset"),),
    (_NOW, _ROWS, _RULES, _ANOMALIES),
)
