"""Replays dead letters after the contract, the data or the code was mended; by default only looks.

    python -m flows.replay_dead_letters --help

Letters go through contract, merge and ledger like any message. What was loaded, or came too late
for a newer row, is never replayed again; what fails again keeps its old reason beside the new one.
"""

import argparse
import asyncio
import dataclasses
import datetime as dt
import sys
from uuid import UUID

from prefect import flow
from prefect.runtime import flow_run

from infra.logs import attach_log_table, configure_logging
from infra.settings import read_settings
from schemas.datasets import DATASETS
from schemas.errors import SluicewayError
from tasks.database import find_database_url, open_pool, require_database
from tasks.letter_choice import MAX_ATTEMPTS, Choice
from tasks.moments import in_utc, parse_moment
from tasks.prefect_api import require_prefect
from tasks.record import record_execution
from tasks.replay_dead_letters import Replay
from tasks.replay_dead_letters import replay_dead_letters as replay_letters
from tasks.replay_tables import print_table, publish_table, tabulate_letters

PIPELINE = "replay_dead_letters"


def _name_run() -> str:
    return f"dead letters {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S}"


@flow(name=PIPELINE, flow_run_name=_name_run, persist_result=False)
async def replay_dead_letters(
    reason: str | None = None,
    source: str | None = None,
    since: dt.datetime | None = None,
    until: dt.datetime | None = None,
    group: str | None = None,
    ids: list[int] | None = None,
    *,
    limit: int | None = None,
    max_attempts: int = MAX_ATTEMPTS,
    dry_run: bool = True,
) -> Replay:
    """Load the dead letters that match all that is given; returns what became of them.

    reason: as it stands in the table, or its beginning and a `*`. source: a dataset's table.
    since, until: when they were buried; a time without a zone is in UTC. group: of consumers.
    ids: of metadata.dead_letters. limit: so many at most, the oldest.
    max_attempts: letters that were replayed so often are left alone.
    dry_run: only count what would be replayed.
    """
    choice = Choice(
        reason=reason,
        source=source,
        since=in_utc(since),
        until=in_utc(until),
        group=group,
        ids=tuple(ids or ()),
        limit=limit,
        max_attempts=max_attempts,
    )
    settings = read_settings()
    log = configure_logging(
        PIPELINE, folder=settings.log_folder, level=settings.log_level, settings=settings
    )
    attach_log_table(await find_database_url(settings))
    parameters = {**dataclasses.asdict(choice), "dry_run": dry_run}
    async with (
        await open_pool(settings) as pool,
        record_execution(pool, PIPELINE, flow_run_id=_run_id(), parameters=parameters) as run,
    ):
        specs = {each.spec.table: each.spec for each in DATASETS}
        replay = await replay_letters(pool, specs, choice, execution_id=run.id, dry_run=dry_run)
        run.records_processed = replay.total.total()
        log.info(str(replay), dry_run=dry_run, new_reasons=dict(replay.new_reasons.most_common(10)))
        await publish_table("dead-letters", tabulate_letters(replay), str(replay))
    return replay


def _run_id() -> UUID | None:
    return UUID(flow_run.id) if flow_run.id else None


async def _run(given: argparse.Namespace) -> Replay:
    await require_prefect()
    options = {name: value for name, value in vars(given).items() if name != "for_real"}
    replay: Replay = await replay_dead_letters(**options, dry_run=not given.for_real)
    return replay


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m flows.{PIPELINE}",
        description=(__doc__ or "").split("\n", 1)[0],
        epilog="Without an option all letters match that were not loaded yet.",
    )
    parser.add_argument("--reason", help="as in metadata.dead_letters, or its beginning and a *")
    parser.add_argument("--source", help="a dataset's table, as sales_data")
    parser.add_argument("--since", type=parse_moment, help="buried at this time (UTC) or later")
    parser.add_argument("--until", type=parse_moment, help="buried before this time (UTC)")
    parser.add_argument("--group", help="buried by this group of consumers")
    parser.add_argument("--ids", type=int, nargs="+", help="of metadata.dead_letters")
    parser.add_argument("--limit", type=int, help="so many at most, the oldest")
    parser.add_argument(
        "--max-attempts",
        type=int,
        default=MAX_ATTEMPTS,
        help="leave alone what was replayed so often (default: %(default)s)",
    )
    parser.add_argument("--for-real", action="store_true", help="load them; without it, only count")
    return parser.parse_args()


def main() -> None:
    """Replay from the command line; exits with a sentence when it fails."""
    given = _parse()
    try:
        require_database(read_settings())
        replay = asyncio.run(_run(given))
    except SluicewayError as error:
        sys.exit(str(error))
    hint = "" if given.for_real or not replay.plan.letters else " --for-real replays them."
    print_table(tabulate_letters(replay), f"{replay}{hint}")


if __name__ == "__main__":
    main()
