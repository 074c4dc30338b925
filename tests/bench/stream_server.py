"""One PostgreSQL and one Apache Kafka for all lanes, their topics, and how a lane is run."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from infra.local.kafka import ApacheKafka
from infra.sample.bulk import write_dimensions
from tests.bench.peer_environment import STREAM_FOLDER, STREAM_LOCK, make_environment
from tests.bench.server import CHECKOUT, LOADER, PLAIN_TABLE, BenchError, BenchServer
from tests.bench.stream_messages import CHUNK, choose_new, make_rows

NEW, CHANGED = "sales-new", "sales-changed"
FILLED = "bench_filled"
"""The database whose fact has every key of the topics."""
PEERS = frozenset({"faststream", "quix"})
COUNTS = {
    "insert": "SELECT count(*) FROM staging.sales_data;",
    "upsert": "SELECT count(*) FROM warehouse.fact_sales_data;",
    "faststream": "SELECT count(*) FROM plain_sales;",
    "quix": "SELECT count(*) FROM plain_sales;",
}
"""How many rows the lane's table has at the end: as many as there are messages."""


@dataclass(frozen=True, slots=True)
class LaneAnswer:
    """What one lane's process had to say."""

    seconds: float
    cpu_seconds: float
    messages: int
    peak_bytes: int = 0
    batches: int = 0
    dead: int = 0
    ledger: dict[str, int] | None = None


class StreamServers:
    """The servers; every lane gets a fresh database and a fresh consumer group."""

    def __init__(self, folder: Path, messages: int) -> None:
        """Describe them; raises TerminalError where Apache Kafka is not to be had."""
        self.folder = folder
        self.messages = messages
        self.kafka = ApacheKafka(folder / "kafka")
        self.postgres = BenchServer(folder)
        self.csv = folder / "sales_data.csv"
        self._groups = 0

    def __enter__(self) -> Self:
        """Start both."""
        self.kafka.start()
        try:
            self.postgres.__enter__()
            write_dimensions(self.folder)
            self.postgres.load_dimensions(self.folder)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop both."""
        try:
            self.postgres.postgres.stop()
        finally:
            self.kafka.stop()

    def url(self, database: str, *, as_owner: bool = False) -> str:
        """Return a database's address, by default as the loader."""
        server = self.postgres
        if as_owner:
            return server.postgres.url(database)
        return server.postgres.url(database, user=LOADER, password=server.loader_password)

    def write_csv(self) -> None:
        r"""Write the rows of the first topic for psql's \copy."""
        with self.csv.open("wb") as file:
            for start in range(0, self.messages, CHUNK):
                rows = make_rows(*choose_new(start, min(start + CHUNK, self.messages)))
                rows.write_csv(file, include_header=not start)

    def fill(self, topic: str, kind: str) -> dict[str, Any]:
        """Make the topic and fill it; returns how many were sent, in which time."""
        order = {**self.order(topic), "make": True, "kind": kind}
        answer = ask([sys.executable, "-m", "tests.bench.stream_feed"], order)
        if answer["sent"] != self.messages:
            raise BenchError(f"{answer['sent']} of {self.messages} messages got into {topic}")
        return answer

    def fill_fact(self) -> LaneAnswer:
        """Leave a database whose fact has every key, as the first topic says it."""
        self.postgres.postgres.execute(f"CREATE DATABASE {FILLED} TEMPLATE bench_template;")
        answer = self.run("upsert", FILLED, topic=NEW)
        # Staging would be emptied by and by; the fact has been vacuumed after so many rows.
        self.postgres.postgres.execute("TRUNCATE staging.sales_data;", database=FILLED)
        self.postgres.vacuum_fact(FILLED)
        return answer

    def run(self, lane: str, database: str, *, topic: str = NEW) -> LaneAnswer:
        """Run a lane in a process of its own, and hold it to the rows it must leave."""
        if lane == "faststream":
            self.postgres.postgres.execute(PLAIN_TABLE, database=database)
        self.postgres.checkpoint()
        order = {**self.order(topic), "lane": lane}
        order["url"] = self.url(database, as_owner=lane in PEERS)
        # Quix Streams keeps its state in the folder that it is run in.
        cwd = self.folder if lane in PEERS else CHECKOUT
        answer = LaneAnswer(**ask(self._command(lane), order, cwd=cwd))
        if answer.messages < self.messages:
            raise BenchError(f"{lane} saw {answer.messages} of {self.messages} messages")
        if lane in COUNTS:
            found = int(self.postgres.postgres.execute(COUNTS[lane], database=database))
            if found != self.messages:
                raise BenchError(f"{lane} left {found} rows of {self.messages} messages")
        return answer

    def order(self, topic: str) -> dict[str, Any]:
        self._groups += 1
        return {
            "bootstrap": self.kafka.bootstrap_servers,
            "topic": topic,
            "group": f"bench-{self._groups}",
            "messages": self.messages,
        }

    @staticmethod
    def _command(lane: str) -> list[str]:
        if lane in PEERS:
            python = make_environment(STREAM_FOLDER, STREAM_LOCK)
            return [str(python), str(Path(__file__).with_name("stream_peer.py"))]
        return [sys.executable, "-m", "tests.bench.stream_lane"]


def ask(command: Sequence[str], order: dict[str, Any], *, cwd: Path = CHECKOUT) -> dict[str, Any]:
    """Return what the command answers to the order; raises BenchError where it fails."""
    done = subprocess.run(
        command,
        input=json.dumps(order) + "\n",
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )
    if done.returncode:
        raise BenchError(f"{command[-1]} failed: {done.stderr.strip()[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
