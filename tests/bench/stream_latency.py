"""How long a message takes from being due to being committed, at a steady rate."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import numpy as np

from tests.bench.server import CHECKOUT, BenchError
from tests.bench.stream_figures import Latency, measure_latency
from tests.bench.stream_lane import READY
from tests.bench.stream_server import FILLED, StreamServers, ask

END_SECONDS = 60.0
LATE_MS = 250.0
"""A producer that is held up for longer than this did not keep the rate."""


@dataclass(slots=True)
class LatencyLane:
    """A consumer that watches one topic, and a producer that feeds it."""

    servers: StreamServers
    lane: str
    rate: int
    warm_up_seconds: float
    seconds: float

    def run(self) -> Latency | None:
        """Return the latency of every message after the warm-up, each of them committed."""
        topic = f"latency-{self.lane}"
        file = self.servers.folder / f"{topic}.npy"
        source = FILLED if self.lane == "upsert" else "bench_template"
        # Their topic must be there before the consumer asks for it.
        order = self.servers.order(topic) | {"kind": "changed" if self.lane == "upsert" else "new"}
        ask(FEED, order | {"make": True, "messages": 0})
        with self.servers.postgres.clone("bench_lane", of=source) as database:
            self.servers.postgres.checkpoint()
            watch = order | {
                "lane": "watch",
                "url": self.servers.url(database),
                "merged": self.lane == "upsert",
                "file": str(file),
            }
            with start_watching(watch) as consumer:
                seconds = self.warm_up_seconds + self.seconds
                fed = ask(FEED, order | {"make": False, "rate": self.rate, "seconds": seconds})
                answer, said = consumer.communicate(f"{fed['sent']}\n", timeout=END_SECONDS)
        if consumer.returncode:
            raise BenchError(f"the latency lane failed: {said.strip()[-2000:]}")
        committed = json.loads(answer)["messages"]
        if not committed == fed["sent"] == int(self.rate * seconds):
            raise BenchError(f"{committed} of {fed['sent']} messages were committed in time")
        if fed["latest_ms"] > LATE_MS:
            sys.stderr.write(f"the producer was {fed['latest_ms']:.0f} ms late at its worst\n")
        stamps, latencies = np.load(file)
        return measure_latency(stamps, latencies, fed["started_ms"] + self.warm_up_seconds * 1000)


FEED = (sys.executable, "-m", "tests.bench.stream_feed")


@contextmanager
def start_watching(order: dict[str, object]) -> Iterator[subprocess.Popen[str]]:
    """Lend a consumer that has its partitions; it ends with as many as it is told."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.stream_lane"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
    )
    try:
        _pipe(process.stdin).write(json.dumps(order) + "\n")
        _pipe(process.stdin).flush()
        if _pipe(process.stdout).readline().strip() != READY:
            raise BenchError(f"the consumer did not start: {process.communicate()[1].strip()}")
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _pipe(given: IO[str] | None) -> IO[str]:
    assert given is not None
    return given
