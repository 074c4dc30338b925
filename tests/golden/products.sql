CREATE TABLE "staging"."products" (
    "product_id" bigint,
    "name" text,
    "category" text,
    "price" numeric(18,2),
    "weight_kg" double precision,
    "active" boolean,
    "_line" bigint NOT NULL,
    "_row_hash" bigint NOT NULL,
    "_extra" jsonb,
    "_batch_id" bigint NOT NULL,
    "_source" text NOT NULL,
    "_version" timestamptz NOT NULL,
    "_extracted_at" timestamptz NOT NULL
);
CREATE INDEX ON "staging"."products" ("_batch_id");
COMMENT ON TABLE "staging"."products" IS 'One row per product of the catalogue; earlier prices stay as versions of their own.';

CREATE TABLE "warehouse"."dim_products" (
    "product_key" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    "product_id" bigint NOT NULL,
    "name" text,
    "category" text,
    "price" numeric(18,2),
    "weight_kg" double precision,
    "active" boolean,
    "_is_inferred" boolean NOT NULL DEFAULT false,
    "valid_from" timestamptz NOT NULL,
    "valid_to" timestamptz NOT NULL DEFAULT 'infinity',
    "is_current" boolean NOT NULL DEFAULT true,
    "_batch_id" bigint NOT NULL,
    "_version" timestamptz NOT NULL,
    "_line" bigint NOT NULL,
    "_row_hash" bigint NOT NULL,
    "_extra" jsonb,
    CHECK ("_is_inferred" OR ("name" IS NOT NULL AND "category" IS NOT NULL AND "price" IS NOT NULL AND "active" IS NOT NULL)),
    UNIQUE ("product_id", "valid_from"),
    CHECK (valid_from < valid_to)
);
CREATE UNIQUE INDEX ON "warehouse"."dim_products" ("product_id") WHERE is_current;
COMMENT ON TABLE "warehouse"."dim_products" IS 'One row per product of the catalogue; earlier prices stay as versions of their own.';

-- analyze
ANALYZE "staging"."products__b1" ("product_id", "_line");

-- analyze_repeated
ANALYZE "staging"."products__b1_repeated";

-- analyze_suspects
ANALYZE "staging"."products__b1_suspects";

-- analyze_verdicts
ANALYZE "_verdicts" ("_place", "_verdict");

-- close_versions
UPDATE "warehouse"."dim_products" AS t SET is_current = false, valid_to = v."_version"
FROM "_verdicts" AS v
WHERE v."_verdict" = 'c' AND t.ctid = v."_place";

-- count_repeated
SELECT
    count(*) FILTER (WHERE is_duplicate) AS duplicates,
    count(*) FILTER (WHERE NOT is_duplicate) AS superseded
FROM "staging"."products__b1_repeated";

-- count_verdicts: none repeated
SELECT count(*) FILTER (WHERE "_verdict" = 'n') AS "n", count(*) FILTER (WHERE "_verdict" = 'u') AS "u", count(*) FILTER (WHERE "_verdict" = 's') AS "s", count(*) FILTER (WHERE "_verdict" = 'c') AS "c", count(*) FILTER (WHERE "_verdict" = 'a') AS "a", count(*) FILTER (WHERE "_verdict" = 'f') AS "f"
FROM (
SELECT CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        WHEN t."_is_inferred" OR l."_version" <= t.valid_from THEN 'a'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "staging"."products__b1" AS l
LEFT JOIN "warehouse"."dim_products" AS t ON t."product_id" = l."product_id" AND t.is_current

) AS judged;

-- count_verdicts: some repeated
SELECT count(*) FILTER (WHERE "_verdict" = 'n') AS "n", count(*) FILTER (WHERE "_verdict" = 'u') AS "u", count(*) FILTER (WHERE "_verdict" = 's') AS "s", count(*) FILTER (WHERE "_verdict" = 'c') AS "c", count(*) FILTER (WHERE "_verdict" = 'a') AS "a", count(*) FILTER (WHERE "_verdict" = 'f') AS "f"
FROM (
SELECT CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        WHEN t."_is_inferred" OR l."_version" <= t.valid_from THEN 'a'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "staging"."products__b1" AS l
LEFT JOIN "warehouse"."dim_products" AS t ON t."product_id" = l."product_id" AND t.is_current
WHERE NOT EXISTS (SELECT FROM "staging"."products__b1_repeated" AS r WHERE r."_line" = l."_line")
) AS judged;

-- create_suspects
CREATE TABLE "staging"."products__b1_suspects" ("product_id" bigint);

-- drop_working_tables
DROP TABLE IF EXISTS "staging"."products__b1_suspects", "staging"."products__b1_repeated";

-- find_repeated
CREATE TABLE "staging"."products__b1_repeated" AS
SELECT "_line", is_duplicate
FROM (
    SELECT
        l."_line",
        l."_row_hash" = first_value(l."_row_hash") OVER newest_first AS is_duplicate,
        row_number() OVER newest_first AS place
    FROM "staging"."products__b1" AS l
    JOIN "staging"."products__b1_suspects" AS k ON k."product_id" = l."product_id"
    WINDOW newest_first AS (
        PARTITION BY l."product_id" ORDER BY l."_version" DESC, l."_line" DESC
    )
) AS ranked
WHERE place > 1;

-- insert_all: none repeated
INSERT INTO "warehouse"."dim_products" ("product_id", "name", "category", "price", "weight_kg", "active", "_batch_id", "_version", "_line", "_row_hash", "_extra", valid_from)
SELECT l."product_id", l."name", l."category", l."price", l."weight_kg", l."active", l."_batch_id", l."_version", l."_line", l."_row_hash", l."_extra", '-infinity'
FROM "staging"."products__b1" AS l;

-- insert_all: some repeated
INSERT INTO "warehouse"."dim_products" ("product_id", "name", "category", "price", "weight_kg", "active", "_batch_id", "_version", "_line", "_row_hash", "_extra", valid_from)
SELECT l."product_id", l."name", l."category", l."price", l."weight_kg", l."active", l."_batch_id", l."_version", l."_line", l."_row_hash", l."_extra", '-infinity'
FROM "staging"."products__b1" AS l

WHERE NOT EXISTS (SELECT FROM "staging"."products__b1_repeated" AS r WHERE r."_line" = l."_line");

-- insert_new
INSERT INTO "warehouse"."dim_products" ("product_id", "name", "category", "price", "weight_kg", "active", "_batch_id", "_version", "_line", "_row_hash", "_extra", valid_from)
SELECT "product_id", "name", "category", "price", "weight_kg", "active", "_batch_id", "_version", "_line", "_row_hash", "_extra", '-infinity'
FROM "_verdicts" WHERE "_verdict" = 'n'
ORDER BY "product_id";

-- judge: none repeated
CREATE TEMPORARY TABLE "_verdicts" ON COMMIT DROP AS
SELECT l."_place", l."_verdict", l."product_id" AS "product_id", l."name" AS "name", l."category" AS "category", l."price" AS "price", l."weight_kg" AS "weight_kg", l."active" AS "active", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        WHEN t."_is_inferred" OR l."_version" <= t.valid_from THEN 'a'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "staging"."products__b1" AS l
LEFT JOIN "warehouse"."dim_products" AS t ON t."product_id" = l."product_id" AND t.is_current

) AS l;

-- judge: none repeated, only news
CREATE TEMPORARY TABLE "_verdicts" ON COMMIT DROP AS
SELECT l."_place", l."_verdict", l."product_id" AS "product_id", l."name" AS "name", l."category" AS "category", l."price" AS "price", l."weight_kg" AS "weight_kg", l."active" AS "active", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        WHEN t."_is_inferred" OR l."_version" <= t.valid_from THEN 'a'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "staging"."products__b1" AS l
LEFT JOIN "warehouse"."dim_products" AS t ON t."product_id" = l."product_id" AND t.is_current

) AS l

WHERE l."_verdict" IN ('n', 'c', 'a');

-- judge: some repeated
CREATE TEMPORARY TABLE "_verdicts" ON COMMIT DROP AS
SELECT l."_place", l."_verdict", l."product_id" AS "product_id", l."name" AS "name", l."category" AS "category", l."price" AS "price", l."weight_kg" AS "weight_kg", l."active" AS "active", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        WHEN t."_is_inferred" OR l."_version" <= t.valid_from THEN 'a'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "staging"."products__b1" AS l
LEFT JOIN "warehouse"."dim_products" AS t ON t."product_id" = l."product_id" AND t.is_current
WHERE NOT EXISTS (SELECT FROM "staging"."products__b1_repeated" AS r WHERE r."_line" = l."_line")
) AS l;

-- judge: some repeated, only news
CREATE TEMPORARY TABLE "_verdicts" ON COMMIT DROP AS
SELECT l."_place", l."_verdict", l."product_id" AS "product_id", l."name" AS "name", l."category" AS "category", l."price" AS "price", l."weight_kg" AS "weight_kg", l."active" AS "active", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        WHEN t."_is_inferred" OR l."_version" <= t.valid_from THEN 'a'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "staging"."products__b1" AS l
LEFT JOIN "warehouse"."dim_products" AS t ON t."product_id" = l."product_id" AND t.is_current
WHERE NOT EXISTS (SELECT FROM "staging"."products__b1_repeated" AS r WHERE r."_line" = l."_line")
) AS l

WHERE l."_verdict" IN ('n', 'c', 'a');

-- open_versions
INSERT INTO "warehouse"."dim_products" ("product_id", "name", "category", "price", "weight_kg", "active", "_batch_id", "_version", "_line", "_row_hash", "_extra", valid_from)
SELECT "product_id", "name", "category", "price", "weight_kg", "active", "_batch_id", "_version", "_line", "_row_hash", "_extra", "_version"
FROM "_verdicts" WHERE "_verdict" = 'c'
ORDER BY "product_id";

-- overtake
UPDATE "_verdicts" AS v SET "_verdict" = 's'
WHERE v."_verdict" IN ('c', 'a')
    AND EXISTS (
        SELECT FROM "staging"."products" AS s
        WHERE s."product_id" = v."product_id" AND s."_version" > v."_version"
    );

-- sample_news: none repeated
SELECT count(*) AS sampled, count(*) FILTER (WHERE "_verdict" IN ('n', 'c', 'a')) AS news
FROM (
SELECT CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        WHEN t."_is_inferred" OR l."_version" <= t.valid_from THEN 'a'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "staging"."products__b1" AS l TABLESAMPLE SYSTEM ($1)
LEFT JOIN "warehouse"."dim_products" AS t ON t."product_id" = l."product_id" AND t.is_current

) AS judged;

-- sample_news: some repeated
SELECT count(*) AS sampled, count(*) FILTER (WHERE "_verdict" IN ('n', 'c', 'a')) AS news
FROM (
SELECT CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        WHEN t."_is_inferred" OR l."_version" <= t.valid_from THEN 'a'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "staging"."products__b1" AS l TABLESAMPLE SYSTEM ($1)
LEFT JOIN "warehouse"."dim_products" AS t ON t."product_id" = l."product_id" AND t.is_current
WHERE NOT EXISTS (SELECT FROM "staging"."products__b1_repeated" AS r WHERE r."_line" = l."_line")
) AS judged;

-- suspect_all
CREATE TABLE "staging"."products__b1_suspects" AS
SELECT "product_id" FROM "staging"."products__b1" GROUP BY "product_id" HAVING count(*) > 1;

-- tally_verdicts
SELECT count(*) FILTER (WHERE "_verdict" = 'n') AS "n", count(*) FILTER (WHERE "_verdict" = 'u') AS "u", count(*) FILTER (WHERE "_verdict" = 's') AS "s", count(*) FILTER (WHERE "_verdict" = 'c') AS "c", count(*) FILTER (WHERE "_verdict" = 'a') AS "a", count(*) FILTER (WHERE "_verdict" = 'f') AS "f" FROM "_verdicts";

-- update_changed
UPDATE "warehouse"."dim_products" AS t SET "name" = i."name", "category" = i."category", "price" = i."price", "weight_kg" = i."weight_kg", "active" = i."active", "_batch_id" = i."_batch_id", "_version" = i."_version", "_line" = i."_line", "_row_hash" = i."_row_hash", "_extra" = i."_extra", "_is_inferred" = false
FROM (
SELECT * FROM "_verdicts" WHERE "_verdict" = 'a' ORDER BY "_place"
) AS i
WHERE t.ctid = i."_place";

-- stream: classify_rest
SELECT
    count(*) FILTER (WHERE t."_row_hash" = l."_row_hash") AS "u",
    count(*) FILTER (WHERE NOT (t."_row_hash" = l."_row_hash")) AS "s"
FROM "pg_temp"."products__session" AS l
JOIN "warehouse"."dim_products" AS t ON t."product_id" = l."product_id"
WHERE NOT l."_loses" AND t."_batch_id" <> $1;

-- stream: confirm
UPDATE "warehouse"."dim_products" AS t SET "_version" = v."_version", "_line" = v."_line"
FROM "pg_temp"."products__session_verdicts" AS v
WHERE v."_verdict" = 'f' AND t.ctid = v."_place";

-- stream: create_staged
CREATE TABLE IF NOT EXISTS "staging"."products__s20260102" () INHERITS ("staging"."products");
CREATE INDEX IF NOT EXISTS "products__s20260102_line" ON "staging"."products__s20260102" USING brin ("_line") WITH (pages_per_range = 32, autosummarize = on);

-- stream: create_tables
CREATE TEMPORARY TABLE IF NOT EXISTS "products__session" ("product_id" bigint, "name" text, "category" text, "price" numeric(18,2), "weight_kg" double precision, "active" boolean, "_line" bigint NOT NULL, "_row_hash" bigint NOT NULL, "_extra" jsonb, "_batch_id" bigint NOT NULL, "_source" text NOT NULL, "_version" timestamptz NOT NULL, "_extracted_at" timestamptz NOT NULL, "_loses" boolean NOT NULL) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE IF NOT EXISTS "products__session_verdicts" ON COMMIT DELETE ROWS AS
SELECT l."_place", l."_verdict", l."product_id" AS "product_id", l."name" AS "name", l."category" AS "category", l."price" AS "price", l."weight_kg" AS "weight_kg", l."active" AS "active", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" AND (t."_version", t."_line") < (l."_version", l."_line") THEN 'f'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        WHEN t."_is_inferred" OR l."_version" <= t.valid_from THEN 'a'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "pg_temp"."products__session" AS l
LEFT JOIN "warehouse"."dim_products" AS t ON t."product_id" = l."product_id" AND t.is_current

) AS l


WITH NO DATA;

-- stream: empty
DELETE FROM "pg_temp"."products__session";
DELETE FROM "pg_temp"."products__session_verdicts";

-- stream: stage
INSERT INTO "staging"."products__s20260102" ("product_id", "name", "category", "price", "weight_kg", "active", "_line", "_row_hash", "_extra", "_batch_id", "_source", "_version", "_extracted_at")
SELECT "product_id", "name", "category", "price", "weight_kg", "active", "_line", "_row_hash", "_extra", "_batch_id", "_source", "_version", "_extracted_at" FROM "pg_temp"."products__session" AS l;

-- stream: stage: only missing
INSERT INTO "staging"."products__s20260102" ("product_id", "name", "category", "price", "weight_kg", "active", "_line", "_row_hash", "_extra", "_batch_id", "_source", "_version", "_extracted_at")
SELECT "product_id", "name", "category", "price", "weight_kg", "active", "_line", "_row_hash", "_extra", "_batch_id", "_source", "_version", "_extracted_at" FROM "pg_temp"."products__session" AS l
WHERE NOT EXISTS (
    SELECT FROM "staging"."products" AS s
    WHERE s."_source" = l."_source" AND s."_line" = l."_line" AND s."_version" = l."_version"
        AND s."_line" >= (SELECT min(m."_line") FROM "pg_temp"."products__session" AS m)
        AND s."_line" <= (SELECT max(m."_line") FROM "pg_temp"."products__session" AS m)
);

-- stream: judge: none repeated
INSERT INTO "pg_temp"."products__session_verdicts"
SELECT l."_place", l."_verdict", l."product_id" AS "product_id", l."name" AS "name", l."category" AS "category", l."price" AS "price", l."weight_kg" AS "weight_kg", l."active" AS "active", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" AND (t."_version", t."_line") < (l."_version", l."_line") THEN 'f'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        WHEN t."_is_inferred" OR l."_version" <= t.valid_from THEN 'a'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "pg_temp"."products__session" AS l
LEFT JOIN "warehouse"."dim_products" AS t ON t."product_id" = l."product_id" AND t.is_current

) AS l;

-- stream: judge: none repeated, only news
INSERT INTO "pg_temp"."products__session_verdicts"
SELECT l."_place", l."_verdict", l."product_id" AS "product_id", l."name" AS "name", l."category" AS "category", l."price" AS "price", l."weight_kg" AS "weight_kg", l."active" AS "active", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" AND (t."_version", t."_line") < (l."_version", l."_line") THEN 'f'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        WHEN t."_is_inferred" OR l."_version" <= t.valid_from THEN 'a'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "pg_temp"."products__session" AS l
LEFT JOIN "warehouse"."dim_products" AS t ON t."product_id" = l."product_id" AND t.is_current

) AS l

WHERE l."_verdict" IN ('n', 'c', 'a');

-- stream: judge: some repeated
INSERT INTO "pg_temp"."products__session_verdicts"
SELECT l."_place", l."_verdict", l."product_id" AS "product_id", l."name" AS "name", l."category" AS "category", l."price" AS "price", l."weight_kg" AS "weight_kg", l."active" AS "active", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" AND (t."_version", t."_line") < (l."_version", l."_line") THEN 'f'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        WHEN t."_is_inferred" OR l."_version" <= t.valid_from THEN 'a'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "pg_temp"."products__session" AS l
LEFT JOIN "warehouse"."dim_products" AS t ON t."product_id" = l."product_id" AND t.is_current
WHERE NOT l."_loses"
) AS l;

-- stream: judge: some repeated, only news
INSERT INTO "pg_temp"."products__session_verdicts"
SELECT l."_place", l."_verdict", l."product_id" AS "product_id", l."name" AS "name", l."category" AS "category", l."price" AS "price", l."weight_kg" AS "weight_kg", l."active" AS "active", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" AND (t."_version", t."_line") < (l."_version", l."_line") THEN 'f'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        WHEN t."_is_inferred" OR l."_version" <= t.valid_from THEN 'a'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "pg_temp"."products__session" AS l
LEFT JOIN "warehouse"."dim_products" AS t ON t."product_id" = l."product_id" AND t.is_current
WHERE NOT l."_loses"
) AS l

WHERE l."_verdict" IN ('n', 'c', 'a');
