-- The first load of a fact is filled without what its persons are found by, as without its key:
-- both are built once, after the rows.

CREATE OR REPLACE FUNCTION warehouse.open_first_load(given_table text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    is_empty boolean;
    dropped regclass;
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
        FOR dropped IN
            SELECT i.indexrelid::regclass
            FROM pg_index AS i
            JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
            WHERE i.indrelid = format('warehouse.%I', given_table)::regclass
                AND i.indnatts = 1 AND a.attname ~ '^_.+_index$'
        LOOP
            EXECUTE format('DROP INDEX %s', dropped);
        END LOOP;
    END IF;
    RETURN is_empty;
END
$$;

CREATE OR REPLACE FUNCTION warehouse.close_first_load(given_table text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    key_list text;
    searched name;
BEGIN
    SELECT string_agg(quote_ident(name), ', ' ORDER BY place) INTO key_list
    FROM metadata.warehouse_tables AS t, unnest(t.key_columns) WITH ORDINALITY AS k (name, place)
    WHERE t.table_name = given_table;
    IF key_list IS NULL THEN
        RAISE EXCEPTION '% is no table of the warehouse', given_table;
    END IF;
    EXECUTE format('ALTER TABLE warehouse.%I ADD CONSTRAINT %I PRIMARY KEY (%s)',
                   given_table, given_table || '_pkey', key_list);
    FOR searched IN
        SELECT attname FROM pg_attribute
        WHERE attrelid = format('warehouse.%I', given_table)::regclass
            AND attnum > 0 AND NOT attisdropped AND attname ~ '^_.+_index$'
        ORDER BY attnum
    LOOP
        EXECUTE format('CREATE INDEX ON warehouse.%I (%I)', given_table, searched);
    END LOOP;
END
$$;
