-- What the exporter of metrics reads: totals since ever, which pruning leaves as they are.
-- A total only grows. What is taken back, as the end of a run that had been taken for dead, stays
-- counted: a counter that falls looks to Prometheus as if everything had happened anew.

CREATE TABLE metadata.metric_totals (
    metric text NOT NULL,
    labels text[] NOT NULL,
    total double precision NOT NULL,
    last_at timestamptz,
    first_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (metric, labels)
) WITH (fillfactor = 70);
COMMENT ON COLUMN metadata.metric_totals.last_at IS
    'When the last of those ended or was committed; NULL where nobody asks.';
COMMENT ON COLUMN metadata.metric_totals.first_at IS
    'When it was first counted: the exporter names those that came first, and sums up the rest.';

-- As counts_pending: whoever counts adds rows of its own, and waits for nobody.
CREATE TABLE metadata.metric_changes (
    metric text NOT NULL,
    labels text[] NOT NULL,
    change double precision NOT NULL,
    last_at timestamptz
);
COMMENT ON TABLE metadata.metric_changes IS
    'What is to be added to metric_totals; metadata.fold_counts() does it.';

-- The counts of rows and of rules are pending already, in tables of their own.
CREATE VIEW metadata.metric_sums AS
    SELECT metric, labels, sum(total) AS total, max(last_at) AS last_at, min(first_at) AS first_at
    FROM (
        SELECT metric, labels, total, last_at, first_at FROM metadata.metric_totals
        UNION ALL
        SELECT metric, labels, change, last_at, NULL FROM metadata.metric_changes
        UNION ALL
        SELECT metric, ARRAY[dataset], greatest(change, 0), NULL, NULL
        FROM metadata.counts_pending, LATERAL (VALUES
            ('rows_read', read), ('rows_loaded', loaded), ('rows_superseded', superseded),
            ('rows_duplicate', duplicates), ('rows_quarantined', quarantined)
        ) AS counted (metric, change)
        UNION ALL
        SELECT metric, ARRAY[dataset, rule], greatest(change, 0), NULL, NULL
        FROM metadata.quality_pending, LATERAL (VALUES
            ('quality_checked', checked), ('quality_failed', failed)
        ) AS counted (metric, change)
    ) AS every
    GROUP BY metric, labels;
COMMENT ON VIEW metadata.metric_sums IS
    'How often or how much since ever; what is counted by which labels, 0008_metrics.sql says.';

-- Runs: runs {pipeline, status}, run_durations {pipeline, bucket of rollup_durations},
-- run_seconds {pipeline}, and run_records {pipeline}, which grow while a run goes on.
CREATE FUNCTION metadata.count_metric_runs() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO metadata.metric_changes
        SELECT metric, labels, sum(change), max(last_at)
        FROM new_rows AS n, LATERAL (VALUES
            ('runs', ARRAY[pipeline_name, status], (status <> 'RUNNING')::integer::float8,
             end_time),
            ('run_durations', ARRAY[pipeline_name,
                metadata.duration_bucket(end_time - start_time)::text],
             (status <> 'RUNNING')::integer::float8, NULL),
            ('run_seconds', ARRAY[pipeline_name],
             extract(epoch FROM end_time - start_time)::float8, NULL),
            ('run_records', ARRAY[pipeline_name], records_processed::float8, NULL)
        ) AS counted (metric, labels, change, last_at)
        -- A pipeline is known from its first run on: its first failure is a rise from 0.
        WHERE change > 0 OR metric = 'run_records' GROUP BY 1, 2;
    ELSE
        INSERT INTO metadata.metric_changes
        SELECT metric, labels, sum(change), max(last_at)
        FROM new_rows AS n JOIN old_rows AS o ON o.id = n.id, LATERAL (
            SELECT n.status <> 'RUNNING' AND n.status <> o.status AS has_ended
        ) AS ends, LATERAL (VALUES
            ('runs', ARRAY[n.pipeline_name, n.status], has_ended::integer::float8, n.end_time),
            ('run_durations', ARRAY[n.pipeline_name,
                metadata.duration_bucket(n.end_time - n.start_time)::text],
             has_ended::integer::float8, NULL),
            ('run_seconds', ARRAY[n.pipeline_name],
             has_ended::integer * extract(epoch FROM n.end_time - n.start_time)::float8, NULL),
            ('run_records', ARRAY[n.pipeline_name],
             (n.records_processed - o.records_processed)::float8, NULL)
        ) AS counted (metric, labels, change, last_at)
        WHERE change > 0 GROUP BY 1, 2;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER count_metric_new AFTER INSERT ON metadata.pipeline_executions
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION metadata.count_metric_runs();
CREATE TRIGGER count_metric_changed AFTER UPDATE ON metadata.pipeline_executions
    REFERENCING NEW TABLE AS new_rows OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION metadata.count_metric_runs();

-- Batches: stream_batches and stream_messages {group, topic}.
CREATE FUNCTION metadata.count_metric_batches() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO metadata.metric_changes
    SELECT metric, ARRAY[consumer_group, topic], sum(change), max(committed_at)
    FROM new_rows, LATERAL (VALUES
        ('stream_batches', 1::float8), ('stream_messages', messages::float8)
    ) AS counted (metric, change)
    GROUP BY 1, 2;
    RETURN NULL;
END
$$;
CREATE TRIGGER count_metric_new AFTER INSERT ON metadata.stream_batches
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION metadata.count_metric_batches();

-- Rows of a table by some of its columns; the metric is called as the table.
CREATE FUNCTION metadata.count_metric_rows() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format(
        'INSERT INTO metadata.metric_changes SELECT %L, ARRAY[%s], count(*) FROM new_rows '
        'GROUP BY 2',
        TG_TABLE_NAME, (SELECT string_agg(format('%I::text', name), ', ' ORDER BY place)
                        FROM unnest(TG_ARGV) WITH ORDINALITY AS given (name, place))
    );
    RETURN NULL;
END
$$;
CREATE TRIGGER count_metric_new AFTER INSERT ON metadata.dead_letters
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION metadata.count_metric_rows('reason');
CREATE TRIGGER count_metric_new AFTER INSERT ON metadata.anomalies
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION metadata.count_metric_rows('dataset', 'rule', 'severity');
CREATE TRIGGER count_metric_new AFTER INSERT ON metadata.alert_events
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION metadata.count_metric_rows('kind', 'severity');
CREATE TRIGGER count_metric_new AFTER INSERT ON metadata.janitor_acts
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION metadata.count_metric_rows('act');

-- Mails: mails {state}.
CREATE FUNCTION metadata.count_metric_mails() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO metadata.metric_changes VALUES ('mails', ARRAY[TG_ARGV[0]], 1);
    RETURN NULL;
END
$$;
CREATE TRIGGER count_metric_sent AFTER UPDATE ON metadata.mail_outbox
    FOR EACH ROW WHEN (OLD.sent_at IS NULL AND NEW.sent_at IS NOT NULL)
    EXECUTE FUNCTION metadata.count_metric_mails('sent');
CREATE TRIGGER count_metric_abandoned AFTER UPDATE ON metadata.mail_outbox
    FOR EACH ROW WHEN (OLD.abandoned_at IS NULL AND NEW.abandoned_at IS NOT NULL)
    EXECUTE FUNCTION metadata.count_metric_mails('abandoned');

-- Minutes: minutes {component, state}, added at once, for who counts uptime holds its lock. Minutes
-- that nobody checked are counted as unknown when the next hour of the component begins.
CREATE FUNCTION metadata.count_metric_minutes() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    -- As recount_uptime: no plan that was made while there were few hours.
    SET enable_seqscan = off SET jit = off
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO metadata.metric_totals AS t (metric, labels, total)
        SELECT 'minutes', ARRAY[n.component, state], sum(change)
        FROM new_rows AS n
        LEFT JOIN LATERAL (
            SELECT r.* FROM metadata.rollup_uptime AS r
            WHERE r.component = n.component AND r.hour < n.hour ORDER BY r.hour DESC LIMIT 1
        ) AS before ON NOT EXISTS (
            -- An hour that comes late fills none.
            SELECT FROM metadata.rollup_uptime AS r
            WHERE r.component = n.component AND r.hour > n.hour
                AND NOT EXISTS (SELECT FROM new_rows AS too
                                WHERE too.component = r.component AND too.hour = r.hour)
        )
        LEFT JOIN LATERAL (
            -- From the first check on, in the hour of the first check.
            SELECT min(h.checked_at) AS at FROM metadata.health_checks AS h
            WHERE h.component = n.component
        ) AS first ON first.at < before.hour + interval '1 hour'
        CROSS JOIN LATERAL (VALUES
            ('good', n.good), ('bad', n.bad), ('maintenance', n.maintenance),
            ('unknown', n.unknown + greatest(0, coalesce(
                extract(epoch FROM n.hour - greatest(
                    before.hour, date_trunc('minute', first.at, 'UTC'))) / 60
                - before.good - before.bad - before.unknown - before.maintenance, 0)))
        ) AS counted (state, change)
        WHERE change > 0 GROUP BY 2 ORDER BY 2
        ON CONFLICT (metric, labels) DO UPDATE SET total = t.total + excluded.total;
    ELSE
        INSERT INTO metadata.metric_totals AS t (metric, labels, total)
        SELECT 'minutes', ARRAY[n.component, state], sum(change)
        FROM new_rows AS n JOIN old_rows AS o USING (hour, component)
        CROSS JOIN LATERAL (VALUES
            ('good', n.good - o.good), ('bad', n.bad - o.bad),
            ('unknown', n.unknown - o.unknown), ('maintenance', n.maintenance - o.maintenance)
        ) AS counted (state, change)
        WHERE change > 0 GROUP BY 2 ORDER BY 2
        ON CONFLICT (metric, labels) DO UPDATE SET total = t.total + excluded.total;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER count_metric_new AFTER INSERT ON metadata.rollup_uptime
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION metadata.count_metric_minutes();
CREATE TRIGGER count_metric_changed AFTER UPDATE ON metadata.rollup_uptime
    REFERENCING NEW TABLE AS new_rows OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION metadata.count_metric_minutes();

-- Rows and rules: rows_read and so on {dataset}, quality_checked and quality_failed {dataset, rule}.
-- Whatever leaves the pending tables comes here; who takes it away holds the lock of fold_counts.
CREATE FUNCTION metadata.count_metric_folded() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_TABLE_NAME = 'counts_pending' THEN
        INSERT INTO metadata.metric_totals AS t (metric, labels, total)
        SELECT metric, ARRAY[dataset], sum(greatest(change, 0))
        FROM old_rows, LATERAL (VALUES
            ('rows_read', read), ('rows_loaded', loaded), ('rows_superseded', superseded),
            ('rows_duplicate', duplicates), ('rows_quarantined', quarantined)
        ) AS counted (metric, change)
        GROUP BY 1, 2 ORDER BY 1, 2
        ON CONFLICT (metric, labels) DO UPDATE SET total = t.total + excluded.total;
    ELSE
        INSERT INTO metadata.metric_totals AS t (metric, labels, total)
        SELECT metric, ARRAY[dataset, rule], sum(greatest(change, 0))
        FROM old_rows, LATERAL (VALUES
            ('quality_checked', checked), ('quality_failed', failed)
        ) AS counted (metric, change)
        GROUP BY 1, 2 ORDER BY 1, 2
        ON CONFLICT (metric, labels) DO UPDATE SET total = t.total + excluded.total;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER count_metric_folded AFTER DELETE ON metadata.counts_pending
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION metadata.count_metric_folded();
CREATE TRIGGER count_metric_folded AFTER DELETE ON metadata.quality_pending
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION metadata.count_metric_folded();

-- As it was, and the changes of metrics too.
CREATE OR REPLACE FUNCTION metadata.fold_counts() RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    folded bigint;
    folded_too bigint;
BEGIN
    -- Who finds another at it leaves it to the other.
    IF NOT pg_try_advisory_xact_lock(hashtextextended('metadata.fold_counts', 0)) THEN
        RETURN 0;
    END IF;
    WITH taken AS (
        DELETE FROM metadata.counts_pending RETURNING *
    ), written AS (
        INSERT INTO metadata.rollup_counts AS r
        SELECT day, dataset, source, sum(read), sum(loaded), sum(superseded), sum(duplicates),
            sum(quarantined)
        FROM taken GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
        ON CONFLICT (day, dataset, source) DO UPDATE
        SET read = r.read + excluded.read,
            loaded = r.loaded + excluded.loaded,
            superseded = r.superseded + excluded.superseded,
            duplicates = r.duplicates + excluded.duplicates,
            quarantined = r.quarantined + excluded.quarantined
    )
    SELECT count(*) INTO folded FROM taken;
    WITH taken AS (
        DELETE FROM metadata.quality_pending RETURNING *
    ), written AS (
        INSERT INTO metadata.rollup_quality AS r
        SELECT day, dataset, column_name, rule, sum(checked), sum(failed), sum(filled),
            sum(mistyped)
        FROM taken GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
        ON CONFLICT (day, dataset, column_name, rule) DO UPDATE
        SET checked = r.checked + excluded.checked,
            failed = r.failed + excluded.failed,
            filled = r.filled + excluded.filled,
            mistyped = r.mistyped + excluded.mistyped
    )
    SELECT count(*) INTO folded_too FROM taken;
    WITH taken AS (
        DELETE FROM metadata.metric_changes RETURNING *
    )
    INSERT INTO metadata.metric_totals AS t (metric, labels, total, last_at)
    SELECT metric, labels, sum(change), max(last_at)
    FROM taken GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (metric, labels) DO UPDATE
    SET total = t.total + excluded.total, last_at = greatest(t.last_at, excluded.last_at);
    RETURN folded + folded_too;
END
$$;

CREATE FUNCTION metadata.raise_metric_totals() RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    raised bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('metadata.rollup_uptime', 0));
    PERFORM pg_advisory_xact_lock(hashtextextended('metadata.fold_counts', 0));
    WITH counted (metric, labels, total, last_at) AS (
        SELECT 'runs', ARRAY[r.pipeline_name, r.status], sum(r.executions), (
            SELECT max(e.end_time) FROM metadata.pipeline_executions AS e
            WHERE e.pipeline_name = r.pipeline_name AND e.status = r.status
        )
        FROM metadata.rollup_executions AS r GROUP BY r.pipeline_name, r.status
        UNION ALL
        SELECT 'run_durations', ARRAY[pipeline_name, bucket::text], sum(executions), NULL
        FROM metadata.rollup_durations GROUP BY 2
        UNION ALL
        SELECT 'run_seconds', ARRAY[pipeline_name], sum(duration_seconds), NULL
        FROM metadata.rollup_executions GROUP BY 2
        UNION ALL
        SELECT 'run_records', ARRAY[pipeline_name], sum(records), NULL
        FROM (
            SELECT pipeline_name, records_processed AS records FROM metadata.rollup_executions
            UNION ALL
            SELECT pipeline_name, records_processed FROM metadata.pipeline_executions
            WHERE status = 'RUNNING'
        ) AS every
        GROUP BY 2
        UNION ALL
        SELECT metric, ARRAY[dataset], sum(change), NULL
        FROM metadata.rollup_counts, LATERAL (VALUES
            ('rows_read', read), ('rows_loaded', loaded), ('rows_superseded', superseded),
            ('rows_duplicate', duplicates), ('rows_quarantined', quarantined)
        ) AS each (metric, change)
        GROUP BY 1, 2
        UNION ALL
        SELECT metric, ARRAY[dataset, rule], sum(change), NULL
        FROM metadata.rollup_quality, LATERAL (VALUES
            ('quality_checked', checked), ('quality_failed', failed)
        ) AS each (metric, change)
        GROUP BY 1, 2
        UNION ALL
        SELECT metric, ARRAY[consumer_group, topic], sum(change), max(committed_at)
        FROM metadata.stream_batches, LATERAL (VALUES
            ('stream_batches', 1), ('stream_messages', messages)
        ) AS each (metric, change)
        GROUP BY 1, 2
        UNION ALL
        SELECT 'dead_letters', ARRAY[reason], count(*), NULL
        FROM metadata.dead_letters GROUP BY 2
        UNION ALL
        SELECT 'anomalies', ARRAY[dataset, rule, severity], count(*), NULL
        FROM metadata.anomalies GROUP BY 2
        UNION ALL
        SELECT 'alert_events', ARRAY[kind, severity], count(*), NULL
        FROM metadata.alert_events GROUP BY 2
        UNION ALL
        SELECT 'janitor_acts', ARRAY[act], count(*), NULL
        FROM metadata.janitor_acts GROUP BY 2
        UNION ALL
        SELECT 'mails', ARRAY[state], count(*), NULL
        FROM metadata.mail_outbox, LATERAL (VALUES
            ('sent', sent_at), ('abandoned', abandoned_at)
        ) AS each (state, at)
        WHERE at IS NOT NULL GROUP BY 2
        UNION ALL
        SELECT 'minutes', ARRAY[component, state], sum(minutes), NULL
        FROM (
            SELECT r.*, lag(hour) OVER earlier AS last_hour,
                lag(good + bad + unknown + maintenance) OVER earlier AS last_minutes, (
                    SELECT date_trunc('minute', min(h.checked_at), 'UTC')
                    FROM metadata.health_checks AS h WHERE h.component = r.component
                ) AS first_check
            FROM metadata.rollup_uptime AS r
            WINDOW earlier AS (PARTITION BY component ORDER BY hour)
        ) AS hours, LATERAL (VALUES
            ('good', good), ('bad', bad), ('unknown', unknown), ('maintenance', maintenance),
            ('unknown', greatest(0, extract(epoch FROM hour - CASE
                WHEN first_check < last_hour + interval '1 hour'
                    THEN greatest(last_hour, first_check)
                ELSE last_hour END) / 60 - last_minutes))
        ) AS each (state, minutes)
        GROUP BY 2
    ), pending AS (
        -- Of rows that are counted above, if they are seen here: it is one statement.
        SELECT metric, labels, sum(change) AS change FROM metadata.metric_changes GROUP BY 1, 2
    ), written AS (
        INSERT INTO metadata.metric_totals AS t (metric, labels, total, last_at)
        SELECT metric, labels, c.total - coalesce(p.change, 0), c.last_at
        FROM counted AS c LEFT JOIN pending AS p USING (metric, labels)
        ORDER BY 1, 2
        ON CONFLICT (metric, labels) DO UPDATE
        SET total = greatest(t.total, excluded.total),
            last_at = greatest(t.last_at, excluded.last_at)
        -- Sums of the same durations differ a little by their order.
        WHERE t.total < excluded.total - 0.001
            OR excluded.last_at > coalesce(t.last_at, '-infinity')
        RETURNING 1
    )
    SELECT count(*) INTO raised FROM written;
    RETURN raised;
END
$$;
COMMENT ON FUNCTION metadata.raise_metric_totals IS
    'Raises totals to what rows and rollups say; returns how many were too low, or not there.';

-- What was recorded before there were triggers.
SELECT metadata.raise_metric_totals();

-- Letters that nobody has seen to: a gauge, counted where they are.
CREATE INDEX ON metadata.dead_letters (id) WHERE coalesce(outcome, 'failed') = 'failed';

-- Rights: states and counts, and no row of anybody's data; no message of an error either.
GRANT USAGE ON SCHEMA metadata TO sluiceway_monitor;
GRANT SELECT ON
    metadata.metric_sums, metadata.rollup_uptime, metadata.stream_lag
    TO sluiceway_monitor;
GRANT SELECT (pipeline_name, status, start_time)
    ON metadata.pipeline_executions TO sluiceway_monitor;
GRANT SELECT (component, status, checked_at, latency_seconds)
    ON metadata.health_checks TO sluiceway_monitor;
GRANT SELECT (component, starts_at, ends_at) ON metadata.maintenance_windows TO sluiceway_monitor;
GRANT SELECT (consumer_group, topic, partition) ON metadata.stream_offsets TO sluiceway_monitor;
GRANT SELECT (dataset, recorded_at, inserted, updated, unchanged)
    ON metadata.dataset_counts TO sluiceway_monitor;
GRANT SELECT (id, dataset, path, status, recorded_at)
    ON metadata.source_files TO sluiceway_monitor;
GRANT SELECT (id, outcome) ON metadata.dead_letters TO sluiceway_monitor;
GRANT SELECT (sent_at, abandoned_at) ON metadata.mail_outbox TO sluiceway_monitor;
GRANT SELECT ON metadata.metric_totals, metadata.metric_changes, metadata.metric_sums
    TO sluiceway_loader, sluiceway_reader;
REVOKE EXECUTE ON FUNCTION
    metadata.count_metric_runs, metadata.count_metric_batches, metadata.count_metric_rows,
    metadata.count_metric_mails, metadata.count_metric_minutes, metadata.count_metric_folded,
    metadata.raise_metric_totals
    FROM PUBLIC;
