-- Which process a run is, exactly: its number alone is given to another one later, and is another
-- one's in the next container.
ALTER TABLE metadata.pipeline_executions ADD COLUMN process_identity text;
COMMENT ON COLUMN metadata.pipeline_executions.process_identity IS
    'boot/pid namespace/pid/start in clock ticks; NULL where the system does not say.';
-- Prefect names a run by it.
CREATE INDEX ON metadata.pipeline_executions (flow_run_id) WHERE flow_run_id IS NOT NULL;

CREATE TABLE metadata.janitor_acts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    act text NOT NULL CHECK (act IN ('marked dead', 'told Prefect', 'cancelled late')),
    execution_id bigint,
    flow_run_id uuid,
    pipeline_name text,
    reason text NOT NULL,
    acted_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE metadata.janitor_acts IS
    'What the janitor did to which run, and why.';
CREATE INDEX ON metadata.janitor_acts (acted_at DESC);
CREATE INDEX ON metadata.janitor_acts (execution_id);
CREATE INDEX ON metadata.janitor_acts (flow_run_id) WHERE flow_run_id IS NOT NULL;

GRANT SELECT, INSERT ON metadata.janitor_acts TO sluiceway_loader;
GRANT SELECT ON metadata.janitor_acts TO sluiceway_reader;
