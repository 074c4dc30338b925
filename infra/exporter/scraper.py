"""One reading of PostgreSQL for a scrape, shared by scrapes that come together."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from time import monotonic, perf_counter

import asyncpg
import structlog
from prometheus_client.metrics_core import Metric

from infra.exporter.database import read_mails, read_usage
from infra.exporter.datasets import read_freshness
from infra.exporter.health import read_components, read_uptime
from infra.exporter.runs import read_running
from infra.exporter.sheet import Sheet
from infra.exporter.stream import read_lag, read_letters
from infra.exporter.totals import read_totals
from infra.postgres.connection import TRANSIENT, Connection, Pool
from schemas.errors import SluicewayError

log = structlog.get_logger("sluiceway.exporter")

STATEMENT_SECONDS = 3
ANSWER_SECONDS = 8.0
"""Prometheus waits for ten by default; who does not know by then says that PostgreSQL is away."""
SHARE_SECONDS = 1.0
"""Scrapes that come within so long after a reading get its result."""
POOL_SIZE = 2
_CONNECT_SECONDS = 3.0
_ENDING_SECONDS = 1.0
"""What giving a connection up may take."""

Group = Callable[[Sheet, Connection], Awaitable[None]]
GROUPS: Mapping[str, Group] = {
    "totals": read_totals,
    "running": read_running,
    "freshness": read_freshness,
    "lag": read_lag,
    "letters": read_letters,
    "components": read_components,
    "uptime": read_uptime,
    "mails": read_mails,
    "usage": read_usage,
}


def make_pool(url: str) -> Pool:
    """Return a pool for the exporter, not opened yet: few connections that only read."""
    return Pool(
        url,
        size=POOL_SIZE,
        wait_seconds=_CONNECT_SECONDS,
        server_settings={
            "application_name": "sluiceway exporter",
            "default_transaction_read_only": "on",
            "statement_timeout": f"{STATEMENT_SECONDS}s",
            "idle_in_transaction_session_timeout": "10s",
            # Short questions: compiling them, or sharing them out, would take longer.
            "jit": "off",
            "max_parallel_workers_per_gather": "0",
            "random_page_cost": "1.1",
        },
    )


class SlowError(SluicewayError):
    """There is no time left to read a group before Prometheus gives up."""


class Scraper:
    """Reads the metrics when asked, once at a time."""

    def __init__(
        self,
        pool: Pool,
        *,
        groups: Mapping[str, Group] = GROUPS,
        share_seconds: float = SHARE_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        """Remember how; nothing is read yet. The pool is the caller's to open and close."""
        self._pool = pool
        self._groups = groups
        self._share_seconds = share_seconds
        self._answer_seconds = answer_seconds
        self._reading: asyncio.Task[list[Metric]] | None = None
        self._read_at = float("-inf")
        self._troubles: dict[str, str] = {}

    async def scrape(self) -> list[Metric]:
        """Return the metrics; without PostgreSQL only that it is away, within answer_seconds."""
        reading = self._reading
        if reading is None or (
            reading.done() and monotonic() - self._read_at >= self._share_seconds
        ):
            reading = self._reading = asyncio.create_task(self._read())
        # One that is stuck goes on by itself, and no second one is begun beside it.
        await asyncio.wait({reading}, timeout=self._answer_seconds + _ENDING_SECONDS)
        return reading.result() if reading.done() else _say_away()

    async def end(self) -> None:
        """Leave no reading under way."""
        if self._reading is not None and not self._reading.done():
            self._reading.cancel()
            await asyncio.wait({self._reading})

    async def _read(self) -> list[Metric]:
        start = perf_counter()
        sheet = Sheet()
        try:
            failed = await self._read_groups(sheet)
        except (SluicewayError, asyncpg.PostgresError, *TRANSIENT) as error:
            took = perf_counter() - start
            is_silent = isinstance(error, TimeoutError) or took >= self._answer_seconds
            silence = SlowError(f"PostgreSQL gave no answer within {took:.0f} s: is it overloaded?")
            self._tell("PostgreSQL", silence if is_silent else error)
            return _say_away()
        finally:
            self._read_at = monotonic()
        self._tell("PostgreSQL", None)
        seconds = perf_counter() - start
        own = Sheet()
        own.gauge(
            "sluiceway_exporter_group_up",
            "1 where the metrics of the group could be read for this scrape.",
            ("group",),
            [((name,), float(name not in failed)) for name in self._groups],
        )
        own.gauge(
            "sluiceway_exporter_query_seconds",
            "How long PostgreSQL took to answer for this scrape.",
            (),
            [((), seconds)],
            unit="seconds",
        )
        own.gauge(
            "sluiceway_exporter_dropped_series",
            "Label sets that are summed up as other in this scrape.",
            (),
            [((), sheet.dropped)],
        )
        return [*_say_up(is_up=True), *sheet.metrics, *own.metrics]

    async def _read_groups(self, sheet: Sheet) -> set[str]:
        """Add what each group has, all as of one moment; returns those that could not be read."""
        failed = set()
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(min(_CONNECT_SECONDS, self._answer_seconds)):
                connection = await stack.enter_async_context(self._pool.acquire())
            # A server that is frozen hears of no cancelling: the connection is given up.
            abort = loop.call_at(start + self._answer_seconds, connection.terminate)
            stack.callback(abort.cancel)
            await stack.enter_async_context(
                connection.transaction(isolation="repeatable_read", readonly=True)
            )
            for name, read in self._groups.items():
                part = Sheet()
                try:
                    self._check_time(loop.time() - start)
                    async with connection.transaction():
                        await read(part, connection)
                except TRANSIENT:
                    raise
                except (asyncpg.PostgresError, SlowError) as error:
                    failed.add(name)
                    self._tell(name, error)
                else:
                    self._tell(name, None)
                    sheet.take(part)
        return failed

    def _check_time(self, seconds: float) -> None:
        # What begins in the first half has time for a statement that takes as long as one may.
        if seconds > self._answer_seconds / 2:
            raise SlowError("The groups before it took too long: there is no time left for it.")

    def _tell(self, what: str, error: BaseException | None) -> None:
        """Log what is in the way when it changes, and once that it is gone."""
        reason = "" if error is None else (str(error) or type(error).__name__).split("\n")[0]
        before = self._troubles.get(what, "")
        self._troubles[what] = reason
        if reason and reason != before:
            log.warning("metrics cannot be read", what=what, reason=reason)
        elif before and not reason:
            log.info("metrics can be read again", what=what)


def _say_up(*, is_up: bool) -> list[Metric]:
    sheet = Sheet()
    sheet.gauge(
        "sluiceway_database_up",
        "1 where PostgreSQL answered this scrape; 0 where it did not, and all it would say is "
        "missing.",
        (),
        [((), float(is_up))],
    )
    return sheet.metrics


def _say_away() -> list[Metric]:
    return _say_up(is_up=False)
