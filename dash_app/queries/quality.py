"""What the quality page asks: which rules were kept, what is missing, what changed its form."""

import datetime as dt
from collections.abc import Sequence

import asyncpg

from dash_app.reader import Reader

COMPLETENESS = "completeness"
"""The rule under which each load notes how many cells of a column were empty. It is written for
every column, whether or not one was; another rule is written only where a row broke it. So how
many rows a rule was asked about is told from the former."""
NEWEST_FILES = 1000
LISTED_COLUMNS = 200


async def find_datasets(reader: Reader) -> list[str]:
    """Return the datasets that anything was loaded of, with a contract or without."""
    # A skip scan: from one dataset to the next, over the index.
    rows = await reader.fetch(
        """
        WITH RECURSIVE named AS (
            (SELECT dataset FROM metadata.source_files ORDER BY dataset LIMIT 1)
            UNION ALL
            SELECT (SELECT f.dataset FROM metadata.source_files AS f
                    WHERE f.dataset > named.dataset ORDER BY 1 LIMIT 1)
            FROM named WHERE named.dataset IS NOT NULL
        )
        SELECT dataset FROM named WHERE dataset IS NOT NULL
        """
    )
    return [row["dataset"] for row in rows]


async def count_checked(
    reader: Reader, dataset: str | None, first_day: dt.date
) -> list[asyncpg.Record]:
    """Return by day (UTC) and dataset how many rows were checked, where there were any."""
    return await reader.fetch(
        """
        SELECT day, dataset, max(checked) AS checked FROM metadata.daily_quality
        WHERE day >= $2 AND ($1::text IS NULL OR dataset = $1) AND rule = $3
        GROUP BY day, dataset HAVING max(checked) > 0 ORDER BY day, dataset
        """,
        dataset,
        first_day,
        COMPLETENESS,
    )


async def count_failed(
    reader: Reader, dataset: str | None, first_day: dt.date
) -> list[asyncpg.Record]:
    """Return by day (UTC) and rule how many rows broke it; a row can break several."""
    return await reader.fetch(
        """
        SELECT day, dataset, column_name, rule, failed FROM metadata.daily_quality
        WHERE day >= $2 AND ($1::text IS NULL OR dataset = $1) AND rule <> $3 AND failed > 0
        ORDER BY day, dataset, column_name, rule
        """,
        dataset,
        first_day,
        COMPLETENESS,
    )


async def count_missing(
    reader: Reader, dataset: str | None, first_day: dt.date
) -> list[asyncpg.Record]:
    """Return by column how many cells were empty, filled in or of another type; worst first."""
    return await reader.fetch(
        """
        SELECT dataset, column_name, sum(checked)::bigint AS checked,
            sum(failed)::bigint AS missing, sum(filled)::bigint AS filled,
            sum(mistyped)::bigint AS mistyped
        FROM metadata.daily_quality
        WHERE day >= $2 AND ($1::text IS NULL OR dataset = $1) AND rule = $3
        GROUP BY dataset, column_name
        ORDER BY sum(failed) / greatest(sum(checked), 1) DESC, sum(mistyped) DESC, 1, 2
        LIMIT $4
        """,
        dataset,
        first_day,
        COMPLETENESS,
        LISTED_COLUMNS,
    )


async def count_rows(
    reader: Reader, dataset: str | None, first_day: dt.date
) -> list[asyncpg.Record]:
    """Return what became of rows by day (UTC), of one dataset or all."""
    return await reader.fetch(
        """
        SELECT day, sum(read)::bigint AS read, sum(superseded)::bigint AS superseded,
            sum(duplicates)::bigint AS duplicates, sum(quarantined)::bigint AS quarantined
        FROM metadata.daily_counts WHERE day >= $2 AND ($1::text IS NULL OR dataset = $1)
        GROUP BY day ORDER BY day
        """,
        dataset,
        first_day,
    )


async def find_drift(
    reader: Reader, datasets: Sequence[str], since: dt.datetime
) -> list[asyncpg.Record]:
    """Return how sources differed from their contracts, each difference once, the newest first.

    A difference is a note of a load on its columns, or a refusal that names the contract.
    """
    # From the dataset on, in the order of the index: its newest files come first, and what follows
    # of other datasets is dropped. With `=`, the planner may walk all files by their number, to
    # find those of a dataset that was loaded long ago.
    return await reader.fetch(
        """
        SELECT newest.dataset, said.note, newest.status = 'REFUSED' AS was_refused,
            count(*) AS sources, max(newest.recorded_at) AS last_at,
            (array_agg(newest.path ORDER BY newest.id DESC))[1] AS path,
            (array_agg(newest.execution_id ORDER BY newest.id DESC))[1] AS execution_id
        FROM unnest($1::text[]) AS given (dataset), LATERAL (
            SELECT id, dataset, path, status, notes, message, execution_id, recorded_at
            FROM metadata.source_files AS f
            WHERE f.dataset >= given.dataset
            ORDER BY f.dataset, f.id DESC LIMIT $3
        ) AS newest, LATERAL (
            SELECT note FROM unnest(newest.notes) AS each (note) WHERE note LIKE 'columns that %'
            UNION ALL
            SELECT newest.message
            WHERE newest.status = 'REFUSED' AND newest.message LIKE '%the contract%'
        ) AS said
        WHERE newest.dataset = given.dataset AND newest.recorded_at >= $2
        GROUP BY newest.dataset, said.note, newest.status = 'REFUSED'
        ORDER BY last_at DESC LIMIT 50
        """,
        list(datasets),
        since,
        NEWEST_FILES,
    )
