CREATE TABLE "staging"."api_users" (
    "id" bigint,
    "name" bytea,
    "_name_index" bytea,
    "username" bytea,
    "_username_index" bytea,
    "email" bytea,
    "_email_index" bytea,
    "phone" bytea,
    "_phone_index" bytea,
    "website" text,
    "address_street" bytea,
    "_address_street_index" bytea,
    "address_suite" bytea,
    "_address_suite_index" bytea,
    "address_city" text,
    "address_zipcode" text,
    "address_geo_lat" bytea,
    "_address_geo_lat_index" bytea,
    "address_geo_lng" bytea,
    "_address_geo_lng_index" bytea,
    "company_name" text,
    "company_catchphrase" text,
    "company_bs" text,
    "_line" bigint NOT NULL,
    "_row_hash" bigint NOT NULL,
    "_extra" jsonb,
    "_batch_id" bigint NOT NULL,
    "_source" text NOT NULL,
    "_version" timestamptz NOT NULL,
    "_extracted_at" timestamptz NOT NULL
);
CREATE INDEX ON "staging"."api_users" ("_batch_id");
COMMENT ON TABLE "staging"."api_users" IS 'One row per user of the partner''s API; nested objects are flattened with underscores.';

CREATE TABLE "warehouse"."dim_api_users" (
    "api_users_key" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    "id" bigint NOT NULL,
    "name" bytea,
    "_name_index" bytea,
    "username" bytea,
    "_username_index" bytea,
    "email" bytea,
    "_email_index" bytea,
    "phone" bytea,
    "_phone_index" bytea,
    "website" text,
    "address_street" bytea,
    "_address_street_index" bytea,
    "address_suite" bytea,
    "_address_suite_index" bytea,
    "address_city" text,
    "address_zipcode" text,
    "address_geo_lat" bytea,
    "_address_geo_lat_index" bytea,
    "address_geo_lng" bytea,
    "_address_geo_lng_index" bytea,
    "company_name" text,
    "company_catchphrase" text,
    "company_bs" text,
    "_is_inferred" boolean NOT NULL DEFAULT false,
    "_batch_id" bigint NOT NULL,
    "_version" timestamptz NOT NULL,
    "_line" bigint NOT NULL,
    "_row_hash" bigint NOT NULL,
    "_extra" jsonb,
    CHECK ("_is_inferred" OR ("name" IS NOT NULL AND "username" IS NOT NULL AND "email" IS NOT NULL)),
    UNIQUE ("id")
);
CREATE INDEX ON "warehouse"."dim_api_users" ("_name_index");
CREATE INDEX ON "warehouse"."dim_api_users" ("_username_index");
CREATE INDEX ON "warehouse"."dim_api_users" ("_email_index");
CREATE INDEX ON "warehouse"."dim_api_users" ("_phone_index");
CREATE INDEX ON "warehouse"."dim_api_users" ("_address_street_index");
CREATE INDEX ON "warehouse"."dim_api_users" ("_address_suite_index");
CREATE INDEX ON "warehouse"."dim_api_users" ("_address_geo_lat_index");
CREATE INDEX ON "warehouse"."dim_api_users" ("_address_geo_lng_index");
COMMENT ON TABLE "warehouse"."dim_api_users" IS 'One row per user of the partner''s API; nested objects are flattened with underscores.';

-- analyze
ANALYZE "staging"."api_users__b1" ("id", "_line");

-- analyze_repeated
ANALYZE "staging"."api_users__b1_repeated";

-- analyze_suspects
ANALYZE "staging"."api_users__b1_suspects";

-- analyze_verdicts
ANALYZE "_verdicts" ("_place", "_verdict");

-- count_repeated
SELECT
    count(*) FILTER (WHERE is_duplicate) AS duplicates,
    count(*) FILTER (WHERE NOT is_duplicate) AS superseded
FROM "staging"."api_users__b1_repeated";

-- count_verdicts: none repeated
SELECT count(*) FILTER (WHERE "_verdict" = 'n') AS "n", count(*) FILTER (WHERE "_verdict" = 'u') AS "u", count(*) FILTER (WHERE "_verdict" = 's') AS "s", count(*) FILTER (WHERE "_verdict" = 'c') AS "c", count(*) FILTER (WHERE "_verdict" = 'a') AS "a", count(*) FILTER (WHERE "_verdict" = 'f') AS "f"
FROM (
SELECT CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "staging"."api_users__b1" AS l
LEFT JOIN "warehouse"."dim_api_users" AS t ON t."id" = l."id"

) AS judged;

-- count_verdicts: some repeated
SELECT count(*) FILTER (WHERE "_verdict" = 'n') AS "n", count(*) FILTER (WHERE "_verdict" = 'u') AS "u", count(*) FILTER (WHERE "_verdict" = 's') AS "s", count(*) FILTER (WHERE "_verdict" = 'c') AS "c", count(*) FILTER (WHERE "_verdict" = 'a') AS "a", count(*) FILTER (WHERE "_verdict" = 'f') AS "f"
FROM (
SELECT CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "staging"."api_users__b1" AS l
LEFT JOIN "warehouse"."dim_api_users" AS t ON t."id" = l."id"
WHERE NOT EXISTS (SELECT FROM "staging"."api_users__b1_repeated" AS r WHERE r."_line" = l."_line")
) AS judged;

-- create_suspects
CREATE TABLE "staging"."api_users__b1_suspects" ("id" bigint);

-- drop_working_tables
DROP TABLE IF EXISTS "staging"."api_users__b1_suspects", "staging"."api_users__b1_repeated";

-- find_repeated
CREATE TABLE "staging"."api_users__b1_repeated" AS
SELECT "_line", is_duplicate
FROM (
    SELECT
        l."_line",
        l."_row_hash" = first_value(l."_row_hash") OVER newest_first AS is_duplicate,
        row_number() OVER newest_first AS place
    FROM "staging"."api_users__b1" AS l
    JOIN "staging"."api_users__b1_suspects" AS k ON k."id" = l."id"
    WINDOW newest_first AS (
        PARTITION BY l."id" ORDER BY l."_version" DESC, l."_line" DESC
    )
) AS ranked
WHERE place > 1;

-- insert_all: none repeated
INSERT INTO "warehouse"."dim_api_users" ("id", "name", "_name_index", "username", "_username_index", "email", "_email_index", "phone", "_phone_index", "website", "address_street", "_address_street_index", "address_suite", "_address_suite_index", "address_city", "address_zipcode", "address_geo_lat", "_address_geo_lat_index", "address_geo_lng", "_address_geo_lng_index", "company_name", "company_catchphrase", "company_bs", "_batch_id", "_version", "_line", "_row_hash", "_extra")
SELECT l."id", l."name", l."_name_index", l."username", l."_username_index", l."email", l."_email_index", l."phone", l."_phone_index", l."website", l."address_street", l."_address_street_index", l."address_suite", l."_address_suite_index", l."address_city", l."address_zipcode", l."address_geo_lat", l."_address_geo_lat_index", l."address_geo_lng", l."_address_geo_lng_index", l."company_name", l."company_catchphrase", l."company_bs", l."_batch_id", l."_version", l."_line", l."_row_hash", l."_extra"
FROM "staging"."api_users__b1" AS l;

-- insert_all: some repeated
INSERT INTO "warehouse"."dim_api_users" ("id", "name", "_name_index", "username", "_username_index", "email", "_email_index", "phone", "_phone_index", "website", "address_street", "_address_street_index", "address_suite", "_address_suite_index", "address_city", "address_zipcode", "address_geo_lat", "_address_geo_lat_index", "address_geo_lng", "_address_geo_lng_index", "company_name", "company_catchphrase", "company_bs", "_batch_id", "_version", "_line", "_row_hash", "_extra")
SELECT l."id", l."name", l."_name_index", l."username", l."_username_index", l."email", l."_email_index", l."phone", l."_phone_index", l."website", l."address_street", l."_address_street_index", l."address_suite", l."_address_suite_index", l."address_city", l."address_zipcode", l."address_geo_lat", l."_address_geo_lat_index", l."address_geo_lng", l."_address_geo_lng_index", l."company_name", l."company_catchphrase", l."company_bs", l."_batch_id", l."_version", l."_line", l."_row_hash", l."_extra"
FROM "staging"."api_users__b1" AS l

WHERE NOT EXISTS (SELECT FROM "staging"."api_users__b1_repeated" AS r WHERE r."_line" = l."_line");

-- insert_new
INSERT INTO "warehouse"."dim_api_users" ("id", "name", "_name_index", "username", "_username_index", "email", "_email_index", "phone", "_phone_index", "website", "address_street", "_address_street_index", "address_suite", "_address_suite_index", "address_city", "address_zipcode", "address_geo_lat", "_address_geo_lat_index", "address_geo_lng", "_address_geo_lng_index", "company_name", "company_catchphrase", "company_bs", "_batch_id", "_version", "_line", "_row_hash", "_extra")
SELECT "id", "name", "_name_index", "username", "_username_index", "email", "_email_index", "phone", "_phone_index", "website", "address_street", "_address_street_index", "address_suite", "_address_suite_index", "address_city", "address_zipcode", "address_geo_lat", "_address_geo_lat_index", "address_geo_lng", "_address_geo_lng_index", "company_name", "company_catchphrase", "company_bs", "_batch_id", "_version", "_line", "_row_hash", "_extra"
FROM "_verdicts" WHERE "_verdict" = 'n'
ORDER BY "id";

-- judge: none repeated
CREATE TEMPORARY TABLE "_verdicts" ON COMMIT DROP AS
SELECT l."_place", l."_verdict", l."id" AS "id", l."name" AS "name", l."_name_index" AS "_name_index", l."username" AS "username", l."_username_index" AS "_username_index", l."email" AS "email", l."_email_index" AS "_email_index", l."phone" AS "phone", l."_phone_index" AS "_phone_index", l."website" AS "website", l."address_street" AS "address_street", l."_address_street_index" AS "_address_street_index", l."address_suite" AS "address_suite", l."_address_suite_index" AS "_address_suite_index", l."address_city" AS "address_city", l."address_zipcode" AS "address_zipcode", l."address_geo_lat" AS "address_geo_lat", l."_address_geo_lat_index" AS "_address_geo_lat_index", l."address_geo_lng" AS "address_geo_lng", l."_address_geo_lng_index" AS "_address_geo_lng_index", l."company_name" AS "company_name", l."company_catchphrase" AS "company_catchphrase", l."company_bs" AS "company_bs", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "staging"."api_users__b1" AS l
LEFT JOIN "warehouse"."dim_api_users" AS t ON t."id" = l."id"

) AS l;

-- judge: none repeated, only news
CREATE TEMPORARY TABLE "_verdicts" ON COMMIT DROP AS
SELECT l."_place", l."_verdict", l."id" AS "id", l."name" AS "name", l."_name_index" AS "_name_index", l."username" AS "username", l."_username_index" AS "_username_index", l."email" AS "email", l."_email_index" AS "_email_index", l."phone" AS "phone", l."_phone_index" AS "_phone_index", l."website" AS "website", l."address_street" AS "address_street", l."_address_street_index" AS "_address_street_index", l."address_suite" AS "address_suite", l."_address_suite_index" AS "_address_suite_index", l."address_city" AS "address_city", l."address_zipcode" AS "address_zipcode", l."address_geo_lat" AS "address_geo_lat", l."_address_geo_lat_index" AS "_address_geo_lat_index", l."address_geo_lng" AS "address_geo_lng", l."_address_geo_lng_index" AS "_address_geo_lng_index", l."company_name" AS "company_name", l."company_catchphrase" AS "company_catchphrase", l."company_bs" AS "company_bs", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "staging"."api_users__b1" AS l
LEFT JOIN "warehouse"."dim_api_users" AS t ON t."id" = l."id"

) AS l

WHERE l."_verdict" IN ('n', 'c', 'a');

-- judge: some repeated
CREATE TEMPORARY TABLE "_verdicts" ON COMMIT DROP AS
SELECT l."_place", l."_verdict", l."id" AS "id", l."name" AS "name", l."_name_index" AS "_name_index", l."username" AS "username", l."_username_index" AS "_username_index", l."email" AS "email", l."_email_index" AS "_email_index", l."phone" AS "phone", l."_phone_index" AS "_phone_index", l."website" AS "website", l."address_street" AS "address_street", l."_address_street_index" AS "_address_street_index", l."address_suite" AS "address_suite", l."_address_suite_index" AS "_address_suite_index", l."address_city" AS "address_city", l."address_zipcode" AS "address_zipcode", l."address_geo_lat" AS "address_geo_lat", l."_address_geo_lat_index" AS "_address_geo_lat_index", l."address_geo_lng" AS "address_geo_lng", l."_address_geo_lng_index" AS "_address_geo_lng_index", l."company_name" AS "company_name", l."company_catchphrase" AS "company_catchphrase", l."company_bs" AS "company_bs", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "staging"."api_users__b1" AS l
LEFT JOIN "warehouse"."dim_api_users" AS t ON t."id" = l."id"
WHERE NOT EXISTS (SELECT FROM "staging"."api_users__b1_repeated" AS r WHERE r."_line" = l."_line")
) AS l;

-- judge: some repeated, only news
CREATE TEMPORARY TABLE "_verdicts" ON COMMIT DROP AS
SELECT l."_place", l."_verdict", l."id" AS "id", l."name" AS "name", l."_name_index" AS "_name_index", l."username" AS "username", l."_username_index" AS "_username_index", l."email" AS "email", l."_email_index" AS "_email_index", l."phone" AS "phone", l."_phone_index" AS "_phone_index", l."website" AS "website", l."address_street" AS "address_street", l."_address_street_index" AS "_address_street_index", l."address_suite" AS "address_suite", l."_address_suite_index" AS "_address_suite_index", l."address_city" AS "address_city", l."address_zipcode" AS "address_zipcode", l."address_geo_lat" AS "address_geo_lat", l."_address_geo_lat_index" AS "_address_geo_lat_index", l."address_geo_lng" AS "address_geo_lng", l."_address_geo_lng_index" AS "_address_geo_lng_index", l."company_name" AS "company_name", l."company_catchphrase" AS "company_catchphrase", l."company_bs" AS "company_bs", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "staging"."api_users__b1" AS l
LEFT JOIN "warehouse"."dim_api_users" AS t ON t."id" = l."id"
WHERE NOT EXISTS (SELECT FROM "staging"."api_users__b1_repeated" AS r WHERE r."_line" = l."_line")
) AS l

WHERE l."_verdict" IN ('n', 'c', 'a');

-- overtake
UPDATE "_verdicts" AS v SET "_verdict" = 's'
WHERE v."_verdict" IN ('c', 'a')
    AND EXISTS (
        SELECT FROM "staging"."api_users" AS s
        WHERE s."id" = v."id" AND s."_version" > v."_version"
    );

-- sample_news: none repeated
SELECT count(*) AS sampled, count(*) FILTER (WHERE "_verdict" IN ('n', 'c', 'a')) AS news
FROM (
SELECT CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "staging"."api_users__b1" AS l TABLESAMPLE SYSTEM ($1)
LEFT JOIN "warehouse"."dim_api_users" AS t ON t."id" = l."id"

) AS judged;

-- sample_news: some repeated
SELECT count(*) AS sampled, count(*) FILTER (WHERE "_verdict" IN ('n', 'c', 'a')) AS news
FROM (
SELECT CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "staging"."api_users__b1" AS l TABLESAMPLE SYSTEM ($1)
LEFT JOIN "warehouse"."dim_api_users" AS t ON t."id" = l."id"
WHERE NOT EXISTS (SELECT FROM "staging"."api_users__b1_repeated" AS r WHERE r."_line" = l."_line")
) AS judged;

-- suspect_all
CREATE TABLE "staging"."api_users__b1_suspects" AS
SELECT "id" FROM "staging"."api_users__b1" GROUP BY "id" HAVING count(*) > 1;

-- tally_verdicts
SELECT count(*) FILTER (WHERE "_verdict" = 'n') AS "n", count(*) FILTER (WHERE "_verdict" = 'u') AS "u", count(*) FILTER (WHERE "_verdict" = 's') AS "s", count(*) FILTER (WHERE "_verdict" = 'c') AS "c", count(*) FILTER (WHERE "_verdict" = 'a') AS "a", count(*) FILTER (WHERE "_verdict" = 'f') AS "f" FROM "_verdicts";

-- update_changed
UPDATE "warehouse"."dim_api_users" AS t SET "name" = i."name", "_name_index" = i."_name_index", "username" = i."username", "_username_index" = i."_username_index", "email" = i."email", "_email_index" = i."_email_index", "phone" = i."phone", "_phone_index" = i."_phone_index", "website" = i."website", "address_street" = i."address_street", "_address_street_index" = i."_address_street_index", "address_suite" = i."address_suite", "_address_suite_index" = i."_address_suite_index", "address_city" = i."address_city", "address_zipcode" = i."address_zipcode", "address_geo_lat" = i."address_geo_lat", "_address_geo_lat_index" = i."_address_geo_lat_index", "address_geo_lng" = i."address_geo_lng", "_address_geo_lng_index" = i."_address_geo_lng_index", "company_name" = i."company_name", "company_catchphrase" = i."company_catchphrase", "company_bs" = i."company_bs", "_batch_id" = i."_batch_id", "_version" = i."_version", "_line" = i."_line", "_row_hash" = i."_row_hash", "_extra" = i."_extra", "_is_inferred" = false
FROM (
SELECT * FROM "_verdicts" WHERE "_verdict" = 'c' ORDER BY "_place"
) AS i
WHERE t.ctid = i."_place";

-- stream: classify_rest
SELECT
    count(*) FILTER (WHERE t."_row_hash" = l."_row_hash") AS "u",
    count(*) FILTER (WHERE NOT (t."_row_hash" = l."_row_hash")) AS "s"
FROM "pg_temp"."api_users__session" AS l
JOIN "warehouse"."dim_api_users" AS t ON t."id" = l."id"
WHERE NOT l."_loses" AND t."_batch_id" <> $1;

-- stream: confirm
UPDATE "warehouse"."dim_api_users" AS t SET "_version" = v."_version", "_line" = v."_line"
FROM "pg_temp"."api_users__session_verdicts" AS v
WHERE v."_verdict" = 'f' AND t.ctid = v."_place";

-- stream: create_staged
CREATE TABLE IF NOT EXISTS "staging"."api_users__s20260102" () INHERITS ("staging"."api_users");
CREATE INDEX IF NOT EXISTS "api_users__s20260102_line" ON "staging"."api_users__s20260102" USING brin ("_line") WITH (pages_per_range = 32, autosummarize = on);

-- stream: create_tables
CREATE TEMPORARY TABLE IF NOT EXISTS "api_users__session" ("id" bigint, "name" bytea, "_name_index" bytea, "username" bytea, "_username_index" bytea, "email" bytea, "_email_index" bytea, "phone" bytea, "_phone_index" bytea, "website" text, "address_street" bytea, "_address_street_index" bytea, "address_suite" bytea, "_address_suite_index" bytea, "address_city" text, "address_zipcode" text, "address_geo_lat" bytea, "_address_geo_lat_index" bytea, "address_geo_lng" bytea, "_address_geo_lng_index" bytea, "company_name" text, "company_catchphrase" text, "company_bs" text, "_line" bigint NOT NULL, "_row_hash" bigint NOT NULL, "_extra" jsonb, "_batch_id" bigint NOT NULL, "_source" text NOT NULL, "_version" timestamptz NOT NULL, "_extracted_at" timestamptz NOT NULL, "_loses" boolean NOT NULL) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE IF NOT EXISTS "api_users__session_verdicts" ON COMMIT DELETE ROWS AS
SELECT l."_place", l."_verdict", l."id" AS "id", l."name" AS "name", l."_name_index" AS "_name_index", l."username" AS "username", l."_username_index" AS "_username_index", l."email" AS "email", l."_email_index" AS "_email_index", l."phone" AS "phone", l."_phone_index" AS "_phone_index", l."website" AS "website", l."address_street" AS "address_street", l."_address_street_index" AS "_address_street_index", l."address_suite" AS "address_suite", l."_address_suite_index" AS "_address_suite_index", l."address_city" AS "address_city", l."address_zipcode" AS "address_zipcode", l."address_geo_lat" AS "address_geo_lat", l."_address_geo_lat_index" AS "_address_geo_lat_index", l."address_geo_lng" AS "address_geo_lng", l."_address_geo_lng_index" AS "_address_geo_lng_index", l."company_name" AS "company_name", l."company_catchphrase" AS "company_catchphrase", l."company_bs" AS "company_bs", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" AND (t."_version", t."_line") < (l."_version", l."_line") THEN 'f'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "pg_temp"."api_users__session" AS l
LEFT JOIN "warehouse"."dim_api_users" AS t ON t."id" = l."id"

) AS l


WITH NO DATA;

-- stream: empty
DELETE FROM "pg_temp"."api_users__session";
DELETE FROM "pg_temp"."api_users__session_verdicts";

-- stream: stage
INSERT INTO "staging"."api_users__s20260102" ("id", "name", "_name_index", "username", "_username_index", "email", "_email_index", "phone", "_phone_index", "website", "address_street", "_address_street_index", "address_suite", "_address_suite_index", "address_city", "address_zipcode", "address_geo_lat", "_address_geo_lat_index", "address_geo_lng", "_address_geo_lng_index", "company_name", "company_catchphrase", "company_bs", "_line", "_row_hash", "_extra", "_batch_id", "_source", "_version", "_extracted_at")
SELECT "id", "name", "_name_index", "username", "_username_index", "email", "_email_index", "phone", "_phone_index", "website", "address_street", "_address_street_index", "address_suite", "_address_suite_index", "address_city", "address_zipcode", "address_geo_lat", "_address_geo_lat_index", "address_geo_lng", "_address_geo_lng_index", "company_name", "company_catchphrase", "company_bs", "_line", "_row_hash", "_extra", "_batch_id", "_source", "_version", "_extracted_at" FROM "pg_temp"."api_users__session" AS l;

-- stream: stage: only missing
INSERT INTO "staging"."api_users__s20260102" ("id", "name", "_name_index", "username", "_username_index", "email", "_email_index", "phone", "_phone_index", "website", "address_street", "_address_street_index", "address_suite", "_address_suite_index", "address_city", "address_zipcode", "address_geo_lat", "_address_geo_lat_index", "address_geo_lng", "_address_geo_lng_index", "company_name", "company_catchphrase", "company_bs", "_line", "_row_hash", "_extra", "_batch_id", "_source", "_version", "_extracted_at")
SELECT "id", "name", "_name_index", "username", "_username_index", "email", "_email_index", "phone", "_phone_index", "website", "address_street", "_address_street_index", "address_suite", "_address_suite_index", "address_city", "address_zipcode", "address_geo_lat", "_address_geo_lat_index", "address_geo_lng", "_address_geo_lng_index", "company_name", "company_catchphrase", "company_bs", "_line", "_row_hash", "_extra", "_batch_id", "_source", "_version", "_extracted_at" FROM "pg_temp"."api_users__session" AS l
WHERE NOT EXISTS (
    SELECT FROM "staging"."api_users" AS s
    WHERE s."_source" = l."_source" AND s."_line" = l."_line" AND s."_version" = l."_version"
        AND s."_line" >= (SELECT min(m."_line") FROM "pg_temp"."api_users__session" AS m)
        AND s."_line" <= (SELECT max(m."_line") FROM "pg_temp"."api_users__session" AS m)
);

-- stream: judge: none repeated
INSERT INTO "pg_temp"."api_users__session_verdicts"
SELECT l."_place", l."_verdict", l."id" AS "id", l."name" AS "name", l."_name_index" AS "_name_index", l."username" AS "username", l."_username_index" AS "_username_index", l."email" AS "email", l."_email_index" AS "_email_index", l."phone" AS "phone", l."_phone_index" AS "_phone_index", l."website" AS "website", l."address_street" AS "address_street", l."_address_street_index" AS "_address_street_index", l."address_suite" AS "address_suite", l."_address_suite_index" AS "_address_suite_index", l."address_city" AS "address_city", l."address_zipcode" AS "address_zipcode", l."address_geo_lat" AS "address_geo_lat", l."_address_geo_lat_index" AS "_address_geo_lat_index", l."address_geo_lng" AS "address_geo_lng", l."_address_geo_lng_index" AS "_address_geo_lng_index", l."company_name" AS "company_name", l."company_catchphrase" AS "company_catchphrase", l."company_bs" AS "company_bs", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" AND (t."_version", t."_line") < (l."_version", l."_line") THEN 'f'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "pg_temp"."api_users__session" AS l
LEFT JOIN "warehouse"."dim_api_users" AS t ON t."id" = l."id"

) AS l;

-- stream: judge: none repeated, only news
INSERT INTO "pg_temp"."api_users__session_verdicts"
SELECT l."_place", l."_verdict", l."id" AS "id", l."name" AS "name", l."_name_index" AS "_name_index", l."username" AS "username", l."_username_index" AS "_username_index", l."email" AS "email", l."_email_index" AS "_email_index", l."phone" AS "phone", l."_phone_index" AS "_phone_index", l."website" AS "website", l."address_street" AS "address_street", l."_address_street_index" AS "_address_street_index", l."address_suite" AS "address_suite", l."_address_suite_index" AS "_address_suite_index", l."address_city" AS "address_city", l."address_zipcode" AS "address_zipcode", l."address_geo_lat" AS "address_geo_lat", l."_address_geo_lat_index" AS "_address_geo_lat_index", l."address_geo_lng" AS "address_geo_lng", l."_address_geo_lng_index" AS "_address_geo_lng_index", l."company_name" AS "company_name", l."company_catchphrase" AS "company_catchphrase", l."company_bs" AS "company_bs", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" AND (t."_version", t."_line") < (l."_version", l."_line") THEN 'f'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "pg_temp"."api_users__session" AS l
LEFT JOIN "warehouse"."dim_api_users" AS t ON t."id" = l."id"

) AS l

WHERE l."_verdict" IN ('n', 'c', 'a');

-- stream: judge: some repeated
INSERT INTO "pg_temp"."api_users__session_verdicts"
SELECT l."_place", l."_verdict", l."id" AS "id", l."name" AS "name", l."_name_index" AS "_name_index", l."username" AS "username", l."_username_index" AS "_username_index", l."email" AS "email", l."_email_index" AS "_email_index", l."phone" AS "phone", l."_phone_index" AS "_phone_index", l."website" AS "website", l."address_street" AS "address_street", l."_address_street_index" AS "_address_street_index", l."address_suite" AS "address_suite", l."_address_suite_index" AS "_address_suite_index", l."address_city" AS "address_city", l."address_zipcode" AS "address_zipcode", l."address_geo_lat" AS "address_geo_lat", l."_address_geo_lat_index" AS "_address_geo_lat_index", l."address_geo_lng" AS "address_geo_lng", l."_address_geo_lng_index" AS "_address_geo_lng_index", l."company_name" AS "company_name", l."company_catchphrase" AS "company_catchphrase", l."company_bs" AS "company_bs", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" AND (t."_version", t."_line") < (l."_version", l."_line") THEN 'f'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "pg_temp"."api_users__session" AS l
LEFT JOIN "warehouse"."dim_api_users" AS t ON t."id" = l."id"
WHERE NOT l."_loses"
) AS l;

-- stream: judge: some repeated, only news
INSERT INTO "pg_temp"."api_users__session_verdicts"
SELECT l."_place", l."_verdict", l."id" AS "id", l."name" AS "name", l."_name_index" AS "_name_index", l."username" AS "username", l."_username_index" AS "_username_index", l."email" AS "email", l."_email_index" AS "_email_index", l."phone" AS "phone", l."_phone_index" AS "_phone_index", l."website" AS "website", l."address_street" AS "address_street", l."_address_street_index" AS "_address_street_index", l."address_suite" AS "address_suite", l."_address_suite_index" AS "_address_suite_index", l."address_city" AS "address_city", l."address_zipcode" AS "address_zipcode", l."address_geo_lat" AS "address_geo_lat", l."_address_geo_lat_index" AS "_address_geo_lat_index", l."address_geo_lng" AS "address_geo_lng", l."_address_geo_lng_index" AS "_address_geo_lng_index", l."company_name" AS "company_name", l."company_catchphrase" AS "company_catchphrase", l."company_bs" AS "company_bs", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" AND (t."_version", t."_line") < (l."_version", l."_line") THEN 'f'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "pg_temp"."api_users__session" AS l
LEFT JOIN "warehouse"."dim_api_users" AS t ON t."id" = l."id"
WHERE NOT l."_loses"
) AS l

WHERE l."_verdict" IN ('n', 'c', 'a');
