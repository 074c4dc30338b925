-- What is told to people. Triggers write what happened, so that nothing depends on a run that could
-- tell of its own end; a process of its own makes mails of it.

CREATE TABLE metadata.alert_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('failure', 'success', 'recovery', 'anomaly', 'health')),
    problem text NOT NULL,
    severity text NOT NULL CHECK (severity IN ('info', 'warning', 'error')),
    summary text NOT NULL,
    execution_id bigint,
    detail jsonb NOT NULL DEFAULT '{}',
    happened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    handled_at timestamptz,
    mail_id bigint REFERENCES metadata.mail_outbox ON DELETE SET NULL
);
COMMENT ON TABLE metadata.alert_events IS
    'What somebody may want to be told: runs that failed or came back, bad parts, odd loads.';
COMMENT ON COLUMN metadata.alert_events.problem IS
    'What belongs together in one mail: pipeline:<name>, component:<name>, dataset:<name>.';
COMMENT ON COLUMN metadata.alert_events.handled_at IS
    'When it was put into a mail (mail_id), or nobody was to be told of it (NULL).';
CREATE INDEX ON metadata.alert_events (problem, id) WHERE handled_at IS NULL;
CREATE INDEX ON metadata.alert_events (problem, id DESC);
CREATE INDEX ON metadata.alert_events (mail_id);

ALTER TABLE metadata.mail_outbox
    ADD COLUMN channel text NOT NULL DEFAULT 'mail',
    ADD COLUMN next_attempt_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ADD COLUMN abandoned_at timestamptz;
COMMENT ON COLUMN metadata.mail_outbox.channel IS
    'mail, or apprise: one row a channel, so that one that fails repeats none of the others.';
CREATE INDEX ON metadata.mail_outbox (problem, created_at DESC);

-- A run that ends. Whoever wrote the end, the run itself or the janitor, this sees it.
CREATE FUNCTION metadata.note_end() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    before text;
BEGIN
    SELECT e.status INTO before FROM metadata.pipeline_executions AS e
    WHERE e.pipeline_name = NEW.pipeline_name AND e.id < NEW.id AND e.status <> 'RUNNING'
    ORDER BY e.id DESC LIMIT 1;
    INSERT INTO metadata.alert_events (kind, problem, severity, summary, execution_id)
    VALUES (
        CASE WHEN NEW.status = 'FAILED' THEN 'failure'
             WHEN before = 'FAILED' THEN 'recovery' ELSE 'success' END,
        'pipeline:' || NEW.pipeline_name,
        CASE WHEN NEW.status = 'FAILED' THEN 'error' ELSE 'info' END,
        CASE WHEN NEW.status = 'FAILED'
             THEN NEW.pipeline_name || ' failed: '
                || left(coalesce(NEW.error_message, 'no reason given'), 500)
             ELSE NEW.pipeline_name || ' succeeded' END,
        NEW.id
    );
    RETURN NULL;
END
$$;
REVOKE EXECUTE ON FUNCTION metadata.note_end FROM PUBLIC;

CREATE INDEX ON metadata.pipeline_executions (pipeline_name, id DESC);
CREATE TRIGGER note_end AFTER UPDATE ON metadata.pipeline_executions
    FOR EACH ROW WHEN (OLD.status = 'RUNNING' AND NEW.status <> 'RUNNING')
    EXECUTE FUNCTION metadata.note_end();

GRANT SELECT, INSERT, UPDATE ON metadata.alert_events TO sluiceway_loader;
GRANT SELECT ON metadata.alert_events TO sluiceway_reader;

-- No question needs it.
DROP INDEX metadata.pipeline_executions_pipeline_name_start_time_idx1;
