-- Rollups keep themselves by triggers, whoever writes the rows. The triggers' functions have the
-- owner's rights, so that nobody else may write a figure that no row stands behind.
-- Days and hours begin in UTC, whatever the session's zone is.

CREATE TABLE metadata.rollup_durations (
    day date NOT NULL,
    pipeline_name text NOT NULL,
    bucket smallint NOT NULL,
    executions bigint NOT NULL,
    PRIMARY KEY (day, pipeline_name, bucket)
);
COMMENT ON COLUMN metadata.rollup_durations.bucket IS
    'Runs that took 2^(bucket / 8) seconds or more, and less than 2^((bucket + 1) / 8).';

CREATE TABLE metadata.rollup_quality (
    day date NOT NULL,
    dataset text NOT NULL,
    column_name text NOT NULL,
    rule text NOT NULL,
    checked bigint NOT NULL,
    failed bigint NOT NULL,
    filled bigint NOT NULL,
    mistyped bigint NOT NULL,
    PRIMARY KEY (day, dataset, column_name, rule)
);
COMMENT ON COLUMN metadata.rollup_quality.column_name IS
    'Empty where the rule is of the whole row.';

-- Loads and consumers write their counts within long transactions. Each adds rows of its own
-- here, so that none waits for another; metadata.fold_counts() adds them up.
CREATE TABLE metadata.counts_pending (LIKE metadata.rollup_counts);
CREATE TABLE metadata.quality_pending (LIKE metadata.rollup_quality);
COMMENT ON TABLE metadata.counts_pending IS
    'Changes of rollup_counts that are not added to it yet; some are negative.';
COMMENT ON TABLE metadata.quality_pending IS
    'Changes of rollup_quality that are not added to it yet; some are negative.';

CREATE VIEW metadata.daily_counts AS
    SELECT day, dataset, source,
        sum(read)::bigint AS read,
        sum(loaded)::bigint AS loaded,
        sum(superseded)::bigint AS superseded,
        sum(duplicates)::bigint AS duplicates,
        sum(quarantined)::bigint AS quarantined
    FROM (
        SELECT * FROM metadata.rollup_counts UNION ALL SELECT * FROM metadata.counts_pending
    ) AS every
    GROUP BY day, dataset, source;

CREATE VIEW metadata.daily_quality AS
    SELECT day, dataset, nullif(column_name, '') AS column_name, rule,
        sum(checked)::bigint AS checked,
        sum(failed)::bigint AS failed,
        sum(filled)::bigint AS filled,
        sum(mistyped)::bigint AS mistyped
    FROM (
        SELECT * FROM metadata.rollup_quality UNION ALL SELECT * FROM metadata.quality_pending
    ) AS every
    GROUP BY day, dataset, every.column_name, rule;

-- Nothing can be worked out again for a day that lost rows: its rollups stay as they are.
CREATE TABLE metadata.pruned_days (
    table_name text NOT NULL,
    day date NOT NULL,
    PRIMARY KEY (table_name, day)
);
COMMENT ON TABLE metadata.pruned_days IS
    'Days of which rows were deleted, by the table they were deleted from.';

ALTER TABLE metadata.maintenance_windows ADD COLUMN changed_by text;
COMMENT ON COLUMN metadata.maintenance_windows.component IS 'NULL: everything is maintained.';

-- Runs that ended, by day. A run that goes on writes nothing here, however often it says so.
CREATE FUNCTION metadata.duration_bucket(duration interval) RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN floor(8 * ln(greatest(extract(epoch FROM duration)::float8, 0.001)) / ln(2::float8));

CREATE TYPE metadata.execution_change AS (
    day date,
    pipeline_name text,
    status text,
    bucket smallint,
    executions bigint,
    records_processed bigint,
    duration_seconds double precision
);

CREATE FUNCTION metadata.count_executions() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    changes metadata.execution_change[];
BEGIN
    IF TG_OP = 'INSERT' THEN
        changes := ARRAY(
            SELECT ROW(day, pipeline_name, status, bucket, count(*), sum(records_processed),
                       sum(seconds))::metadata.execution_change
            FROM new_rows, LATERAL (
                SELECT (start_time AT TIME ZONE 'UTC')::date AS day,
                    metadata.duration_bucket(end_time - start_time) AS bucket,
                    extract(epoch FROM end_time - start_time) AS seconds
            ) AS ended
            WHERE status <> 'RUNNING'
            GROUP BY day, pipeline_name, status, bucket
        );
    ELSE
        changes := ARRAY(
            SELECT ROW(day, pipeline_name, status, bucket, sum(sign), sum(sign * records_processed),
                       sum(sign * seconds))::metadata.execution_change
            FROM (
                SELECT 1 AS sign, * FROM new_rows UNION ALL SELECT -1, * FROM old_rows
            ) AS every, LATERAL (
                SELECT (start_time AT TIME ZONE 'UTC')::date AS day,
                    metadata.duration_bucket(end_time - start_time) AS bucket,
                    extract(epoch FROM end_time - start_time) AS seconds
            ) AS ended
            WHERE status <> 'RUNNING'
            GROUP BY day, pipeline_name, status, bucket
            HAVING (sum(sign), sum(sign * records_processed), sum(sign * seconds)) <> (0, 0, 0)
        );
    END IF;
    IF cardinality(changes) = 0 THEN
        RETURN NULL;
    END IF;
    -- In the order of the keys: two that end several runs at once do not lock each other out.
    INSERT INTO metadata.rollup_executions AS r
    SELECT day, pipeline_name, status, sum(executions), sum(records_processed),
        sum(duration_seconds)
    FROM unnest(changes) GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    ON CONFLICT (day, pipeline_name, status) DO UPDATE
    SET executions = r.executions + excluded.executions,
        records_processed = r.records_processed + excluded.records_processed,
        duration_seconds = r.duration_seconds + excluded.duration_seconds;
    INSERT INTO metadata.rollup_durations AS r
    SELECT day, pipeline_name, bucket, sum(executions)
    FROM unnest(changes) GROUP BY 1, 2, 3 HAVING sum(executions) <> 0 ORDER BY 1, 2, 3
    ON CONFLICT (day, pipeline_name, bucket) DO UPDATE
    SET executions = r.executions + excluded.executions;
    RETURN NULL;
END
$$;

CREATE TRIGGER count_new AFTER INSERT ON metadata.pipeline_executions
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION metadata.count_executions();
CREATE TRIGGER count_changed AFTER UPDATE ON metadata.pipeline_executions
    REFERENCING NEW TABLE AS new_rows OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION metadata.count_executions();

-- Rows by day, and rules by day. The argument is the sign: what a row was is taken back.
CREATE FUNCTION metadata.count_rows() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    sign integer := TG_ARGV[0];
BEGIN
    INSERT INTO metadata.counts_pending
    SELECT (recorded_at AT TIME ZONE 'UTC')::date, dataset, source, sign * sum(read),
        sign * sum(inserted + updated + unchanged), sign * sum(superseded),
        sign * sum(duplicates), sign * sum(quarantined)
    FROM changed_rows GROUP BY 1, 2, 3;
    RETURN NULL;
END
$$;

CREATE TRIGGER count_new AFTER INSERT ON metadata.dataset_counts
    REFERENCING NEW TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION metadata.count_rows('1');
CREATE TRIGGER count_after_change AFTER UPDATE ON metadata.dataset_counts
    REFERENCING NEW TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION metadata.count_rows('1');
CREATE TRIGGER count_before_change AFTER UPDATE ON metadata.dataset_counts
    REFERENCING OLD TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION metadata.count_rows('-1');

-- A load must not fail by a statistic that is no number.
CREATE FUNCTION metadata.statistic(statistics jsonb, name text) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE jsonb_typeof(statistics -> name) WHEN 'number' THEN (statistics -> name)::bigint
                ELSE 0 END;

CREATE FUNCTION metadata.count_quality() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    sign integer := TG_ARGV[0];
BEGIN
    INSERT INTO metadata.quality_pending
    SELECT (recorded_at AT TIME ZONE 'UTC')::date, dataset, coalesce(column_name, ''), rule,
        sign * sum(checked), sign * sum(failed),
        sign * sum(metadata.statistic(statistics, 'filled')),
        sign * sum(metadata.statistic(statistics, 'mistyped'))
    FROM changed_rows GROUP BY 1, 2, 3, 4;
    RETURN NULL;
END
$$;

CREATE TRIGGER count_new AFTER INSERT ON metadata.quality_results
    REFERENCING NEW TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION metadata.count_quality('1');
CREATE TRIGGER count_after_change AFTER UPDATE ON metadata.quality_results
    REFERENCING NEW TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION metadata.count_quality('1');
CREATE TRIGGER count_before_change AFTER UPDATE ON metadata.quality_results
    REFERENCING OLD TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION metadata.count_quality('-1');

CREATE FUNCTION metadata.fold_counts() RETURNS bigint
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
    RETURN folded + folded_too;
END
$$;
COMMENT ON FUNCTION metadata.fold_counts IS
    'Adds what is pending to rollup_counts and rollup_quality; returns how many rows that were.';

-- Minutes by hour. What maintenance covers is counted as such, checked or not, from the component's
-- first check up to now: hours in which nobody checked are counted when checks come again.
CREATE INDEX ON metadata.rollup_uptime (component, hour);

CREATE FUNCTION metadata.recount_uptime(given_components text[], given_hours timestamptz[])
    RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
    -- A plan that was made while there were few checks must not read all of them hour by hour.
    SET enable_seqscan = off SET jit = off
AS $$
DECLARE
    this_minute timestamptz := date_trunc('minute', clock_timestamp(), 'UTC');
    components text[];
    hours timestamptz[];
    changed bigint;
BEGIN
    IF cardinality(given_hours) IS DISTINCT FROM cardinality(given_components)
        OR coalesce(cardinality(given_hours), 0) = 0 THEN
        RETURN 0;
    END IF;
    -- Two that count the same hour would each miss the checks of the other.
    PERFORM pg_advisory_xact_lock(hashtextextended('metadata.rollup_uptime', 0));

    WITH given AS (
        SELECT DISTINCT component, hour FROM unnest(given_components, given_hours)
            AS every (component, hour)
    ), spans AS (
        SELECT g.component,
            coalesce((SELECT max(r.hour) FROM metadata.rollup_uptime AS r
                      WHERE r.component = g.component AND r.hour < g.first), g.first) AS first,
            greatest(g.last, (SELECT max(r.hour) FROM metadata.rollup_uptime AS r
                              WHERE r.component = g.component)) AS last
        FROM (
            SELECT component, min(hour) AS first, max(hour) AS last FROM given GROUP BY component
        ) AS g
    ), wanted AS (
        SELECT component, hour FROM given
        UNION
        SELECT s.component, hour FROM spans AS s
        JOIN metadata.maintenance_windows AS w
            ON (w.component IS NULL OR w.component = s.component)
            AND w.starts_at < s.last + interval '1 hour' AND w.ends_at > s.first
        CROSS JOIN generate_series(
            date_trunc('hour', greatest(w.starts_at, s.first), 'UTC'),
            least(w.ends_at - interval '1 microsecond', s.last), interval '1 hour'
        ) AS hour
    )
    SELECT array_agg(component), array_agg(hour) INTO components, hours
    FROM wanted WHERE NOT EXISTS (
        SELECT FROM metadata.pruned_days AS d
        WHERE d.table_name = 'health_checks' AND d.day = (hour AT TIME ZONE 'UTC')::date
            -- Whoever deletes a check of today does not end the counting of today.
            AND d.day < (this_minute AT TIME ZONE 'UTC')::date
    );

    WITH asked AS MATERIALIZED (
        SELECT component, hour FROM unnest(components, hours) AS every (component, hour)
    ), lives AS MATERIALIZED (
        -- From when to when each component has been expected to be checked.
        SELECT c.component,
            CASE WHEN EXISTS (
                SELECT FROM metadata.pruned_days AS d WHERE d.table_name = 'health_checks'
                    AND d.day = (c.first_hour AT TIME ZONE 'UTC')::date
            ) THEN c.first_hour
            ELSE coalesce(date_trunc('minute', c.first_check, 'UTC'), 'infinity') END AS first,
            greatest(
                this_minute, date_trunc('minute', c.last_check, 'UTC') + interval '1 minute'
            ) AS until
        FROM (
            SELECT a.component,
                (SELECT min(r.hour) FROM metadata.rollup_uptime AS r
                 WHERE r.component = a.component) AS first_hour,
                (SELECT min(h.checked_at) FROM metadata.health_checks AS h
                 WHERE h.component = a.component) AS first_check,
                (SELECT max(h.checked_at) FROM metadata.health_checks AS h
                 WHERE h.component = a.component) AS last_check
            FROM (SELECT DISTINCT component FROM asked) AS a
        ) AS c
    ), fresh AS MATERIALIZED (
        SELECT a.hour, a.component, counted.*
        FROM asked AS a JOIN lives AS l ON l.component = a.component
        CROSS JOIN LATERAL (
            SELECT
                count(*) FILTER (WHERE NOT is_maintained AND is_good AND NOT is_bad) AS good,
                count(*) FILTER (WHERE NOT is_maintained AND is_bad) AS bad,
                count(*) FILTER (WHERE NOT is_maintained AND NOT is_good AND NOT is_bad) AS unknown,
                count(*) FILTER (WHERE is_maintained) AS maintenance
            FROM (
                SELECT minute, bool_or(good) AS is_good, bool_or(bad) AS is_bad,
                    bool_or(maintained) AS is_maintained
                FROM (
                    SELECT date_trunc('minute', h.checked_at, 'UTC') AS minute,
                        h.status = 'GOOD' AS good, h.status = 'BAD' AS bad, false AS maintained
                    FROM metadata.health_checks AS h
                    WHERE h.component = a.component AND h.checked_at >= a.hour
                        AND h.checked_at < a.hour + interval '1 hour'
                    UNION ALL
                    SELECT minute, false, false, true
                    FROM metadata.maintenance_windows AS w
                    CROSS JOIN generate_series(
                        greatest(date_trunc('minute', w.starts_at, 'UTC'), a.hour, l.first),
                        least(w.ends_at, a.hour + interval '1 hour', l.until)
                            - interval '1 microsecond',
                        interval '1 minute'
                    ) AS minute
                    WHERE (w.component IS NULL OR w.component = a.component)
                        AND w.starts_at < a.hour + interval '1 hour' AND w.ends_at > a.hour
                ) AS said
                GROUP BY minute
            ) AS minutes
        ) AS counted
        WHERE good + bad + unknown + maintenance > 0
    ), written AS (
        INSERT INTO metadata.rollup_uptime AS r (hour, component, good, bad, unknown, maintenance)
        SELECT hour, component, good, bad, unknown, maintenance FROM fresh
        ON CONFLICT (hour, component) DO UPDATE
        SET good = excluded.good, bad = excluded.bad, unknown = excluded.unknown,
            maintenance = excluded.maintenance
        WHERE (r.good, r.bad, r.unknown, r.maintenance)
            <> (excluded.good, excluded.bad, excluded.unknown, excluded.maintenance)
        RETURNING 1
    ), removed AS (
        DELETE FROM metadata.rollup_uptime AS r USING asked AS a
        WHERE r.hour = a.hour AND r.component = a.component AND NOT EXISTS (
            SELECT FROM fresh AS f WHERE f.hour = a.hour AND f.component = a.component
        )
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM written) + (SELECT count(*) FROM removed) INTO changed;
    RETURN changed;
END
$$;
COMMENT ON FUNCTION metadata.recount_uptime IS
    'Counts the hours of the components again from what was checked; returns how many changed.';

CREATE FUNCTION metadata.count_checks() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM metadata.recount_uptime(array_agg(component), array_agg(hour)) FROM (
        SELECT DISTINCT component, date_trunc('hour', checked_at, 'UTC') AS hour FROM changed_rows
    ) AS changed;
    RETURN NULL;
END
$$;

CREATE TRIGGER count_new AFTER INSERT ON metadata.health_checks
    REFERENCING NEW TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION metadata.count_checks();
CREATE TRIGGER count_after_change AFTER UPDATE ON metadata.health_checks
    REFERENCING NEW TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION metadata.count_checks();
CREATE TRIGGER count_before_change AFTER UPDATE ON metadata.health_checks
    REFERENCING OLD TABLE AS changed_rows
    FOR EACH STATEMENT EXECUTE FUNCTION metadata.count_checks();

-- The one thing that the dashboard may write.
CREATE FUNCTION metadata.set_maintenance(
    given_id bigint, given_component text, given_starts_at timestamptz, given_ends_at timestamptz,
    given_reason text, given_by text
) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    chosen text := nullif(btrim(given_component), '');
    before metadata.maintenance_windows;
    window_id bigint := given_id;
BEGIN
    IF coalesce(btrim(given_reason), '') = '' THEN
        RAISE EXCEPTION 'Say why: a maintenance window needs a reason.';
    ELSIF coalesce(btrim(given_by), '') = '' THEN
        RAISE EXCEPTION 'A maintenance window needs the name of who sets it.';
    ELSIF given_starts_at IS NULL OR given_ends_at IS NULL
        OR NOT isfinite(given_starts_at) OR NOT isfinite(given_ends_at) THEN
        RAISE EXCEPTION 'A maintenance window needs a start and an end.';
    ELSIF given_starts_at >= given_ends_at THEN
        RAISE EXCEPTION 'A maintenance window must end after it starts.';
    ELSIF given_ends_at - given_starts_at > interval '30 days' THEN
        RAISE EXCEPTION 'A maintenance window lasts at most 30 days: set another for the rest.';
    END IF;
    -- The lock of recount_uptime, taken first: two changes of one window come one after the other.
    PERFORM pg_advisory_xact_lock(hashtextextended('metadata.rollup_uptime', 0));
    IF given_id IS NULL THEN
        INSERT INTO metadata.maintenance_windows (component, starts_at, ends_at, reason, created_by)
        VALUES (chosen, given_starts_at, given_ends_at, btrim(given_reason), btrim(given_by))
        RETURNING id INTO window_id;
    ELSE
        SELECT * INTO before FROM metadata.maintenance_windows WHERE id = given_id;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'There is no maintenance window %.', given_id;
        END IF;
        UPDATE metadata.maintenance_windows
        SET component = chosen, starts_at = given_starts_at, ends_at = given_ends_at,
            reason = btrim(given_reason), changed_by = btrim(given_by)
        WHERE id = given_id;
    END IF;
    PERFORM metadata.recount_uptime(array_agg(component), array_agg(hour)) FROM (
        SELECT DISTINCT k.component, hour
        FROM (VALUES
            (before.component, before.starts_at, before.ends_at),
            (chosen, given_starts_at, given_ends_at)
        ) AS w (component, starts_at, ends_at)
        JOIN (
            SELECT c.component, (SELECT min(h.checked_at) FROM metadata.health_checks AS h
                                 WHERE h.component = c.component) AS first_check
            FROM (SELECT DISTINCT component FROM metadata.rollup_uptime) AS c
        ) AS k ON w.component IS NULL OR w.component = k.component
        CROSS JOIN generate_series(
            -- What is older than the oldest check cannot be counted again.
            date_trunc('hour', CASE WHEN w.starts_at > k.first_check THEN w.starts_at
                                    WHEN w.starts_at IS NOT NULL THEN k.first_check END, 'UTC'),
            least(w.ends_at, clock_timestamp()) - interval '1 microsecond', interval '1 hour'
        ) AS hour
    ) AS touched;
    RETURN window_id;
END
$$;
COMMENT ON FUNCTION metadata.set_maintenance IS
    'Makes a maintenance window, or changes the one of that id; past hours are counted again.';

-- What was deleted. A rollup does not fall by it, and is not rebuilt without it.
CREATE FUNCTION metadata.note_pruning() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format(
        $insert$
        INSERT INTO metadata.pruned_days
        SELECT DISTINCT %L, (%I AT TIME ZONE 'UTC')::date FROM old_rows ORDER BY 2
        ON CONFLICT DO NOTHING
        $insert$,
        TG_TABLE_NAME, TG_ARGV[0]
    );
    RETURN NULL;
END
$$;

CREATE TRIGGER note_pruning AFTER DELETE ON metadata.pipeline_executions
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION metadata.note_pruning('start_time');

CREATE TRIGGER note_pruning AFTER DELETE ON metadata.dataset_counts
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION metadata.note_pruning('recorded_at');

CREATE TRIGGER note_pruning AFTER DELETE ON metadata.quality_results
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION metadata.note_pruning('recorded_at');

CREATE TRIGGER note_pruning AFTER DELETE ON metadata.health_checks
    REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION metadata.note_pruning('checked_at');

-- Each of these works its rollup out again from the rows that are kept, and returns how many of
-- its rows were wrong. Days before the oldest row, and days that lost rows, stay as they are.
-- Writers go on: what they do meanwhile waits, or is pending, until the rebuilding is done.

CREATE FUNCTION metadata.rebuild_executions() RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    corrected bigint;
BEGIN
    LOCK TABLE metadata.rollup_executions IN SHARE ROW EXCLUSIVE MODE;
    WITH kept AS MATERIALIZED (
        SELECT (start_time AT TIME ZONE 'UTC')::date AS day, pipeline_name, status,
            count(*) AS executions, sum(records_processed) AS records_processed,
            sum(extract(epoch FROM end_time - start_time))::float8 AS duration_seconds
        FROM metadata.pipeline_executions WHERE status <> 'RUNNING' GROUP BY 1, 2, 3
    ), days AS MATERIALIZED (
        SELECT day FROM (
            SELECT day FROM metadata.rollup_executions UNION SELECT day FROM kept
        ) AS every
        WHERE day >= (SELECT min(day) FROM kept) AND NOT EXISTS (
            SELECT FROM metadata.pruned_days AS d
            WHERE d.table_name = 'pipeline_executions' AND d.day = every.day
        )
    ), written AS (
        INSERT INTO metadata.rollup_executions AS r
        SELECT * FROM kept WHERE day IN (SELECT day FROM days) ORDER BY 1, 2, 3
        ON CONFLICT (day, pipeline_name, status) DO UPDATE
        SET executions = excluded.executions,
            records_processed = excluded.records_processed,
            duration_seconds = excluded.duration_seconds
        WHERE (r.executions, r.records_processed)
                <> (excluded.executions, excluded.records_processed)
            -- Sums of the same durations differ a little by their order.
            OR abs(r.duration_seconds - excluded.duration_seconds) > 0.001
        RETURNING 1
    ), removed AS (
        DELETE FROM metadata.rollup_executions AS r
        WHERE r.day IN (SELECT day FROM days) AND NOT EXISTS (
            SELECT FROM kept AS k
            WHERE k.day = r.day AND k.pipeline_name = r.pipeline_name AND k.status = r.status
        )
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM written) + (SELECT count(*) FROM removed) INTO corrected;
    RETURN corrected;
END
$$;

CREATE FUNCTION metadata.rebuild_durations() RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    corrected bigint;
BEGIN
    LOCK TABLE metadata.rollup_durations IN SHARE ROW EXCLUSIVE MODE;
    WITH kept AS MATERIALIZED (
        SELECT (start_time AT TIME ZONE 'UTC')::date AS day, pipeline_name,
            metadata.duration_bucket(end_time - start_time) AS bucket, count(*) AS executions
        FROM metadata.pipeline_executions WHERE status <> 'RUNNING' GROUP BY 1, 2, 3
    ), days AS MATERIALIZED (
        SELECT day FROM (
            SELECT day FROM metadata.rollup_durations UNION SELECT day FROM kept
        ) AS every
        WHERE day >= (SELECT min(day) FROM kept) AND NOT EXISTS (
            SELECT FROM metadata.pruned_days AS d
            WHERE d.table_name = 'pipeline_executions' AND d.day = every.day
        )
    ), written AS (
        INSERT INTO metadata.rollup_durations AS r
        SELECT * FROM kept WHERE day IN (SELECT day FROM days) ORDER BY 1, 2, 3
        ON CONFLICT (day, pipeline_name, bucket) DO UPDATE
        SET executions = excluded.executions
        WHERE r.executions <> excluded.executions
        RETURNING 1
    ), removed AS (
        DELETE FROM metadata.rollup_durations AS r
        WHERE r.day IN (SELECT day FROM days) AND NOT EXISTS (
            SELECT FROM kept AS k
            WHERE k.day = r.day AND k.pipeline_name = r.pipeline_name AND k.bucket = r.bucket
        )
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM written) + (SELECT count(*) FROM removed) INTO corrected;
    RETURN corrected;
END
$$;

CREATE FUNCTION metadata.rebuild_counts() RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    corrected bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('metadata.fold_counts', 0));
    WITH kept AS MATERIALIZED (
        SELECT (recorded_at AT TIME ZONE 'UTC')::date AS day, dataset, source, sum(read) AS read,
            sum(inserted + updated + unchanged) AS loaded, sum(superseded) AS superseded,
            sum(duplicates) AS duplicates, sum(quarantined) AS quarantined
        FROM metadata.dataset_counts GROUP BY 1, 2, 3
    ), days AS MATERIALIZED (
        SELECT day FROM (
            SELECT day FROM metadata.rollup_counts UNION SELECT day FROM kept
        ) AS every
        WHERE day >= (SELECT min(day) FROM kept) AND NOT EXISTS (
            SELECT FROM metadata.pruned_days AS d
            WHERE d.table_name = 'dataset_counts' AND d.day = every.day
        )
    ), folded AS (
        -- What is pending for these days is of rows that are counted here.
        DELETE FROM metadata.counts_pending WHERE day IN (SELECT day FROM days)
    ), written AS (
        INSERT INTO metadata.rollup_counts AS r
        SELECT * FROM kept WHERE day IN (SELECT day FROM days) ORDER BY 1, 2, 3
        ON CONFLICT (day, dataset, source) DO UPDATE
        SET read = excluded.read,
            loaded = excluded.loaded,
            superseded = excluded.superseded,
            duplicates = excluded.duplicates,
            quarantined = excluded.quarantined
        WHERE (r.read, r.loaded, r.superseded, r.duplicates, r.quarantined)
            <> (excluded.read, excluded.loaded, excluded.superseded, excluded.duplicates,
                excluded.quarantined)
        RETURNING 1
    ), removed AS (
        DELETE FROM metadata.rollup_counts AS r
        WHERE r.day IN (SELECT day FROM days) AND NOT EXISTS (
            SELECT FROM kept AS k
            WHERE k.day = r.day AND k.dataset = r.dataset AND k.source = r.source
        )
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM written) + (SELECT count(*) FROM removed) INTO corrected;
    RETURN corrected;
END
$$;

CREATE FUNCTION metadata.rebuild_quality() RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    corrected bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('metadata.fold_counts', 0));
    WITH kept AS MATERIALIZED (
        SELECT (recorded_at AT TIME ZONE 'UTC')::date AS day, dataset,
            coalesce(column_name, '') AS column_name, rule, sum(checked) AS checked,
            sum(failed) AS failed, sum(metadata.statistic(statistics, 'filled')) AS filled,
            sum(metadata.statistic(statistics, 'mistyped')) AS mistyped
        FROM metadata.quality_results GROUP BY 1, 2, 3, 4
    ), days AS MATERIALIZED (
        SELECT day FROM (
            SELECT day FROM metadata.rollup_quality UNION SELECT day FROM kept
        ) AS every
        WHERE day >= (SELECT min(day) FROM kept) AND NOT EXISTS (
            SELECT FROM metadata.pruned_days AS d
            WHERE d.table_name = 'quality_results' AND d.day = every.day
        )
    ), folded AS (
        -- What is pending for these days is of rows that are counted here.
        DELETE FROM metadata.quality_pending WHERE day IN (SELECT day FROM days)
    ), written AS (
        INSERT INTO metadata.rollup_quality AS r
        SELECT * FROM kept WHERE day IN (SELECT day FROM days) ORDER BY 1, 2, 3, 4
        ON CONFLICT (day, dataset, column_name, rule) DO UPDATE
        SET checked = excluded.checked,
            failed = excluded.failed,
            filled = excluded.filled,
            mistyped = excluded.mistyped
        WHERE (r.checked, r.failed, r.filled, r.mistyped)
            <> (excluded.checked, excluded.failed, excluded.filled, excluded.mistyped)
        RETURNING 1
    ), removed AS (
        DELETE FROM metadata.rollup_quality AS r
        WHERE r.day IN (SELECT day FROM days) AND NOT EXISTS (
            SELECT FROM kept AS k
            WHERE k.day = r.day AND k.dataset = r.dataset AND k.column_name = r.column_name
                AND k.rule = r.rule
        )
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM written) + (SELECT count(*) FROM removed) INTO corrected;
    RETURN corrected;
END
$$;

CREATE FUNCTION metadata.rebuild_uptime() RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('metadata.rollup_uptime', 0));
    RETURN (
        WITH kept AS MATERIALIZED (
            SELECT DISTINCT component, date_trunc('hour', checked_at, 'UTC') AS hour
            FROM metadata.health_checks
        ), wanted AS (
            SELECT component, hour FROM kept
            UNION
            SELECT r.component, r.hour FROM metadata.rollup_uptime AS r
            JOIN (SELECT component, min(hour) AS first FROM kept GROUP BY component) AS k
                ON k.component = r.component AND r.hour >= k.first
        )
        SELECT metadata.recount_uptime(array_agg(component), array_agg(hour)) FROM wanted
    );
END
$$;

-- What was recorded before there were triggers.
SELECT metadata.rebuild_executions(), metadata.rebuild_durations(), metadata.rebuild_counts(),
    metadata.rebuild_quality(), metadata.rebuild_uptime();

-- Rights: everybody reads; only the triggers write rollups, and only set_maintenance windows.
REVOKE INSERT, UPDATE ON
    metadata.rollup_executions, metadata.rollup_counts, metadata.rollup_uptime,
    metadata.maintenance_windows
    FROM sluiceway_loader;
GRANT SELECT ON
    metadata.rollup_durations, metadata.rollup_quality, metadata.counts_pending,
    metadata.quality_pending, metadata.daily_counts, metadata.daily_quality, metadata.pruned_days
    TO sluiceway_loader, sluiceway_reader;
REVOKE EXECUTE ON FUNCTION
    metadata.count_executions, metadata.count_rows, metadata.count_quality, metadata.count_checks,
    metadata.note_pruning, metadata.fold_counts, metadata.recount_uptime, metadata.set_maintenance,
    metadata.rebuild_executions, metadata.rebuild_durations, metadata.rebuild_counts,
    metadata.rebuild_quality, metadata.rebuild_uptime
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION metadata.fold_counts TO sluiceway_loader;
GRANT EXECUTE ON FUNCTION metadata.set_maintenance TO sluiceway_reader;

-- What the pages filter and sort by.
CREATE INDEX ON metadata.pipeline_executions (start_time DESC) WHERE status = 'FAILED';
CREATE INDEX ON metadata.pipeline_executions (pipeline_name, start_time DESC)
    WHERE status = 'FAILED';
CREATE INDEX ON metadata.pipeline_logs (level, logged_at DESC);
CREATE INDEX ON metadata.pipeline_logs (pipeline_name, logged_at DESC);
-- Rejects are read newest first by their number, which grows with their time.
DROP INDEX metadata.quarantine_dataset_quarantined_at_idx;
DROP INDEX metadata.quarantine_execution_id_idx;
CREATE INDEX ON metadata.quarantine (dataset, id DESC);
CREATE INDEX ON metadata.quarantine (dataset, rule, id DESC);
CREATE INDEX ON metadata.quarantine (execution_id, id DESC);
-- A consumer's run has as many ledgers as it had batches: its newest are read.
DROP INDEX metadata.dataset_counts_execution_id_idx;
DROP INDEX metadata.stream_batches_execution_id_idx;
DROP INDEX metadata.quality_results_execution_id_idx;
CREATE INDEX ON metadata.dataset_counts (execution_id, id DESC);
CREATE INDEX ON metadata.stream_batches (execution_id, id DESC);
CREATE INDEX ON metadata.quality_results (execution_id, id DESC);
-- The throughput of a day, read from the index alone.
CREATE INDEX ON metadata.stream_batches (consumer_group, topic, committed_at)
    INCLUDE (messages, loaded, dead, skipped, flush_seconds);
