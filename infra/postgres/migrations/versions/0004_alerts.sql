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
COMMENT ON COLUMN metadata.alert_events.severity IS
    'error and warning: something is wrong; info: all is well, or well again.';
COMMENT ON COLUMN metadata.alert_events.handled_at IS
    'When it was put into a mail (mail_id), or nobody was to be told of it (NULL).';
CREATE INDEX ON metadata.alert_events (problem, id) WHERE handled_at IS NULL;
CREATE INDEX ON metadata.alert_events (problem, handled_at DESC) WHERE mail_id IS NOT NULL;
CREATE INDEX ON metadata.alert_events (problem, id DESC);
-- Nearly all events say that a run succeeded; what was wrong last is found without reading them.
CREATE INDEX ON metadata.alert_events (problem, id DESC) WHERE kind <> 'success';
CREATE INDEX ON metadata.alert_events (problem, happened_at DESC);
CREATE INDEX ON metadata.alert_events (mail_id);

ALTER TABLE metadata.mail_outbox
    ADD COLUMN channel text NOT NULL DEFAULT 'mail' CHECK (channel IN ('mail', 'apprise')),
    ADD COLUMN kind text NOT NULL DEFAULT 'failure',
    ADD COLUMN notice uuid NOT NULL DEFAULT gen_random_uuid(),
    ADD COLUMN delivered_to text[] NOT NULL DEFAULT '{}',
    ADD COLUMN next_attempt_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ADD COLUMN abandoned_at timestamptz;
COMMENT ON COLUMN metadata.mail_outbox.channel IS
    'mail, or apprise: one row a channel, so that one that fails repeats none of the others.';
COMMENT ON COLUMN metadata.mail_outbox.kind IS
    'What it is about: failure, recovery, success, anomaly, health, or digest of several problems.';
COMMENT ON COLUMN metadata.mail_outbox.notice IS
    'One for all channels; a mail''s Message-ID is made of it, so that a copy is known as one.';
COMMENT ON COLUMN metadata.mail_outbox.delivered_to IS
    'Digests of the addresses that have it: the others are tried again without these.';
CREATE INDEX ON metadata.mail_outbox (problem, created_at DESC);
CREATE INDEX ON metadata.mail_outbox (created_at DESC);
CREATE INDEX ON metadata.mail_outbox (channel, next_attempt_at)
    WHERE sent_at IS NULL AND abandoned_at IS NULL;
-- What was sent in the last day, and what was given up, as the dashboard shows it.
CREATE INDEX ON metadata.mail_outbox (sent_at) WHERE sent_at IS NOT NULL;
CREATE INDEX ON metadata.mail_outbox (abandoned_at) WHERE abandoned_at IS NOT NULL;

-- A run that ends. Whoever wrote the end, the run itself or the janitor, this sees it. So it does
-- when a run that was taken for dead turns out to live, or to have ended well.
CREATE FUNCTION metadata.note_end() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    of_pipeline text := 'pipeline:' || NEW.pipeline_name;
    what text;
    sentence text;
BEGIN
    IF NEW.status = 'FAILED' THEN
        what := 'failure';
        sentence := NEW.pipeline_name || ' failed: '
            || left(coalesce(nullif(NEW.error_message, ''), 'no reason given'), 500);
    ELSIF OLD.status = 'FAILED' THEN
        what := 'recovery';
        sentence := NEW.pipeline_name || CASE WHEN NEW.status = 'RUNNING'
            THEN ' is running: it had been taken for dead'
            ELSE ' ended well: it had been taken for dead' END;
    ELSE
        -- What was told last decides: runs that overlap do not end in the order of their numbers.
        SELECT CASE WHEN e.kind = 'failure' THEN 'recovery' ELSE 'success' END INTO what
        FROM metadata.alert_events AS e
        WHERE e.problem = of_pipeline AND e.kind IN ('failure', 'recovery', 'success')
        ORDER BY e.id DESC LIMIT 1;
        sentence := NEW.pipeline_name || ' succeeded';
    END IF;
    INSERT INTO metadata.alert_events (kind, problem, severity, summary, execution_id)
    VALUES (
        coalesce(what, 'success'), of_pipeline,
        CASE WHEN NEW.status = 'FAILED' THEN 'error' ELSE 'info' END,
        regexp_replace(sentence, '\s+', ' ', 'g'), NEW.id
    );
    RETURN NULL;
END
$$;
REVOKE EXECUTE ON FUNCTION metadata.note_end FROM PUBLIC;

CREATE INDEX ON metadata.pipeline_executions (pipeline_name, id DESC);
CREATE TRIGGER note_end AFTER UPDATE ON metadata.pipeline_executions
    FOR EACH ROW WHEN (OLD.status <> NEW.status AND OLD.status <> 'SUCCESS')
    EXECUTE FUNCTION metadata.note_end();

GRANT SELECT, INSERT, UPDATE ON metadata.alert_events TO sluiceway_loader;
GRANT SELECT ON metadata.alert_events TO sluiceway_reader;

-- No question needs it.
DROP INDEX metadata.pipeline_executions_pipeline_name_start_time_idx1;
