-- A year of the platform's life, for the dashboard's benchmark and the tests of its plans.
-- Each block below is one statement; "given" has one row that says how much of everything.
-- Chance is a hash of a row's number, so that every filling of the same size is the same.

-- chance
CREATE FUNCTION pg_temp.draw(n bigint, seed integer, below integer) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ((hashint8extended(n, seed) & 2147483647) % below)::integer;

-- cell: of the length and the randomness of an encrypted one, which no key opens
CREATE FUNCTION pg_temp.cell(said text) RETURNS bytea
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN substr(
        '\x01'::bytea || sha256(said::bytea) || sha256('and '::bytea || said::bytea)
            || repeat('.', octet_length(said))::bytea,
        1, 33 + octet_length(said));

-- search index: as long as the one that a person is found by
CREATE FUNCTION pg_temp.search_index(said text) RETURNS bytea
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN substr(sha256(said::bytea), 1, 16);

-- pipelines
CREATE TEMP TABLE pipelines AS
SELECT name, first, lead(first, 1, 10000) OVER (ORDER BY first) AS beyond, typical_seconds,
    failing, typical_rows
FROM (VALUES
    ('check_health', 0, 0.4, 5, 0),
    ('mark_dead_runs', 4400, 0.1, 2, 0),
    ('kafka_data_ingestion', 8600, 4.0, 25, 500),
    ('daily_etl_pipeline', 9500, 90.0, 40, 60000),
    ('stream_processing_pipeline', 9850, 9000.0, 100, 400000),
    ('prune_history', 9950, 30.0, 10, 0),
    ('replay_dead_letters', 9975, 12.0, 50, 80),
    ('replay_topic', 9990, 600.0, 100, 90000),
    ('rotate_keys', 9997, 200.0, 20, 0)
) AS named (name, first, typical_seconds, failing, typical_rows);

-- runs
INSERT INTO metadata.pipeline_executions
    (id, pipeline_name, status, records_processed, start_time, end_time, error_message,
     error_traceback, warnings, flow_run_id, parameters, host, process_id)
OVERRIDING SYSTEM VALUE
SELECT n, name, status,
    CASE status WHEN 'FAILED' THEN 0 ELSE typical_rows * pg_temp.draw(n, 5, 2000) / 1000 END,
    begun,
    CASE WHEN status <> 'RUNNING' THEN begun + seconds * interval '1 second' END,
    CASE WHEN status = 'FAILED' THEN (ARRAY[
        format('data/raw/sales_data_%s.csv does not fit the contract Sales: column ''quantity'' '
               'is integer there, but 812 of 1000 cells in the file are not: mend the file.', n),
        'PostgreSQL at 127.0.0.1 cannot be reached (connection refused): is it running?',
        'The run was killed: its process ended without a word. What it had committed is there.',
        'No broker of 127.0.0.1:9092 answered within 40 s: is Kafka running?',
        '<script>alert("a file''s name")</script>.csv has no header',
        format('https://api.example/users answered 503 after %s tries', 2 + n % 3)
    ])[1 + pg_temp.draw(n, 6, 6)] END,
    CASE WHEN status = 'FAILED' THEN 'Traceback (most recent call last):' || repeat(
        E'\n  File "tasks/load.py", line 148, in load_source\n    await load(pool, order)',
        4 + pg_temp.draw(n, 7, 12)
    ) END,
    CASE WHEN pg_temp.draw(n, 8, 40) = 0 THEN ARRAY['a column is not in the contract: note']
         ELSE '{}' END,
    md5(n::text)::uuid, '{"force": false}', 'worker-' || pg_temp.draw(n, 9, 3), 100 + n % 30000
FROM (
    SELECT drawn.*, p.name, seconds, p.typical_rows,
        CASE
            WHEN drawn.n = drawn.always_on OR begun + seconds * interval '1 second' > until
                THEN 'RUNNING'
            WHEN pg_temp.draw(drawn.n, 4, 1000) < p.failing THEN 'FAILED'
            ELSE 'SUCCESS'
        END AS status
    FROM (
        SELECT n, until, always_on,
            until - interval '365 days' * ((runs - n + 0.5) / runs) AS begun,
            CASE n WHEN always_on THEN 9850 ELSE pg_temp.draw(n, 1, 10000) END AS chance
        FROM given, generate_series(1, runs) AS n
        OFFSET 0  -- or else chance is drawn anew for each comparison below
    ) AS drawn
    JOIN pipelines AS p ON chance >= p.first AND chance < p.beyond
    CROSS JOIN LATERAL (
        -- Most take about as long as usual, a few ten times that.
        SELECT p.typical_seconds::float8 * exp(
            (pg_temp.draw(n, 2, 1000) + pg_temp.draw(n, 3, 1000) - 1000) / 450.0
        ) AS seconds
    ) AS lasting
    ORDER BY n
) AS run;

-- retired: a pipeline that has not run for three hundred days
UPDATE metadata.pipeline_executions SET pipeline_name = 'forget_person'
WHERE id IN (SELECT n FROM given, generate_series(1, greatest(3, runs / 6), 997) AS n)
    AND status <> 'RUNNING';

-- loads: of files and of the API, with what became of their rows
CREATE TEMP TABLE loads AS
SELECT id, execution_id, at, dataset, outcome, quarantined, duplicates, superseded, inserted,
    updated, unchanged,
    quarantined + duplicates + superseded + inserted + updated + unchanged AS read,
    CASE
        WHEN dataset = 'api_users' THEN 'https://api.example/users'
        WHEN id % 4 = 0 THEN format('data/raw/%s_%s.csv', dataset, at::date)
        ELSE format('data/raw/%s.csv', dataset)
    END AS path
FROM (
    SELECT row_number() OVER (ORDER BY e.id, k) AS id, e.id AS execution_id, e.end_time AS at,
        CASE
            -- The API was asked for two months, and then no longer.
            WHEN k = 4 AND e.id > given.runs / 6 THEN 'sales_data'
            ELSE (ARRAY['customers', 'products', 'sales_data', 'api_users'])[k]
        END AS dataset,
        CASE
            WHEN e.status = 'FAILED' AND k = 3 THEN 'REFUSED'
            WHEN pg_temp.draw(e.id, 10 + k, 10) = 0 THEN 'UNCHANGED'
            ELSE 'LOADED'
        END AS outcome
    FROM given, metadata.pipeline_executions AS e, generate_series(1, 4) AS k
    WHERE e.pipeline_name = 'daily_etl_pipeline' AND e.status <> 'RUNNING'
) AS load
CROSS JOIN LATERAL (
    SELECT
        CASE WHEN pg_temp.draw(id, 15, 100) < 35 THEN 1 + pg_temp.draw(id, 16, 12) ELSE 0 END
            AS quarantined,
        pg_temp.draw(id, 17, 20) AS duplicates, pg_temp.draw(id, 18, 5) AS superseded,
        pg_temp.draw(id, 19, 5000) AS inserted, pg_temp.draw(id, 20, 900) AS updated,
        500 + pg_temp.draw(id, 21, 60000) AS unchanged
) AS counted;

-- source_files
INSERT INTO metadata.source_files
    (id, execution_id, load_id, dataset, path, status, contracted, contract_version, size_bytes,
     sha256, modified_at, rows, staged_in, message, notes, recorded_at)
OVERRIDING SYSTEM VALUE
SELECT id, execution_id, md5('load ' || id)::uuid, dataset, path, outcome, true, 'c0ffee000001',
    read * 71, md5(id::text) || md5(path), at - interval '1 hour',
    CASE outcome WHEN 'LOADED' THEN read END, CASE outcome WHEN 'LOADED' THEN dataset END,
    CASE outcome
        WHEN 'REFUSED' THEN path || ' does not fit the contract: most of its cells are no numbers.'
        WHEN 'UNCHANGED' THEN 'It is as it was when it was loaded last.'
    END,
    CASE WHEN id % 50 = 0
        THEN ARRAY['columns that the contract does not know are kept in _extra: loyalty_points']
        ELSE '{}' END,
    at
FROM loads ORDER BY id;

-- ledgers of files
INSERT INTO metadata.dataset_counts
    (execution_id, batch_id, dataset, source, read, inserted, updated, unchanged, superseded,
     duplicates, quarantined, filled, recorded_at)
SELECT execution_id, id, dataset, path, read, inserted, updated, unchanged, superseded, duplicates,
    quarantined, id % 30, at
FROM loads WHERE outcome = 'LOADED' ORDER BY id;

-- checked columns
CREATE TEMP TABLE checked_columns AS
SELECT dataset, names[1 + (place - 1) % cardinality(names)] AS column_name, place
FROM (VALUES
    ('customers', ARRAY['name', 'email', 'city', 'country']),
    ('products', ARRAY['name', 'category', 'price', 'weight_kg']),
    ('sales_data', ARRAY['quantity', 'unit_price', 'discount', 'channel']),
    ('api_users', ARRAY['email', 'phone', 'website', 'company_name'])
) AS named (dataset, names), generate_series(1, 4) AS place;

-- quality of files
INSERT INTO metadata.quality_results
    (execution_id, batch_id, dataset, column_name, rule, checked, failed, statistics, recorded_at)
SELECT execution_id, id, dataset, column_name, rule, read, failed, statistics, at
FROM loads JOIN checked_columns USING (dataset)
CROSS JOIN LATERAL (
    SELECT 'completeness' AS rule, (pg_temp.draw(id, 30 + place, 60) * read / 1000)::bigint AS failed,
        jsonb_build_object('filled', pg_temp.draw(id, 40 + place, 9), 'mistyped', 0) AS statistics
    UNION ALL
    SELECT CASE place WHEN 1 THEN 'missing' ELSE 'type' END, quarantined, '{}'
    WHERE quarantined > 0 AND place IN (1, 2)
) AS result
WHERE outcome = 'LOADED' ORDER BY id, place;

-- quarantine
INSERT INTO metadata.quarantine
    (execution_id, batch_id, dataset, source, line, rule, column_name, reason, raw, raw_sealed,
     contract_version, quarantined_at, replayed_at, outcome)
SELECT execution_id, id, dataset, path, 2 + line * 7, rule, c.column_name,
    CASE rule WHEN 'missing' THEN c.column_name || ' is missing'
              WHEN 'type' THEN format('%s ''n/a %s'' is no number', c.column_name, line)
              ELSE format('%s ''-%s'' is below 1', c.column_name, line) END,
    CASE WHEN dataset NOT IN ('customers', 'api_users') THEN said END,
    CASE WHEN dataset IN ('customers', 'api_users') THEN pg_temp.cell(said) END,
    'c0ffee000001', at,
    CASE WHEN id % 9 = 0 THEN at + interval '2 days' END, CASE WHEN id % 9 = 0 THEN 'loaded' END
FROM loads
CROSS JOIN LATERAL generate_series(1, quarantined) AS line
CROSS JOIN LATERAL (
    SELECT (ARRAY['missing', 'type', 'greater_than_or_equal_to'])[1 + pg_temp.draw(id + line, 50, 3)]
        AS rule,
        1 + pg_temp.draw(id + line, 51, 4) AS place,
        format('%s,Ada Example,ada%s@example.org,Berlin,-%s,"a note, with a comma"', id, line, line)
            AS said
) AS broken
JOIN checked_columns AS c USING (dataset, place)
WHERE outcome = 'LOADED' ORDER BY id, line;

-- stream_batches: most of them of the consumer that is always on
CREATE TEMP TABLE batches AS
SELECT n + given.loads AS id,
    until - interval '30 days' * ((batches - n) / batches::float8) AS at,
    CASE WHEN n > batches / 3 THEN always_on
         ELSE (SELECT max(e.id) FROM metadata.pipeline_executions AS e
               WHERE e.pipeline_name = 'stream_processing_pipeline' AND e.id < always_on) END
        AS execution_id,
    1 + pg_temp.draw(n, 60, 4000) AS messages,
    CASE WHEN pg_temp.draw(n, 61, 12) = 0 THEN 1 ELSE 0 END AS dead,
    pg_temp.draw(n, 62, 2) AS skipped,
    pg_temp.draw(n, 63, 3) AS partition,
    CASE pg_temp.draw(n, 64, 5) WHEN 0 THEN 'customers' ELSE 'sales_data' END AS dataset
FROM (SELECT *, (SELECT count(*) FROM pg_temp.loads) AS loads FROM given) AS given,
    generate_series(1, batches) AS n;

-- stream_batches
INSERT INTO metadata.stream_batches
    (id, execution_id, consumer_group, topic, partitions, messages, loaded, dead, skipped,
     flush_seconds, first_offsets, next_offsets, size_bytes, is_replay, committed_at)
SELECT id, execution_id, 'stream_processor_group', 'data-stream', ARRAY[partition],
    messages + dead + skipped, messages, dead, skipped,
    0.004 + messages / 90000.0 + pg_temp.draw(id, 65, 100) / 9000.0, ARRAY[id * 4000],
    ARRAY[id * 4000 + messages], messages * 230, id % 400 = 0, at
FROM batches ORDER BY id;

-- ledgers of batches
INSERT INTO metadata.dataset_counts
    (execution_id, batch_id, dataset, source, read, inserted, updated, unchanged, superseded,
     duplicates, quarantined, recorded_at)
SELECT execution_id, id, dataset, 'data-stream', messages + skipped, messages - messages / 3,
    messages / 3, 0, skipped, 0, 0, at
FROM batches ORDER BY id;

-- quality of batches: written every half a minute, not with each
INSERT INTO metadata.quality_results
    (execution_id, batch_id, dataset, column_name, rule, checked, failed, statistics, recorded_at)
SELECT execution_id, id, dataset, column_name, 'completeness', messages,
    pg_temp.draw(id, 70 + place, 60) * messages / 1000, '{"filled": 0, "mistyped": 0}', at
FROM batches JOIN checked_columns USING (dataset)
WHERE id % 20 = 0 ORDER BY id, place;

-- stream_offsets
INSERT INTO metadata.stream_offsets
    (consumer_group, topic, partition, next_offset, epoch, owner, updated_at)
SELECT 'stream_processor_group', 'data-stream', partition, 40000000 + partition, 12,
    'worker-' || partition, until
FROM given, generate_series(0, 2) AS partition;

-- stream_lag: as often as a consumer measures it, as long as it is kept
INSERT INTO metadata.stream_lag
    (consumer_group, topic, partition, measured_at, lag_messages, lag_seconds)
SELECT 'stream_processor_group', 'data-stream', partition, until - n * interval '5 seconds',
    messages, messages / 900.0
FROM given, generate_series(0, lag_hours * 720) AS n, generate_series(0, 2) AS partition,
LATERAL (
    SELECT CASE WHEN n % 4320 BETWEEN 1000 AND 1100 THEN 90000 ELSE 0 END
        + pg_temp.draw(n * 3 + partition, 80, 2500) AS messages
) AS behind;

-- dead_letters
INSERT INTO metadata.dead_letters
    (consumer_group, topic, partition, message_offset, source, reason, detail, contract_version,
     message_key, message_value, is_sealed, attempts, outcome, buried_at, relayed_at, replayed_at,
     execution_id, batch_id, message_time)
SELECT 'stream_processor_group', 'data-stream', n % 3, n * 700,
    (ARRAY['sales_data', 'customers', 'nobody''s', NULL])[1 + pg_temp.draw(n, 91, 4)],
    (ARRAY['json', 'envelope', 'source', 'contract'])[1 + pg_temp.draw(n, 92, 4)],
    format('quantity ''-%s'' is below 1 <b>in a message</b>', n), 'c0ffee000001', 'key'::bytea,
    pg_temp.cell(n::text), pg_temp.draw(n, 91, 4) > 0, n % 2, CASE WHEN n % 3 = 0 THEN 'loaded' END, at, at,
    CASE WHEN n % 3 = 0 THEN at + interval '1 day' END, always_on, 1, at
FROM given, generate_series(1, letters) AS n,
LATERAL (SELECT until - interval '60 days' * ((letters - n) / letters::float8) AS at) AS buried;

-- health_checks: one a minute of each component
INSERT INTO metadata.health_checks (checked_at, component, status, latency_seconds, detail)
SELECT at, component,
    CASE WHEN chance < 20 THEN 'BAD' WHEN chance < 30 THEN 'UNKNOWN' ELSE 'GOOD' END,
    pg_temp.draw(n * 5 + place, 101, 4000) / 100000.0,
    CASE WHEN chance < 20 THEN 'no answer within 5 s' END
FROM given, generate_series(1, health_minutes) AS n,
    unnest(ARRAY['dashboard', 'disk', 'kafka', 'postgresql', 'prefect'])
        WITH ORDINALITY AS component (component, place),
LATERAL (
    -- Trouble comes in hours, not in minutes strewn over the year.
    SELECT until - (health_minutes - n) * interval '1 minute' AS at,
        pg_temp.draw(n / 40 * 5 + place, 100, 10000) AS chance
) AS checked
ORDER BY n, place;

-- maintenance_windows: most are over, some planned
INSERT INTO metadata.maintenance_windows (component, starts_at, ends_at, reason, created_by)
SELECT CASE WHEN n % 3 > 0 THEN 'kafka' END, at, at + interval '2 hours',
    'A new release of Kafka is installed.', 'otto'
FROM given, generate_series(-6, 24) AS n,
LATERAL (SELECT until - (n - 0.5) * interval '3 days' AS at) AS begun;

-- pipeline_logs: four lines a run; the consumer that is always on says something twice a minute
INSERT INTO metadata.pipeline_logs
    (logged_at, level, pipeline_name, execution_id, dataset, event, fields)
SELECT CASE WHEN is_of_consumer THEN until - interval '20 days' * ((lines - n) / lines::float8)
            ELSE e.start_time + n % 4 * interval '40 milliseconds' END,
    coalesce((ARRAY['ERROR', 'WARNING', 'WARNING', 'DEBUG', 'DEBUG', 'DEBUG'])[
        1 + pg_temp.draw(n, 110, 60) / CASE WHEN is_of_consumer THEN 1 ELSE 3 END], 'INFO'),
    e.pipeline_name, e.id,
    CASE WHEN e.pipeline_name = 'daily_etl_pipeline' THEN 'sales_data' END,
    (ARRAY['loaded', 'skipped', 'stream', 'the lag cannot be measured',
           format('not loaded: <img src=x onerror=alert(1)> export_%s.csv has no header', n),
           'a batch is left to another consumer'])[1 + pg_temp.draw(n, 111, 6)],
    jsonb_build_object('path', 'data/raw/sales_data.csv', 'rows', pg_temp.draw(n, 112, 90000),
                       'seconds', n % 17, 'run', n)
FROM given
CROSS JOIN generate_series(1, lines) AS n
CROSS JOIN LATERAL (SELECT pg_temp.draw(n, 113, 20) = 0 AS is_of_consumer) AS origin
JOIN metadata.pipeline_executions AS e
    ON e.id = CASE WHEN is_of_consumer THEN always_on
                   ELSE greatest(1, runs - lines / 4 + n / 4) END
ORDER BY 1;

-- mail_outbox: one a failure would be as many; some were given up, a few still wait
INSERT INTO metadata.mail_outbox
    (problem, subject, body_text, body_html, attempts, last_error, created_at, sent_at,
     abandoned_at)
SELECT 'pipeline:daily_etl_pipeline', 'daily_etl_pipeline failed',
    repeat(md5(n::text) || E'\n', 50), repeat('<p>' || md5(n::text) || '</p>', 50),
    CASE WHEN n < 20 THEN 9 ELSE 1 END,
    CASE WHEN n < 20 OR n % 50 = 0 THEN '554 <img src=x onerror=alert(1)> <ops@example.org>' END,
    at, CASE WHEN n >= 20 AND n % 50 > 0 THEN at + interval '5 seconds' END,
    CASE WHEN n % 50 = 0 OR n = 19 THEN at + interval '1 day' END
FROM given, generate_series(1, mails) AS n,
LATERAL (SELECT until - n * interval '365 days' / mails - interval '1 minute' AS at) AS created;

-- alert_events: one a run that ended, as the trigger on runs would have written them
INSERT INTO metadata.alert_events
    (kind, problem, severity, summary, execution_id, happened_at, handled_at, mail_id)
SELECT CASE WHEN status = 'FAILED' THEN 'failure' ELSE 'success' END, 'pipeline:' || pipeline_name,
    CASE WHEN status = 'FAILED' THEN 'error' ELSE 'info' END,
    CASE WHEN status = 'FAILED' THEN pipeline_name || ' failed: ' || error_message
         ELSE pipeline_name || ' succeeded' END,
    id, end_time, CASE WHEN id < runs - 30 THEN end_time + interval '10 seconds' END,
    CASE WHEN status = 'FAILED' AND id < runs - 30 THEN 1 + id % mails END
FROM given, metadata.pipeline_executions
WHERE status <> 'RUNNING' AND id > runs - alerts ORDER BY id;

-- load_profiles: fifty a day for 400 days; most of them of one dataset, which comes by four feeds
INSERT INTO metadata.load_profiles
    (execution_id, batch_id, dataset, feed, read, duplicates, quarantined, columns, profiled_at)
SELECT 1 + n * runs / (profiles + 1), n, dataset,
    dataset || CASE WHEN dataset = 'sales_data' THEN '_' || n % 4 ELSE '' END || '.csv',
    read, pg_temp.draw(n, 121, 9), pg_temp.draw(n, 122, 5), (
        SELECT jsonb_object_agg(name, jsonb_build_object(
            'rows', read, 'missing', read * pg_temp.draw(n + place, 123, 60) / 1000,
            'mistyped', 0, 'distinct', read / 3, 'minimum', '0.01', 'maximum', md5(n::text)))
        FROM unnest(ARRAY['order_id', 'customer_id', 'product_id', 'order_date', 'quantity',
                          'unit_price', 'discount', 'channel'])
            WITH ORDINALITY AS named (name, place)
    ),
    until - (profiles - n) * interval '400 days' / profiles
FROM given, generate_series(1, profiles) AS n,
LATERAL (
    SELECT (ARRAY['customers', 'products', 'api_users', 'sales_data'])
            [least(4, 1 + pg_temp.draw(n, 124, 10))] AS dataset,
        2000 + pg_temp.draw(n, 125, 900) AS read
) AS came;

-- anomalies: one load in twenty
INSERT INTO metadata.anomalies
    (dataset, feed, column_name, rule, severity, observed, expected, low, high, summary,
     execution_id, batch_id, was_refused, detected_at)
SELECT dataset, feed, CASE rule WHEN 'null_rate' THEN 'channel' END, rule,
    CASE WHEN p.id % 3 = 0 THEN 'error' ELSE 'warning' END,
    CASE rule WHEN 'volume' THEN read / 2 WHEN 'freshness' THEN 200000 ELSE 0.3 END,
    CASE rule WHEN 'volume' THEN read WHEN 'freshness' THEN 86400 ELSE 0.02 END, NULL, 0.05,
    format('%s: <img src=x onerror=alert(1)> is not as the earlier loads let expect', dataset),
    execution_id, batch_id, p.id % 6 = 0, profiled_at
FROM metadata.load_profiles AS p,
LATERAL (
    SELECT (ARRAY['volume', 'null_rate', 'freshness', 'duplicate_rate'])
        [1 + pg_temp.draw(p.id, 126, 4)] AS rule
) AS broken
WHERE p.id % 20 = 0 ORDER BY p.id;

-- janitor_acts: one run in two thousand
INSERT INTO metadata.janitor_acts (act, execution_id, pipeline_name, reason, acted_at)
SELECT (ARRAY['marked dead', 'told Prefect', 'cancelled late'])[1 + pg_temp.draw(id, 127, 3)], id,
    pipeline_name, 'process 4711 on worker-1 is gone <img src=x onerror=alert(1)>',
    start_time + interval '100 seconds'
FROM metadata.pipeline_executions WHERE id % 2000 = 0 AND status <> 'RUNNING' ORDER BY id;

-- unsent_messages
INSERT INTO metadata.unsent_messages
    (execution_id, topic, source, message_value, reason, detail, refused_at)
SELECT 1, 'data-stream', 'sales_data', 'x', 'size', 'larger than the broker takes',
    until - n * interval '1 hour'
FROM given, generate_series(1, 40) AS n;

-- dim_customers
INSERT INTO warehouse.dim_customers
    (customer_id, name, _name_index, email, _email_index, city, country, signup_date, credit_limit,
     _batch_id, _version, _line, _row_hash)
SELECT n, pg_temp.cell('Ada ' || n), pg_temp.search_index('Ada ' || n),
    pg_temp.cell(email), pg_temp.search_index(email), 'Berlin', 'Germany',
    DATE '2020-01-01' + (n % 2000)::integer, n % 5000, 1 + n % 40, until, n, n
FROM given, generate_series(1, table_rows / 10) AS n, LATERAL format('ada%s@example.org', n) AS email;

-- dim_products
INSERT INTO warehouse.dim_products
    (product_id, name, category, price, weight_kg, active, _batch_id, _version, _line, _row_hash,
     valid_from)
SELECT n, 'Thing ' || n, 'garden', n % 90, 0.5, true, 1 + n % 40, until, n, n, '-infinity'
FROM given, generate_series(1, table_rows / 50) AS n;

-- dim_api_users
INSERT INTO warehouse.dim_api_users
    (id, name, _name_index, username, _username_index, email, _email_index, company_name, _batch_id,
     _version, _line, _row_hash)
SELECT n, pg_temp.cell('Ada ' || n), pg_temp.search_index('Ada ' || n), pg_temp.cell('ada' || n),
    pg_temp.search_index('ada' || n), pg_temp.cell(n || '@example.org'),
    pg_temp.search_index(n || '@example.org'), 'Example', 4, until, n, n
FROM given, generate_series(1, table_rows / 100) AS n;

-- fact_sales_data
INSERT INTO warehouse.fact_sales_data
    (order_id, customer_key, product_key, order_date, quantity, unit_price, discount, channel,
     _batch_id, _version, _line, _row_hash)
SELECT n, 1 + n % (table_rows / 10), 1 + n % (table_rows / 50),
    (until - n % 365 * interval '1 day')::date, 1 + n % 9, 1 + n % 70, 0, 'web',
    (SELECT max(l.id) FROM loads AS l) + n % 3000, until, n, n
FROM given, generate_series(1, table_rows) AS n;

-- staged batches and days: tables below a dataset's own, as a load and a consumer leave them
DO $$
DECLARE
    part record;
BEGIN
    FOR part IN
        (SELECT dataset, format('%s__b%s', dataset, id) AS name, id AS batch_id, path AS source
         FROM loads WHERE outcome = 'LOADED' AND dataset <> 'api_users' ORDER BY id DESC LIMIT 60)
        UNION ALL
        SELECT 'sales_data', format('sales_data__s%s', to_char(until - day * interval '1 day',
                                                                'YYYYMMDD')), day, 'data-stream'
        FROM given, generate_series(0, 29) AS day
    LOOP
        EXECUTE format('CREATE TABLE staging.%I () INHERITS (staging.%I)', part.name, part.dataset);
        EXECUTE format('GRANT SELECT ON staging.%I TO sluiceway_reader', part.name);
        EXECUTE format(
            'INSERT INTO staging.%I (_line, _row_hash, _batch_id, _source, _version, _extracted_at)'
            ' SELECT n, n, $1, $2, until, until FROM given, generate_series(1, table_rows / 60) AS n',
            part.name) USING part.batch_id, part.source;
    END LOOP;
END
$$;

-- uncontracted: a file that nobody has written a contract for
CREATE TABLE staging.suppliers (
    supplier text, contact text, _line bigint NOT NULL, _row_hash bigint NOT NULL, _extra jsonb,
    _batch_id bigint NOT NULL, _source text NOT NULL, _version timestamptz NOT NULL,
    _extracted_at timestamptz NOT NULL
);

-- uncontracted rows
INSERT INTO staging.suppliers
SELECT 'Supplier ' || n, 'ada@example.org', n, n, NULL, 1, 'data/raw/suppliers.csv', until, until
FROM given, generate_series(1, 1000) AS n;

-- uncontracted right
GRANT SELECT ON staging.suppliers TO sluiceway_reader;

-- next run
SELECT setval(pg_get_serial_sequence('metadata.pipeline_executions', 'id'), runs) FROM given;

-- next batch
SELECT setval('metadata.source_files_id_seq', (SELECT max(id) FROM metadata.stream_batches));
