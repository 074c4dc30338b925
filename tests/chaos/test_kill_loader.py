"""Twenty kill -9 in mid-file: of the loader, of its backend, of PostgreSQL.

SLUICEWAY_CHAOS_SEED repeats a run; SLUICEWAY_CHAOS_ROWS makes the file larger.
"""

import asyncio
import itertools
import os
import random
import re
import secrets
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from infra.local.postgres import Postgres
from infra.local.process import wait_until
from infra.sample.bulk import write_increment, write_sales
from tests.chaos.independent_reader import Expected
from tests.chaos.loader import PIPELINE, Loader
from tests.chaos.sight import Sight

KILLS = 20
ROWS = int(os.environ.get("SLUICEWAY_CHAOS_ROWS", "300000"))
SHOP = {"customers": 3_000, "products": 100}
WEAPONS = ("loader", "backend", "postmaster", "server")

PHASES = (
    ("commit", r"step execute COMMIT"),
    ("manifest", r"step execute (ALTER TABLE \S+ INHERIT|UPDATE metadata.source_files)"),
    ("merge", r"step \w+ .*(open_first_load|_verdicts|_repeated|EXISTS \( SELECT FROM unnest)"),
    ("quarantine", r"step copy_to_table quarantine"),
    ("copy", r"step copy_to_table sales_data__b\d+$"),
)
"""The phases of a load by the statement they begin with."""
MORE_STEPS = {"copy": 6, "quarantine": 1, "merge": 9, "manifest": 3, "commit": 0}
MORE_SECONDS = {"copy": 0.2, "quarantine": 0.01, "merge": 0.3, "manifest": 0.002, "commit": 0.01}
INSIDE = ("copy", "quarantine", "merge", "manifest")

RESET = """
    DO $$
    DECLARE child regclass;
    BEGIN
        FOR child IN SELECT inhrelid::regclass FROM pg_inherits LOOP
            EXECUTE 'DROP TABLE ' || child;
        END LOOP;
    END $$;
    TRUNCATE warehouse.fact_sales_data, warehouse.dim_customers, warehouse.dim_products,
        staging.sales_data, metadata.source_files, metadata.dataset_counts, metadata.quarantine,
        metadata.quality_results, metadata.pipeline_executions;
"""


class Drill:
    """Loads under fire, and looks at what is left."""

    def __init__(self, server: Postgres, url: str, seed: int) -> None:
        self.server = server
        self.url = url
        self.random = random.Random(seed)  # noqa: S311 - a drill, no secret
        self.phases: Counter[tuple[str, str]] = Counter()
        # Every phase comes up, and every weapon; their order and pairing is chance.
        self.aims = self._shuffled(["copy"] * 6 + ["merge"] * 7 + ["quarantine", "manifest"] * 2)
        self.weapons = self._shuffled(list(WEAPONS))
        self.loader = Loader()

    def _shuffled(self, names: list[str]) -> Iterator[str]:
        names += ["commit"] * 3 if "copy" in names else []
        self.random.shuffle(names)
        return itertools.cycle(names)

    def kill_once(self, folder: Path) -> None:
        """Kill something while the folder is being loaded, wherever the aim and chance have it."""
        aim, weapon = next(self.aims), next(self.weapons)
        self.loader.order(self.url, folder)
        seen = self._wait_for(aim)
        for _ in range(self.random.randint(0, MORE_STEPS[aim])):
            if seen != aim or (line := self.loader.hear()) is None:
                break
            seen = phase_of(line, seen)
        time.sleep(self.random.uniform(0, MORE_SECONDS[aim]))
        while not self.loader.is_silent:
            seen = phase_of(self.loader.hear() or "", seen)
        self._strike(weapon)
        self.phases[weapon, seen] += 1
        word, said = self.loader.finish()
        if weapon == "loader":
            self.loader.dismiss()
            self.loader = Loader()
        elif word == "failed":
            # Its PostgreSQL went away: a person reads one sentence that says to try again.
            assert said[0] == "TransientError", said
            assert "\n" not in said[1], said
        else:
            assert word == "loaded"
        self.wait_until_quiet()

    def _wait_for(self, aim: str) -> str:
        seen = "before"
        while seen != aim and (line := self.loader.hear()) is not None:
            seen = phase_of(line, seen)
        return seen

    def _strike(self, weapon: str) -> None:
        match weapon:
            case "loader":
                self.loader.kill()
            case "backend":
                found = self.server.execute(
                    "SELECT pid FROM pg_stat_activity"
                    " WHERE usename = 'sluiceway_loader' AND xact_start IS NOT NULL"
                )
                for pid in found.split():
                    with suppress(ProcessLookupError):
                        os.kill(int(pid), 9)
            case "postmaster":
                # Its backends live on until they notice, and may even commit.
                self.server.child.send_signal(signal.SIGKILL)
                assert wait_until(lambda: not self.server.is_running, 30)
                self.server.start()
            case "server":
                self.server.kill()
                self.server.start()

    def wait_until_quiet(self) -> None:
        """Return once PostgreSQL is up and no session of a loader is left."""
        for _ in range(600):
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                if not asyncio.run(self._count_sessions()):
                    return
            time.sleep(0.05)
        pytest.fail("a killed loader's session is still there after 30 s")

    async def _count_sessions(self) -> int:
        connection = await asyncpg.connect(self.server.url("chaos"), timeout=5)
        try:
            return await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = 'sluiceway_loader'"
            )
        finally:
            await connection.close()

    def load(self, folder: Path) -> list[dict[str, Any]]:
        """Let the next run come, undisturbed; returns what it reports of each file."""
        self.loader.order(self.url, folder)
        word, said = self.loader.finish()
        assert word == "loaded", said
        self.wait_until_quiet()
        return said

    def look(self) -> Sight:
        """Return what the database shows now."""
        return asyncio.run(Sight.take(self.server.url("chaos")))


def phase_of(line: str, before: str) -> str:
    """Return the phase of a load after it has said the line."""
    if before == "commit":
        return "after" if line.startswith(("step", "loaded")) else before
    return next((name for name, mark in PHASES if re.match(mark, line)), before)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[Expected]]:
    """A large first file, a second one on top of it, and what each must leave."""
    folder = tmp_path_factory.mktemp("chaos")
    first, part, second = (folder / name for name in ("first.csv", "part.csv", "second.csv"))
    planted = write_sales(first, ROWS, **SHOP).ledger
    write_increment(part, ROWS // 5, ROWS, **SHOP)
    # Rows that are known, rejects among them, then changed and new ones.
    lines = first.read_text().splitlines(keepends=True)[: 1 + ROWS // 7]
    second.write_text("".join(lines) + part.read_text().partition("\n")[2])
    paths = [folder / "sales_data_1.csv", folder / "sales_data_2.csv"]
    first.rename(paths[0])
    second.rename(paths[1])
    for hour, path in enumerate(paths):
        os.utime(path, (1_750_000_000 + 3600 * hour,) * 2)
    one = Expected().then(paths[0])
    two = one.then(paths[1])
    # The reader itself is held to what the generator planted.
    ledger = one.ledgers["sales_data_1.csv"]
    assert {term: getattr(planted, term) for term in ledger if term != "unchanged"} == {
        term: count for term, count in ledger.items() if term != "unchanged"
    }
    assert all(two.ledgers["sales_data_2.csv"][term] for term in ledger if term != "duplicates")
    return paths, [Expected(), one, two]


@pytest.mark.timeout(900)
def test_twenty_kills_lose_no_row_and_count_none_twice(
    tmp_path: Path, durable_server: Postgres, loader_url: str, inputs
) -> None:
    seed = int(os.environ.get("SLUICEWAY_CHAOS_SEED") or secrets.randbelow(10**9))
    print(f"SLUICEWAY_CHAOS_SEED={seed}")  # noqa: T201 - to be read after a failure
    paths, states = inputs
    drill = Drill(durable_server, loader_url, seed)
    try:
        while drill.phases.total() < KILLS:
            durable_server.execute(RESET, database="chaos")
            folder = tmp_path / f"raw_{drill.phases.total()}"
            folder.mkdir()
            for number, path in enumerate(paths):
                os.link(path, folder / path.name)
                _load_under_fire(drill, folder, states[number], states[number + 1], path.name)
    finally:
        drill.loader.dismiss()
    print(f"kills by weapon and phase: {dict(drill.phases)}")  # noqa: T201 - likewise
    inside = sum(count for (_, phase), count in drill.phases.items() if phase in INSIDE)
    assert inside >= KILLS // 2, drill.phases
    for phase in ("copy", "merge"):
        assert sum(count for (_, seen), count in drill.phases.items() if seen == phase) >= 2


def _load_under_fire(
    drill: Drill, folder: Path, before: Expected, after: Expected, name: str
) -> None:
    loaded = False
    for _ in range(min(drill.random.randint(1, 4), KILLS - drill.phases.total())):
        drill.kill_once(folder)
        sight = drill.look()
        loaded = name in sight.manifest
        sight.refuse_other_than(after if loaded else before)  # all of the file, or nothing
        if loaded:
            break
    reports = {each["file"]: each for each in drill.load(folder)}
    assert reports[name]["outcome"] == ("UNCHANGED" if loaded else "LOADED")
    if not loaded:
        wanted = after.ledgers[name]
        assert {term: reports[name]["ledger"][term] for term in wanted} == wanted
    sight = drill.look()
    sight.refuse_other_than(after)
    assert sight.unended == [], f"a dead run of {PIPELINE} is still RUNNING"
