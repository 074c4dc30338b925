"""`python -m tests.bench.exporter`: how long a scrape takes over a year's history.

A scratch PostgreSQL, with the settings of `make up`, is filled as for the dashboard's benchmark:
a million runs and what belongs to them (--runs 10000: a hundredth of all). The real exporter, in a
process of its own, is scraped over HTTP while another process adds 100 rows a second; each scrape
comes after its shared result has expired, so that each reads the database.

What counting costs a consumer is measured before: the lines that a micro-batch writes about itself,
committed one by one without waiting for the disk, with the trigger of 0008_metrics.sql and without
it, in turns.

The last line has the p95 of the scrapes, over HTTP, which is to be below 200 ms.
"""

import argparse
import asyncio
import datetime as dt
import os
import secrets
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from subprocess import Popen, TimeoutExpired
from time import monotonic, perf_counter, sleep

import asyncpg
import httpx
from prometheus_client.parser import text_string_to_metric_families

from deployments.bootstrap import bootstrap
from infra.exporter.scraper import SHARE_SECONDS
from infra.local.ports import LOOPBACK, choose_port
from infra.local.postgres import Postgres
from schemas.errors import SluicewayError
from tests.bench.dashboard_history import Size, count_rows, fill
from tests.bench.dashboard_process import Writer
from tests.bench.server import CHECKOUT, LOADER, SHOWN, BenchError, lend_folder

DATABASE = "bench_exporter"
MONITOR = "sluiceway_monitor"
WRITTEN_PER_SECOND = 100
LIMIT_MS = 200.0
_DEADLINE_SECONDS = 60.0
_STOP_SECONDS = 20.0
_BATCHES = 400
_ROUNDS = 5
_BATCH = """
    WITH batch AS (
        INSERT INTO metadata.stream_batches
            (execution_id, consumer_group, topic, partitions, messages, loaded, dead, flush_seconds)
        VALUES ($1, 'stream_processor_group', 'data-stream', '{0}', 500, 500, 0, 0.02)
        RETURNING id
    )
    INSERT INTO metadata.dataset_counts
        (execution_id, batch_id, dataset, source, read, inserted, updated, unchanged, superseded,
         duplicates, quarantined)
    SELECT $1, id, 'sales_data', 'data-stream', 500, 500, 0, 0, 0, 0, 0 FROM batch
"""


@dataclass(frozen=True, slots=True)
class Urls:
    """One database, by role."""

    owner: str
    loader: str
    monitor: str


def prepare(postgres: Postgres, size: Size) -> Urls:
    """Return the addresses of a database that is full."""
    passwords = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    postgres.ensure_database(DATABASE)
    owner_url = postgres.url(DATABASE)
    asyncio.run(bootstrap(owner_url, loader_password=passwords[0], monitor_password=passwords[1]))
    start = perf_counter()
    asyncio.run(fill(owner_url, size, until=dt.datetime.now(dt.UTC)))
    say(f"filled in {perf_counter() - start:.0f} s")
    start = perf_counter()
    raised = asyncio.run(_raise_totals(owner_url))
    say(f"{raised} totals were made of it in {perf_counter() - start:.1f} s")
    counted = asyncio.run(count_rows(owner_url))
    say("rows: " + " ".join(f"{name}={rows:,}" for name, rows in counted.items()))
    postgres.execute("CHECKPOINT;")
    return Urls(
        owner_url,
        postgres.url(DATABASE, user=LOADER, password=passwords[0]),
        postgres.url(DATABASE, user=MONITOR, password=passwords[1]),
    )


async def _raise_totals(owner_url: str) -> int:
    connection = await asyncpg.connect(owner_url)
    try:
        raised: int = await connection.fetchval("SELECT metadata.raise_metric_totals()")
        # What was written behind the triggers has to be seen by the planner, and cleaned up.
        await connection.execute("VACUUM (ANALYZE) metadata.metric_totals")
    finally:
        await connection.close()
    return raised


async def measure_counting(urls: Urls) -> str:
    """Return a line on what a batch's own lines take with the triggers and without."""
    owner = await asyncpg.connect(urls.owner)
    # How long the disk takes is not of interest, and differs by more than what is measured.
    loader = await asyncpg.connect(urls.loader, server_settings={"synchronous_commit": "off"})
    taken: dict[str, list[float]] = {"ENABLE": [], "DISABLE": []}
    try:
        execution_id = await loader.fetchval(
            "INSERT INTO metadata.pipeline_executions (pipeline_name)"
            " VALUES ('stream_processing_pipeline') RETURNING id"
        )
        for _ in range(_ROUNDS):
            for verb, laps in taken.items():
                await owner.execute(
                    f"ALTER TABLE metadata.stream_batches {verb} TRIGGER count_metric_new"
                )
                start = perf_counter()
                for _ in range(_BATCHES):
                    await loader.execute(_BATCH, execution_id)
                laps.append((perf_counter() - start) / _BATCHES * 1e6)
        await owner.execute("ALTER TABLE metadata.stream_batches ENABLE TRIGGER count_metric_new")
        await loader.execute(
            "UPDATE metadata.pipeline_executions SET status = 'SUCCESS', end_time = now()"
            " WHERE id = $1",
            execution_id,
        )
        await loader.execute("SELECT metadata.fold_counts()")
    finally:
        await owner.close()
        await loader.close()
    with_it, without = median(taken["ENABLE"]), median(taken["DISABLE"])
    return (
        f"a batch's own lines: {with_it:.0f} us counted, {without:.0f} us not, "
        f"{with_it - without:+.0f} us a batch (medians of {_ROUNDS} times {_BATCHES})"
    )


@contextmanager
def serve_exporter(monitor_url: str, folder: Path) -> Iterator[tuple[str, int]]:
    """Lend the address and process id of an exporter in a process of its own."""
    port = choose_port()
    own = {name: value for name, value in os.environ.items() if not name.startswith("SLUICEWAY_")}
    own |= {
        "SLUICEWAY_MONITOR_DATABASE_URL": monitor_url,
        "SLUICEWAY_EXPORTER_PORT": str(port),
        "SLUICEWAY_LOG_FOLDER": str(folder / "logs"),
    }
    with Popen([sys.executable, "-m", "infra.exporter"], cwd=CHECKOUT, env=own) as process:
        try:
            address = f"http://{LOOPBACK}:{port}"
            _wait(process, address)
            yield address, process.pid
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except TimeoutExpired:
                process.kill()


def _wait(process: Popen[bytes], address: str) -> None:
    deadline = monotonic() + _DEADLINE_SECONDS
    with httpx.Client(trust_env=False) as client:
        while True:
            if process.poll() is not None:
                raise BenchError("The exporter ended: see above.")
            try:
                client.get(f"{address}/healthz").raise_for_status()
            except httpx.HTTPError as error:
                if monotonic() > deadline:
                    raise BenchError(f"The exporter does not answer: {error}") from error
                sleep(0.2)
            else:
                return


def scrape(address: str, times: int) -> tuple[list[float], list[float], str]:
    """Return each scrape's milliseconds, what PostgreSQL took of them, and the last text.

    Raises BenchError for a scrape that says that something could not be read.
    """
    taken, asked = [], []
    with httpx.Client(trust_env=False) as client:
        for _ in range(times):
            start = perf_counter()
            answer = client.get(f"{address}/metrics")
            taken.append((perf_counter() - start) * 1e3)
            values = {
                (sample.name, sample.labels.get("group")): sample.value
                for family in text_string_to_metric_families(answer.text)
                for sample in family.samples
            }
            groups = [up for (name, _), up in values.items() if name.endswith("_group_up")]
            if answer.status_code != httpx.codes.OK or not groups or not all(groups):
                raise BenchError(f"A scrape did not have everything:\n{answer.text[:2000]}")
            asked.append(values["sluiceway_exporter_query_seconds", None] * 1e3)
            sleep(SHARE_SECONDS)
    return taken, asked, answer.text


def run(given: argparse.Namespace, folder: Path) -> tuple[str, bool]:
    """Return the last line, and whether scrapes are as fast as they have to be."""
    size = Size.of(given.runs)
    # With the settings of the local stack: what `make up` gives is what is measured.
    with Postgres(folder / "postgres") as postgres:
        shown = postgres.execute("".join(f"SHOW {name};\n" for name in SHOWN)).splitlines()
        say(" ".join(f"{name}={value}" for name, value in zip(SHOWN, shown, strict=True)))
        say(f"cores={os.cpu_count()} runs={size.runs:,} load average {os.getloadavg()[0]:.1f}")
        urls = prepare(postgres, size)
        say(asyncio.run(measure_counting(urls)))
        with serve_exporter(urls.monitor, folder) as (address, process_id):
            writer = Writer(urls.loader, WRITTEN_PER_SECOND)
            try:
                taken, asked, text = scrape(address, given.times)
                say(writer.end())
            finally:
                writer.stop()
            resident = Path(f"/proc/{process_id}/statm").read_text().split()[1]
    series = sum(not line.startswith("#") for line in text.splitlines())
    p95 = quantiles(taken, n=20, method="inclusive")[-1]
    say(
        f"{len(taken)} scrapes: median {median(taken):.1f} ms, p95 {p95:.1f} ms, first "
        f"{taken[0]:.1f} ms, worst {max(taken):.1f} ms; of it PostgreSQL {median(asked):.1f} ms at "
        f"the median; load average {os.getloadavg()[0]:.1f}"
    )
    say(f"{series} series, {len(text):,} bytes; {int(resident) * 4096 // 2**20} MiB resident")
    return f"exporter_p95_ms={p95:.1f} exporter_median_ms={median(taken):.1f}", p95 < LIMIT_MS


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line's wishes."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.exporter", description="How long a scrape takes."
    )
    parser.add_argument("--runs", type=int, default=1_000_000, help="and all else in proportion")
    parser.add_argument("--times", type=int, default=50, help="that the exporter is scraped")
    parser.add_argument("--folder", type=Path, help="whose disk to use (default: .sluiceway/bench)")
    given = parser.parse_args(arguments)
    if given.runs < 1000 or given.times < 2:
        parser.error("--runs must be 1000 or more, --times 2 or more")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code is 1 where it failed, or a scrape took too long at p95."""
    given = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Ended by a signal."))
    try:
        with lend_folder(given.folder) as folder:
            last, is_fast = run(given, folder)
    except (BenchError, SluicewayError, asyncpg.PostgresError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted; nothing is left running.\n")
        return 130
    say(last)
    if not is_fast:
        sys.stderr.write(f"A scrape may take {LIMIT_MS:.0f} ms at p95: it took longer.\n")
    return 0 if is_fast else 1


if __name__ == "__main__":
    sys.exit(main())
