"""What a tool left in its table of a file whose every flaw is known: the same questions to all."""

import json
from dataclasses import dataclass

from infra.local.postgres import Postgres

OURS = """
CREATE VIEW peer_sales AS
SELECT f.order_id, c.customer_id, p.product_id, f.order_date, f.quantity, f.unit_price,
    f.discount, f.channel
FROM warehouse.fact_sales_data AS f
JOIN warehouse.dim_customers AS c USING (customer_key)
JOIN warehouse.dim_products AS p USING (product_key);
"""
"""Our fact under the columns of the file: every row must find its dimensions' rows."""

QUESTIONS = r"""
SET work_mem = '256MB';
CREATE TEMPORARY TABLE rows_found AS
SELECT
    nullif(regexp_replace(order_id::text, '^[\s\u00a0]+|[\s\u00a0]+$', '', 'g'), '') AS order_id,
    btrim(customer_id::text) AS customer_id,
    btrim(product_id::text) AS product_id,
    order_date::text AS order_date,
    quantity::text AS quantity,
    unit_price::text AS unit_price,
    nullif(btrim(discount::text), '') AS discount,
    nullif(btrim(channel::text), '') AS channel
FROM peer_sales;
SELECT json_build_object(
    'rows', (SELECT count(*) FROM rows_found),
    'without_key', (SELECT count(*) FROM rows_found WHERE order_id IS NULL),
    'repeated', (SELECT count(order_id) - count(DISTINCT order_id) FROM rows_found),
    'lost', (
        SELECT count(*) FROM warehouse.fact_sales_data AS f
        WHERE NOT EXISTS (SELECT FROM rows_found AS r WHERE r.order_id = f.order_id::text)
    ),
    'broken', (
        SELECT count(*) FROM rows_found AS r
        WHERE (
            pg_input_is_valid(customer_id, 'bigint') AND pg_input_is_valid(product_id, 'bigint')
            AND order_date ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}$'
            AND pg_input_is_valid(order_date, 'date')
            AND CASE WHEN pg_input_is_valid(quantity, 'bigint')
                THEN quantity::bigint BETWEEN 1 AND 10000 END
            AND CASE WHEN pg_input_is_valid(unit_price, 'numeric')
                THEN unit_price::numeric >= 0 END
            AND coalesce(discount::double precision BETWEEN 0 AND 1, true)
            AND coalesce(channel IN ('store', 'web', 'phone'), true)
        ) IS NOT TRUE
    ),
    'as_text', (
        SELECT coalesce(json_agg(attname ORDER BY attnum), '[]') FROM pg_attribute
        WHERE attrelid = 'peer_sales'::regclass AND attname <> 'channel'
            AND atttypid IN ('text'::regtype, 'varchar'::regtype)
    )
);
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is in a table after a load."""

    rows: int
    without_key: int
    """Rows whose key is missing."""
    repeated: int
    """Rows of a key that another row has too."""
    lost: int
    """Keys that could be loaded (ours, held to what was planted) and are not there."""
    broken: int
    """Rows with a cell that is missing, out of range or no plain value of its column's type."""
    as_text: list[str]
    """Columns of numbers or dates that became text."""


def judge(postgres: Postgres, database: str) -> Verdict:
    """Ask the questions of `peer_sales` in a database that has our fact beside it."""
    answer = postgres.execute(QUESTIONS, database=database)
    return Verdict(**json.loads(answer))
