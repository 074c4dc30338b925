r"""`python -m tests.bench.batch --rows 5000000 --runs 5`: our load against psql's `\copy`.

Lanes, all on one server, each of them in a fresh copy of one database unless it continues another:

    copy            psql \copy of the clean rows into a plain table of typed columns
    staging         our load, checks and quarantine included, of the dirty rows to staging alone
    full            our whole path into the empty fact; its dimensions are there before
    rerun           the same file again, as if the manifest had never seen it
    copy_increment  psql \copy of the increment into a plain table
    increment       our whole path with it: a tenth of the rows, half new, half changed, everywhere

A lane whose ledger is not what was planted in its file ends the benchmark: its time means nothing.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from schemas.errors import SluicewayError
from tests.bench.figures import Lap, summarise
from tests.bench.server import CHECKOUT, BenchError, BenchServer, LoadAnswer, lend_folder

LANES = ("copy", "staging", "full", "rerun", "copy_increment", "increment")
ON_TOP_OF_FULL = frozenset({"rerun", "copy_increment", "increment"})
TERMS = (
    *("read", "inserted", "updated", "unchanged", "superseded", "duplicates", "quarantined"),
    "inferred",
)


@dataclass(frozen=True, slots=True)
class Inputs:
    """The files and what a load of each must count."""

    first: Path
    clean: Path
    increment: Path
    rows: int
    first_ledger: dict[str, int]
    increment_ledger: dict[str, int]
    inferred: int

    @classmethod
    def write(cls, folder: Path, rows: int) -> "Inputs":
        """Write them, in a process of its own: ours stays small beside what is measured."""
        done = subprocess.run(
            [
                *(sys.executable, "-m", "infra.sample.bulk"),
                *("--rows", str(rows), "--folder", str(folder)),
            ],
            stdout=subprocess.PIPE,
            check=False,
            cwd=CHECKOUT,
        )
        if done.returncode:
            raise BenchError("the input files could not be written: see above")
        facts = json.loads(done.stdout)
        return cls(
            first=folder / "first" / "sales_data.csv",
            clean=folder / "clean" / "sales_data.csv",
            increment=folder / "increment" / "sales_data.csv",
            rows=rows,
            first_ledger=facts["first"],
            increment_ledger=facts["increment"],
            inferred=facts["unknown_customers"] + facts["unknown_products"],
        )

    def expected(self, lane: str) -> dict[str, int]:
        """Return what the lane's ledger must say; a term that is not named must be 0."""
        first = self.first_ledger
        match lane:
            case "staging":
                kept = first["inserted"] + first["superseded"] + first["duplicates"]
                return {
                    "read": first["read"],
                    "inserted": kept,
                    "quarantined": first["quarantined"],
                }
            case "full":
                return first | {"inferred": self.inferred}
            case "rerun":
                return first | {"inserted": 0, "unchanged": first["inserted"]}
            case _:
                return self.increment_ledger


@dataclass(slots=True)
class Bench:
    """The lanes over one server and one set of files."""

    server: BenchServer
    inputs: Inputs
    lanes: frozenset[str]
    laps: list[Lap] = field(default_factory=list)

    def run_all(self, runs: int) -> None:
        """Run the lanes so many times, in another order each time."""
        blocks = [self._run_copy, self._run_staging, self._run_warehouse]
        for run in range(1, runs + 1):
            turn = (run - 1) % len(blocks)
            for block in blocks[turn:] + blocks[:turn]:
                block(run)

    def _run_copy(self, run: int) -> None:
        if "copy" in self.lanes:
            with self.server.clone("bench_copy") as database:
                self._time_copy("copy", run, database, self.inputs.clean)

    def _run_staging(self, run: int) -> None:
        if "staging" in self.lanes:
            with self.server.clone("bench_staging") as database:
                answer = self.server.load(database, self.inputs.first, staging_only=True)
                self._note("staging", run, self.inputs.first, answer)

    def _run_warehouse(self, run: int) -> None:
        if "full" not in self.lanes:
            return
        with self.server.clone("bench_full") as database:
            self._time_load("full", run, database, self.inputs.first)
            if "rerun" in self.lanes:
                self._time_load("rerun", run, database, self.inputs.first)
            last = ["copy_increment", "increment"] if run % 2 else ["increment", "copy_increment"]
            for lane in last:
                if lane not in self.lanes:
                    continue
                if lane == "increment":
                    self._time_load(lane, run, database, self.inputs.increment)
                else:
                    self._time_copy(lane, run, database, self.inputs.increment)

    def _time_copy(self, lane: str, run: int, database: str, path: Path) -> None:
        seconds, rows = self.server.copy(database, path)
        expected = (
            (self.inputs.clean, self.inputs.rows),
            (
                self.inputs.increment,
                self.inputs.increment_ledger["read"],
            ),
        )
        if rows != dict(expected)[path]:
            raise BenchError(f"{lane}, run {run}: \\copy left {rows} rows")
        self._add(Lap(lane, run, seconds, rows, path.stat().st_size))

    def _time_load(self, lane: str, run: int, database: str, path: Path) -> None:
        answer = self.server.load(database, path)
        self._note(lane, run, path, answer)
        held = self.inputs.first_ledger["inserted"]
        if lane == "increment":
            held += self.inputs.increment_ledger["inserted"]
        found = self.server.count_fact(database)
        if found != held:
            raise BenchError(f"{lane}, run {run}: the fact has {found} rows and should have {held}")
        self.server.vacuum_fact(database)

    def _note(self, lane: str, run: int, path: Path, answer: LoadAnswer) -> None:
        expected = dict.fromkeys(TERMS, 0) | self.inputs.expected(lane)
        counted = {name: answer.ledger[name] for name in TERMS}
        if counted != expected:
            wrong = {name: (counted[name], expected[name]) for name in TERMS}
            off = {name: pair for name, pair in wrong.items() if pair[0] != pair[1]}
            raise BenchError(f"{lane}, run {run}: the ledger is off (counted, planted): {off}")
        self._add(
            Lap(
                lane,
                run,
                answer.seconds,
                counted["read"],
                path.stat().st_size,
                answer.peak_bytes,
                answer.start_seconds,
            )
        )

    def _add(self, lap: Lap) -> None:
        self.laps.append(lap)
        own = ""
        if lap.peak_bytes:
            own = f"  peak {lap.peak_bytes / 1e6:6.0f} MB  start {lap.start_seconds:.1f} s"
        say(
            f"run {lap.run}  {lap.lane:<14} {lap.seconds:8.3f} s"
            f"  {lap.rows / lap.seconds:10,.0f} rows/s"
            f"  {lap.input_bytes / lap.seconds / 1e6:6.1f} MB/s{own}"
        )


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line's wishes, the lanes as a set that can be run."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.batch", description="Our load against psql's \\copy."
    )
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--lanes", default=",".join(LANES), help="some of them, by comma (default: all)"
    )
    parser.add_argument("--folder", type=Path, help="whose disk to use (default: .sluiceway/bench)")
    given = parser.parse_args(arguments)
    given.lanes = frozenset(given.lanes.split(","))
    if unknown := given.lanes - set(LANES):
        parser.error(
            f"--lanes has no {', '.join(sorted(unknown))}; take some of {', '.join(LANES)}"
        )
    if given.lanes & ON_TOP_OF_FULL:
        given.lanes |= {"full"}
    if given.rows < 1000 or given.runs < 1:  # fewer rows plant no flaw of each kind
        parser.error("--rows must be 1000 or more, --runs 1 or more")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code is 1 where a lane did not do what it was timed for."""
    given = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Ended by a signal."))
    try:
        with lend_folder(given.folder) as folder:
            say(f"writing {given.rows:,} rows below {folder} …")
            inputs = Inputs.write(folder, given.rows)
            with BenchServer(folder) as server:
                say(server.show_settings())
                say(
                    f"cores={os.cpu_count()} rows={given.rows:,}"
                    f" first={inputs.first.stat().st_size / 1e6:.0f} MB"
                    f" clean={inputs.clean.stat().st_size / 1e6:.0f} MB"
                    f" increment={inputs.increment.stat().st_size / 1e6:.0f} MB"
                )
                say("before each lane: CHECKPOINT; after each load into the fact: VACUUM (ANALYZE)")
                server.load_dimensions(folder / "first")
                bench = Bench(server, inputs, given.lanes)
                bench.run_all(given.runs)
    except (BenchError, SluicewayError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted; nothing is left running.\n")
        return 130
    say(summarise(bench.laps))
    return 0


if __name__ == "__main__":
    sys.exit(main())
