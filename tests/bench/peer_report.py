"""The tools that we are compared with, and how the comparison is put into a table and notes."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from rich import box
from rich.table import Table

from tests.bench.peer_environment import LOCK
from tests.bench.peer_verdict import Verdict
from tests.bench.server import LoadAnswer

FACTS = (
    *("seconds", "rows per second", "rows in the table", "rows rejected, with a reason"),
    *("good keys that are missing", "rows repeating another's key", "rows without a key"),
    *("rows with broken cells", "numbers and dates left as text"),
)


@dataclass(slots=True)
class Tool:
    """A tool under its name in peer_tool.py, and what it did."""

    name: str
    title: str
    plain: str
    mended: str
    packages: tuple[str, ...]
    stopped_by: str = ""
    """The error of the plain way."""
    seconds: list[float] = field(default_factory=list)
    verdict: Verdict | None = None
    failure: str = ""
    """The error of the mended way, if that failed too."""


def list_tools() -> list[Tool]:
    """Return the tools to compare with, nothing run yet."""
    skipping = "on_bad_lines='skip', low_memory=False"
    return [
        Tool(
            "dlt",
            "dlt\nmerge",
            "pyarrow's read_csv, merge by order_id (delete-insert), Parquet over ADBC",
            "rows of another width skipped, rows without order_id filtered out",
            ("dlt", "pyarrow", "adbc-driver-postgresql"),
        ),
        Tool(
            "polars",
            "polars\nwrite_database",
            "read_csv, write_database(engine='adbc')",
            "infer_schema_length=None, truncate_ragged_lines=True",
            ("polars", "adbc-driver-postgresql"),
        ),
        Tool(
            "pandas",
            "pandas\nto_sql",
            "read_csv, to_sql(chunksize=50_000) through SQLAlchemy and psycopg2",
            skipping,
            ("pandas", "sqlalchemy", "psycopg2-binary"),
        ),
        Tool(
            "pandas_adbc",
            "pandas\nto_sql, ADBC",
            "read_csv, to_sql with an ADBC connection",
            skipping,
            ("pandas", "adbc-driver-postgresql"),
        ),
    ]


def make_table(
    rows: int, ours: tuple[list[float], LoadAnswer, Verdict], tools: Sequence[Tool]
) -> Table:
    """Return what each did, side by side."""
    seconds, answer, verdict = ours
    columns = [("sluiceway", _describe(rows, seconds, verdict, answer.ledger["quarantined"]))]
    for tool in tools:
        cells = ["stopped", *[""] * (len(FACTS) - 1)]
        if tool.verdict is not None:
            cells = _describe(rows, tool.seconds, tool.verdict, 0)
        columns.append((tool.title, cells))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for title, _ in columns:
        table.add_column(title, justify="right")
    for place, fact in enumerate(FACTS):
        table.add_row(fact, *(cells[place] for _, cells in columns))
    return table


def _describe(rows: int, seconds: list[float], verdict: Verdict, rejected: int) -> list[str]:
    counts = (
        *(verdict.rows, rejected, verdict.lost, verdict.repeated),
        *(verdict.without_key, verdict.broken),
    )
    return [
        f"{median(seconds):.2f}",
        f"{rows / median(seconds):,.0f}",
        *(f"{count:,}" for count in counts),
        "\n".join(verdict.as_text) or "none",
    ]


def list_notes(answer: LoadAnswer, tools: Sequence[Tool]) -> list[str]:
    """Return how each was used, what stopped it, and why we rejected what we did."""
    ledger = answer.ledger
    reasons = ", ".join(f"{rule} {count:,}" for rule, count in answer.rules.items())
    own = (
        f"sluiceway: read {ledger['read']:,} = inserted {ledger['inserted']:,}"
        f" + superseded {ledger['superseded']:,} + duplicates {ledger['duplicates']:,}"
        f" + quarantined {ledger['quarantined']:,} ({reasons}); staging, quarantine and lineage"
        " are in the time"
    )
    notes = [own]
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", LOCK.read_text(), re.MULTILINE))
    for tool in tools:
        versions = ", ".join(f"{name} {pinned[name]}" for name in tool.packages)
        title = tool.title.replace("\n", " ")
        note = f"{title} ({versions}): {tool.plain}"
        if tool.stopped_by:
            note += f"; stopped by {tool.stopped_by}; then with {tool.mended}"
        if tool.failure:
            note += f"; stopped again by {tool.failure}"
        notes.append(note)
    return notes
