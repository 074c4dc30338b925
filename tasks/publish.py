"""What a run did with its sources, as a table in the Prefect UI."""

from collections.abc import Sequence

from prefect.artifacts import acreate_table_artifact

from tasks.load import Report
from tasks.produce_source import Produced


async def publish_ledger(reports: Sequence[Report], *, execution_id: int) -> None:
    """Leave one table artifact with a row for each source of the run."""
    rows = [
        {
            "source": report.path.rsplit("/", 1)[-1],
            "dataset": report.table,
            "outcome": report.outcome.value,
            "read": report.ledger.read,
            "inserted": report.ledger.inserted,
            "updated": report.ledger.updated,
            "unchanged": report.ledger.unchanged,
            "superseded": report.ledger.superseded,
            "duplicates": report.ledger.duplicates,
            "quarantined": report.ledger.quarantined,
            "filled": report.ledger.filled,
            "inferred": report.ledger.inferred,
            "remarks": "; ".join(filter(None, (report.message, *report.notes))),
        }
        for report in reports
    ]
    await acreate_table_artifact(
        key="ledger", table=rows, description=f"What became of every row of run {execution_id}."
    )


async def publish_production(reports: Sequence[Produced], *, execution_id: int) -> None:
    """Leave one table artifact with what became of each source that a run produced."""
    rows = [
        {
            "source": report.path.rsplit("/", 1)[-1],
            "dataset": report.table,
            "outcome": report.outcome.value,
            "read": report.read,
            "sent": report.sent,
            "refused": report.refused,
            "quarantined": report.quarantined,
            "remarks": "; ".join(filter(None, (report.message, *report.notes))),
        }
        for report in reports
    ]
    await acreate_table_artifact(
        key="produced", table=rows, description=f"What run {execution_id} put on the stream."
    )
