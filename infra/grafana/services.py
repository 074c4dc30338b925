"""Sections of the system's dashboard: PostgreSQL, mail, and what watches."""

from infra.grafana.panels import ANY_IS_BAD, ZERO_IS_BAD, Panel, Query, Section, stat

UP = {"0": "down", "1": "up"}

DATABASE = Section(
    "PostgreSQL",
    (
        stat(
            "PostgreSQL",
            "Whether it answers the exporter.",
            "min(sluiceway_database_up)",
            thresholds=ZERO_IS_BAD,
            mappings=UP,
            width=6,
        ),
        stat(
            "Size",
            "Of the platform's database, with all its indexes.",
            "max(sluiceway_database_size_bytes)",
            unit="bytes",
            width=6,
        ),
        stat(
            "Connections",
            "The fullest role's, of those it may have.",
            "max(max by (role) (sluiceway_database_connections)"
            " / max by (role) (sluiceway_database_connection_limit))",
            unit="percentunit",
            thresholds=(("green", 0), ("orange", 0.6), ("red", 0.8)),
            decimals=0,
            width=6,
        ),
        stat(
            "Answer to the exporter",
            "How long PostgreSQL takes over all that a scrape asks.",
            "max(sluiceway_exporter_query_seconds)",
            unit="s",
            thresholds=(("green", 0), ("orange", 1), ("red", 5)),
            width=6,
        ),
        Panel(
            "timeseries",
            "Connections by role",
            "Open ones, to any database of the server.",
            (Query("max by (role) (sluiceway_database_connections)", "{{role}}"),),
        ),
        Panel(
            "timeseries",
            "Size of the database",
            "It grows with what is loaded; prune_history keeps history from growing for ever.",
            (Query("max(sluiceway_database_size_bytes)", "size"),),
            unit="bytes",
        ),
    ),
)

MAIL = Section(
    "Mail and events",
    (
        stat(
            "Mails waiting",
            "Neither sent nor given up.",
            "max(sluiceway_mails_waiting)",
            thresholds=(("green", 0), ("orange", 1)),
            width=6,
        ),
        Panel(
            "timeseries",
            "Mails",
            "Sent and given up, as the platform itself sends them.",
            (
                Query(
                    "sum by (state) (increase(sluiceway_mails_total[$__rate_interval]))",
                    "{{state}}",
                ),
            ),
            width=9,
            stacked=True,
            bars=True,
        ),
        Panel(
            "table",
            "Events since the beginning",
            "What people may have been told, by kind.",
            (Query("sum by (kind, severity) (sluiceway_alert_events_total) > 0", "Events"),),
            width=9,
        ),
    ),
)

WATCHING = Section(
    "What watches",
    (
        stat(
            "Scraped",
            "The exporter, Prometheus and Alertmanager, as Prometheus finds them.",
            "min by (job) (up)",
            thresholds=ZERO_IS_BAD,
            name="{{job}}",
            width=12,
            mappings=UP,
        ),
        stat(
            "Groups of metrics",
            "That the exporter could read.",
            "sum(sluiceway_exporter_group_up) / count(sluiceway_exporter_group_up)",
            unit="percentunit",
            thresholds=(("red", 0), ("green", 1)),
        ),
        stat(
            "Series dropped",
            "Label sets that the exporter sums up as `other`, to stay within bounds.",
            "max(sluiceway_exporter_dropped_series)",
            thresholds=(("green", 0), ("orange", 1)),
        ),
        stat(
            "Mails refused to Alertmanager",
            "Notifications by mail that failed in the chosen time.",
            'sum(increase(alertmanager_notifications_failed_total{integration="email"}[$__range]))',
            thresholds=ANY_IS_BAD,
            decimals=0,
        ),
        Panel(
            "timeseries",
            "How long scrapes take",
            "At 10 s Prometheus gives up.",
            (Query("max by (job) (scrape_duration_seconds)", "{{job}}"),),
            unit="s",
        ),
        Panel(
            "timeseries",
            "Memory of what watches",
            "Resident, of the exporter, Prometheus and Alertmanager.",
            (Query("max by (job) (process_resident_memory_bytes)", "{{job}}"),),
            unit="bytes",
        ),
    ),
)
