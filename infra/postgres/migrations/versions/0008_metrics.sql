-- What the exporter of metrics may read: states and counts, and no row of anybody's data.
GRANT USAGE ON SCHEMA metadata TO sluiceway_monitor;
GRANT SELECT ON
    metadata.pipeline_executions, metadata.health_checks, metadata.stream_lag,
    metadata.stream_offsets, metadata.rollup_executions, metadata.rollup_durations,
    metadata.rollup_counts, metadata.rollup_quality, metadata.rollup_uptime,
    metadata.counts_pending, metadata.quality_pending, metadata.daily_counts,
    metadata.daily_quality, metadata.maintenance_windows, metadata.anomalies,
    metadata.alert_events, metadata.janitor_acts
    TO sluiceway_monitor;
