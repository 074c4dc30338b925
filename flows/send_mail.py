"""Tells people what happened: makes mails of alert events, sends them, and keeps what cannot go.

    python -m flows.send_mail --help

With --every it runs for ever and needs no Prefect server: what watches must not depend on what it
watches. It is in no run history, so that mail that fails is no event to send mail about.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from functools import cache, partial

import structlog
from prefect import flow

from infra.logs import attach_log_table, configure_logging
from infra.mail.channels import Channel, check_channels
from infra.mail.text import render_text
from infra.postgres.connection import Pool
from infra.settings import Settings, read_settings
from infra.shown_errors import hiding_in_errors
from schemas.errors import SluicewayError
from tasks.database import find_database_url, require_database
from tasks.mail_compose import compose_mails
from tasks.mail_outbox import Outcome
from tasks.mail_words import count
from tasks.repeat import repeat
from tasks.send_mail import NOBODY, send_test
from tasks.send_mail import send_mail as send_once

PIPELINE = "send_mail"
_CONNECTIONS = 4
_WAIT_SECONDS = 5.0


@flow(name=PIPELINE, persist_result=False)
async def send_mail() -> Outcome:
    """Compose and send what is due, once; returns what became of it, in rows of the outbox."""
    settings = read_settings()
    _log_to(settings)
    with hiding_in_errors():
        return await _take_turn(settings)


async def _take_turn(settings: Settings) -> Outcome:
    # In each turn: the address may come from a Prefect block, and the server may be away at first.
    url = await find_database_url(settings)
    attach_log_table(url)
    async with Pool(url, size=_CONNECTIONS, wait_seconds=_WAIT_SECONDS) as pool:
        return await send_once(pool, settings, _find_channels(settings))


def _find_channels(settings: Settings) -> Sequence[Channel]:
    channels = check_channels(settings)
    if not channels:
        _say_nobody()
    return channels


@cache
def _say_nobody() -> None:
    structlog.get_logger("sluiceway.mail").warning(NOBODY)


async def _show(settings: Settings) -> None:
    """Print what would be composed now; nothing is kept."""
    channels = check_channels(settings) or ("mail",)
    url = await find_database_url(settings)
    async with Pool(url, size=1, wait_seconds=_WAIT_SECONDS) as pool:
        composed = await compose_mails(pool, settings, channels, is_trial=True)
    for each in composed:
        sys.stdout.write(f"Subject: {each.document.subject}\n\n{render_text(each.document)}\n")
    events = sum(each.events for each in composed)
    said = f"{count(len(composed), 'mail')} would be made of {count(events, 'event')}."
    sys.stdout.write(f"{said}\n")


def _log_to(settings: Settings) -> None:
    configure_logging(
        PIPELINE, folder=settings.log_folder, level=settings.log_level, settings=settings
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m flows.{PIPELINE}",
        description=(__doc__ or "").split("\n", 1)[0],
        epilog="Without an option, composes and sends once.",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--every", type=float, metavar="SECONDS", help="go on until told to end")
    what.add_argument("--test", action="store_true", help="send a test mail, and say what happened")
    what.add_argument("--dry-run", action="store_true", help="print what would be composed now")
    return parser.parse_args()


def main() -> None:
    """Send from the command line, without Prefect; exits with a sentence when it fails."""
    given = _parse()
    try:
        settings = read_settings()
        _log_to(settings)
        if given.test:
            sys.stdout.write(f"{asyncio.run(send_test(settings))}\n")
            return
        require_database(settings)
        if given.dry_run:
            asyncio.run(_show(settings))
        elif given.every:
            _find_channels(settings)
            turn = partial(_take_turn, settings)
            asyncio.run(repeat(turn, every_seconds=given.every, name="sending mail"))
        else:
            done = asyncio.run(_take_turn(settings))
            sys.stdout.write(f"{done.sent} sent, {done.delayed} wait, {done.abandoned} given up.\n")
    except SluicewayError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
