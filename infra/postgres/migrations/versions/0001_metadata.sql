-- The platform's state: what ran, what was loaded from where, what was refused and why.
-- Every count is a number of rows, every *_seconds a duration, every time in UTC.

CREATE SCHEMA IF NOT EXISTS metadata;
CREATE SCHEMA IF NOT EXISTS warehouse;
CREATE SCHEMA IF NOT EXISTS staging;

CREATE TABLE metadata.pipeline_executions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pipeline_name text NOT NULL,
    status text NOT NULL DEFAULT 'RUNNING' CHECK (status IN ('RUNNING', 'SUCCESS', 'FAILED')),
    records_processed bigint NOT NULL DEFAULT 0,
    start_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    end_time timestamptz,
    error_message text,
    error_traceback text,
    warnings text[] NOT NULL DEFAULT '{}',
    flow_run_id uuid,
    parameters jsonb NOT NULL DEFAULT '{}',
    host text NOT NULL DEFAULT '',
    process_id integer,
    CHECK ((status = 'RUNNING') = (end_time IS NULL))
);
CREATE INDEX ON metadata.pipeline_executions (pipeline_name, start_time DESC);
CREATE INDEX ON metadata.pipeline_executions (start_time DESC);
CREATE INDEX ON metadata.pipeline_executions (pipeline_name) WHERE status = 'RUNNING';

-- The manifest: one row for each source a run looked at. Its id is the batch that rows point to.
CREATE TABLE metadata.source_files (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    execution_id bigint NOT NULL REFERENCES metadata.pipeline_executions,
    load_id uuid NOT NULL UNIQUE,
    dataset text NOT NULL,
    path text NOT NULL,
    status text NOT NULL CHECK (status IN ('LOADED', 'UNCHANGED', 'REFUSED')),
    contracted boolean NOT NULL,
    contract_version text,
    size_bytes bigint,
    sha256 text,
    modified_at timestamptz,
    rows bigint,
    staged_in text,
    message text,
    notes text[] NOT NULL DEFAULT '{}',
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON metadata.source_files (path, id DESC);
CREATE INDEX ON metadata.source_files (dataset, id DESC);
CREATE INDEX ON metadata.source_files (execution_id);

-- The ledger. A load whose terms do not add up to what it read cannot be written down.
CREATE TABLE metadata.dataset_counts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    execution_id bigint NOT NULL REFERENCES metadata.pipeline_executions,
    batch_id bigint NOT NULL UNIQUE REFERENCES metadata.source_files,
    dataset text NOT NULL,
    source text NOT NULL,
    read bigint NOT NULL CHECK (read >= 0),
    inserted bigint NOT NULL CHECK (inserted >= 0),
    updated bigint NOT NULL CHECK (updated >= 0),
    unchanged bigint NOT NULL CHECK (unchanged >= 0),
    superseded bigint NOT NULL CHECK (superseded >= 0),
    duplicates bigint NOT NULL CHECK (duplicates >= 0),
    quarantined bigint NOT NULL CHECK (quarantined >= 0),
    filled bigint NOT NULL DEFAULT 0,
    inferred bigint NOT NULL DEFAULT 0,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT ledger_balances CHECK (
        read = inserted + updated + unchanged + superseded + duplicates + quarantined
    )
);
CREATE INDEX ON metadata.dataset_counts (execution_id);
CREATE INDEX ON metadata.dataset_counts (dataset, recorded_at DESC);

CREATE TABLE metadata.quarantine (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    execution_id bigint NOT NULL,
    batch_id bigint NOT NULL,
    dataset text NOT NULL,
    source text NOT NULL,
    line bigint NOT NULL,
    rule text NOT NULL,
    column_name text,
    reason text NOT NULL,
    raw text NOT NULL,
    contract_version text,
    quarantined_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    replayed_at timestamptz,
    outcome text
);
CREATE INDEX ON metadata.quarantine (batch_id);
CREATE INDEX ON metadata.quarantine (dataset, quarantined_at DESC);
CREATE INDEX ON metadata.quarantine (execution_id);

CREATE TABLE metadata.quality_results (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    execution_id bigint NOT NULL,
    batch_id bigint NOT NULL,
    dataset text NOT NULL,
    column_name text,
    rule text NOT NULL,
    severity text NOT NULL DEFAULT 'error',
    checked bigint NOT NULL,
    failed bigint NOT NULL,
    statistics jsonb NOT NULL DEFAULT '{}',
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON metadata.quality_results (dataset, recorded_at DESC);
CREATE INDEX ON metadata.quality_results (execution_id);

CREATE TABLE metadata.pipeline_logs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    logged_at timestamptz NOT NULL,
    level text NOT NULL,
    pipeline_name text NOT NULL,
    execution_id bigint,
    dataset text,
    event text NOT NULL,
    fields jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX ON metadata.pipeline_logs (logged_at DESC);
CREATE INDEX ON metadata.pipeline_logs (execution_id, logged_at);

CREATE TABLE metadata.health_checks (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    checked_at timestamptz NOT NULL,
    component text NOT NULL,
    status text NOT NULL CHECK (status IN ('GOOD', 'BAD', 'UNKNOWN')),
    latency_seconds double precision,
    detail text
);
CREATE INDEX ON metadata.health_checks (component, checked_at DESC);

CREATE TABLE metadata.maintenance_windows (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    component text,
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    reason text NOT NULL,
    created_by text NOT NULL,
    CHECK (starts_at < ends_at)
);

CREATE TABLE metadata.stream_offsets (
    consumer_group text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    epoch bigint NOT NULL DEFAULT 0,
    owner text,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (consumer_group, topic, partition)
);

CREATE TABLE metadata.stream_batches (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    execution_id bigint,
    consumer_group text NOT NULL,
    topic text NOT NULL,
    partitions integer[] NOT NULL,
    messages bigint NOT NULL,
    loaded bigint NOT NULL,
    dead bigint NOT NULL,
    flush_seconds double precision NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON metadata.stream_batches (committed_at DESC);

CREATE TABLE metadata.stream_lag (
    consumer_group text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    measured_at timestamptz NOT NULL,
    lag_messages bigint NOT NULL,
    lag_seconds double precision NOT NULL,
    PRIMARY KEY (consumer_group, topic, partition, measured_at)
);

CREATE TABLE metadata.dead_letters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer_group text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    message_offset bigint NOT NULL,
    source text,
    reason text NOT NULL,
    detail text NOT NULL,
    contract_version text,
    message_key bytea,
    message_value bytea,
    attempts integer NOT NULL DEFAULT 0,
    outcome text,
    buried_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    relayed_at timestamptz,
    replayed_at timestamptz,
    UNIQUE (consumer_group, topic, partition, message_offset)
);
CREATE INDEX ON metadata.dead_letters (buried_at DESC);

CREATE TABLE metadata.mail_outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    problem text NOT NULL,
    subject text NOT NULL,
    body_text text NOT NULL,
    body_html text NOT NULL,
    occurrences bigint NOT NULL DEFAULT 1,
    attempts integer NOT NULL DEFAULT 0,
    last_error text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    sent_at timestamptz
);
CREATE INDEX ON metadata.mail_outbox (created_at) WHERE sent_at IS NULL;

-- Rollups: what long-range charts and counters read, kept when the rows behind them are pruned.
CREATE TABLE metadata.rollup_executions (
    day date NOT NULL,
    pipeline_name text NOT NULL,
    status text NOT NULL,
    executions bigint NOT NULL,
    records_processed bigint NOT NULL,
    duration_seconds double precision NOT NULL,
    PRIMARY KEY (day, pipeline_name, status)
);

CREATE TABLE metadata.rollup_counts (
    day date NOT NULL,
    dataset text NOT NULL,
    source text NOT NULL,
    read bigint NOT NULL,
    loaded bigint NOT NULL,
    superseded bigint NOT NULL,
    duplicates bigint NOT NULL,
    quarantined bigint NOT NULL,
    PRIMARY KEY (day, dataset, source)
);

CREATE TABLE metadata.rollup_uptime (
    hour timestamptz NOT NULL,
    component text NOT NULL,
    good integer NOT NULL,
    bad integer NOT NULL,
    unknown integer NOT NULL,
    maintenance integer NOT NULL,
    PRIMARY KEY (hour, component)
);

-- The contracts as bootstrap last applied them: which table has which key.
CREATE TABLE metadata.warehouse_tables (
    table_name text PRIMARY KEY,
    dataset text NOT NULL,
    key_columns text[] NOT NULL,
    contract_version text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE warehouse.dim_date (
    date_key date PRIMARY KEY,
    year integer NOT NULL,
    quarter integer NOT NULL,
    month integer NOT NULL,
    month_name text NOT NULL,
    day integer NOT NULL,
    day_of_year integer NOT NULL,
    iso_year integer NOT NULL,
    iso_week integer NOT NULL,
    iso_weekday integer NOT NULL,
    weekday_name text NOT NULL,
    is_weekend boolean NOT NULL
);

-- One row a date; the same for the filled range and for a date that a fact brings later.
CREATE FUNCTION warehouse.add_dates(dates date[]) RETURNS bigint
    LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
    WITH added AS (
        INSERT INTO warehouse.dim_date
        SELECT
            given.date_key,
            extract(year FROM given.date_key),
            extract(quarter FROM given.date_key),
            extract(month FROM given.date_key),
            to_char(given.date_key, 'FMMonth'),
            extract(day FROM given.date_key),
            extract(doy FROM given.date_key),
            extract(isoyear FROM given.date_key),
            extract(week FROM given.date_key),
            extract(isodow FROM given.date_key),
            to_char(given.date_key, 'FMDay'),
            extract(isodow FROM given.date_key) > 5
        FROM unnest(dates) AS given (date_key)
        ORDER BY given.date_key
        ON CONFLICT DO NOTHING
        RETURNING 1
    )
    SELECT count(*) FROM added
$$;

SELECT warehouse.add_dates(array_agg(each::date))
FROM generate_series(DATE '2000-01-01', DATE '2100-12-31', INTERVAL '1 day') AS each;

-- The fast first load of an empty table: without its key, which is built once, after the rows.
-- The loader may not change tables; these two let it do just this, and only to empty ones.
CREATE FUNCTION warehouse.open_first_load(given_table text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    is_empty boolean;
BEGIN
    PERFORM FROM metadata.warehouse_tables AS t WHERE t.table_name = given_table;
    IF NOT FOUND THEN
        RAISE EXCEPTION '% is no table of the warehouse', given_table;
    END IF;
    EXECUTE format('SELECT NOT EXISTS (SELECT FROM warehouse.%I)', given_table) INTO is_empty;
    IF NOT is_empty THEN
        RETURN false;
    END IF;
    EXECUTE format('LOCK TABLE warehouse.%I IN ACCESS EXCLUSIVE MODE', given_table);
    EXECUTE format('SELECT NOT EXISTS (SELECT FROM warehouse.%I)', given_table) INTO is_empty;
    IF is_empty THEN
        EXECUTE format('TRUNCATE warehouse.%I', given_table);
        EXECUTE format('ALTER TABLE warehouse.%I DROP CONSTRAINT %I',
                       given_table, given_table || '_pkey');
    END IF;
    RETURN is_empty;
END
$$;

CREATE FUNCTION warehouse.close_first_load(given_table text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    key_list text;
BEGIN
    SELECT string_agg(quote_ident(name), ', ' ORDER BY place) INTO key_list
    FROM metadata.warehouse_tables AS t, unnest(t.key_columns) WITH ORDINALITY AS k (name, place)
    WHERE t.table_name = given_table;
    IF key_list IS NULL THEN
        RAISE EXCEPTION '% is no table of the warehouse', given_table;
    END IF;
    EXECUTE format('ALTER TABLE warehouse.%I ADD CONSTRAINT %I PRIMARY KEY (%s)',
                   given_table, given_table || '_pkey', key_list);
END
$$;

REVOKE EXECUTE ON FUNCTION warehouse.open_first_load, warehouse.close_first_load FROM PUBLIC;
GRANT EXECUTE ON FUNCTION warehouse.open_first_load, warehouse.close_first_load
    TO sluiceway_loader;

GRANT USAGE ON SCHEMA metadata, warehouse, staging TO sluiceway_loader, sluiceway_reader;
GRANT CREATE ON SCHEMA staging TO sluiceway_loader;
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA metadata TO sluiceway_loader;
GRANT DELETE ON metadata.mail_outbox, metadata.pipeline_logs, metadata.stream_lag
    TO sluiceway_loader;
REVOKE INSERT, UPDATE ON metadata.warehouse_tables FROM sluiceway_loader;
GRANT SELECT, INSERT ON warehouse.dim_date TO sluiceway_loader;
GRANT SELECT ON ALL TABLES IN SCHEMA metadata, warehouse TO sluiceway_reader;
