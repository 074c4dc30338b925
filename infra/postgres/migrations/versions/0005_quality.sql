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
    day date,
    profiled_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE metadata.load_profiles IS
    'One row a load of a file or an answer, and one a dataset and UTC day of the stream.';
COMMENT ON COLUMN metadata.load_profiles.feed IS
    'Loads of one feed are compared with each other: the source without what changes in its name.';
COMMENT ON COLUMN metadata.load_profiles.columns IS
    'By column: {"rows", "missing", "mistyped", "distinct", "minimum", "maximum"}; the last three '
    'are null where they were not looked for, the last two also where the column is personal.';
COMMENT ON COLUMN metadata.load_profiles.day IS
    'The UTC day of the stream, once it is over; NULL: a load. profiled_at is then the day''s end.';
CREATE UNIQUE INDEX ON metadata.load_profiles (dataset, feed, day) WHERE day IS NOT NULL;
CREATE INDEX ON metadata.load_profiles (dataset, feed, profiled_at DESC);
-- The dashboard shows a dataset's loads of all feeds.
CREATE INDEX ON metadata.load_profiles (dataset, profiled_at DESC);
CREATE INDEX ON metadata.load_profiles (execution_id);

-- What each consumer brought in a day that is not over: it writes its own row and waits for no other.
CREATE TABLE metadata.stream_days (
    execution_id bigint NOT NULL,
    dataset text NOT NULL,
    feed text NOT NULL,
    day date NOT NULL,
    read bigint NOT NULL,
    duplicates bigint NOT NULL,
    quarantined bigint NOT NULL,
    columns jsonb NOT NULL,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (day, dataset, feed, execution_id)
);
COMMENT ON TABLE metadata.stream_days IS
    'Profiles of the stream by consumer; one who finds a day over makes a load profile of them.';
COMMENT ON COLUMN metadata.stream_days.written_at IS
    'When the consumer last had something to add; it writes every half minute.';

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
GRANT SELECT, INSERT, UPDATE, DELETE ON metadata.stream_days TO sluiceway_loader;
GRANT SELECT ON metadata.load_profiles, metadata.stream_days, metadata.anomalies
    TO sluiceway_reader;
