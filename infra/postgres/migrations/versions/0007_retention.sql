-- What is old goes by a function of the owner: the loader itself may not delete history, and may
-- delete nothing by it that is younger than a day.

CREATE FUNCTION metadata.prune(
    given_name text, given_before timestamptz, after_id bigint, most_rows integer,
    OUT last_id bigint, OUT deleted bigint
)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    rule record;
BEGIN
    IF given_before > clock_timestamp() - interval '1 day' THEN
        RAISE EXCEPTION 'Nothing younger than a day is pruned.';
    END IF;
    SELECT * INTO rule FROM (VALUES
        ('pipeline_logs', 'pipeline_logs', 'logged_at', 'true'),
        ('health_checks', 'health_checks', 'checked_at', 'true'),
        ('quality_results', 'quality_results', 'recorded_at', 'true'),
        ('alert_events', 'alert_events', 'happened_at', 't.handled_at IS NOT NULL'),
        ('mail_outbox', 'mail_outbox', 'created_at',
            't.sent_at IS NOT NULL OR t.abandoned_at IS NOT NULL'),
        ('quarantine', 'quarantine', 'quarantined_at', 'true'),
        ('dead_letters', 'dead_letters', 'buried_at', 't.relayed_at IS NOT NULL'),
        -- What no broker has taken yet is nowhere else.
        ('unsent_messages', 'unsent_messages', 'refused_at', 't.sent_at IS NOT NULL'),
        ('stream_batches', 'stream_batches', 'committed_at', 'true'),
        ('stream_counts', 'dataset_counts', 'recorded_at',
            'NOT EXISTS (SELECT FROM metadata.source_files AS f WHERE f.id = t.batch_id)'),
        ('load_profiles', 'load_profiles', 'profiled_at', 'true'),
        ('anomalies', 'anomalies', 'detected_at', 'true'),
        ('janitor_acts', 'janitor_acts', 'acted_at', 'true'),
        ('dataset_counts', 'dataset_counts', 'recorded_at', 'true'),
        -- The newest load of a path says whether a file is unchanged, that of the newest version
        -- whether another comes late, and a staged batch belongs to its line.
        ('source_files', 'source_files', 'recorded_at', $keep$
            t.staged_in IS NULL
            AND NOT EXISTS (SELECT FROM metadata.dataset_counts AS c WHERE c.batch_id = t.id)
            AND (t.status <> 'LOADED' OR (
                EXISTS (SELECT FROM metadata.source_files AS n WHERE n.path = t.path
                        AND n.id > t.id AND n.status = 'LOADED')
                AND EXISTS (SELECT FROM metadata.source_files AS n WHERE n.dataset = t.dataset
                            AND n.id > t.id AND n.status = 'LOADED'
                            AND n.modified_at >= t.modified_at)
            ))
            $keep$),
        ('pipeline_executions', 'pipeline_executions', 'start_time', $keep$
            t.status <> 'RUNNING'
            AND NOT EXISTS (SELECT FROM metadata.source_files AS f WHERE f.execution_id = t.id)
            AND NOT EXISTS (SELECT FROM metadata.dataset_counts AS c WHERE c.execution_id = t.id)
            $keep$)
    ) AS known (name, table_name, time_column, condition) WHERE name = given_name;
    IF NOT FOUND THEN
        RAISE EXCEPTION '% is nothing that can be pruned.', given_name;
    END IF;
    -- Block by block along the key, which grows with time: no index by time is needed.
    EXECUTE format(
        $prune$
        WITH block AS MATERIALIZED (
            SELECT id, %2$I < $3 AS is_old FROM metadata.%1$I WHERE id > $1 ORDER BY id LIMIT $2
        ), gone AS (
            DELETE FROM metadata.%1$I AS t USING block AS b
            WHERE b.is_old AND t.id = b.id AND (%3$s) RETURNING 1
        )
        SELECT CASE WHEN bool_or(is_old) THEN max(id) END, (SELECT count(*) FROM gone) FROM block
        $prune$,
        rule.table_name, rule.time_column, rule.condition
    ) INTO last_id, deleted USING after_id, most_rows, given_before;
END
$$;
COMMENT ON FUNCTION metadata.prune IS
    'Deletes what is older in the next rows by id; last_id is where to go on, null at the end.';
REVOKE EXECUTE ON FUNCTION metadata.prune FROM PUBLIC;
GRANT EXECUTE ON FUNCTION metadata.prune TO sluiceway_loader;

CREATE INDEX ON metadata.source_files (dataset, modified_at DESC) WHERE status = 'LOADED';
