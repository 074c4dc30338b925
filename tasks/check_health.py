"""Looks at every part of the platform that is configured, and writes down how it is.

It needs neither a Prefect server nor a PostgreSQL that is up: what PostgreSQL could not take is
written once it is back, for the minute that it is of. So its own outage counts as one.
"""

import asyncio
import datetime as dt
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from time import monotonic

import asyncpg
import structlog

from infra.health.certificates import check_certificates
from infra.health.checker import Checker
from infra.health.dashboard import check_dashboard
from infra.health.finding import Check, Finding, Result
from infra.health.kafka import check_kafka
from infra.health.machine import CpuLoad, check_disk, check_memory
from infra.health.postgres import check_postgres, find_data_folder
from infra.health.prefect_server import check_server, check_workers, is_named
from infra.health.record import write_results
from infra.postgres.connection import TRANSIENT, connect
from infra.settings import Settings
from schemas.datasets import DATASETS
from schemas.errors import TransientError
from tasks.judge_silence import tell_silence
from tasks.offsets import Reader
from tasks.stream_lag import LagProbe

log = structlog.get_logger("sluiceway.health")

KEPT_TURNS = 1440
"""Turns that wait for PostgreSQL: a day of minutes. Of a longer outage the first are unknown."""
WRITE_SECONDS = 8.0
"""How long PostgreSQL may take for it; a turn is over within its minute."""
SILENCE_SECONDS = 3600.0
"""How often feeds are looked for that stopped coming."""
_CERTIFICATES_SHARE = 0.8


def make_checks(settings: Settings, url: str) -> dict[str, Check]:
    """Return the check of each part that the settings name, by component.

    url: of the database, as the loader. The processor's load is averaged from this call on.
    """
    checks: dict[str, Check] = {"postgres": partial(check_postgres, url)}
    if settings.kafka_bootstrap_servers:
        checks["kafka"] = partial(check_kafka, settings, url, partial(measure_lag, settings))
    if is_named():
        checks["prefect"] = check_server
        checks["workers"] = check_workers
    # Both have defaults: only who says where it is has one.
    if {"dashboard_host", "dashboard_port"} & settings.model_fields_set and settings.dashboard_port:
        checks["dashboard"] = partial(
            check_dashboard, settings.dashboard_host, settings.dashboard_port
        )
    checks["disk"] = partial(_check_disk, settings, url)
    checks["memory"] = partial(check_memory, settings.health_free_memory_percent)
    checks["cpu"] = CpuLoad(settings.health_cpu_percent).check
    if settings.health_certificates:
        checks["certificates"] = partial(
            check_certificates,
            settings.health_certificates,
            settings.health_certificate_days,
            seconds=_CERTIFICATES_SHARE * settings.health_timeout_seconds,
        )
    return checks


async def check_health(settings: Settings, url: str) -> list[Result]:
    """Return how each part is, after it was written down; raises TransientError if it could not be.

    For whoever looks once; HealthWatch looks again and again.
    """
    return await HealthWatch(settings, url).look()


async def measure_lag(
    settings: Settings, next_offsets: Mapping[int, int]
) -> list[tuple[int, int, float]]:
    """Return how far the group is behind by the broker's word: partition, messages, seconds."""
    reader = Reader(settings.kafka_group, settings.kafka_topic)
    async with LagProbe(settings, reader) as probe:
        lags = await probe.measure(dict(next_offsets))
    return [(each.partition, each.messages, each.seconds) for each in lags]


class HealthWatch:
    """Looks again and again; keeps what PostgreSQL could not take, and the load's readings."""

    def __init__(
        self,
        settings: Settings,
        url: str,
        *,
        checks: Mapping[str, Check] | None = None,
        write_seconds: float = WRITE_SECONDS,
    ) -> None:
        """Look at nothing yet.

        url: of the database, as the loader. checks: by component; by default those of the settings.
        """
        self._settings = settings
        self._url = url
        self._write_seconds = write_seconds
        self._checker = Checker(
            make_checks(settings, url) if checks is None else checks,
            timeout_seconds=settings.health_timeout_seconds,
        )
        self.latest: list[Result] = []
        """What was found last, written down or not."""
        self._waiting: deque[list[Result]] = deque(maxlen=KEPT_TURNS)
        self._silence_at = float("-inf")

    @property
    def waiting(self) -> int:
        """How many turns wait to be written."""
        return len(self._waiting)

    async def look(self, now: dt.datetime | None = None) -> list[Result]:
        """Return how each part is at this time, after it was written down with what waited.

        Raises TransientError, or what PostgreSQL says, where it could not be written: it waits.
        """
        moment = now or dt.datetime.now(dt.UTC)
        self.latest = results = await self._checker.run(moment)
        self._waiting.append(results)
        try:
            async with self._connect() as connection:
                events = await write_results(
                    connection,
                    [each for turn in self._waiting for each in turn],
                    alert_after=self._settings.health_alert_after,
                )
        except (TransientError, *TRANSIENT) as error:
            raise TransientError(
                "What was checked cannot be written, and waits until PostgreSQL is back "
                f"({type(error).__name__}): see that it runs."
            ) from error
        self._waiting.clear()
        for event in events:
            tell = log.error if event.is_down else log.info
            said = "a part is down" if event.is_down else "a part is back"
            tell(said, component=event.component, detail=event.minute.detail)
        if monotonic() - self._silence_at >= SILENCE_SECONDS:
            self._silence_at = monotonic()
            await self._tell_silence(moment)
        return results

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[asyncpg.Connection]:
        """Lend a connection of its own, and limit the time that it is used for."""
        async with asyncio.timeout(self._write_seconds):
            connection = await connect(self._url, wait_seconds=self._write_seconds / 2)
            try:
                yield connection
            except BaseException:
                # A farewell would wait for a server that is frozen.
                connection.terminate()
                raise
            await connection.close()

    async def _tell_silence(self, now: dt.datetime) -> None:
        """Have it told which feeds stopped coming; a fault in that ends no check."""
        try:
            async with self._connect() as connection:
                await tell_silence(connection, [each.spec for each in DATASETS], now)
        except Exception:
            log.exception("whether feeds stopped coming could not be judged")


async def _check_disk(settings: Settings, url: str) -> Finding:
    folders: dict[str, Path] = {}
    data = find_data_folder(url)
    if data is not None:
        folders["data of PostgreSQL"] = data
    folders["log folder"] = settings.log_folder
    folders["raw folder"] = settings.raw_folder
    return await check_disk(folders, settings.health_free_disk_percent)
