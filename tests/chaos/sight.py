"""What the database shows of the loads, and whether it is what it must be."""

import io
from pathlib import Path
from typing import Any

import asyncpg

from tests.chaos.independent_reader import Expected

FACT = """
    SELECT f.order_id, c.customer_id, p.product_id, f.order_date, f.quantity, f.unit_price,
        f.discount, f.channel, regexp_replace(s.path, '.*/', ''), f._line
    FROM warehouse.fact_sales_data AS f
    JOIN warehouse.dim_customers AS c USING (customer_key)
    JOIN warehouse.dim_products AS p USING (product_key)
    JOIN metadata.source_files AS s ON s.id = f._batch_id
    ORDER BY 1
"""


class Sight:
    """All that can be seen of the loads, in one snapshot."""

    fact: str
    manifest: dict[str, list[int]]
    """LOADED entries by file."""

    @classmethod
    async def take(cls, url: str) -> "Sight":
        connection = await asyncpg.connect(url)
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                sight = cls()
                await sight.read(connection)
                return sight
        finally:
            await connection.close()

    async def read(self, connection: asyncpg.Connection) -> None:
        """Read everything."""

        async def column(sql: str) -> list[Any]:
            return [row[0] for row in await connection.fetch(sql)]

        rows = io.BytesIO()
        await connection.copy_from_query(FACT, output=rows, format="csv")
        self.fact = rows.getvalue().decode()
        self.fact_rows = (await column("SELECT count(*) FROM warehouse.fact_sales_data"))[0]
        self.manifest = {}
        for row in await connection.fetch(
            "SELECT id, path FROM metadata.source_files WHERE status = 'LOADED' ORDER BY id"
        ):
            self.manifest.setdefault(Path(row["path"]).name, []).append(row["id"])
        self.ledgers = {
            row["batch_id"]: dict(row)
            for row in await connection.fetch("SELECT * FROM metadata.dataset_counts")
        }
        self.staged = {
            row["_batch_id"]: (row["rows"], row["lines"])
            for row in await connection.fetch(
                "SELECT _batch_id, count(*) AS rows, count(DISTINCT _line) AS lines"
                " FROM staging.sales_data GROUP BY 1"
            )
        }
        self.quarantined: dict[int, list[int]] = {}
        for row in await connection.fetch("SELECT batch_id, line FROM metadata.quarantine"):
            self.quarantined.setdefault(row["batch_id"], []).append(row["line"])
        self.quality = set(await column("SELECT batch_id FROM metadata.quality_results"))
        self.customers = await column("SELECT customer_id FROM warehouse.dim_customers ORDER BY 1")
        self.products = await column("SELECT product_id FROM warehouse.dim_products ORDER BY 1")
        self.stray_tables = await column(
            """
            SELECT relname FROM pg_class AS c
            WHERE relnamespace = 'staging'::regnamespace AND relkind = 'r'
                AND relname NOT IN ('customers', 'products', 'sales_data', 'api_users')
                AND relname NOT IN (
                    SELECT staged_in FROM metadata.source_files WHERE staged_in IS NOT NULL
                )
            """
        )
        self.keys = await column(
            """
            SELECT pg_get_constraintdef(k.oid) FROM pg_constraint AS k
            JOIN pg_index AS i ON i.indexrelid = k.conindid
            WHERE k.conrelid = 'warehouse.fact_sales_data'::regclass AND k.contype = 'p'
                AND k.convalidated AND i.indisvalid AND i.indisready
            """
        )
        self.advisory_locks = await column("SELECT objid FROM pg_locks WHERE locktype = 'advisory'")
        self.unended = await column(
            "SELECT id FROM metadata.pipeline_executions WHERE status = 'RUNNING'"
        )

    def refuse_other_than(self, expected: Expected) -> None:
        """Fail unless it is the state after exactly the files that are expected."""
        assert set(self.manifest) == set(expected.ledgers)
        assert all(len(ids) == 1 for ids in self.manifest.values()), self.manifest
        assert self.fact == expected.as_csv  # row by row
        assert self.fact_rows == len(expected.rows)  # and no row that the joins would hide
        batches = {self.manifest[name][0]: name for name in expected.ledgers}
        assert set(self.ledgers) == set(batches) == self.quality
        assert self.customers == sorted(expected.customers)
        assert self.products == sorted(expected.products)
        for batch, name in batches.items():
            wanted = expected.ledgers[name]
            assert {term: self.ledgers[batch][term] for term in wanted} == wanted
            accepted = wanted["read"] - wanted["quarantined"]
            assert self.staged[batch] == (accepted, accepted)
            assert sorted(self.quarantined[batch]) == sorted(expected.quarantined[name])
        assert set(self.staged) == set(self.quarantined) == set(batches)
        assert self.stray_tables == []
        assert self.keys == ["PRIMARY KEY (order_id)"]
        assert self.advisory_locks == []
