"""`python -m tests.bench.soak`: a consumer's memory over twenty minutes of 5,000 messages a second.

The consumer is the pipeline with its watchers, in a process of its own. Half of the messages bring
a new key, half change a row of before, one in a thousand breaks its contract. Each minute it prints
what the consumer holds, what its PostgreSQL backend holds for itself, and how large the catalogue
is, which temporary tables could fill. The verdict is flat where the median of the last five
readings is within a tenth of that of the third to seventh; the exit code is 1 where it is not.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psutil

from infra.settings import Settings
from schemas.errors import SluicewayError
from tests.bench.server import CHECKOUT, BenchError, lend_folder
from tests.bench.stream import say
from tests.bench.stream_feed import make_topic
from tests.bench.stream_figures import FIRST_READINGS, measure_soak
from tests.bench.stream_server import StreamServers

DATABASE = "bench_soak"
TOPIC = "soak"
DEAD_LETTERS = f"{TOPIC}.dlq"
MEGABYTE = 1e6
STOP_SECONDS = 30.0
BACKENDS = """
SELECT string_agg(pid::text, ',') FROM pg_stat_activity WHERE usename = 'sluiceway_loader';
"""
STATE = """
SELECT
    (SELECT coalesce(sum(next_offset), 0) FROM metadata.stream_offsets),
    (SELECT count(*) FROM metadata.dead_letters),
    (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_attribute),
    pg_total_relation_size('pg_attribute');
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was seen at the end of a minute."""

    minute: int
    rss_mb: float
    backend_mb: float
    """The private memory of the backend that has most; what is shared is the server's."""
    loaded: int
    dead: int
    classes: int
    attributes: int
    attributes_mb: float

    def describe(self) -> str:
        """Return the reading as a line."""
        return (
            f"minute {self.minute:2}  rss {self.rss_mb:6.1f} MB  backend {self.backend_mb:5.1f} MB"
            f"  read {self.loaded:9,}  dead {self.dead:6,}  pg_class {self.classes:,}"
            f"  pg_attribute {self.attributes:,} ({self.attributes_mb:.2f} MB)"
            f"  load average {os.getloadavg()[0]:.1f}"
        )


class Soak:
    """One consumer and one producer over the servers."""

    def __init__(self, servers: StreamServers, minutes: int, rate: int) -> None:
        """Describe the run."""
        self.servers = servers
        self.minutes = minutes
        self.rate = rate

    def run(self) -> list[Reading]:
        """Return a reading a minute."""
        bootstrap = self.servers.kafka.bootstrap_servers
        for topic in (TOPIC, DEAD_LETTERS):
            settings = Settings(kafka_bootstrap_servers=bootstrap, kafka_topic=topic)
            asyncio.run(make_topic(settings))
        readings = []
        with self._start_consumer() as consumer, self._start_feed() as feed:
            start = monotonic()
            for minute in range(1, self.minutes + 1):
                while monotonic() < start + minute * 60:
                    if consumer.poll() is not None:
                        raise BenchError(f"the consumer ended by itself; see {self._log}")
                    sleep(0.2)
                readings.append(self._read(minute, psutil.Process(consumer.pid)))
                say(readings[-1].describe())
            answer, _ = feed.communicate(timeout=60)
            self._wait_for(json.loads(answer)["sent"])
        return readings

    @property
    def _log(self) -> Path:
        return self.servers.folder / "consumer.log"

    def _read(self, minute: int, consumer: psutil.Process) -> Reading:
        postgres = self.servers.postgres.postgres
        pids = postgres.execute(BACKENDS, database=DATABASE).split(",")
        loaded, dead, classes, attributes, size = map(
            int, postgres.execute(STATE, database=DATABASE).split("|")
        )
        return Reading(
            minute=minute,
            rss_mb=consumer.memory_info().rss / MEGABYTE,
            backend_mb=max(read_private_bytes(int(pid)) for pid in pids) / MEGABYTE,
            loaded=loaded,
            dead=dead,
            classes=classes,
            attributes=attributes,
            attributes_mb=size / MEGABYTE,
        )

    def _wait_for(self, sent: int) -> None:
        """Raise BenchError where not all that was sent is read in time."""
        expected = self.minutes * 60 * self.rate
        deadline = monotonic() + STOP_SECONDS
        while True:
            state = self.servers.postgres.postgres.execute(STATE, database=DATABASE)
            loaded = int(state.split("|")[0])
            if loaded >= sent == expected:
                return
            if monotonic() > deadline:
                raise BenchError(f"{loaded} of {sent} messages were read, {expected} were meant")
            sleep(0.5)

    @contextmanager
    def _start_consumer(self) -> Iterator[subprocess.Popen[bytes]]:
        environment = os.environ | {
            "SLUICEWAY_DATABASE_URL": self.servers.url(DATABASE),
            "SLUICEWAY_KAFKA_BOOTSTRAP_SERVERS": self.servers.kafka.bootstrap_servers,
            "SLUICEWAY_KAFKA_TOPIC": TOPIC,
            "SLUICEWAY_KAFKA_DEAD_LETTER_TOPIC": DEAD_LETTERS,
            "SLUICEWAY_LOG_FOLDER": str(self.servers.folder / "logs"),
        }
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.bench.soak_consumer"],
                stdout=log,
                stderr=log,
                cwd=CHECKOUT,
                env=environment,
            )
        try:
            yield process
        finally:
            end(process)

    @contextmanager
    def _start_feed(self) -> Iterator[subprocess.Popen[str]]:
        order: dict[str, Any] = {
            **self.servers.order(TOPIC),
            "make": False,
            "kind": "mixed",
            "rate": self.rate,
            "seconds": self.minutes * 60,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.stream_feed"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(order))
        process.stdin.close()
        process.stdin = None
        try:
            yield process
        finally:
            end(process)


def end(process: subprocess.Popen[Any]) -> None:
    """Leave the process no longer there."""
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def read_private_bytes(pid: int) -> int:
    """Return a process's memory that no other process sees; 0 where the system does not say."""
    status = Path(f"/proc/{pid}/status")
    for line in status.read_text().splitlines() if status.exists() else []:
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0


def summarise_soak(readings: Sequence[Reading]) -> tuple[str, bool]:
    """Return the last line, and whether memory stayed flat."""
    soaked = measure_soak([each.rss_mb for each in readings])
    backend = measure_soak([each.backend_mb for each in readings])
    verdict = "flat" if soaked.is_flat else "not flat"
    say(
        "flat: the median of the last five readings is within 10 % of that of readings 3 to 7; "
        f"the backend went from {backend.first_mb:.1f} to {backend.last_mb:.1f} MB"
    )
    last = (
        f"minutes={len(readings)} messages={readings[-1].loaded}"
        f" rss_first_mb={soaked.first_mb:.0f} rss_last_mb={soaked.last_mb:.0f}"
        f" slope_mb_per_hour={soaked.slope_mb_per_hour:.1f} {verdict}"
    )
    return last, soaked.is_flat


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line's wishes."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.soak", description="A consumer's memory over many minutes."
    )
    parser.add_argument("--minutes", type=int, default=20)
    parser.add_argument("--rate", type=int, default=5_000, help="messages/s")
    parser.add_argument("--folder", type=Path, help="whose disk to use (default: .sluiceway/bench)")
    given = parser.parse_args(arguments)
    if given.minutes < FIRST_READINGS.stop or given.rate < 100:
        parser.error(f"--minutes must be {FIRST_READINGS.stop} or more, --rate 100 or more")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit code is 1 where memory grew, or a message was not read."""
    given = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Ended by a signal."))
    try:
        with lend_folder(given.folder) as folder, StreamServers(folder, 0) as servers:
            say(servers.postgres.show_settings())
            with servers.postgres.clone(DATABASE):
                readings = Soak(servers, given.minutes, given.rate).run()
    except (BenchError, SluicewayError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted; nothing is left running.\n")
        return 130
    last, is_flat = summarise_soak(readings)
    say(last)
    return 0 if is_flat else 1


if __name__ == "__main__":
    sys.exit(main())
