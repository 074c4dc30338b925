"""`python -m tests.bench.dashboard`: how long the dashboard takes to answer, over a year's history.

A scratch PostgreSQL, with the settings of `make up`, is filled with a million runs, 1.3 million
health checks, a million log lines and what belongs to them (--runs 10000: a hundredth of all).
Over it runs the real dashboard, in a process of its own, and another process adds 100 rows a
second. Every callback that the server answers, on every page, is asked 50 times over HTTP as a
browser asks, each time with other filters, ranges, pages of tables, sort orders, runs and zones.
Callbacks are found by asking Dash; all are asked in turn, so that a busy moment of the machine is
shared out. An answer that says that something failed ends the benchmark, and so does a callback
that it has no inputs for, or that had nothing to show all 50 times.

Then the overview is loaded by Chromium, five times, each time in a new browser:

    contentful  anything is painted; that is Dash's own word that it is loading
    first       the overview's frame and question are painted
    panels      every panel has its text and every chart is drawn

The last line has the worst p95 of all callbacks, and the medians of `first` and `panels`.
"""

import argparse
import asyncio
import datetime as dt
import os
import secrets
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from time import perf_counter

import asyncpg

from deployments.bootstrap import bootstrap
from infra.local.postgres import Postgres
from schemas.errors import SluicewayError
from tests.bench.dashboard_browser import Browser
from tests.bench.dashboard_history import Size, count_rows, fill, find_runs
from tests.bench.dashboard_inputs import World
from tests.bench.dashboard_pages import measure_pages
from tests.bench.dashboard_paint import measure_paint, middle
from tests.bench.dashboard_process import Writer, serve_dashboard
from tests.bench.server import LOADER, SHOWN, BenchError, lend_folder

DATABASE = "bench_dashboard"
READER = "sluiceway_reader"
WRITTEN_PER_SECOND = 100


def prepare(postgres: Postgres, size: Size, until: dt.datetime) -> tuple[str, str]:
    """Return the reader's and the loader's address of a database that is full."""
    passwords = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    postgres.ensure_database(DATABASE)
    owner_url = postgres.url(DATABASE)
    asyncio.run(bootstrap(owner_url, reader_password=passwords[0], loader_password=passwords[1]))
    start = perf_counter()
    seconds = asyncio.run(fill(owner_url, size, until=until))
    slowest = sorted(seconds.items(), key=lambda each: -each[1])[:4]
    say(
        f"filled in {perf_counter() - start:.0f} s, of it "
        + ", ".join(f"{name} {taken:.0f} s" for name, taken in slowest)
    )
    counted = asyncio.run(count_rows(owner_url))
    say("rows: " + " ".join(f"{name}={rows:,}" for name, rows in counted.items()))
    postgres.execute("CHECKPOINT;")
    return (
        postgres.url(DATABASE, user=READER, password=passwords[0]),
        postgres.url(DATABASE, user=LOADER, password=passwords[1]),
    )


def run(given: argparse.Namespace, folder: Path) -> str:
    """Return the last line."""
    size = Size.of(given.runs)
    until = dt.datetime.now(dt.UTC)
    # With the settings of the local stack: what `make up` gives is what is measured.
    with Postgres(folder / "postgres") as postgres:
        shown = postgres.execute("".join(f"SHOW {name};\n" for name in SHOWN)).splitlines()
        say(" ".join(f"{name}={value}" for name, value in zip(SHOWN, shown, strict=True)))
        say(f"cores={os.cpu_count()} runs={size.runs:,} load average {os.getloadavg()[0]:.1f}")
        reader_url, loader_url = prepare(postgres, size, until)
        runs = asyncio.run(find_runs(reader_url, size))
        world = World(size, runs, until, Random(given.seed))  # noqa: S311 - no secret, and repeatable
        with serve_dashboard(reader_url, folder) as address:
            writer = Writer(loader_url, WRITTEN_PER_SECOND)
            try:
                worst = measure(address, world, given.times, given.pages)
                paint = "first_paint_ms=none panels_ms=none"
                if given.paint:
                    paint = paint_overview(address, given.loads)
                say(writer.end())
            finally:
                writer.stop()
    return f"worst_p95_ms={worst:.1f} {paint}"


def measure(address: str, world: World, times: int, paths: Sequence[str]) -> float:
    """Print a line for each callback, and return the worst p95 in milliseconds."""
    before = os.getloadavg()[0]
    browser = Browser(address)
    try:
        measured = measure_pages(browser, world, times=times, paths=paths)
    finally:
        browser.close()
    for each in measured:
        say(each.describe())
    say(
        f"{len(measured)} callbacks, {times} times each; load average {before:.1f} before, "
        f"{os.getloadavg()[0]:.1f} after"
    )
    return measured[-1].p95_ms


def paint_overview(address: str, loads: int) -> str:
    """Print the loads, and return their medians for the last line."""
    before = os.getloadavg()[0]
    paints = measure_paint(address, loads=loads)
    for each in paints:
        say(
            f"overview: contentful {each.contentful_ms:.0f} ms, first {each.first_ms:.0f} ms, "
            f"panels {each.panels_ms:.0f} ms"
        )
    say(f"load average {before:.1f} before, {os.getloadavg()[0]:.1f} after")
    median = middle(paints)
    return f"first_paint_ms={median.first_ms:.0f} panels_ms={median.panels_ms:.0f}"


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line's wishes."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.dashboard", description="How long the dashboard's answers take."
    )
    parser.add_argument("--runs", type=int, default=1_000_000, help="and all else in proportion")
    parser.add_argument("--times", type=int, default=50, help="that each callback is asked")
    parser.add_argument("--loads", type=int, default=5, help="of the overview, in Chromium")
    parser.add_argument("--no-paint", dest="paint", action="store_false", help="without Chromium")
    parser.add_argument("--seed", type=int, default=4, help="of what is asked")
    parser.add_argument("--pages", nargs="+", default=(), help="only these, by their paths")
    parser.add_argument("--folder", type=Path, help="whose disk to use (default: .sluiceway/bench)")
    given = parser.parse_args(arguments)
    if given.runs < 1000 or given.times < 1 or given.loads < 1:
        parser.error("--runs must be 1000 or more, --times and --loads 1 or more")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code is 1 where an answer was none."""
    given = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Ended by a signal."))
    try:
        with lend_folder(given.folder) as folder:
            last = run(given, folder)
    except (BenchError, SluicewayError, asyncpg.PostgresError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted; nothing is left running.\n")
        return 130
    say(last)
    return 0


if __name__ == "__main__":
    sys.exit(main())
