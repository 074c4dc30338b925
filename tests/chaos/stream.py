"""Shows that the stream loses nothing and doubles nothing while its parts are killed and frozen.

    python -m tests.chaos.stream [--quick]

Three Apache Kafka nodes, a PostgreSQL whose commits last, a producer and two consumers. The faults
come in a random order; SLUICEWAY_CHAOS_SEED repeats it. The last line says what became of every
event that the brokers acknowledged.
"""

import argparse
import asyncio
import os
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from infra.local.kafka import ApacheKafka
from infra.local.postgres import Postgres
from schemas.errors import SluicewayError
from tests.chaos.stream_drill import Plan, run_drill
from tests.chaos.stream_faults import Kind
from tests.chaos.stream_stage import CHECKOUT, ChaosError, Servers

FULL = {Kind.CONSUMER: 20, Kind.POSTGRES: 3, Kind.BROKER: 3, Kind.FROZEN: 3}
QUICK = {Kind.CONSUMER: 3}
EVENTS_PER_SECOND = 4_000
LEAST_EVENTS = 300_000
QUICK_EVENTS = 30_000
DATABASE = "chaos"
PARTITIONS = 6


def say(text: str) -> None:
    """Write a line, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run(folder: Path, plan: Plan, nodes: int) -> bool:
    """Return whether nothing was lost or doubled, and say it."""
    with ApacheKafka(folder / "kafka", nodes=nodes) as kafka, Postgres(folder / "data") as postgres:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            if postgres.execute(f"SHOW {setting}") != "on":
                raise ChaosError(f"PostgreSQL has {setting} off: its commits would not last.")
        postgres.ensure_database(DATABASE)
        servers = Servers(kafka, postgres, DATABASE, folder, PARTITIONS, replicas=nodes)
        course, verdict = asyncio.run(run_drill(servers, plan, say))
    for line in course.report():
        say(line)
    say(
        f"in doubt, as an error answered them: {verdict.doubtful} events, of which "
        f"{verdict.doubtful_found} are there"
    )
    for line in verdict.flaws:
        say(line)
    good = verdict.is_good and not course.complaints
    if not good:
        say(f"Something is wrong: see above; the data and the logs are in {folder}.")
    say(verdict.last_line)
    return good


def main() -> None:
    """Run it; the exit code is 0 where nothing was lost or doubled."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.stream", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--quick", action="store_true", help="one broker, three kills, no more")
    parser.add_argument("--folder", type=Path, help="keep all data and logs there")
    given = parser.parse_args()
    seed = int(os.environ.get("SLUICEWAY_CHAOS_SEED") or secrets.randbelow(10**9))
    say(f"SLUICEWAY_CHAOS_SEED={seed}")
    plan = Plan(
        faults=QUICK if given.quick else FULL,
        events_per_second=EVENTS_PER_SECOND,
        least_events=QUICK_EVENTS if given.quick else LEAST_EVENTS,
        seed=seed,
    )
    parent = CHECKOUT / ".sluiceway" / "chaos"
    parent.mkdir(parents=True, exist_ok=True)
    folder = given.folder or Path(tempfile.mkdtemp(prefix="stream-", dir=parent))
    try:
        good = run(folder, plan, nodes=1 if given.quick else 3)
    except (ChaosError, SluicewayError) as error:
        sys.exit(f"{error} The data and the logs are in {folder}.")
    if not good:
        sys.exit(1)
    if given.folder is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
