"""How fresh the datasets are, and how fresh they have to be."""

from infra.exporter.sheet import Sheet
from infra.postgres.connection import Connection
from schemas.datasets import DATASETS

LOOKED_AT = 200
"""The newest loads of a dataset among which one that brought rows is looked for."""


async def read_freshness(sheet: Sheet, connection: Connection) -> None:
    """Add when rows of each dataset came last, and what its contract promises.

    As the dashboard has it: a load of which every row was refused brought none, and a file that is
    as it was is no news; an API that says what it said before is.
    """
    specs = [each.spec for each in DATASETS]
    # A range and an order by the dataset: only the index on both serves that. With `=`, the planner
    # may walk all files by their number, to find those of a dataset that was loaded long ago.
    rows = await connection.fetch(
        """
        SELECT given.dataset, extract(epoch FROM max(at))::float8 AS at
        FROM unnest($1::text[]) AS given (dataset),
        LATERAL (
            SELECT max(recorded_at) FILTER (WHERE inserted + updated + unchanged > 0) AS at
            FROM (
                SELECT recorded_at, inserted, updated, unchanged FROM metadata.dataset_counts AS c
                WHERE c.dataset BETWEEN given.dataset AND given.dataset
                ORDER BY c.dataset, c.recorded_at DESC LIMIT $2
            ) AS counts
            UNION ALL
            SELECT max(recorded_at) FILTER (WHERE status = 'UNCHANGED' AND path LIKE '%://%')
            FROM (
                SELECT recorded_at, status, path FROM metadata.source_files AS f
                WHERE f.dataset BETWEEN given.dataset AND given.dataset
                ORDER BY f.dataset, f.id DESC LIMIT $2
            ) AS files
        ) AS last
        GROUP BY given.dataset HAVING max(at) IS NOT NULL ORDER BY 1
        """,
        [spec.table for spec in specs],
        LOOKED_AT,
    )
    sheet.gauge(
        "sluiceway_dataset_last_load_timestamp_seconds",
        "When rows of the dataset came last, or an API said again what it had said before.",
        ("dataset",),
        [((row["dataset"],), row["at"]) for row in rows],
        unit="seconds",
    )
    sheet.gauge(
        "sluiceway_dataset_freshness_limit_seconds",
        "How old the last load may be by the dataset's contract; absent where it promises nothing.",
        ("dataset",),
        [
            ((spec.table,), spec.freshness.total_seconds())
            for spec in specs
            if spec.freshness is not None
        ],
        unit="seconds",
    )
