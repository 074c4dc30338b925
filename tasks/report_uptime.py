"""Says how good each part of the platform was: uptime against its target, by period.

    python -m tasks.report_uptime --by month --csv uptime.csv

Periods are those of UTC. A minute in which nobody checked is unknown, and counts as not good;
maintenance is set apart. The budget is what may be other than good by the end of the period.
"""

import argparse
import asyncio
import datetime as dt
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import asyncpg
from rich.console import Console
from rich.table import Table

from infra.postgres.connection import TRANSIENT, connect
from infra.settings import read_settings
from infra.uptime import TARGET, UNITS, Unit, Uptime, find_uptime, write_csv
from schemas.errors import SluicewayError, TerminalError, TransientError
from tasks.database import find_database_url
from tasks.moments import parse_moment

STDOUT = "-"
_BACK: Mapping[Unit, dt.timedelta] = {
    "hour": dt.timedelta(hours=23),
    "day": dt.timedelta(days=29),
    "month": dt.timedelta(days=365),
    "quarter": dt.timedelta(days=365),
}
"""What is shown without --from."""
_NAMES: Mapping[Unit, str] = {"hour": "%Y-%m-%d %H:00", "day": "%Y-%m-%d", "month": "%Y-%m"}
_CONNECT_SECONDS = 10.0
_WIDTH = 120


async def report_uptime(
    url: str,
    unit: Unit,
    *,
    component: str | None = None,
    begin: dt.datetime | None = None,
    end: dt.datetime | None = None,
    now: dt.datetime | None = None,
) -> list[Uptime]:
    """Return the uptime of each component, or of one, in each period between begin and end.

    Raises TerminalError where no such component was ever checked, TransientError where PostgreSQL
    is away.
    """
    moment = now or dt.datetime.now(dt.UTC)
    last = min(end or moment, moment)
    if begin is not None and begin >= last:
        raise TerminalError(
            f"Nothing lies between {begin:%Y-%m-%d %H:%M} and {last:%Y-%m-%d %H:%M} UTC: take an "
            "earlier --from, or a later --to."
        )
    try:
        connection = await connect(url, wait_seconds=_CONNECT_SECONDS)
        try:
            found = await find_uptime(
                connection,
                unit,
                begin=begin or last - _BACK[unit],
                end=last,
                now=moment,
                component=component,
            )
        finally:
            await connection.close()
    except TRANSIENT as error:
        raise TransientError(
            f"PostgreSQL went away meanwhile ({type(error).__name__}): try again."
        ) from error
    except asyncpg.PostgresError as error:
        raise TerminalError(
            f"PostgreSQL refuses to say ({error}): was the database bootstrapped?"
        ) from error
    if not found:
        which = f"'{component}'" if component else "any component"
        raise TerminalError(
            f"There is no check of {which} in this time: see that `python -m flows.check_health "
            "--every 60` runs, and which components it names."
        )
    return found


def print_table(uptimes: Sequence[Uptime], unit: Unit) -> None:
    """Print a line for each component and period."""
    table = Table(title=f"Uptime against {100 * TARGET:g} %")
    table.add_column("Part")
    table.add_column(unit.capitalize())
    for name in ("Uptime", "Good", "Bad", "Unknown", "Maintenance", "Expected", "Budget left"):
        table.add_column(name, justify="right")
    for each in uptimes:
        table.add_row(
            each.component,
            name_period(each.begin, unit),
            f"{each.percent} %" if each.percent else "maintenance",
            *(f"{minutes:,}" for minutes in (each.good, each.bad, each.unknown)),
            *(f"{minutes:,}" for minutes in (each.maintenance, each.expected)),
            f"{each.left:,.1f} min",
        )
    # In a narrow window, or a pipe, the figures would be cut: longer lines are less bad.
    console = Console()
    console.width = max(console.width, _WIDTH)
    console.print(table)


def name_period(begin: dt.datetime, unit: Unit) -> str:
    """Return how a person calls the period."""
    if unit == "quarter":
        return f"{begin:%Y} Q{(begin.month + 2) // 3}"
    return begin.strftime(_NAMES[unit])


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tasks.report_uptime", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--component", help="only this one, as postgres or kafka")
    parser.add_argument("--by", choices=UNITS, default="month", help="default: %(default)s")
    parser.add_argument(
        "--from",
        dest="begin",
        type=parse_moment,
        help="the first period is the one that has this time (UTC)",
    )
    parser.add_argument(
        "--to", dest="end", type=parse_moment, help="periods that begin before this time (UTC)"
    )
    parser.add_argument(
        "--csv", metavar="FILE", help="write a CSV file instead; - is standard output"
    )
    return parser.parse_args()


async def _run(given: argparse.Namespace) -> list[Uptime]:
    url = await find_database_url(read_settings())
    return await report_uptime(
        url, given.by, component=given.component, begin=given.begin, end=given.end
    )


def main() -> None:
    """Report from the command line; exits with a sentence when it cannot."""
    given = _parse()
    try:
        uptimes = asyncio.run(_run(given))
        if given.csv is None:
            print_table(uptimes, given.by)
        elif given.csv == STDOUT:
            sys.stdout.write(write_csv(uptimes))
        else:
            Path(given.csv).write_text(write_csv(uptimes), encoding="utf-8", newline="")
    except OSError as error:
        sys.exit(f"{given.csv} cannot be written ({error.strerror}): name another file.")
    except SluicewayError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
