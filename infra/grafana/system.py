"""The dashboard of the system: the parts, their uptime, PostgreSQL, mail, and what watches."""

from infra.grafana.panels import (
    ANY_IS_BAD,
    ZERO_IS_BAD,
    Dashboard,
    Panel,
    Query,
    Section,
    Variable,
    stat,
)
from infra.grafana.services import DATABASE, MAIL, UP, WATCHING

_MINE = 'component=~"$component"'

_PARTS = Section(
    "Parts",
    (
        stat(
            "State",
            "What the last health check of each part found; a part that is not known is missing.",
            f"min by (component) (sluiceway_component_up{{{_MINE}}})",
            thresholds=ZERO_IS_BAD,
            name="{{component}}",
            width=12,
            mappings=UP,
        ),
        stat(
            "In maintenance",
            "Parts that a maintenance window covers now: what is bad of them wakes nobody.",
            f"sum(sluiceway_in_maintenance{{{_MINE}}})",
            thresholds=(("green", 0), ("blue", 1)),
        ),
        stat(
            "Last check",
            "How long ago any part was checked; HealthChecksStopped fires at five minutes.",
            "time() - max(sluiceway_component_checked_timestamp_seconds)",
            unit="s",
            thresholds=(("green", 0), ("orange", 120), ("red", 300)),
        ),
        stat(
            "Alerts",
            "That fire now.",
            'count(ALERTS{alertstate="firing"}) or vector(0)',
            thresholds=ANY_IS_BAD,
        ),
        Panel(
            "timeseries",
            "Up",
            "1 is good, 0 is bad; a gap is a time of which nothing is known.",
            (Query(f"min by (component) (sluiceway_component_up{{{_MINE}}})", "{{component}}"),),
        ),
        Panel(
            "timeseries",
            "How long parts take to answer",
            "Their health checks.",
            (
                Query(
                    f"max by (component) (sluiceway_component_latency_seconds{{{_MINE}}})",
                    "{{component}}",
                ),
            ),
            unit="s",
        ),
        Panel(
            "table",
            "Alerts that fire",
            "What each means and what to do about it is in docs/operations.md.",
            (
                Query(
                    "count by (alertname, severity, component, pipeline, dataset) "
                    '(ALERTS{alertstate="firing"})',
                    "Alerts",
                ),
            ),
            width=24,
        ),
    ),
)

_UPTIME = Section(
    "Uptime",
    (
        Panel(
            "bargauge",
            "This month",
            "Good minutes of all that were expected, without maintenance. The promise is 99.5 %.",
            (
                Query(
                    f'min by (component) (sluiceway_uptime_ratio{{{_MINE}, period="month"}})',
                    "{{component}}",
                ),
            ),
            unit="percentunit",
            width=8,
            thresholds=(("red", 0), ("green", 0.995)),
            decimals=3,
        ),
        Panel(
            "bargauge",
            "This quarter",
            "Good minutes of all that were expected, without maintenance. The promise is 99.5 %.",
            (
                Query(
                    f'min by (component) (sluiceway_uptime_ratio{{{_MINE}, period="quarter"}})',
                    "{{component}}",
                ),
            ),
            unit="percentunit",
            width=8,
            thresholds=(("red", 0), ("green", 0.995)),
            decimals=3,
        ),
        Panel(
            "timeseries",
            "Pace at which the budget burns",
            "At 1 the 0.5 % last for 30 days. At 14.4 for an hour, UptimeBudgetBurnsFast fires.",
            (
                Query(
                    f"component:sluiceway_bad:ratio5m{{{_MINE}}}"
                    " / on () group_left () (1 - max(sluiceway_uptime_target_ratio))",
                    "{{component}}",
                ),
            ),
            width=8,
            thresholds=(("transparent", 0), ("red", 14.4)),
        ),
        Panel(
            "table",
            "Minutes since the beginning",
            "As they were counted; a maintenance window that is set afterwards moves them.",
            (
                Query(
                    f"sum by (component, state) (sluiceway_component_minutes_total{{{_MINE}}})",
                    "Minutes",
                ),
            ),
            width=24,
        ),
    ),
)

SYSTEM = Dashboard(
    "sluiceway-system",
    "Sluiceway: system",
    "The parts and their uptime, PostgreSQL, mail, and what watches.",
    (Variable("component", "sluiceway_component_checked_timestamp_seconds", "Part"),),
    (_PARTS, _UPTIME, DATABASE, MAIL, WATCHING),
)
