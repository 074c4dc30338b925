"""The loader that is killed: one process a load, which says what it is about to do.

    python -m tests.chaos.loader

reads orders from standard input, one JSON object a line, and forks a process for each: the
libraries are imported once, and what is killed is a process with connections of its own all the
same. On standard output, one line each: `started PID`, `STEP` before every statement, and at the
end `loaded [reports]`, `failed [type, sentence]` or nothing (it was killed), then `ended CODE`.
"""

import asyncio
import dataclasses
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import asyncpg

from infra.postgres.connection import Pool
from schemas.datasets import DATASETS
from schemas.errors import SluicewayError
from tasks.discover_files import discover_files
from tasks.load import Order
from tasks.load_file import load_found
from tasks.record import record_execution

PIPELINE = "chaos"


def _say(*words: object) -> None:
    # One write, so that what is said before the end is whole.
    os.write(1, (" ".join(str(each) for each in words) + "\n").encode())


def _announce_statements() -> None:
    """Make every statement of this process known before it is sent."""

    def announced(name: str) -> Callable[..., Any]:
        plain = getattr(asyncpg.Connection, name)

        async def told(self: asyncpg.Connection, what: str, *args: Any, **options: Any) -> Any:
            _say("step", name, re.sub(r"\s+", " ", str(what)).strip()[:90])
            return await plain(self, what, *args, **options)

        return told

    for name in ("execute", "executemany", "fetch", "fetchrow", "fetchval", "copy_to_table"):
        setattr(asyncpg.Connection, name, announced(name))


async def load_folder(url: str, folder: Path) -> list[dict[str, Any]]:
    """Load the folder's files one after the other, as a run of its own; returns what came of it."""
    reports = []
    async with Pool(url, size=4, wait_seconds=30) as pool, record_execution(pool, PIPELINE) as run:
        found, _ = discover_files(folder, [each.spec for each in DATASETS])
        for file in found:
            order = Order(run.id, str(file.path), file.table, file.spec)
            report = await load_found(
                pool, file, order, on_progress=lambda read: _say("step", "read", read)
            )
            reports.append(
                {
                    "file": file.path.name,
                    "outcome": report.outcome.value,
                    "ledger": dataclasses.asdict(report.ledger),
                }
            )
    return reports


def _run_order(order: dict[str, str]) -> int:
    _announce_statements()
    try:
        reports = asyncio.run(load_folder(order["url"], Path(order["folder"])))
    except SluicewayError as error:
        _say("failed", json.dumps([type(error).__name__, str(error)]))
        return 3
    _say("loaded", json.dumps(reports))
    return 0


def main() -> None:
    """Fork a process for each order until standard input ends."""
    for line in sys.stdin:
        order = json.loads(line)
        if (child := os.fork()) == 0:
            code = 1
            try:
                code = _run_order(order)
            except BaseException:  # noqa: BLE001 - the fork must not go on as its parent
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stderr.flush()
                os._exit(code)
        _say("started", child)
        _say("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


class Loaders:
    """Starts loaders and listens to them; the other end of this module's `main`."""

    def __init__(self) -> None:
        """Start the process that forks them."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.loader"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._lines: SimpleQueue[str] = SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self.pid = 0

    def _listen(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line.rstrip("\n"))
        self._lines.put("gone")

    def start(self, url: str, folder: Path) -> None:
        """Start one loader; `pid` is its process."""
        order = json.dumps({"url": url, "folder": str(folder)})
        assert self._process.stdin is not None
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        while not (line := self.hear()).startswith("started "):
            # The child may speak before its parent does.
            self._lines.put(line)
        self.pid = int(line.split()[1])

    def hear(self, timeout_seconds: float = 60) -> str:
        """Return the next line that a loader said."""
        line = self._lines.get(timeout=timeout_seconds)
        assert line != "gone", "the process that forks the loaders ended"
        return line

    def finish(self) -> tuple[int, Any]:
        """Return the loader's exit code and what it said last: reports, or an error."""
        said = None
        while not (line := self.hear()).startswith("ended "):
            word, _, rest = line.partition(" ")
            if word in {"loaded", "failed"}:
                said = json.loads(rest)
        return int(line.split()[1]), said

    def close(self) -> None:
        """Leave none of them."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._listener.join()
        if self._process.stdout is not None:
            self._process.stdout.close()


if __name__ == "__main__":
    main()
