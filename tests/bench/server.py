"""The one PostgreSQL server that all lanes of a benchmark run on, and how they use it."""

import asyncio
import json
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Self

from deployments.bootstrap import bootstrap
from infra.local.postgres import Postgres
from schemas.dataset import Dataset
from schemas.datasets import DATASETS
from tests.keys import provide_keys

CHECKOUT = Path(__file__).absolute().parents[2]
TEMPLATE = "bench_template"
LOADER = "sluiceway_loader"

SETTINGS = {
    "shared_buffers": "4GB",
    "wal_buffers": "64MB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "15min",
}
"""Over those of the local stack; what makes commits durable is not touched, only shown."""

SHOWN = (
    *("server_version", "fsync", "full_page_writes", "synchronous_commit", "wal_level"),
    *("data_checksums", "wal_compression", "shared_buffers", "wal_buffers"),
    *("max_wal_size", "checkpoint_timeout", "autovacuum"),
)

PLAIN_TABLE = """
CREATE TABLE plain_sales (
    order_id bigint, customer_id bigint, product_id bigint, order_date date, quantity bigint,
    unit_price numeric(18,2), discount double precision, channel text
);
"""


class BenchError(Exception):
    """The benchmark's figures would mean nothing; the message says why."""


@dataclass(frozen=True, slots=True)
class LoadAnswer:
    """What a load in a process of its own had to say."""

    seconds: float
    start_seconds: float
    ledger: dict[str, int]
    rules: dict[str, int]
    peak_bytes: int


class BenchServer:
    """A server with a template database that has our tables; every lane gets a copy of it."""

    def __init__(self, folder: Path, *, datasets: tuple[type[Dataset], ...] = DATASETS) -> None:
        """Describe the server; nothing is started yet."""
        provide_keys()
        self._datasets = datasets
        self.postgres = Postgres(folder / "postgres", settings=SETTINGS)
        self.loader_password = secrets.token_urlsafe(24)

    def __enter__(self) -> Self:
        """Start it and prepare the template."""
        self.postgres.start()
        try:
            self.postgres.ensure_database(TEMPLATE)
            url = self.postgres.url(TEMPLATE)
            asyncio.run(
                bootstrap(url, loader_password=self.loader_password, datasets=self._datasets)
            )
        except BaseException:
            self.postgres.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it."""
        self.postgres.stop()

    def show_settings(self) -> str:
        """Return what the server itself says of its settings."""
        values = self.postgres.execute("".join(f"SHOW {name};\n" for name in SHOWN)).splitlines()
        return " ".join(f"{name}={value}" for name, value in zip(SHOWN, values, strict=True))

    @contextmanager
    def clone(self, name: str, *, of: str = TEMPLATE) -> Iterator[str]:
        """Lend a copy of a database, by default the template; it is gone afterwards."""
        self.postgres.execute(f"CREATE DATABASE {name} TEMPLATE {of};")
        try:
            yield name
        finally:
            if self.postgres.is_running:
                self.postgres.execute(f"DROP DATABASE {name} WITH (FORCE);")

    def checkpoint(self) -> None:
        """Leave nothing that an earlier lane wrote to be written during the next."""
        self.postgres.execute("CHECKPOINT;")

    def vacuum_fact(self, database: str) -> None:
        """Do now what autovacuum does within minutes of a load, at a random moment of a lane."""
        self.postgres.execute("VACUUM (ANALYZE) warehouse.fact_sales_data;", database=database)

    def count_fact(self, database: str) -> int:
        """Return how many rows the fact table holds."""
        return int(
            self.postgres.execute(
                "SELECT count(*) FROM warehouse.fact_sales_data;", database=database
            )
        )

    def copy(self, database: str, path: Path) -> tuple[float, int]:
        r"""Return the seconds that psql's \copy into a plain logged table took, and its rows.

        psql's own clock is read, which leaves out its start, as ours leaves out Python's.
        """
        self.postgres.execute(PLAIN_TABLE, database=database)
        self.checkpoint()
        literal = str(path).replace("'", "''")
        answer = self.postgres.execute(
            "\\timing on\n"
            f"\\copy plain_sales from '{literal}' with (format csv, header)\n"
            "\\timing off\n"
            "SELECT count(*) FROM plain_sales;\n"
            "DROP TABLE plain_sales;\n",
            database=database,
        )
        time = re.search(r"^Time: ([\d.]+) ms", answer, re.MULTILINE)
        if time is None:
            raise BenchError(f"psql did not say how long its \\copy took, but: {answer}")
        return float(time[1]) / 1000, int(answer.splitlines()[-1])

    def load(self, database: str, path: Path, *, staging_only: bool = False) -> LoadAnswer:
        """Load the file in a process of its own; `seconds` are those inside load_source."""
        self.checkpoint()
        order: dict[str, Any] = {
            "url": self.postgres.url(database, user=LOADER, password=self.loader_password),
            "path": str(path),
            "staging_only": staging_only,
        }
        start = perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.one_load"],
            input=json.dumps(order),
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            cwd=CHECKOUT,
        )
        if done.returncode:
            raise BenchError(f"the load of {path} failed: see above")
        answer = json.loads(done.stdout)
        start_seconds = perf_counter() - start - answer["seconds"]
        return LoadAnswer(start_seconds=start_seconds, **answer)

    def load_dimensions(self, folder: Path) -> None:
        """Load customers and products into the template: every copy has them from the start."""
        for name in ("customers.csv", "products.csv"):
            self.load(TEMPLATE, folder / name)
        self.postgres.execute("VACUUM (ANALYZE);", database=TEMPLATE)


@contextmanager
def lend_folder(parent: Path | None) -> Iterator[Path]:
    """Lend an empty folder, on the disk of `parent` (default: this checkout's); it is removed."""
    parent = parent or CHECKOUT / ".sluiceway" / "bench"
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
