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

GRANT SELECT, INSERT ON metadata.janitor_acts TO sluiceway_loader;
GRANT SELECT ON metadata.janitor_acts TO sluiceway_reader;
