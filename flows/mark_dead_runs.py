"""Marks runs whose process is gone as FAILED, in Prefect too; of late runs, the newest is left.

    python -m flows.mark_dead_runs --every 30

It needs no Prefect server, and any number of it may run at the same time. What it did is in
metadata.janitor_acts.
"""

import argparse
import asyncio
import sys

from prefect import flow

from infra.logs import attach_log_table, configure_logging
from infra.settings import Settings, read_settings
from schemas.errors import SluicewayError
from tasks.database import require_database
from tasks.janitor import Janitor, Round
from tasks.repeat import repeat

PIPELINE = "mark_dead_runs"


@flow(name=PIPELINE, persist_result=False)
async def mark_dead_runs() -> str:
    """Make one round; returns what was done, as a sentence."""
    settings = read_settings()
    _configure_logging(settings)
    return str(await _make_round(Janitor(settings)))


def _configure_logging(settings: Settings) -> None:
    configure_logging(
        PIPELINE, folder=settings.log_folder, level=settings.log_level, settings=settings
    )


async def _make_round(janitor: Janitor) -> Round:
    # In each round: PostgreSQL and what says where it is may be away at first.
    attach_log_table(await janitor.find_url())
    return await janitor.make_round()


async def _run(given: argparse.Namespace) -> None:
    settings = read_settings()
    _configure_logging(settings)
    janitor = Janitor(settings)
    if given.every is None:
        print(await _make_round(janitor))  # noqa: T201 - the command's answer
        return
    await repeat(lambda: _make_round(janitor), every_seconds=given.every, name=PIPELINE)


def main() -> None:
    """Make one round, or go on with it; exits with a sentence when it fails."""
    parser = argparse.ArgumentParser(
        prog=f"python -m flows.{PIPELINE}", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument(
        "--every", type=float, metavar="SECONDS", help="go on, until told to end; usually 30"
    )
    given = parser.parse_args()
    try:
        require_database(read_settings())
        asyncio.run(_run(given))
    except SluicewayError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
