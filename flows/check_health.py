"""Looks at every part of the platform that is configured, and writes down how it is.

    python -m flows.check_health --every 60

It needs no Prefect server, and goes on while PostgreSQL is away. What it found is in
metadata.health_checks; a part that stays BAD makes an event in metadata.alert_events.
"""

import argparse
import asyncio
import sys

from prefect import flow
from rich.console import Console
from rich.table import Table

from infra.health.finding import Result, Status
from infra.logs import attach_log_table, configure_logging
from infra.settings import Settings, read_settings
from infra.shown_errors import hiding_in_errors
from schemas.errors import SluicewayError
from tasks.check_health import HealthWatch
from tasks.check_health import check_health as look_once
from tasks.database import find_database_url, require_database
from tasks.repeat import repeat

PIPELINE = "check_health"


@flow(name=PIPELINE, persist_result=False)
async def check_health() -> dict[str, str]:
    """Look once; returns GOOD, BAD or UNKNOWN by component."""
    settings = read_settings()
    _configure_logging(settings)
    with hiding_in_errors():
        results = await look_once(settings, await find_database_url(settings))
    return {each.component: each.status.value for each in results}


def _configure_logging(settings: Settings) -> None:
    configure_logging(
        PIPELINE, folder=settings.log_folder, level=settings.log_level, settings=settings
    )


async def _watch(settings: Settings, every_seconds: float) -> None:
    watches: list[HealthWatch] = []

    async def look() -> None:
        if not watches:
            # The address may come from a Prefect block, and the server may be away at first.
            url = await find_database_url(settings)
            attach_log_table(url)
            watches.append(HealthWatch(settings, url))
        await watches[0].look()

    await repeat(look, every_seconds=every_seconds, name=PIPELINE)


def _print(results: list[Result]) -> None:
    table = Table("Part", "State", "Seconds", "What was found")
    for each in results:
        table.add_row(each.component, each.status.value, f"{each.latency_seconds:.2f}", each.detail)
    Console().print(table)


def main() -> None:
    """Look once and end with 1 where a part is BAD, or look until told to end."""
    parser = argparse.ArgumentParser(
        prog=f"python -m flows.{PIPELINE}",
        description=(__doc__ or "").split("\n", 1)[0],
        epilog="Without --every it looks once, and ends with 1 where a part is BAD.",
    )
    parser.add_argument(
        "--every", type=float, metavar="SECONDS", help="go on, until told to end; usually 60"
    )
    given = parser.parse_args()
    try:
        settings = read_settings()
        require_database(settings)
        _configure_logging(settings)
        if given.every is not None:
            asyncio.run(_watch(settings, given.every))
            return
        sys.exit(asyncio.run(_look_once(settings)))
    except SluicewayError as error:
        sys.exit(str(error))


async def _look_once(settings: Settings) -> int:
    """Print how each part is; returns 1 where one is BAD, or it could not be written down."""
    watch = HealthWatch(settings, await find_database_url(settings))
    trouble = ""
    try:
        await watch.look()
    except SluicewayError:
        trouble = "This is not written down: PostgreSQL does not take it (see postgres above)."
    _print(watch.latest)
    if trouble:
        sys.stderr.write(f"{trouble}\n")
    return int(bool(trouble) or any(each.status is Status.BAD for each in watch.latest))


if __name__ == "__main__":
    main()
