CREATE TABLE "staging"."customers" (
    "customer_id" bigint,
    "name" bytea,
    "_name_index" bytea,
    "email" bytea,
    "_email_index" bytea,
    "city" text,
    "country" text,
    "signup_date" date,
    "credit_limit" numeric(18,2),
    "_line" bigint NOT NULL,
    "_row_hash" bigint NOT NULL,
    "_extra" jsonb,
    "_batch_id" bigint NOT NULL,
    "_source" text NOT NULL,
    "_version" timestamptz NOT NULL,
    "_extracted_at" timestamptz NOT NULL
);
CREATE INDEX ON "staging"."customers" ("_batch_id");
COMMENT ON TABLE "staging"."customers" IS 'One row per customer of the shop, as the CRM exports it.';

CREATE TABLE "warehouse"."dim_customers" (
    "customer_key" bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    "customer_id" bigint NOT NULL,
    "name" bytea,
    "_name_index" bytea,
    "email" bytea,
    "_email_index" bytea,
    "city" text,
    "country" text,
    "signup_date" date,
    "credit_limit" numeric(18,2),
    "_is_inferred" boolean NOT NULL DEFAULT false,
    "_batch_id" bigint NOT NULL,
    "_version" timestamptz NOT NULL,
    "_line" bigint NOT NULL,
    "_row_hash" bigint NOT NULL,
    "_extra" jsonb,
    CHECK ("_is_inferred" OR ("name" IS NOT NULL AND "country" IS NOT NULL AND "signup_date" IS NOT NULL)),
    UNIQUE ("customer_id")
);
CREATE INDEX ON "warehouse"."dim_customers" ("_name_index");
CREATE INDEX ON "warehouse"."dim_customers" ("_email_index");
COMMENT ON TABLE "warehouse"."dim_customers" IS 'One row per customer of the shop, as the CRM exports it.';

-- analyze
ANALYZE "staging"."customers__b1" ("customer_id", "_line");

-- analyze_repeated
ANALYZE "staging"."customers__b1_repeated";

-- analyze_suspects
ANALYZE "staging"."customers__b1_suspects";

-- analyze_verdicts
ANALYZE "_verdicts" ("_place", "_verdict");

-- count_repeated
SELECT
    count(*) FILTER (WHERE is_duplicate) AS duplicates,
    count(*) FILTER (WHERE NOT is_duplicate) AS superseded
FROM "staging"."customers__b1_repeated";

-- count_verdicts: none repeated
SELECT count(*) FILTER (WHERE "_verdict" = 'n') AS "n", count(*) FILTER (WHERE "_verdict" = 'u') AS "u", count(*) FILTER (WHERE "_verdict" = 's') AS "s", count(*) FILTER (WHERE "_verdict" = 'c') AS "c", count(*) FILTER (WHERE "_verdict" = 'a') AS "a", count(*) FILTER (WHERE "_verdict" = 'f') AS "f"
FROM (
SELECT CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "staging"."customers__b1" AS l
LEFT JOIN "warehouse"."dim_customers" AS t ON t."customer_id" = l."customer_id"

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
FROM "staging"."customers__b1" AS l
LEFT JOIN "warehouse"."dim_customers" AS t ON t."customer_id" = l."customer_id"
WHERE NOT EXISTS (SELECT FROM "staging"."customers__b1_repeated" AS r WHERE r."_line" = l."_line")
) AS judged;

-- create_suspects
CREATE TABLE "staging"."customers__b1_suspects" ("customer_id" bigint);

-- dates_outside: signup_date
SELECT warehouse.add_dates(array_agg(each))
FROM (SELECT DISTINCT l."signup_date"::date AS each FROM "staging"."customers__b1" AS l) AS dates
WHERE each IS NOT NULL AND NOT EXISTS (SELECT FROM warehouse.dim_date WHERE date_key = each);

-- drop_working_tables
DROP TABLE IF EXISTS "staging"."customers__b1_suspects", "staging"."customers__b1_repeated";

-- find_repeated
CREATE TABLE "staging"."customers__b1_repeated" AS
SELECT "_line", is_duplicate
FROM (
    SELECT
        l."_line",
        l."_row_hash" = first_value(l."_row_hash") OVER newest_first AS is_duplicate,
        row_number() OVER newest_first AS place
    FROM "staging"."customers__b1" AS l
    JOIN "staging"."customers__b1_suspects" AS k ON k."customer_id" = l."customer_id"
    WINDOW newest_first AS (
        PARTITION BY l."customer_id" ORDER BY l."_version" DESC, l."_line" DESC
    )
) AS ranked
WHERE place > 1;

-- insert_all: none repeated
INSERT INTO "warehouse"."dim_customers" ("customer_id", "name", "_name_index", "email", "_email_index", "city", "country", "signup_date", "credit_limit", "_batch_id", "_version", "_line", "_row_hash", "_extra")
SELECT l."customer_id", l."name", l."_name_index", l."email", l."_email_index", l."city", l."country", l."signup_date", l."credit_limit", l."_batch_id", l."_version", l."_line", l."_row_hash", l."_extra"
FROM "staging"."customers__b1" AS l;

-- insert_all: some repeated
INSERT INTO "warehouse"."dim_customers" ("customer_id", "name", "_name_index", "email", "_email_index", "city", "country", "signup_date", "credit_limit", "_batch_id", "_version", "_line", "_row_hash", "_extra")
SELECT l."customer_id", l."name", l."_name_index", l."email", l."_email_index", l."city", l."country", l."signup_date", l."credit_limit", l."_batch_id", l."_version", l."_line", l."_row_hash", l."_extra"
FROM "staging"."customers__b1" AS l

WHERE NOT EXISTS (SELECT FROM "staging"."customers__b1_repeated" AS r WHERE r."_line" = l."_line");

-- insert_new
INSERT INTO "warehouse"."dim_customers" ("customer_id", "name", "_name_index", "email", "_email_index", "city", "country", "signup_date", "credit_limit", "_batch_id", "_version", "_line", "_row_hash", "_extra")
SELECT "customer_id", "name", "_name_index", "email", "_email_index", "city", "country", "signup_date", "credit_limit", "_batch_id", "_version", "_line", "_row_hash", "_extra"
FROM "_verdicts" WHERE "_verdict" = 'n'
ORDER BY "customer_id";

-- judge: none repeated
CREATE TEMPORARY TABLE "_verdicts" ON COMMIT DROP AS
SELECT l."_place", l."_verdict", l."customer_id" AS "customer_id", l."name" AS "name", l."_name_index" AS "_name_index", l."email" AS "email", l."_email_index" AS "_email_index", l."city" AS "city", l."country" AS "country", l."signup_date" AS "signup_date", l."credit_limit" AS "credit_limit", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "staging"."customers__b1" AS l
LEFT JOIN "warehouse"."dim_customers" AS t ON t."customer_id" = l."customer_id"

) AS l;

-- judge: none repeated, only news
CREATE TEMPORARY TABLE "_verdicts" ON COMMIT DROP AS
SELECT l."_place", l."_verdict", l."customer_id" AS "customer_id", l."name" AS "name", l."_name_index" AS "_name_index", l."email" AS "email", l."_email_index" AS "_email_index", l."city" AS "city", l."country" AS "country", l."signup_date" AS "signup_date", l."credit_limit" AS "credit_limit", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "staging"."customers__b1" AS l
LEFT JOIN "warehouse"."dim_customers" AS t ON t."customer_id" = l."customer_id"

) AS l

WHERE l."_verdict" IN ('n', 'c', 'a');

-- judge: some repeated
CREATE TEMPORARY TABLE "_verdicts" ON COMMIT DROP AS
SELECT l."_place", l."_verdict", l."customer_id" AS "customer_id", l."name" AS "name", l."_name_index" AS "_name_index", l."email" AS "email", l."_email_index" AS "_email_index", l."city" AS "city", l."country" AS "country", l."signup_date" AS "signup_date", l."credit_limit" AS "credit_limit", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "staging"."customers__b1" AS l
LEFT JOIN "warehouse"."dim_customers" AS t ON t."customer_id" = l."customer_id"
WHERE NOT EXISTS (SELECT FROM "staging"."customers__b1_repeated" AS r WHERE r."_line" = l."_line")
) AS l;

-- judge: some repeated, only news
CREATE TEMPORARY TABLE "_verdicts" ON COMMIT DROP AS
SELECT l."_place", l."_verdict", l."customer_id" AS "customer_id", l."name" AS "name", l."_name_index" AS "_name_index", l."email" AS "email", l."_email_index" AS "_email_index", l."city" AS "city", l."country" AS "country", l."signup_date" AS "signup_date", l."credit_limit" AS "credit_limit", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "staging"."customers__b1" AS l
LEFT JOIN "warehouse"."dim_customers" AS t ON t."customer_id" = l."customer_id"
WHERE NOT EXISTS (SELECT FROM "staging"."customers__b1_repeated" AS r WHERE r."_line" = l."_line")
) AS l

WHERE l."_verdict" IN ('n', 'c', 'a');

-- overtake
UPDATE "_verdicts" AS v SET "_verdict" = 's'
WHERE v."_verdict" IN ('c', 'a')
    AND EXISTS (
        SELECT FROM "staging"."customers" AS s
        WHERE s."customer_id" = v."customer_id" AND s."_version" > v."_version"
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
FROM "staging"."customers__b1" AS l TABLESAMPLE SYSTEM ($1)
LEFT JOIN "warehouse"."dim_customers" AS t ON t."customer_id" = l."customer_id"

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
FROM "staging"."customers__b1" AS l TABLESAMPLE SYSTEM ($1)
LEFT JOIN "warehouse"."dim_customers" AS t ON t."customer_id" = l."customer_id"
WHERE NOT EXISTS (SELECT FROM "staging"."customers__b1_repeated" AS r WHERE r."_line" = l."_line")
) AS judged;

-- suspect_all
CREATE TABLE "staging"."customers__b1_suspects" AS
SELECT "customer_id" FROM "staging"."customers__b1" GROUP BY "customer_id" HAVING count(*) > 1;

-- tally_verdicts
SELECT count(*) FILTER (WHERE "_verdict" = 'n') AS "n", count(*) FILTER (WHERE "_verdict" = 'u') AS "u", count(*) FILTER (WHERE "_verdict" = 's') AS "s", count(*) FILTER (WHERE "_verdict" = 'c') AS "c", count(*) FILTER (WHERE "_verdict" = 'a') AS "a", count(*) FILTER (WHERE "_verdict" = 'f') AS "f" FROM "_verdicts";

-- update_changed
UPDATE "warehouse"."dim_customers" AS t SET "name" = i."name", "_name_index" = i."_name_index", "email" = i."email", "_email_index" = i."_email_index", "city" = i."city", "country" = i."country", "signup_date" = i."signup_date", "credit_limit" = i."credit_limit", "_batch_id" = i."_batch_id", "_version" = i."_version", "_line" = i."_line", "_row_hash" = i."_row_hash", "_extra" = i."_extra", "_is_inferred" = false
FROM (
SELECT * FROM "_verdicts" WHERE "_verdict" = 'c' ORDER BY "_place"
) AS i
WHERE t.ctid = i."_place";

-- stream: classify_rest
SELECT
    count(*) FILTER (WHERE t."_row_hash" = l."_row_hash") AS "u",
    count(*) FILTER (WHERE NOT (t."_row_hash" = l."_row_hash")) AS "s"
FROM "pg_temp"."customers__session" AS l
JOIN "warehouse"."dim_customers" AS t ON t."customer_id" = l."customer_id"
WHERE NOT l."_loses" AND t."_batch_id" <> $1;

-- stream: confirm
UPDATE "warehouse"."dim_customers" AS t SET "_version" = v."_version", "_line" = v."_line"
FROM "pg_temp"."customers__session_verdicts" AS v
WHERE v."_verdict" = 'f' AND t.ctid = v."_place";

-- stream: create_staged
CREATE TABLE IF NOT EXISTS "staging"."customers__s20260102" () INHERITS ("staging"."customers");
CREATE INDEX IF NOT EXISTS "customers__s20260102_line" ON "staging"."customers__s20260102" USING brin ("_line") WITH (pages_per_range = 32, autosummarize = on);

-- stream: create_tables
CREATE TEMPORARY TABLE IF NOT EXISTS "customers__session" ("customer_id" bigint, "name" bytea, "_name_index" bytea, "email" bytea, "_email_index" bytea, "city" text, "country" text, "signup_date" date, "credit_limit" numeric(18,2), "_line" bigint NOT NULL, "_row_hash" bigint NOT NULL, "_extra" jsonb, "_batch_id" bigint NOT NULL, "_source" text NOT NULL, "_version" timestamptz NOT NULL, "_extracted_at" timestamptz NOT NULL, "_loses" boolean NOT NULL) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE IF NOT EXISTS "customers__session_verdicts" ON COMMIT DELETE ROWS AS
SELECT l."_place", l."_verdict", l."customer_id" AS "customer_id", l."name" AS "name", l."_name_index" AS "_name_index", l."email" AS "email", l."_email_index" AS "_email_index", l."city" AS "city", l."country" AS "country", l."signup_date" AS "signup_date", l."credit_limit" AS "credit_limit", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" AND (t."_version", t."_line") < (l."_version", l."_line") THEN 'f'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "pg_temp"."customers__session" AS l
LEFT JOIN "warehouse"."dim_customers" AS t ON t."customer_id" = l."customer_id"

) AS l


WITH NO DATA;

-- stream: empty
DELETE FROM "pg_temp"."customers__session";
DELETE FROM "pg_temp"."customers__session_verdicts";

-- stream: stage
INSERT INTO "staging"."customers__s20260102" ("customer_id", "name", "_name_index", "email", "_email_index", "city", "country", "signup_date", "credit_limit", "_line", "_row_hash", "_extra", "_batch_id", "_source", "_version", "_extracted_at")
SELECT "customer_id", "name", "_name_index", "email", "_email_index", "city", "country", "signup_date", "credit_limit", "_line", "_row_hash", "_extra", "_batch_id", "_source", "_version", "_extracted_at" FROM "pg_temp"."customers__session" AS l;

-- stream: stage: only missing
INSERT INTO "staging"."customers__s20260102" ("customer_id", "name", "_name_index", "email", "_email_index", "city", "country", "signup_date", "credit_limit", "_line", "_row_hash", "_extra", "_batch_id", "_source", "_version", "_extracted_at")
SELECT "customer_id", "name", "_name_index", "email", "_email_index", "city", "country", "signup_date", "credit_limit", "_line", "_row_hash", "_extra", "_batch_id", "_source", "_version", "_extracted_at" FROM "pg_temp"."customers__session" AS l
WHERE NOT EXISTS (
    SELECT FROM "staging"."customers" AS s
    WHERE s."_source" = l."_source" AND s."_line" = l."_line" AND s."_version" = l."_version"
        AND s."_line" >= (SELECT min(m."_line") FROM "pg_temp"."customers__session" AS m)
        AND s."_line" <= (SELECT max(m."_line") FROM "pg_temp"."customers__session" AS m)
);

-- stream: judge: none repeated
INSERT INTO "pg_temp"."customers__session_verdicts"
SELECT l."_place", l."_verdict", l."customer_id" AS "customer_id", l."name" AS "name", l."_name_index" AS "_name_index", l."email" AS "email", l."_email_index" AS "_email_index", l."city" AS "city", l."country" AS "country", l."signup_date" AS "signup_date", l."credit_limit" AS "credit_limit", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" AND (t."_version", t."_line") < (l."_version", l."_line") THEN 'f'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "pg_temp"."customers__session" AS l
LEFT JOIN "warehouse"."dim_customers" AS t ON t."customer_id" = l."customer_id"

) AS l;

-- stream: judge: none repeated, only news
INSERT INTO "pg_temp"."customers__session_verdicts"
SELECT l."_place", l."_verdict", l."customer_id" AS "customer_id", l."name" AS "name", l."_name_index" AS "_name_index", l."email" AS "email", l."_email_index" AS "_email_index", l."city" AS "city", l."country" AS "country", l."signup_date" AS "signup_date", l."credit_limit" AS "credit_limit", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" AND (t."_version", t."_line") < (l."_version", l."_line") THEN 'f'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "pg_temp"."customers__session" AS l
LEFT JOIN "warehouse"."dim_customers" AS t ON t."customer_id" = l."customer_id"

) AS l

WHERE l."_verdict" IN ('n', 'c', 'a');

-- stream: judge: some repeated
INSERT INTO "pg_temp"."customers__session_verdicts"
SELECT l."_place", l."_verdict", l."customer_id" AS "customer_id", l."name" AS "name", l."_name_index" AS "_name_index", l."email" AS "email", l."_email_index" AS "_email_index", l."city" AS "city", l."country" AS "country", l."signup_date" AS "signup_date", l."credit_limit" AS "credit_limit", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" AND (t."_version", t."_line") < (l."_version", l."_line") THEN 'f'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "pg_temp"."customers__session" AS l
LEFT JOIN "warehouse"."dim_customers" AS t ON t."customer_id" = l."customer_id"
WHERE NOT l."_loses"
) AS l;

-- stream: judge: some repeated, only news
INSERT INTO "pg_temp"."customers__session_verdicts"
SELECT l."_place", l."_verdict", l."customer_id" AS "customer_id", l."name" AS "name", l."_name_index" AS "_name_index", l."email" AS "email", l."_email_index" AS "_email_index", l."city" AS "city", l."country" AS "country", l."signup_date" AS "signup_date", l."credit_limit" AS "credit_limit", l."_batch_id" AS "_batch_id", l."_version" AS "_version", l."_line" AS "_line", l."_row_hash" AS "_row_hash", l."_extra" AS "_extra"
FROM (
SELECT l.*, t.ctid AS "_place", CASE
        WHEN t.ctid IS NULL THEN 'n'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" AND (t."_version", t."_line") < (l."_version", l."_line") THEN 'f'
        WHEN t."_row_hash" = l."_row_hash" AND NOT t."_is_inferred" THEN 'u'
        WHEN (t."_version", t."_line") > (l."_version", l."_line") THEN 's'
        ELSE 'c'
    END::"char" AS "_verdict"
FROM "pg_temp"."customers__session" AS l
LEFT JOIN "warehouse"."dim_customers" AS t ON t."customer_id" = l."customer_id"
WHERE NOT l."_loses"
) AS l

WHERE l."_verdict" IN ('n', 'c', 'a');
