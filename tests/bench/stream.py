r"""`python -m tests.bench.stream`: our consumer against what it is made of, and against others.

Lanes, each in a process of its own, all from one Apache Kafka into one PostgreSQL, a million
messages of about 220 bytes in three partitions:

    getmany     aiokafka's getmany with our consumer's settings; the records are dropped
    getmany_gc  the same, and Python looks for garbage as seldom as in our consumer
    copy        psql \copy of the same rows into a plain table of typed columns, no index
    insert      our consumer, contract checked, into staging with lineage, ledger and offsets
    upsert      our consumer on top of a fact that has all keys already: every message changes a
                row; they are staged and merged
    faststream  a FastStream batch subscriber that COPYs by asyncpg; nothing is checked
    quix        Quix Streams with its PostgreSQL sink; nothing is checked

then the latency of the insert and the upsert at a steady rate. Each lane has a fresh database and
consumer group, and a CHECKPOINT before it. The clock runs from the first fetch to the last COMMIT.
A lane that leaves another number of rows than there were messages ends the benchmark.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from schemas.errors import SluicewayError
from tests.bench.figures import Lap
from tests.bench.peer_environment import STREAM_FOLDER, STREAM_LOCK, PeerError, make_environment
from tests.bench.server import BenchError, lend_folder
from tests.bench.stream_figures import Latency, summarise_stream
from tests.bench.stream_latency import LatencyLane
from tests.bench.stream_server import CHANGED, FILLED, NEW, PEERS, LaneAnswer, StreamServers

LANES = ("getmany", "getmany_gc", "copy", "insert", "upsert", "faststream", "quix")


@dataclass(slots=True)
class StreamBench:
    """The lanes over one pair of servers."""

    servers: StreamServers
    lanes: frozenset[str]
    laps: list[Lap] = field(default_factory=list)

    def prepare(self) -> None:
        """Fill the topics, and what the lanes start from."""
        servers = self.servers
        servers.write_csv()
        size_bytes = servers.csv.stat().st_size
        say(f"\\copy's file: {size_bytes / 1e6:.0f} MB")
        for topic, kind in ((NEW, "new"), (CHANGED, "changed")):
            seconds = servers.fill(topic, kind)["seconds"]
            say(f"{topic}: produced at {servers.messages / seconds:,.0f} messages/s")
        if "upsert" in self.lanes:
            answer = servers.fill_fact()
            say(f"the fact of the upsert lane was filled in {answer.seconds:.1f} s, by ours")
        # The first reader of a broker finds it cold.
        with servers.postgres.clone("bench_lane") as database:
            servers.run("getmany", database)

    def run_all(self, rounds: int) -> None:
        """Run the lanes so many times, in another order each time."""
        lanes = [each for each in LANES if each in self.lanes]
        for number in range(1, rounds + 1):
            turn = (number - 1) * 2 % len(lanes)
            for lane in lanes[turn:] + lanes[:turn]:
                self._run(lane, number)

    def _run(self, lane: str, number: int) -> None:
        load_average = os.getloadavg()[0]
        source = FILLED if lane == "upsert" else "bench_template"
        with self.servers.postgres.clone("bench_lane", of=source) as database:
            if lane == "copy":
                seconds, rows = self.servers.postgres.copy(database, self.servers.csv)
                answer = LaneAnswer(seconds, 0.0, rows)
            else:
                topic = CHANGED if lane == "upsert" else NEW
                answer = self.servers.run(lane, database, topic=topic)
        self._judge(lane, answer)
        self.laps.append(Lap(lane, number, answer.seconds, answer.messages, 0, answer.peak_bytes))
        own = f"  cpu {answer.cpu_seconds:5.1f} s" if answer.cpu_seconds else " " * 13
        own += f"  {answer.batches:3} batches" if answer.batches else ""
        own += f"  peak {answer.peak_bytes / 1e6:4.0f} MB" if answer.peak_bytes else ""
        say(
            f"round {number}  {lane:<10} {answer.seconds:7.2f} s"
            f"  {answer.messages / answer.seconds:10,.0f} messages/s{own}"
            f"  load average before {load_average:.1f}"
        )

    def _judge(self, lane: str, answer: LaneAnswer) -> None:
        """Raise BenchError where our ledger says anything else than what the topic holds."""
        if answer.ledger is None:
            return
        counted = {name: count for name, count in answer.ledger.items() if count}
        term = "updated" if lane == "upsert" else "inserted"
        if counted != {"read": self.servers.messages, term: self.servers.messages}:
            raise BenchError(f"{lane}: the ledger is off: {counted}")

    def list_medians(self) -> str:
        """Return each lane's median pace."""
        paces = {
            lane: [lap.rows / lap.seconds for lap in self.laps if lap.lane == lane]
            for lane in LANES
        }
        return "\n".join(
            f"median  {lane:<10} {median(each):10,.0f} messages/s"
            for lane, each in paces.items()
            if each
        )


def describe(name: str, latency: Latency | None, rate: int) -> str:
    """Return one line about a latency lane."""
    if latency is None:
        return f"latency of {name}: no message came after the warm-up"
    return (
        f"latency of {name} at {rate:,} messages/s: p50 {latency.p50_ms:.0f} ms, "
        f"p99 {latency.p99_ms:.0f} ms, most {latency.most_ms:.0f} ms over "
        f"{latency.messages:,} messages"
    )


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line's wishes, the lanes as a set that can be run."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.stream", description="Our consumer, its parts and its peers."
    )
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--lanes", default=",".join(LANES), help="some of them, by comma (default: all)"
    )
    parser.add_argument("--rate", type=int, default=10_000, help="of the latency, messages/s")
    parser.add_argument("--warm-up", type=float, default=15.0, help="seconds before it counts")
    parser.add_argument("--seconds", type=float, default=40.0, help="that count; 0: no latency")
    parser.add_argument("--folder", type=Path, help="whose disk to use (default: .sluiceway/bench)")
    given = parser.parse_args(arguments)
    given.lanes = frozenset(filter(None, given.lanes.split(",")))
    if unknown := given.lanes - set(LANES):
        parser.error(
            f"--lanes has no {', '.join(sorted(unknown))}; take some of {', '.join(LANES)}"
        )
    if given.messages < 1 or given.rounds < 1 or given.rate < 100:
        parser.error("--messages and --rounds must be 1 or more, --rate 100 or more")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code is 1 where a lane did not do what it was timed for."""
    given = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Ended by a signal."))
    latency = None
    try:
        if given.lanes & PEERS:
            make_environment(STREAM_FOLDER, STREAM_LOCK)
        with lend_folder(given.folder) as folder, StreamServers(folder, given.messages) as servers:
            say(servers.postgres.show_settings())
            say(f"cores={os.cpu_count()} messages={given.messages:,} rounds={given.rounds}")
            bench = StreamBench(servers, given.lanes)
            bench.prepare()
            bench.run_all(given.rounds)
            say(bench.list_medians())
            for name in ("upsert", "insert"):
                if given.seconds > 0 and name in given.lanes:
                    lane = LatencyLane(servers, name, given.rate, given.warm_up, given.seconds)
                    latency = lane.run()
                    say(describe(name, latency, given.rate))
    except (BenchError, PeerError, SluicewayError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted; nothing is left running.\n")
        return 130
    say(summarise_stream(bench.laps, latency if "insert" in given.lanes else None))
    return 0


if __name__ == "__main__":
    sys.exit(main())
