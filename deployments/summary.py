"""What a run of the pipeline did, read from the warehouse and shown on the terminal."""

from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg
from rich.console import Console
from rich.table import Table
from rich.text import Text

from infra.postgres.connection import connect
from infra.postgres.identifiers import qualify
from infra.postgres.layout import WAREHOUSE
from schemas.errors import TerminalError

REASONS_SHOWN = 3
UNCHANGED, REFUSED = "UNCHANGED", "REFUSED"
TERMS = (
    "read",
    "loaded",
    "inserted",
    "updated",
    "unchanged",
    "superseded",
    "duplicates",
    "quarantined",
)
"""The ledger in the order in which it is read; `loaded` is the sum of the three after it."""

PARTS_OF_LOADED = ("inserted", "updated", "unchanged")

_EXECUTION = """
    SELECT id, pipeline_name, status, error_message, warnings,
           extract(epoch FROM end_time - start_time)::float8 AS seconds
    FROM metadata.pipeline_executions WHERE flow_run_id = $1 ORDER BY id DESC LIMIT 1
"""
_COUNTS = """
    SELECT dataset, sum(read)::bigint AS read, sum(inserted)::bigint AS inserted,
           sum(updated)::bigint AS updated, sum(unchanged)::bigint AS unchanged,
           sum(superseded)::bigint AS superseded, sum(duplicates)::bigint AS duplicates,
           sum(quarantined)::bigint AS quarantined, sum(filled)::bigint AS filled
    FROM metadata.dataset_counts WHERE execution_id = $1 GROUP BY dataset ORDER BY min(id)
"""
_REASONS = """
    SELECT dataset, concat_ws(' ', column_name, rule) AS reason, count(*) AS rows
    FROM metadata.quarantine WHERE execution_id = $1 GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2
"""
_FILES = """
    SELECT path, dataset, status, rows, message, notes
    FROM metadata.source_files WHERE execution_id = $1 ORDER BY id
"""
_TABLES = "SELECT table_name FROM metadata.warehouse_tables ORDER BY table_name"


@dataclass(frozen=True, slots=True)
class Counts:
    """The ledger of one dataset in one run, in rows."""

    dataset: str
    read: int
    inserted: int
    updated: int
    unchanged: int
    superseded: int
    duplicates: int
    quarantined: int
    filled: int = 0

    @property
    def loaded(self) -> int:
        """Rows that the warehouse holds as they were read."""
        return self.inserted + self.updated + self.unchanged

    @property
    def balances(self) -> bool:
        """Whether every row read is accounted for."""
        return self.read == self.loaded + self.superseded + self.duplicates + self.quarantined


@dataclass(frozen=True, slots=True)
class Source:
    """A file or an endpoint that the run looked at."""

    path: str
    dataset: str
    status: str
    rows: int | None = None
    message: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """All that a run said of itself."""

    status: str
    error_message: str | None = None
    seconds: float | None = None
    warnings: tuple[str, ...] = ()
    counts: tuple[Counts, ...] = ()
    reasons: dict[str, Counter[str]] = field(default_factory=dict)
    sources: tuple[Source, ...] = ()
    warehouse: dict[str, int] = field(default_factory=dict)
    """Rows by table, after the run."""


async def read_report(database_url: str, flow_run_id: UUID) -> Report:
    """Return what the run of that id left; raises TerminalError where it left no trace."""
    connection = await connect(database_url)
    try:
        execution = await connection.fetchrow(_EXECUTION, flow_run_id)
        if execution is None:
            raise TerminalError(
                f"The run {flow_run_id} ended before it was recorded in "
                "metadata.pipeline_executions; its log says why."
            )
        return await _read(connection, execution)
    finally:
        await connection.close()


async def _read(connection: asyncpg.Connection, execution: asyncpg.Record) -> Report:
    reasons: dict[str, Counter[str]] = {}
    for row in await connection.fetch(_REASONS, execution["id"]):
        reasons.setdefault(row["dataset"], Counter())[row["reason"]] = row["rows"]
    return Report(
        status=execution["status"],
        error_message=execution["error_message"],
        seconds=execution["seconds"],
        warnings=tuple(execution["warnings"]),
        counts=tuple(Counts(**row) for row in await connection.fetch(_COUNTS, execution["id"])),
        reasons=reasons,
        sources=tuple(
            Source(**{**row, "notes": tuple(row["notes"])})
            for row in await connection.fetch(_FILES, execution["id"])
        ),
        warehouse=await count_warehouse(connection),
    )


async def count_warehouse(connection: asyncpg.Connection) -> dict[str, int]:
    """Return the rows of each table of the warehouse."""
    warehouse = {}
    for row in await connection.fetch(_TABLES):
        table = qualify(WAREHOUSE, row["table_name"])
        warehouse[row["table_name"]] = await connection.fetchval(
            f"SELECT count(*) FROM {table}"  # noqa: S608 - the name is quoted
        )
    return warehouse


def find_shortfalls(report: Report) -> list[str]:
    """Return a sentence for each figure that a sound run would not show; none for a sound run."""
    found = []
    if report.status != "SUCCESS":
        found.append(f"the pipeline's status is {report.status}: {report.error_message}")
    if not report.sources:
        found.append("the run looked at no source at all; is there anything in the raw folder?")
    found += [
        f"{each.path} was refused: {each.message}"
        for each in report.sources
        if each.status == REFUSED
    ]
    found += [
        f"{each.dataset}: {each.read} rows were read, and not as many are accounted for"
        for each in report.counts
        if not each.balances
    ]
    found += [f"warehouse.{name} is empty" for name, rows in report.warehouse.items() if not rows]
    return found


def print_report(console: Console, report: Report) -> None:
    """Show the run: the ledger by dataset, the warehouse, what was skipped, what to look at."""
    console.print()
    if report.counts:
        console.print(_ledger(report))
    for dataset, reasons in report.reasons.items():
        commonest = reasons.most_common(REASONS_SHOWN)
        listed = ", ".join(f"{reason} ({rows:,})" for reason, rows in commonest)
        _say(console, f"Quarantined from {dataset}, the commonest reasons: {listed}")
    skipped = [each for each in report.sources if each.status == UNCHANGED]
    if skipped:
        names = ", ".join(each.path.rsplit("/", 1)[-1] for each in skipped)
        _say(console, f"Skipped as unchanged: {names}")
    console.print(_warehouse(report))
    for warning in report.warnings:
        _say(console, f"Warning: {warning}")
    for source in report.sources:
        for note in source.notes:
            if not any(note in warning for warning in report.warnings):
                _say(console, f"{source.path}: {note}")
    took = "" if report.seconds is None else f" in {report.seconds:.1f} s"
    _say(console, f"The pipeline ended with {report.status}{took}.")


def _ledger(report: Report) -> Table:
    table = Table(title="What became of each row", title_justify="left")
    table.add_column("")
    for each in report.counts:
        table.add_column(Text(each.dataset), justify="right")
    for term in TERMS:
        numbers = [getattr(each, term) for each in report.counts]
        label = f"  {term}" if term in PARTS_OF_LOADED else term
        table.add_row(label, *(f"{number:,}" for number in numbers), end_section=term == "read")
    return table


def _warehouse(report: Report) -> Table:
    table = Table(title="In the warehouse", title_justify="left")
    table.add_column("table")
    table.add_column("rows", justify="right")
    for name, rows in report.warehouse.items():
        table.add_row(Text(f"{WAREHOUSE}.{name}"), f"{rows:,}")
    return table


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
