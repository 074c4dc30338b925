"""The loader that is killed: a process that says what it is about to do.

    python -m tests.chaos.loader

It imports what it needs, waits for its order, one line of JSON on standard input, and carries it
out. On standard output, one line each: `step …` before every statement and with every block
read, then `loaded [reports]` or `failed [type, sentence]`, or nothing: it was killed.
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
from typing import IO, Any

import asyncpg

from infra.postgres.connection import Pool
from schemas.datasets import DATASETS
from schemas.errors import SluicewayError
from tasks.discover_files import discover_files
from tasks.load import Order
from tasks.load_file import load_found
from tasks.record import record_execution

PIPELINE = "chaos"
FAILED = 3


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


def main() -> int:
    """Carry out one order; the exit code is 3 after an error that a person is told in a line."""
    order = json.loads(sys.stdin.readline() or "null")
    if order is None:  # nobody wanted it
        return 0
    _announce_statements()
    try:
        reports = asyncio.run(load_folder(order["url"], Path(order["folder"])))
    except SluicewayError as error:
        _say("failed", json.dumps([type(error).__name__, str(error)]))
        return FAILED
    _say("loaded", json.dumps(reports))
    return 0


class Loader:
    """The other end: one such process, already importing, and an ear for what it says."""

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
        self._lines: SimpleQueue[str | None] = SimpleQueue()
        self._ears = [
            threading.Thread(target=self._listen, args=(stream, prefix), daemon=True)
            for stream, prefix in ((self._process.stdout, ""), (self._process.stderr, "error "))
        ]
        self._open = len(self._ears)
        for each in self._ears:
            each.start()

    def order(self, url: str, folder: Path) -> None:
        """Let it load the folder."""
        assert self._process.stdin is not None
        with self._process.stdin as pipe:
            pipe.write(json.dumps({"url": url, "folder": str(folder)}) + "\n")

    def hear(self) -> str | None:
        """Return the next line it says; None once it has ended and said all."""
        while self._open:
            line = self._lines.get(timeout=60)
            if line is not None:
                return line
            self._open -= 1
        return None

    @property
    def is_silent(self) -> bool:
        """Whether nothing it said is left to hear."""
        return self._lines.empty()

    def kill(self) -> None:
        """End it at once, as `kill -9` does; nothing happens where it has ended."""
        self._process.kill()

    def finish(self) -> tuple[int, Any, str]:
        """Return its exit code, what it said last (reports or an error), and its complaints."""
        said, complaints = None, []
        while (line := self.hear()) is not None:
            word, _, rest = line.partition(" ")
            if word in {"loaded", "failed"}:
                said = json.loads(rest)
            elif word == "error":
                complaints.append(rest)
        return self._process.wait(timeout=60), said, "\n".join(complaints)

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

    def _listen(self, stream: IO[str], prefix: str) -> None:
        for line in stream:
            self._lines.put(prefix + line.rstrip("\n"))
        self._lines.put(None)


if __name__ == "__main__":
    sys.exit(main())
