"""The loader that is killed: a process that says what it is about to do.

    python -m tests.chaos.loader

It imports what it needs, then carries out one order after the other, each a line of JSON on
standard input. On standard output, one line each: `step …` before every statement and with every
block read, then `loaded [reports]` or `failed [type, sentence]`, or nothing: it was killed.
"""

import asyncio
import contextlib
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


def main() -> None:
    """Carry out the orders that come, until standard input ends."""
    _announce_statements()
    for line in sys.stdin:
        order = json.loads(line)
        try:
            reports = asyncio.run(load_folder(order["url"], Path(order["folder"])))
        except SluicewayError as error:
            _say("failed", json.dumps([type(error).__name__, str(error)]))
        else:
            _say("loaded", json.dumps(reports))


class Loader:
    """The other end: such a process, already importing, and an ear for what it says."""

    def __init__(self) -> None:
        """Start the process; it waits for `order`."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.loader"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.end: tuple[str, Any] | None = None
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._complaints: list[str] = []
        self._ears = [threading.Thread(target=each) for each in (self._listen, self._listen_aside)]
        for each in self._ears:
            each.start()

    def order(self, url: str, folder: Path) -> None:
        """Let it load the folder."""
        self.end = None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"url": url, "folder": str(folder)}) + "\n")
        self._process.stdin.flush()

    def hear(self) -> str | None:
        """Return the next line it says of an order; None once it has carried it out, or ended."""
        if self.end:
            return None
        line = self._lines.get(timeout=60)
        if line is None:
            self._process.wait(timeout=60)
            for each in self._ears:
                each.join()
            self.end = ("killed", None)
            return None
        word, _, rest = line.partition(" ")
        if word in {"loaded", "failed"}:
            self.end = (word, json.loads(rest))
        return line

    @property
    def is_silent(self) -> bool:
        """Whether nothing it said is left to hear."""
        return self._lines.empty()

    def kill(self) -> None:
        """End it at once, as `kill -9` does; nothing happens where it has ended."""
        self._process.kill()

    def finish(self) -> tuple[str, Any]:
        """Return how the order ended: `loaded` and reports, `failed` and error, or `killed`."""
        while self.hear() is not None:
            pass
        assert self.end is not None
        # asyncio may log that a socket is gone; a person is shown no traceback.
        assert not any("Traceback" in each for each in self._complaints), self._complaints
        return self.end

    def dismiss(self) -> None:
        """Leave nothing of it."""
        self.kill()
        self._process.wait(timeout=60)
        for each in self._ears:
            each.join()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None and not stream.closed:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _listen_aside(self) -> None:
        assert self._process.stderr is not None
        self._complaints.extend(self._process.stderr)


if __name__ == "__main__":
    main()
