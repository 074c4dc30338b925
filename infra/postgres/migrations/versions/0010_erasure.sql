-- The forgetting of a person: who asked for it, what was done, and a role that may do just that.

CREATE TABLE metadata.erasures (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    execution_id bigint,
    erased_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    dataset text,
    column_name text NOT NULL,
    subject_index bytea NOT NULL CHECK (octet_length(subject_index) = 16),
    requested_by text NOT NULL,
    counts jsonb NOT NULL
);
COMMENT ON TABLE metadata.erasures IS
    'What was erased of whom: written in the transaction that erased it, and changed by nobody.';
COMMENT ON COLUMN metadata.erasures.dataset IS
    'Whose rows were erased; NULL: what belongs to no contract.';
COMMENT ON COLUMN metadata.erasures.subject_index IS
    'The keyed HMAC of what the person was found by: the value itself is kept nowhere.';
COMMENT ON COLUMN metadata.erasures.counts IS 'Rows by the table they stood in.';
CREATE INDEX ON metadata.erasures (subject_index);

-- Files without a contract are text that the loader's tables hold as received. Whoever erases may
-- not read them: this function looks for the value of one person, as a word of its own.
CREATE FUNCTION metadata.find_uncontracted(given text, for_real boolean)
    RETURNS TABLE (staged text, held bigint)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    pattern text := '(^|[^[:alnum:]_@.+-])'
        || regexp_replace(trim(given), '([][\\.^$*+?(){}|])', '\\\1', 'g')
        || '($|[^[:alnum:]_@.-]|[.]($|[^[:alnum:]_]))';
    condition text;
BEGIN
    IF coalesce(trim(given), '') = '' THEN
        RAISE EXCEPTION 'nothing to look for: name a value';
    END IF;
    FOR staged IN
        SELECT DISTINCT f.dataset FROM metadata.source_files AS f
        WHERE NOT f.contracted AND to_regclass(format('staging.%I', f.dataset)) IS NOT NULL
        ORDER BY 1
    LOOP
        SELECT string_agg(format('%I::text ~* $1', attname), ' OR ') INTO condition
        FROM pg_attribute
        WHERE attrelid = format('staging.%I', staged)::regclass
            AND attnum > 0 AND NOT attisdropped AND atttypid IN ('text'::regtype, 'jsonb'::regtype)
            AND attname <> '_source';
        CONTINUE WHEN condition IS NULL;
        IF for_real THEN
            EXECUTE format('DELETE FROM staging.%I WHERE %s', staged, condition) USING pattern;
            GET DIAGNOSTICS held = ROW_COUNT;
        ELSE
            EXECUTE format('SELECT count(*) FROM staging.%I WHERE %s', staged, condition)
                INTO held USING pattern;
        END IF;
        IF held > 0 THEN
            RETURN NEXT;
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION metadata.find_uncontracted IS
    'Counts the staged rows without a contract that hold the value; for_real: deletes them.';
REVOKE EXECUTE ON FUNCTION metadata.find_uncontracted FROM PUBLIC;
GRANT EXECUTE ON FUNCTION metadata.find_uncontracted TO sluiceway_loader, sluiceway_eraser;
-- With the rights of the loader, and no others: in staging the loader can leave views and triggers,
-- which run as whoever comes across them.
GRANT CREATE ON SCHEMA metadata TO sluiceway_loader;
ALTER FUNCTION metadata.find_uncontracted OWNER TO sluiceway_loader;
REVOKE CREATE ON SCHEMA metadata FROM sluiceway_loader;

-- Of the tables of datasets the eraser gets what their contracts say: infra/postgres/rights.py.
GRANT USAGE ON SCHEMA metadata, warehouse, staging TO sluiceway_eraser;
-- When it was is not for whoever erases to say.
GRANT SELECT, INSERT (execution_id, dataset, column_name, subject_index, requested_by, counts)
    ON metadata.erasures TO sluiceway_eraser;
GRANT SELECT ON metadata.erasures TO sluiceway_loader;
-- What was rejected has to be opened to be searched.
GRANT SELECT (id, dataset, raw, raw_sealed), DELETE ON metadata.quarantine TO sluiceway_eraser;
GRANT SELECT (id, source, message_key, message_value, is_sealed), DELETE
    ON metadata.dead_letters, metadata.unsent_messages TO sluiceway_eraser;
