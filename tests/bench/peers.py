"""`python -m tests.bench.peers --rows 500000`: one dirty file through ours and four other ways.

Each tool reads the same file as its documentation proposes; where that stops with an error, it
gets the change that the error asks for. Each run has a fresh database, a CHECKPOINT before it, and
a clock that leaves out interpreter and imports. Ours has its dimensions loaded before.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from infra.sample.bulk import write_dimensions, write_sales
from infra.sample.flaws import Ledger
from schemas.errors import SluicewayError
from tests.bench.peer_environment import PeerError, make_environment
from tests.bench.peer_report import Tool, list_notes, list_tools, make_table
from tests.bench.peer_verdict import OURS, Verdict, judge
from tests.bench.server import BenchError, BenchServer, LoadAnswer, lend_folder

TRUTH = "bench_truth"
WIDTH = 118


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
