"""The processes beside the benchmark: the real dashboard, and who writes meanwhile."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, perf_counter

import httpx

from infra.local.ports import LOOPBACK, choose_port
from tests.bench.server import CHECKOUT, BenchError

_DEADLINE_SECONDS = 60.0
_STOP_SECONDS = 20.0
_LEAST_PACE = 0.9
"""Of the rows that the writer was told to add; below that, the database was too quiet."""


@contextmanager
def serve_dashboard(reader_url: str, folder: Path) -> Iterator[str]:
    """Lend the address of a dashboard in a process of its own; folder: for its log.

    Raises BenchError where it does not start, and where it logged an error at the end.
    """
    port = choose_port()
    own = {name: value for name, value in os.environ.items() if not name.startswith("SLUICEWAY_")}
    own |= {
        "SLUICEWAY_READER_DATABASE_URL": reader_url,
        "SLUICEWAY_DASHBOARD_PORT": str(port),
        "SLUICEWAY_LOG_FOLDER": str(folder / "logs"),
    }
    said = folder / "dashboard.out"
    with said.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "dash_app"], cwd=CHECKOUT, env=own, stdout=out, stderr=out
        )
        try:
            address = f"http://{LOOPBACK}:{port}"
            _wait(process, address, said)
            yield address
        except BenchError as error:
            raise BenchError(
                f"{error}\n\nWhat the dashboard logged last:\n{_tail(folder)}"
            ) from error
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    if "Traceback" in _tail(folder):
        raise BenchError(f"The dashboard met an error:\n{_tail(folder)}")


def _tail(folder: Path) -> str:
    """Return the end of what the dashboard said and logged."""
    files = [folder / "dashboard.out", *sorted(folder.glob("logs/*"))]
    return "\n".join(each.read_text(errors="replace")[-3000:] for each in files if each.is_file())


def _wait(process: subprocess.Popen[bytes], address: str, said: Path) -> None:
    deadline = monotonic() + _DEADLINE_SECONDS
    with httpx.Client(trust_env=False) as client:
        while True:
            if process.poll() is not None:
                raise BenchError(f"The dashboard ended: {said.read_text(errors='replace')[-2000:]}")
            try:
                client.get(f"{address}/_dash-layout").raise_for_status()
            except httpx.HTTPError as error:
                if monotonic() > deadline:
                    raise BenchError(f"The dashboard does not answer: {error}") from error
                process_wait(process)
            else:
                return


def process_wait(process: subprocess.Popen[bytes]) -> None:
    """Wait a moment, or until the process ends."""
    try:
        process.wait(0.2)
    except subprocess.TimeoutExpired:
        return


class Writer:
    """Adds rows meanwhile; at the end it must have kept its pace."""

    def __init__(self, loader_url: str, rows_per_second: int) -> None:
        """Begin to write."""
        self._rows_per_second = rows_per_second
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.dashboard_writer"],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        order = {"url": loader_url, "rows_per_second": rows_per_second}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def end(self) -> str:
        """Return a line about what was written; raises BenchError where it was too little."""
        start = perf_counter()
        out, _ = self._process.communicate(timeout=_STOP_SECONDS)
        if self._process.returncode:
            raise BenchError("The writer failed: see above.")
        told = json.loads(out)
        pace = told["rows"] / told["seconds"]
        if pace < self._rows_per_second * _LEAST_PACE:
            raise BenchError(
                f"The writer added {pace:.0f} rows a second, not {self._rows_per_second}: the "
                "answers came from a database that was less busy than they should have."
            )
        return (
            f"meanwhile {told['rows']:,} rows were added in {told['seconds']:.0f} s, "
            f"{pace:.0f} a second (ended in {perf_counter() - start:.1f} s)"
        )

    def stop(self) -> None:
        """Leave no process."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
