"""What was found odd about a load: as a value, and as rows that people are told of."""

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import attrgetter
from typing import Literal

from infra.postgres.connection import Connection

Severity = Literal["warning", "error"]
_RANKS: dict[Severity, int] = {"warning": 0, "error": 1}


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One figure of a load that is not what the feed's earlier loads lead to expect."""

    dataset: str
    feed: str
    column: str | None
    """None: it is about the load as a whole."""
    rule: str
    severity: Severity
    observed: float
    """Rows for `volume`, seconds for `freshness`, a share from 0 to 1 for every other rule."""
    expected: float | None
    low: float | None
    high: float | None
    """What would have passed, in the unit of `observed`; None: no limit on that side."""
    summary: str
    """One sentence for a person; it holds counts and names, and no value of a row."""


async def write_anomalies(
    connection: Connection,
    anomalies: Sequence[Anomaly],
    *,
    execution_id: int | None,
    batch_id: int | None,
    was_refused: bool,
    at: dt.datetime | None = None,
) -> None:
    """Leave a row an anomaly in metadata.anomalies, and one alert event a dataset.

    The event has the worst severity and the worst one's sentence; its detail has them all. Both
    are written in the caller's transaction. execution_id: None for what no run brought to light,
    as that a feed is silent. at: when they were found, by default now.
    """
    await connection.executemany(
        """
        INSERT INTO metadata.anomalies
            (dataset, feed, column_name, rule, severity, observed, expected, low, high, summary,
            execution_id, batch_id, was_refused, detected_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13,
            coalesce($14, clock_timestamp()))
        """,
        [
            (
                *(each.dataset, each.feed, each.column, each.rule, each.severity),
                *(each.observed, each.expected, each.low, each.high, each.summary),
                *(execution_id, batch_id, was_refused, at),
            )
            for each in anomalies
        ],
    )
    by_dataset = groupby(sorted(anomalies, key=attrgetter("dataset")), key=attrgetter("dataset"))
    for dataset, group in by_dataset:
        # Sorting keeps the order of equals: the first of the worst speaks for all.
        found = sorted(group, key=lambda each: -_RANKS[each.severity])
        await connection.execute(
            """
            INSERT INTO metadata.alert_events
                (kind, problem, severity, summary, execution_id, detail, happened_at)
            VALUES ('anomaly', $1, $2, $3, $4, $5, coalesce($6, clock_timestamp()))
            """,
            f"dataset:{dataset}",
            found[0].severity,
            _sum_up(found, was_refused=was_refused),
            execution_id,
            json.dumps(
                {
                    "anomalies": [asdict(each) for each in found],
                    "batch_id": batch_id,
                    "was_refused": was_refused,
                }
            ),
            at,
        )


def _sum_up(found: Sequence[Anomaly], *, was_refused: bool) -> str:
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    refused = "; the load was not merged" if was_refused else ""
    return f"{found[0].summary}{more}{refused}"
