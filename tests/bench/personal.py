"""`python -m tests.bench.personal --rows 5000000 --runs 3`: what one personal column costs a load.

The same file goes the whole path, into an empty fact, by two contracts that differ in whether the
column `email` is personal. Lanes: `distinct` has another e-mail in each row, `repeated` each of
10,000 e-mails many times; `…_in_clear` is the contract without personal columns.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import polars as pl

from schemas.datasets import DATASETS
from schemas.errors import SluicewayError
from tests.bench.batch import Inputs, say
from tests.bench.personal_orders import OrdersEncrypted, OrdersInClear
from tests.bench.server import BenchError, BenchServer, lend_folder

REPEATED_VALUES = 10_000
KINDS = ("distinct", "repeated")
CONTRACTS = (OrdersInClear.spec, OrdersEncrypted.spec)
MOST = 1.8
"""Times as long as without, at most, for distinct values."""


@dataclass(slots=True)
class PersonalBench:
    """The four lanes over one server."""

    server: BenchServer
    files: dict[str, Path]
    """A folder for each kind of values; in it a file for each contract."""
    rows: int
    seconds: dict[tuple[str, str], list[float]] = field(default_factory=dict)

    def run_once(self, run: int) -> None:
        """Run each lane once; in another order each time."""
        for kind in KINDS:
            for spec in CONTRACTS if run % 2 else reversed(CONTRACTS):
                self._run(run, kind, spec.table)

    def _run(self, run: int, kind: str, table: str) -> None:
        path = self.files[kind] / f"{table}.csv"
        with self.server.clone("bench_personal") as database:
            answer = self.server.load(database, path)
            if answer.ledger["inserted"] != self.rows or answer.ledger["read"] != self.rows:
                raise BenchError(f"{kind} {table}: the ledger is off: {answer.ledger}")
            clear = self.server.postgres.execute(
                "SELECT count(*) FROM warehouse.fact_orders_encrypted "
                "WHERE octet_length(email) < 33 OR octet_length(_email_index) <> 16;",
                database=database,
            )
            if int(clear):
                raise BenchError(f"{kind} {table}: {clear} cells are not encrypted")
        self.seconds.setdefault((kind, table), []).append(answer.seconds)
        say(
            f"run {run}  {kind:<9} {table:<17} {answer.seconds:8.3f} s"
            f"  {self.rows / answer.seconds:10,.0f} rows/s  peak {answer.peak_bytes / 1e6:6.0f} MB"
        )

    def ratio(self, kind: str) -> float:
        """Return the median over the runs of the encrypted load's time by the other's."""
        encrypted = self.seconds[kind, OrdersEncrypted.spec.table]
        in_clear = self.seconds[kind, OrdersInClear.spec.table]
        return median(a / b for a, b in zip(encrypted, in_clear, strict=True))


def write_files(folder: Path, rows: int) -> dict[str, Path]:
    """Write the sample's clean rows with an e-mail each; returns the folder of each kind."""
    inputs = Inputs.write(folder, rows)
    made = {}
    for kind in KINDS:
        into = folder / kind
        into.mkdir()
        number = pl.col("order_id").cast(pl.Int64)
        person = number % REPEATED_VALUES if kind == "repeated" else number
        first, second = (into / f"{spec.table}.csv" for spec in CONTRACTS)
        pl.scan_csv(inputs.clean, infer_schema=False).with_columns(
            pl.format("person.{}@mail.example", person).alias("email")
        ).sink_csv(first)
        os.link(first, second)
        made[kind] = into
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code is 1 where a lane did not do what it was timed for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.personal", description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args(arguments)
    try:
        with lend_folder(None) as folder:
            say(f"writing {given.rows:,} rows below {folder} …")
            files = write_files(folder, given.rows)
            with BenchServer(
                folder, datasets=(*DATASETS, OrdersInClear, OrdersEncrypted)
            ) as server:
                say(f"cores={os.cpu_count()} {server.show_settings()}")
                server.load_dimensions(folder / "first")
                bench = PersonalBench(server, files, given.rows)
                for run in range(1, given.runs + 1):
                    bench.run_once(run)
    except (BenchError, SluicewayError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted; nothing is left running.\n")
        return 130
    distinct, repeated = bench.ratio("distinct"), bench.ratio("repeated")
    say(f"distinct_ratio={distinct:.2f} repeated_ratio={repeated:.2f} wanted<={MOST}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
