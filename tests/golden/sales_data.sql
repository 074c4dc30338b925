CREATE TABLE "staging"."sales_data" (
    "order_id" bigint,
    "customer_id" bigint,
    "product_id" bigint,
    "order_date" date,
    "quantity" bigint,
    "unit_price" numeric(18,2),
    "discount" double precision,
    "channel" text,
    "_line" bigint NOT NULL,
    "_row_hash" bigint NOT NULL,
    "_extra" jsonb,
    "_batch_id" bigint NOT NULL,
    "_source" text NOT NULL,
    "_version" timestamptz NOT NULL,
    "_extracted_at" timestamptz NOT NULL
);
CREATE INDEX ON "staging"."sales_data" ("_batch_id");
COMMENT ON TABLE "staging"."sales_data" IS 'One row per order line, as the shop''s till reported it.';

CREATE TABLE "warehouse"."fact_sales_data" (
    "order_id" bigint NOT NULL,
    "customer_key" bigint NOT NULL,
    "product_key" bigint NOT NULL,
    "order_date" date NOT NULL,
    "quantity" bigint NOT NULL,
    "unit_price" numeric(18,2) NOT NULL,
    "discount" double precision NOT NULL,
    "channel" text,
    "_batch_id" bigint NOT NULL,
    "_version" timestamptz NOT NULL,
    "_line" bigint NOT NULL,
    "_row_hash" bigint NOT NULL,
    "_extra" jsonb,
    CONSTRAINT "fact_sales_data_pkey" PRIMARY KEY ("order_id")
) WITH (fillfactor = 85);
COMMENT ON TABLE "warehouse"."fact_sales_data" IS 'One row per order line, as the shop''s till reported it.';

-- analyze
ANALYZE "staging"."sales_data__b1" ("order_id", "_line");

-- analyze_repeated
ANALYZE "staging"."sales_data__b1_repeated";

-- analyze_suspects
ANALYZE "staging"."sales_data__b1_suspects";

-- analyze_verdicts
ANALYZE "_verdicts" ("_place", "_verdict");

-- count_repeated
SELECT
    count(*) FILTER (WHERE is_duplicate) AS duplicates,
    count(*) FILTER (WHERE NOT is_duplicate) AS superseded
FROM "staging"."sales_data__b1_repeated";

-- count_verdicts: none repeated
SELECT count(*) FILTER (WHERE "_verdict" = 'n') AS "n", count(*) FILTER (WHERE "_verdict" = 'u') AS "u", count(*) FILTER (WHERE "_verdict" = 's') AS "s", count(*) FILTER (WHERE "_verdict" = 'c') AS "c", count(*) FILTER (WHERE "_verdict" = 'a') AS "a", count(*) FILTER (WHERE "_verdict" = 'f') AS "f"
FROM (
SELECT CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "staging"."sales_data__b1" AS l
LEFT JOIN "warehouse"."fact_sales_data" AS t ON t."order_id" = l."order_id"

) AS judged;

-- count_verdicts: some repeated
SELECT count(*) FILTER (WHERE "_verdict" = 'n') AS "n", count(*) FILTER (WHERE "_verdict" = 'u') AS "u", count(*) FILTER (WHERE "_verdict" = 's') AS "s", count(*) FILTER (WHERE "_verdict" = 'c') AS "c", count(*) FILTER (WHERE "_verdict" = 'a') AS "a", count(*) FILTER (WHERE "_verdict" = 'f') AS "f"
FROM (
SELECT CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "staging"."sales_data__b1" AS l
LEFT JOIN "warehouse"."fact_sales_data" AS t ON t."order_id" = l."order_id"
WHERE NOT EXISTS (SELECT FROM "staging"."sales_data__b1_repeated" AS r WHERE r."_line" = l."_line")
) AS judged;

-- create_suspects
CREATE TABLE "staging"."sales_data__b1_suspects" ("order_id" bigint);

-- dates_outside: order_date
SELECT warehouse.add_dates(array_agg(each))
FROM (SELECT DISTINCT l."order_date"::date AS each FROM "staging"."sales_data__b1" AS l) AS dates
WHERE each IS NOT NULL AND NOT EXISTS (SELECT FROM warehouse.dim_date WHERE date_key = each);

-- drop_working_tables
DROP TABLE IF EXISTS "staging"."sales_data__b1_suspects", "staging"."sales_data__b1_repeated";

-- find_repeated
CREATE TABLE "staging"."sales_data__b1_repeated" AS
SELECT "_line", is_duplicate
FROM (
    SELECT
        l."_line",
        l."_row_hash" = first_value(l."_row_hash") OVER newest_first AS is_duplicate,
        row_number() OVER newest_first AS place
    FROM "staging"."sales_data__b1" AS l
    JOIN "staging"."sales_data__b1_suspects" AS k ON k."order_id" = l."order_id"
    WINDOW newest_first AS (
        PARTITION BY l."order_id" ORDER BY l."_version" DESC, l."_line" DESC
    )
) AS ranked
WHERE place > 1;

-- has_unknown_members: customer_id given as $1
SELECT EXISTS (
SELECT FROM unnest($1::bigint[]) AS m ("customer_id")
WHERE m."customer_id" IS NOT NULL
    AND NOT EXISTS (SELECT FROM "warehouse"."dim_customers" AS d WHERE d."customer_id" = m."customer_id")
);

-- has_unknown_members: customer_id looked up
SELECT EXISTS (
SELECT FROM (SELECT DISTINCT l."customer_id" FROM "staging"."sales_data__b1" AS l) AS m
WHERE m."customer_id" IS NOT NULL
    AND NOT EXISTS (SELECT FROM "warehouse"."dim_customers" AS d WHERE d."customer_id" = m."customer_id")
);

-- has_unknown_members: product_id given as $1
SELECT EXISTS (
SELECT FROM unnest($1::bigint[]) AS m ("product_id")
WHERE m."product_id" IS NOT NULL
    AND NOT EXISTS (SELECT FROM "warehouse"."dim_products" AS d WHERE d."product_id" = m."product_id")
);

-- has_unknown_members: product_id looked up
SELECT EXISTS (
SELECT FROM (SELECT DISTINCT l."product_id" FROM "staging"."sales_data__b1" AS l) AS m
WHERE m."product_id" IS NOT NULL
    AND NOT EXISTS (SELECT FROM "warehouse"."dim_products" AS d WHERE d."product_id" = m."product_id")
);

-- infer_members: customer_id given as $1
INSERT INTO "warehouse"."dim_customers"
    ("customer_id", "_is_inferred", "_version", "_batch_id", "_line", "_row_hash"
    )
SELECT
    m."customer_id", true, '-infinity', (SELECT "_batch_id" FROM "staging"."sales_data__b1" LIMIT 1),
    0, 0
FROM unnest($1::bigint[]) AS m ("customer_id")
WHERE m."customer_id" IS NOT NULL
    AND NOT EXISTS (SELECT FROM "warehouse"."dim_customers" AS d WHERE d."customer_id" = m."customer_id");

-- infer_members: customer_id looked up
INSERT INTO "warehouse"."dim_customers"
    ("customer_id", "_is_inferred", "_version", "_batch_id", "_line", "_row_hash"
    )
SELECT
    m."customer_id", true, '-infinity', (SELECT "_batch_id" FROM "staging"."sales_data__b1" LIMIT 1),
    0, 0
FROM (SELECT DISTINCT l."customer_id" FROM "staging"."sales_data__b1" AS l) AS m
WHERE m."customer_id" IS NOT NULL
    AND NOT EXISTS (SELECT FROM "warehouse"."dim_customers" AS d WHERE d."customer_id" = m."customer_id");

-- infer_members: product_id given as $1
INSERT INTO "warehouse"."dim_products"
    ("product_id", "_is_inferred", "_version", "_batch_id", "_line", "_row_hash"
    , valid_from)
SELECT
    m."product_id", true, '-infinity', (SELECT "_batch_id" FROM "staging"."sales_data__b1" LIMIT 1),
    0, 0, '-infinity'
FROM unnest($1::bigint[]) AS m ("product_id")
WHERE m."product_id" IS NOT NULL
    AND NOT EXISTS (SELECT FROM "warehouse"."dim_products" AS d WHERE d."product_id" = m."product_id");

-- infer_members: product_id looked up
INSERT INTO "warehouse"."dim_products"
    ("product_id", "_is_inferred", "_version", "_batch_id", "_line", "_row_hash"
    , valid_from)
SELECT
    m."product_id", true, '-infinity', (SELECT "_batch_id" FROM "staging"."sales_data__b1" LIMIT 1),
    0, 0, '-infinity'
FROM (SELECT DISTINCT l."product_id" FROM "staging"."sales_data__b1" AS l) AS m
WHERE m."product_id" IS NOT NULL
    AND NOT EXISTS (SELECT FROM "warehouse"."dim_products" AS d WHERE d."product_id" = m."product_id");

-- insert_all: none repeated
INSERT INTO "warehouse"."fact_sales_data" ("order_id", "customer_key", "product_key", "order_date", "quantity", "unit_price", "discount", "channel", "_batch_id", "_version", "_line", "_row_hash", "_extra")
SELECT l."order_id", d0."customer_key", d1."product_key", l."order_date", l."quantity", l."unit_price", l."discount", l."channel", l."_batch_id", l."_version", l."_line", l."_row_hash", l."_extra"
FROM "staging"."sales_data__b1" AS l
LEFT JOIN "warehouse"."dim_customers" AS d0 ON d0."customer_id" = l."customer_id"
LEFT JOIN "warehouse"."dim_products" AS d1 ON d1."product_id" = l."product_id" AND (l."order_date" >= d1.valid_from AND l."order_date" < d1.valid_to);

-- insert_all: some repeated
INSERT INTO "warehouse"."fact_sales_data" ("order_id", "customer_key", "product_key", "order_date", "quantity", "unit_price", "discount", "channel", "_batch_id", "_version", "_line", "_row_hash", "_extra")
SELECT l."order_id", d0."customer_key", d1."product_key", l."order_date", l."quantity", l."unit_price", l."discount", l."channel", l."_batch_id", l."_version", l."_line", l."_row_hash", l."_extra"
FROM "staging"."sales_data__b1" AS l
LEFT JOIN "warehouse"."dim_customers" AS d0 ON d0."customer_id" = l."customer_id"
LEFT JOIN "warehouse"."dim_products" AS d1 ON d1."product_id" = l."product_id" AND (l."order_date" >= d1.valid_from AND l."order_date" < d1.valid_to)
WHERE NOT EXISTS (SELECT FROM "staging"."sales_data__b1_repeated" AS r WHERE r."_line" = l."_line");

-- insert_new
INSERT INTO "warehouse"."fact_sales_data" ("order_id", "customer_key", "product_key", "order_date", "quantity", "unit_price", "discount", "channel", "_batch_id", "_version", "_line", "_row_hash", "_extra")
SELECT "order_id", "customer_key", "product_key", "order_date", "quantity", "unit_price", "discount", "channel", "_batch_id", "_version", "_line", "_row_hash", "_extra"
FROM "_verdicts" WHERE "_verdict" = 'n'
ORDER BY "order_id";

-- judge: none repeated
CREATE TEMPORARY TABLE "_verdicts" ON COMMIT DROP AS
SELECT l."_place", l."_verdict", l."order_id" AS "order_id", d0."customer_key" AS "customer_key", d1."product_key" AS "product_key", l."order_date" AS "order_date", l."quantity" AS "quantity", l."unit_price" AS "unit_price", l."discount" AS "discount", l."channel" AS "channel", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "staging"."sales_data__b1" AS l
LEFT JOIN "warehouse"."fact_sales_data" AS t ON t."order_id" = l."order_id"

) AS l
LEFT JOIN "warehouse"."dim_customers" AS d0 ON d0."customer_id" = l."customer_id"
LEFT JOIN "warehouse"."dim_products" AS d1 ON d1."product_id" = l."product_id" AND (l."order_date" >= d1.valid_from AND l."order_date" < d1.valid_to);

-- judge: none repeated, only news
CREATE TEMPORARY TABLE "_verdicts" ON COMMIT DROP AS
SELECT l."_place", l."_verdict", l."order_id" AS "order_id", d0."customer_key" AS "customer_key", d1."product_key" AS "product_key", l."order_date" AS "order_date", l."quantity" AS "quantity", l."unit_price" AS "unit_price", l."discount" AS "discount", l."channel" AS "channel", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "staging"."sales_data__b1" AS l
LEFT JOIN "warehouse"."fact_sales_data" AS t ON t."order_id" = l."order_id"

) AS l
LEFT JOIN "warehouse"."dim_customers" AS d0 ON d0."customer_id" = l."customer_id"
LEFT JOIN "warehouse"."dim_products" AS d1 ON d1."product_id" = l."product_id" AND (l."order_date" >= d1.valid_from AND l."order_date" < d1.valid_to)
WHERE l."_verdict" IN ('n', 'c', 'a');

-- judge: some repeated
CREATE TEMPORARY TABLE "_verdicts" ON COMMIT DROP AS
SELECT l."_place", l."_verdict", l."order_id" AS "order_id", d0."customer_key" AS "customer_key", d1."product_key" AS "product_key", l."order_date" AS "order_date", l."quantity" AS "quantity", l."unit_price" AS "unit_price", l."discount" AS "discount", l."channel" AS "channel", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "staging"."sales_data__b1" AS l
LEFT JOIN "warehouse"."fact_sales_data" AS t ON t."order_id" = l."order_id"
WHERE NOT EXISTS (SELECT FROM "staging"."sales_data__b1_repeated" AS r WHERE r."_line" = l."_line")
) AS l
LEFT JOIN "warehouse"."dim_customers" AS d0 ON d0."customer_id" = l."customer_id"
LEFT JOIN "warehouse"."dim_products" AS d1 ON d1."product_id" = l."product_id" AND (l."order_date" >= d1.valid_from AND l."order_date" < d1.valid_to);

-- judge: some repeated, only news
CREATE TEMPORARY TABLE "_verdicts" ON COMMIT DROP AS
SELECT l."_place", l."_verdict", l."order_id" AS "order_id", d0."customer_key" AS "customer_key", d1."product_key" AS "product_key", l."order_date" AS "order_date", l."quantity" AS "quantity", l."unit_price" AS "unit_price", l."discount" AS "discount", l."channel" AS "channel", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "staging"."sales_data__b1" AS l
LEFT JOIN "warehouse"."fact_sales_data" AS t ON t."order_id" = l."order_id"
WHERE NOT EXISTS (SELECT FROM "staging"."sales_data__b1_repeated" AS r WHERE r."_line" = l."_line")
) AS l
LEFT JOIN "warehouse"."dim_customers" AS d0 ON d0."customer_id" = l."customer_id"
LEFT JOIN "warehouse"."dim_products" AS d1 ON d1."product_id" = l."product_id" AND (l."order_date" >= d1.valid_from AND l."order_date" < d1.valid_to)
WHERE l."_verdict" IN ('n', 'c', 'a');

-- overtake
UPDATE "_verdicts" AS v SET "_verdict" = 's'
WHERE v."_verdict" IN ('c', 'a')
    AND EXISTS (
        SELECT FROM "staging"."sales_data" AS s
        WHERE s."order_id" = v."order_id" AND s."_version" > v."_version"
    );

-- sample_news: none repeated
SELECT count(*) AS sampled, count(*) FILTER (WHERE "_verdict" IN ('n', 'c', 'a')) AS news
FROM (
SELECT CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "staging"."sales_data__b1" AS l TABLESAMPLE SYSTEM ($1)
LEFT JOIN "warehouse"."fact_sales_data" AS t ON t."order_id" = l."order_id"

) AS judged;

-- sample_news: some repeated
SELECT count(*) AS sampled, count(*) FILTER (WHERE "_verdict" IN ('n', 'c', 'a')) AS news
FROM (
SELECT CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "staging"."sales_data__b1" AS l TABLESAMPLE SYSTEM ($1)
LEFT JOIN "warehouse"."fact_sales_data" AS t ON t."order_id" = l."order_id"
WHERE NOT EXISTS (SELECT FROM "staging"."sales_data__b1_repeated" AS r WHERE r."_line" = l."_line")
) AS judged;

-- suspect_all
CREATE TABLE "staging"."sales_data__b1_suspects" AS
SELECT "order_id" FROM "staging"."sales_data__b1" GROUP BY "order_id" HAVING count(*) > 1;

-- tally_verdicts
SELECT count(*) FILTER (WHERE "_verdict" = 'n') AS "n", count(*) FILTER (WHERE "_verdict" = 'u') AS "u", count(*) FILTER (WHERE "_verdict" = 's') AS "s", count(*) FILTER (WHERE "_verdict" = 'c') AS "c", count(*) FILTER (WHERE "_verdict" = 'a') AS "a", count(*) FILTER (WHERE "_verdict" = 'f') AS "f" FROM "_verdicts";

-- update_changed
UPDATE "warehouse"."fact_sales_data" AS t SET "customer_key" = i."customer_key", "product_key" = i."product_key", "order_date" = i."order_date", "quantity" = i."quantity", "unit_price" = i."unit_price", "discount" = i."discount", "channel" = i."channel", "_batch_id" = i."_batch_id", "_version" = i."_version", "_line" = i."_line", "_row_hash" = i."_row_hash", "_extra" = i."_extra"
FROM (
SELECT * FROM "_verdicts" WHERE "_verdict" = 'c' ORDER BY "_place"
) AS i
WHERE t.ctid = i."_place";

-- stream: classify_rest
SELECT
    count(*) FILTER (WHERE t."_row_hash" = l."_row_hash") AS "u",
    count(*) FILTER (WHERE NOT (t."_row_hash" = l."_row_hash")) AS "s"
FROM "pg_temp"."sales_data__session" AS l
JOIN "warehouse"."fact_sales_data" AS t ON t."order_id" = l."order_id"
WHERE NOT l."_loses" AND t."_batch_id" <> $1;

-- stream: confirm
UPDATE "warehouse"."fact_sales_data" AS t SET "_version" = v."_version", "_line" = v."_line"
FROM "pg_temp"."sales_data__session_verdicts" AS v
WHERE v."_verdict" = 'f' AND t.ctid = v."_place";

-- stream: create_staged
CREATE TABLE IF NOT EXISTS "staging"."sales_data__s20260102" () INHERITS ("staging"."sales_data");
CREATE INDEX IF NOT EXISTS "sales_data__s20260102_line" ON "staging"."sales_data__s20260102" USING brin ("_line") WITH (pages_per_range = 32, autosummarize = on);

-- stream: create_tables
CREATE TEMPORARY TABLE IF NOT EXISTS "sales_data__session" ("order_id" bigint, "customer_id" bigint, "product_id" bigint, "order_date" date, "quantity" bigint, "unit_price" numeric(18,2), "discount" double precision, "channel" text, "_line" bigint NOT NULL, "_row_hash" bigint NOT NULL, "_extra" jsonb, "_batch_id" bigint NOT NULL, "_source" text NOT NULL, "_version" timestamptz NOT NULL, "_extracted_at" timestamptz NOT NULL, "_loses" boolean NOT NULL) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE IF NOT EXISTS "sales_data__session_verdicts" ON COMMIT DELETE ROWS AS
SELECT l."_place", l."_verdict", l."order_id" AS "order_id", d0."customer_key" AS "customer_key", d1."product_key" AS "product_key", l."order_date" AS "order_date", l."quantity" AS "quantity", l."unit_price" AS "unit_price", l."discount" AS "discount", l."channel" AS "channel", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND (t."_version", t."_line") < (l."_version", l."_line") THEN 'f'
        WHEN t."_row_hash" = l."_row_hash" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "pg_temp"."sales_data__session" AS l
LEFT JOIN "warehouse"."fact_sales_data" AS t ON t."order_id" = l."order_id"

) AS l
LEFT JOIN "warehouse"."dim_customers" AS d0 ON d0."customer_id" = l."customer_id"
LEFT JOIN "warehouse"."dim_products" AS d1 ON d1."product_id" = l."product_id" AND (l."order_date" >= d1.valid_from AND l."order_date" < d1.valid_to)

WITH NO DATA;

-- stream: empty
DELETE FROM "pg_temp"."sales_data__session";
DELETE FROM "pg_temp"."sales_data__session_verdicts";

-- stream: stage
INSERT INTO "staging"."sales_data__s20260102" ("order_id", "customer_id", "product_id", "order_date", "quantity", "unit_price", "discount", "channel", "_line", "_row_hash", "_extra", "_batch_id", "_source", "_version", "_extracted_at")
SELECT "order_id", "customer_id", "product_id", "order_date", "quantity", "unit_price", "discount", "channel", "_line", "_row_hash", "_extra", "_batch_id", "_source", "_version", "_extracted_at" FROM "pg_temp"."sales_data__session" AS l;

-- stream: stage: only missing
INSERT INTO "staging"."sales_data__s20260102" ("order_id", "customer_id", "product_id", "order_date", "quantity", "unit_price", "discount", "channel", "_line", "_row_hash", "_extra", "_batch_id", "_source", "_version", "_extracted_at")
SELECT "order_id", "customer_id", "product_id", "order_date", "quantity", "unit_price", "discount", "channel", "_line", "_row_hash", "_extra", "_batch_id", "_source", "_version", "_extracted_at" FROM "pg_temp"."sales_data__session" AS l
WHERE NOT EXISTS (
    SELECT FROM "staging"."sales_data" AS s
    WHERE s."_source" = l."_source" AND s."_line" = l."_line" AND s."_version" = l."_version"
        AND s."_line" >= (SELECT min(m."_line") FROM "pg_temp"."sales_data__session" AS m)
        AND s."_line" <= (SELECT max(m."_line") FROM "pg_temp"."sales_data__session" AS m)
);

-- stream: upsert
WITH merged AS (
INSERT INTO "warehouse"."fact_sales_data" AS t ("order_id", "customer_key", "product_key", "order_date", "quantity", "unit_price", "discount", "channel", "_batch_id", "_version", "_line", "_row_hash", "_extra")
SELECT l."order_id", d0."customer_key", d1."product_key", l."order_date", l."quantity", l."unit_price", l."discount", l."channel", l."_batch_id", l."_version", l."_line", l."_row_hash", l."_extra"
FROM "pg_temp"."sales_data__session" AS l
LEFT JOIN "warehouse"."dim_customers" AS d0 ON d0."customer_id" = l."customer_id"
LEFT JOIN "warehouse"."dim_products" AS d1 ON d1."product_id" = l."product_id" AND (l."order_date" >= d1.valid_from AND l."order_date" < d1.valid_to)
WHERE NOT l."_loses"
ON CONFLICT ("order_id") DO UPDATE SET "customer_key" = excluded."customer_key", "product_key" = excluded."product_key", "order_date" = excluded."order_date", "quantity" = excluded."quantity", "unit_price" = excluded."unit_price", "discount" = excluded."discount", "channel" = excluded."channel", "_version" = excluded."_version", "_line" = excluded."_line", "_row_hash" = excluded."_row_hash", "_extra" = excluded."_extra",
    "_batch_id" = CASE WHEN t."_row_hash" <> excluded."_row_hash" THEN excluded."_batch_id" ELSE t."_batch_id" END
WHERE (t."_version", t."_line") < (excluded."_version", excluded."_line") OR ((t."_version", t."_line") = (excluded."_version", excluded."_line") AND t."_row_hash" <> excluded."_row_hash")
RETURNING xmax = 0 AS is_new, "_batch_id" = $1 AS is_mine
)
SELECT
    count(*) FILTER (WHERE is_new) AS "n",
    count(*) FILTER (WHERE NOT is_new AND is_mine) AS "c",
    count(*) FILTER (WHERE NOT is_mine) AS "f"
FROM merged;

-- stream: judge: none repeated
INSERT INTO "pg_temp"."sales_data__session_verdicts"
SELECT l."_place", l."_verdict", l."order_id" AS "order_id", d0."customer_key" AS "customer_key", d1."product_key" AS "product_key", l."order_date" AS "order_date", l."quantity" AS "quantity", l."unit_price" AS "unit_price", l."discount" AS "discount", l."channel" AS "channel", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND (t."_version", t."_line") < (l."_version", l."_line") THEN 'f'
        WHEN t."_row_hash" = l."_row_hash" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "pg_temp"."sales_data__session" AS l
LEFT JOIN "warehouse"."fact_sales_data" AS t ON t."order_id" = l."order_id"

) AS l
LEFT JOIN "warehouse"."dim_customers" AS d0 ON d0."customer_id" = l."customer_id"
LEFT JOIN "warehouse"."dim_products" AS d1 ON d1."product_id" = l."product_id" AND (l."order_date" >= d1.valid_from AND l."order_date" < d1.valid_to);

-- stream: judge: none repeated, only news
INSERT INTO "pg_temp"."sales_data__session_verdicts"
SELECT l."_place", l."_verdict", l."order_id" AS "order_id", d0."customer_key" AS "customer_key", d1."product_key" AS "product_key", l."order_date" AS "order_date", l."quantity" AS "quantity", l."unit_price" AS "unit_price", l."discount" AS "discount", l."channel" AS "channel", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND (t."_version", t."_line") < (l."_version", l."_line") THEN 'f'
        WHEN t."_row_hash" = l."_row_hash" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "pg_temp"."sales_data__session" AS l
LEFT JOIN "warehouse"."fact_sales_data" AS t ON t."order_id" = l."order_id"

) AS l
LEFT JOIN "warehouse"."dim_customers" AS d0 ON d0."customer_id" = l."customer_id"
LEFT JOIN "warehouse"."dim_products" AS d1 ON d1."product_id" = l."product_id" AND (l."order_date" >= d1.valid_from AND l."order_date" < d1.valid_to)
WHERE l."_verdict" IN ('n', 'c', 'a');

-- stream: judge: some repeated
INSERT INTO "pg_temp"."sales_data__session_verdicts"
SELECT l."_place", l."_verdict", l."order_id" AS "order_id", d0."customer_key" AS "customer_key", d1."product_key" AS "product_key", l."order_date" AS "order_date", l."quantity" AS "quantity", l."unit_price" AS "unit_price", l."discount" AS "discount", l."channel" AS "channel", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND (t."_version", t."_line") < (l."_version", l."_line") THEN 'f'
        WHEN t."_row_hash" = l."_row_hash" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "pg_temp"."sales_data__session" AS l
LEFT JOIN "warehouse"."fact_sales_data" AS t ON t."order_id" = l."order_id"
WHERE NOT l."_loses"
) AS l
LEFT JOIN "warehouse"."dim_customers" AS d0 ON d0."customer_id" = l."customer_id"
LEFT JOIN "warehouse"."dim_products" AS d1 ON d1."product_id" = l."product_id" AND (l."order_date" >= d1.valid_from AND l."order_date" < d1.valid_to);

-- stream: judge: some repeated, only news
INSERT INTO "pg_temp"."sales_data__session_verdicts"
SELECT l."_place", l."_verdict", l."order_id" AS "order_id", d0."customer_key" AS "customer_key", d1."product_key" AS "product_key", l."order_date" AS "order_date", l."quantity" AS "quantity", l."unit_price" AS "unit_price", l."discount" AS "discount", l."channel" AS "channel", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND (t."_version", t."_line") < (l."_version", l."_line") THEN 'f'
        WHEN t."_row_hash" = l."_row_hash" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "pg_temp"."sales_data__session" AS l
LEFT JOIN "warehouse"."fact_sales_data" AS t ON t."order_id" = l."order_id"
WHERE NOT l."_loses"
) AS l
LEFT JOIN "warehouse"."dim_customers" AS d0 ON d0."customer_id" = l."customer_id"
LEFT JOIN "warehouse"."dim_products" AS d1 ON d1."product_id" = l."product_id" AND (l."order_date" >= d1.valid_from AND l."order_date" < d1.valid_to)
WHERE l."_verdict" IN ('n', 'c', 'a');
