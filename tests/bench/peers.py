"""`python -m tests.bench.peers --rows 500000`: one dirty file through ours and four other ways.

Each tool reads the same file as its documentation proposes; where that stops with an error, it
gets the change that the error asks for. Each run has a fresh database, a CHECKPOINT before it, and
a clock that leaves out interpreter and imports. Ours has its dimensions loaded before.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

from infra.sample.bulk import write_dimensions, write_sales
from infra.sample.flaws import Ledger
from schemas.errors import SluicewayError
from tests.bench.peer_environment import LOCK, PeerError, make_environment
from tests.bench.peer_verdict import OURS, Verdict, judge
from tests.bench.server import BenchError, BenchServer, LoadAnswer, lend_folder

TRUTH = "bench_truth"
FACTS = (
    *("seconds", "rows per second", "rows in the table", "rows rejected, with a reason"),
    *("good keys that are missing", "rows repeating another's key", "rows without a key"),
    *("rows with broken cells", "numbers and dates left as text"),
)
WIDTH = 118


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


@dataclass(slots=True)
class Comparison:
    """The file, the server and the tools' Python."""

    server: BenchServer
    path: Path
    python: Path
    planted: Ledger
    runs: int

    def load_ours(self) -> tuple[list[float], LoadAnswer, Verdict]:
        """Load the file by ours once; the database stays, for others to be held against."""
        postgres = self.server.postgres
        postgres.execute(f"CREATE DATABASE {TRUTH} TEMPLATE bench_template;")
        answer = self.server.load(TRUTH, self.path)
        found = {name: answer.ledger[name] for name in Ledger.__dataclass_fields__}
        planted = {name: getattr(self.planted, name) for name in found}
        if found != planted:
            raise BenchError(f"our ledger is off: counted {found}, planted {planted}")
        self.server.vacuum_fact(TRUTH)
        postgres.execute(OURS, database=TRUTH)
        verdict = judge(postgres, TRUTH)
        postgres.execute("DROP VIEW peer_sales;", database=TRUTH)
        return [answer.seconds], answer, verdict

    def load_ours_again(self) -> float:
        """Load the file by ours into another fresh database."""
        with self.server.clone("bench_ours") as database:
            return self.server.load(database, self.path).seconds

    def run(self, tool: Tool) -> None:
        """Let the tool load the file, and look at what it left."""
        if tool.failure:
            return
        if not tool.seconds and not tool.stopped_by:
            tool.stopped_by = self._attempt(tool, mended=False)
            if not tool.stopped_by:
                return
        tool.failure = self._attempt(tool, mended=True)

    def _attempt(self, tool: Tool, *, mended: bool) -> str:
        """Return what stopped the tool; nothing where it came to its end."""
        with self.server.clone("bench_peer", of=TRUTH) as database:
            self.server.checkpoint()
            order = {
                "tool": tool.name,
                "mended": mended,
                "path": str(self.path),
                "url": self.server.postgres.url(database),
            }
            folder = self.path.parent / "peer"
            folder.mkdir(exist_ok=True)
            done = subprocess.run(
                [str(self.python), str(Path(__file__).with_name("peer_tool.py"))],
                input=json.dumps(order),
                capture_output=True,
                text=True,
                check=False,
                cwd=folder,
                env=os.environ
                | {"DLT_DATA_DIR": str(folder / "dlt"), "RUNTIME__DLTHUB_TELEMETRY": "false"},
            )
            # dlt goes on with what it left of a failed run, unless that is gone.
            shutil.rmtree(folder)
            if done.returncode:
                raise PeerError(f"{tool.name} could not be run: {done.stderr.strip()[-500:]}")
            answer = json.loads(done.stdout)
            if "error" in answer:
                return str(answer["error"])
            tool.seconds.append(answer["seconds"])
            tool.verdict = judge(self.server.postgres, database)
        return ""


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


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line's wishes."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.peers", description="One dirty file through us and others."
    )
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="whose disk to use (default: .sluiceway/bench)")
    given = parser.parse_args(arguments)
    if given.rows < 1000 or given.runs < 1:  # fewer rows plant no flaw of each kind
        parser.error("--rows must be 1000 or more, --runs 1 or more")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; the exit code is 1 where it could not be made."""
    given = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Ended by a signal."))
    tools = list_tools()
    console = Console(width=WIDTH, soft_wrap=False)
    try:
        python = make_environment()
        with lend_folder(given.folder) as folder:
            path = folder / "sales_data.csv"
            planted = write_sales(path, given.rows).ledger
            write_dimensions(folder)
            with BenchServer(folder) as server:
                console.print(server.show_settings(), highlight=False)
                server.load_dimensions(folder)
                comparison = Comparison(server, path, python, planted, given.runs)
                ours = comparison.load_ours()
                for run in range(given.runs):
                    turn = run % len(tools)
                    for tool in tools[turn:] + tools[:turn]:
                        comparison.run(tool)
                    if run:
                        ours[0].append(comparison.load_ours_again())
    except (BenchError, PeerError, SluicewayError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted; nothing is left running.\n")
        return 130
    console.print(make_table(given.rows, ours, tools))
    for note in list_notes(ours[1], tools):
        console.print(f"- {note}", highlight=False, markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
