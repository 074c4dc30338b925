-- What loads looked like, so that the next one can be compared with them.

CREATE TABLE metadata.load_profiles (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    execution_id bigint NOT NULL,
    batch_id bigint,
    dataset text NOT NULL,
    feed text NOT NULL,
    read bigint NOT NULL,
    duplicates bigint NOT NULL,
    quarantined bigint NOT NULL,
    columns jsonb NOT NULL,
    profiled_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE metadata.load_profiles IS
    'One row a load of a file or an answer, and one a dataset and UTC day of the stream.';
COMMENT ON COLUMN metadata.load_profiles.feed IS
    'Loads of one feed are compared with each other: the source without what changes in its name.';
COMMENT ON COLUMN metadata.load_profiles.columns IS
    'By column: {"rows", "missing", "mistyped", "distinct", "minimum", "maximum"}; the last three '
    'are null where they were not looked for, the last two also where the column is personal.';
CREATE INDEX ON metadata.load_profiles (dataset, feed, profiled_at DESC);
CREATE INDEX ON metadata.load_profiles (execution_id);

CREATE TABLE metadata.anomalies (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dataset text NOT NULL,
    feed text NOT NULL,
    column_name text,
    rule text NOT NULL,
    severity text NOT NULL CHECK (severity IN ('warning', 'error')),
    observed double precision NOT NULL,
    expected double precision,
    low double precision,
    high double precision,
    summary text NOT NULL,
    execution_id bigint,
    batch_id bigint,
    was_refused boolean NOT NULL DEFAULT false,
    detected_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON COLUMN metadata.anomalies.was_refused IS
    'The contract demanded that such a load is not merged, and it was not.';
CREATE INDEX ON metadata.anomalies (detected_at DESC);
CREATE INDEX ON metadata.anomalies (dataset, detected_at DESC);
CREATE INDEX ON metadata.anomalies (execution_id);

GRANT SELECT, INSERT, UPDATE ON metadata.load_profiles, metadata.anomalies TO sluiceway_loader;
GRANT SELECT ON metadata.load_profiles, metadata.anomalies TO sluiceway_reader;
