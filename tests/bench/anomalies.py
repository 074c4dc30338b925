"""`python -m tests.bench.anomalies`: what the anomaly rules find in histories that hold faults.

Each seed gives a feed's daily loads over ninety days (tests/bench/seeded_histories.py) with five
faults, one of each kind: half of the rows; twice the empty cells of a column that has 2 to 10 % of
them; a load that comes one to two and a half days late; a fifth of a column's cells of another
type; a twentieth of the rows twice. A scratch PostgreSQL gets the histories load by load: before
each load it is asked whether the feed is silent for too long (tasks/judge_silence.py, in the last
moment before the load, when it is silent for longest), then the load is judged
(tasks/judge_load.py), and then its profile is written.

A fault counts as found only where the right rule fires, for the right column, on the load of the
fault; for a late one also while nothing came. Every other alarm is false, but for rejected rows
where mistyped cells made them. Also printed is what the rules do with other seeds, which nobody
looked at while the rules were made: --first 5000 --seeds 200.
"""

import argparse
import asyncio
import datetime as dt
import json
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median

import asyncpg

from infra.postgres.connection import Connection
from schemas.datasets import Sales
from schemas.errors import SluicewayError
from tasks.anomalies import Anomaly, write_anomalies
from tasks.anomaly_rules import RULES, Load
from tasks.judge_load import judge_load
from tasks.judge_silence import tell_silence
from tasks.profile import ColumnProfile, LoadProfile
from tests.bench.seeded_histories import (
    CONSEQUENCES,
    KINDS,
    RIGHT_RULE,
    Planted,
    make_history,
)
from tests.bench.server import LOADER, BenchError, BenchServer, lend_folder

LEAST_FOUND = 0.95
MOST_FALSE = 1
"""Alarms a history, at the median."""


@dataclass(slots=True)
class Verdict:
    """What was found in the history of a seed."""

    seed: int
    found: set[str] = field(default_factory=set)
    true: Counter[str] = field(default_factory=Counter)
    """Alarms by rule that were right."""
    false: Counter[str] = field(default_factory=Counter)

    def count(self, planted: Planted, anomalies: Sequence[Anomaly]) -> None:
        """Take note of what was said of a load, or of the silence before it."""
        for each in anomalies:
            fault = planted.fault
            if fault and each.rule == RIGHT_RULE[fault] and each.column == planted.column:
                self.found.add(fault)
                self.true[each.rule] += 1
            elif fault and each.rule in CONSEQUENCES.get(fault, frozenset()):
                self.true[each.rule] += 1
            else:
                self.false[each.rule] += 1


async def judge_history(connection: Connection, seed: int) -> Verdict:
    """Write a seed's history load by load, and return what was said of it meanwhile."""
    verdict = Verdict(seed)
    # Without a promise, which would find every late load by itself.
    spec = replace(Sales.spec, table=f"seed_{seed}", freshness=None)
    for planted in make_history(seed):
        load = planted.load
        a_moment_before = load.at - dt.timedelta(milliseconds=1)
        verdict.count(planted, await tell_silence(connection, [spec], a_moment_before))
        profile = _profile(spec.table, load)
        found = await judge_load(connection, profile, spec, at=load.at)
        await write_anomalies(
            connection, found, execution_id=1, batch_id=None, was_refused=False, at=load.at
        )
        await _write_profile(connection, profile, load.at)
        verdict.count(planted, found)
    return verdict


def _profile(dataset: str, load: Load) -> LoadProfile:
    columns = tuple(
        ColumnProfile(name, each.rows, each.missing, each.mistyped, None, None, None)
        for name, each in load.columns.items()
    )
    return LoadProfile(dataset, "daily", load.read, load.duplicates, load.quarantined, columns)


async def _write_profile(connection: Connection, profile: LoadProfile, at: dt.datetime) -> None:
    columns = {each.column: asdict(each) for each in profile.columns}
    await connection.execute(
        """
        INSERT INTO metadata.load_profiles
            (execution_id, dataset, feed, read, duplicates, quarantined, columns, profiled_at)
        VALUES (1, $1, $2, $3, $4, $5, $6, $7)
        """,
        *(profile.dataset, profile.feed, profile.read, profile.duplicates, profile.quarantined),
        *(json.dumps(columns), at),
    )


async def judge_histories(url: str, seeds: Sequence[int]) -> list[Verdict]:
    """Return the verdict of each seed."""
    connection = await asyncpg.connect(url, server_settings={"timezone": "UTC"})
    try:
        verdicts = []
        for seed in seeds:
            verdict = await judge_history(connection, seed)
            verdicts.append(verdict)
            missed = ", ".join(each for each in KINDS if each not in verdict.found)
            false = ", ".join(f"{count} {rule}" for rule, count in sorted(verdict.false.items()))
            say(f"seed {seed}: missed {missed or 'nothing'}; false alarms: {false or 'none'}")
        return verdicts
    finally:
        await connection.close()


def summarise(verdicts: Sequence[Verdict]) -> tuple[str, bool]:
    """Return a table by rule and the last line, and whether the rules do what they must."""
    found = Counter(each for verdict in verdicts for each in verdict.found)
    true = sum((verdict.true for verdict in verdicts), Counter[str]())
    false = sum((verdict.false for verdict in verdicts), Counter[str]())
    fault_of = {rule: fault for fault, rule in RIGHT_RULE.items()}
    planted = len(verdicts)
    lines = ["rule             fault          found     recall  right  false  precision"]
    for rule in RULES:
        fault = fault_of.get(rule)
        of = f"{found[fault]:>4} of {planted:<4} {found[fault] / planted:>6.1%}" if fault else ""
        lines.append(
            f"{rule:<16} {fault or '':<14} {of:<19} {true[rule]:>5}  {false[rule]:>5}"
            f"  {_precision(true[rule], false[rule])}"
        )
    alarms = [verdict.false.total() for verdict in verdicts]
    share = found.total() / (len(KINDS) * planted)
    last = (
        f"found={found.total()} of={len(KINDS) * planted} recall={share:.3f}"
        f" precision={_precision(true.total(), false.total()).strip()}"
        f" false_median={median(alarms):g} false_worst={max(alarms)}"
        f" false_mean={false.total() / planted:.2f}"
    )
    return "\n".join([*lines, last]), share >= LEAST_FOUND and median(alarms) <= MOST_FALSE


def _precision(true: int, false: int) -> str:
    return f"{true / (true + false):>9.3f}" if true + false else f"{'-':>9}"


def say(line: str) -> None:
    """Print it at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line's wishes."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.anomalies", description="What the anomaly rules find."
    )
    parser.add_argument("--seeds", type=int, default=20, help="how many; default: %(default)s")
    parser.add_argument("--first", type=int, default=0, help="the first; default: %(default)s")
    parser.add_argument("--folder", type=Path, help="whose disk to use (default: .sluiceway/bench)")
    given = parser.parse_args(arguments)
    if given.seeds < 1 or given.first < 0:
        parser.error("--seeds must be 1 or more, --first 0 or more")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit code is 1 where too little was found or too much was said."""
    given = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Ended by a signal."))
    seeds = range(given.first, given.first + given.seeds)
    try:
        with (
            lend_folder(given.folder) as folder,
            BenchServer(folder) as server,
            server.clone("bench_anomalies") as database,
        ):
            url = server.postgres.url(database, user=LOADER, password=server.loader_password)
            verdicts = asyncio.run(judge_histories(url, seeds))
    except (BenchError, SluicewayError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted; nothing is left running.\n")
        return 130
    text, is_good = summarise(verdicts)
    say(text)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
