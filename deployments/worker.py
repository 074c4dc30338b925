"""A process worker that outlives its Prefect server: `python -m deployments.worker stream`.

Prefect's own worker gives up on a server that stays away, and ends its flow runs as it goes,
though a consumer needs no server. This one goes on asking, and lets them work. Otherwise it is
Prefect's, with its settings.
"""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

import httpx
import psutil
from prefect.client.schemas.objects import FlowRun
from prefect.logging import get_logger
from prefect.settings import PREFECT_WORKER_HEARTBEAT_SECONDS, PREFECT_WORKER_PREFETCH_SECONDS
from prefect.workers.process import ProcessWorker

from schemas.errors import SluicewayError
from tasks.prefect_api import require_prefect_address

FIRST_SERVER_ERROR = 500
POLL_SECONDS = 0.1
LEAVE_SECONDS = 20.0
"""A consumer drains within ten and writes down its end; the stack and systemd wait longer."""


class PatientWorker(ProcessWorker):
    """Prefect's process worker, except that an absent server is waited for."""

    is_away = False
    """Whether the server did not answer when it was asked last."""

    @classmethod
    def __dispatch_key__(cls) -> str:
        """Stand beside Prefect's own in its registry of workers, not in its place."""
        return "patient process"

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Start the runs that are due; none while the server is away."""
        found: list[FlowRun] = []

        async def ask() -> None:
            found.extend(await super(PatientWorker, self).get_and_submit_flow_runs())

        await self._bear(ask)
        return found

    async def sync_with_backend(self) -> None:
        """Learn what the server wants of this worker, as soon as it is there."""
        await self._bear(super().sync_with_backend)

    async def _bear(self, ask: Callable[[], Awaitable[None]]) -> None:
        """Ask the server; an answer that does not come is told once, and changes nothing."""
        try:
            await ask()
        except httpx.HTTPError as error:
            if not may_pass(error):
                raise
            if not self.is_away:
                self._log(logging.WARNING, f"The Prefect server does not answer ({error!r}).")
            self.is_away = True
        else:
            if self.is_away:
                self._log(logging.INFO, "The Prefect server answers again.")
            self.is_away = False

    def _log(self, level: int, sentence: str) -> None:
        get_logger("sluiceway.worker").log(level, "%s Runs go on.", sentence)


def may_pass(error: httpx.HTTPError) -> bool:
    """Tell whether the same question may be answered later."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= FIRST_SERVER_ERROR
    return isinstance(error, httpx.TransportError)


async def work(pool: str, *, name: str | None = None, limit: int | None = None) -> None:
    """Start the runs of the pool until told to end, and then end them too.

    The pool is waited for, never created. limit: how many runs at a time; by default any number.
    """
    worker = PatientWorker(
        work_pool_name=pool,
        name=name,
        limit=limit,
        prefetch_seconds=PREFECT_WORKER_PREFETCH_SECONDS.value(),
        heartbeat_interval_seconds=int(PREFECT_WORKER_HEARTBEAT_SECONDS.value()),
        create_pool_if_not_found=False,
    )
    working = asyncio.create_task(worker.start())
    told = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    leaving = asyncio.create_task(told.wait())
    await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
    if told.is_set():
        await end_runs(LEAVE_SECONDS)
        working.cancel()
    leaving.cancel()
    with suppress(asyncio.CancelledError):
        await working


async def end_runs(deadline_seconds: float) -> None:
    """Tell this process's flow runs to end, and wait until they have: a consumer drains.

    Prefect's worker, cancelled, kills them at once.
    """
    runs = psutil.Process().children()
    for each in runs:
        with suppress(psutil.NoSuchProcess):
            each.terminate()
    # Not by psutil's wait, which would take their exit codes from who started them.
    with suppress(TimeoutError):
        async with asyncio.timeout(deadline_seconds):
            while any(_lives(each) for each in runs):  # noqa: ASYNC110 - no event tells of another's child
                await asyncio.sleep(POLL_SECONDS)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def main() -> None:
    """Read the command line, and work."""
    parser = argparse.ArgumentParser(
        prog="python -m deployments.worker", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("pool", help="the work pool whose runs to start here")
    parser.add_argument("--name", help="how Prefect shows this worker; by default any")
    parser.add_argument("--limit", type=int, help="how many runs at a time; by default any number")
    given = parser.parse_args()
    try:
        require_prefect_address()
        asyncio.run(work(given.pool, name=given.name, limit=given.limit))
    except SluicewayError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
