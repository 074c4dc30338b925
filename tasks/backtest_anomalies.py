"""Says when the anomaly rules would have fired, had they been there as they are now.

    python -m tasks.backtest_anomalies --dataset sales_data --days 90 --rule volume

Each load of the time is judged by those before it, with the code that judges a load that comes
now. Nothing is written. A feed that stopped and never came again is not seen: no load tells of it.
"""

import argparse
import asyncio
import datetime as dt
import sys
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import asyncpg
import pandas as pd

from infra.postgres.connection import TRANSIENT, Connection, connect
from infra.settings import read_settings
from schemas.datasets import DATASETS
from schemas.errors import SluicewayError, TerminalError, TransientError
from tasks.anomaly_rules import COLUMNS_READ, LOADS_READ, RULES, Feed, Load, judge
from tasks.database import find_database_url
from tasks.load_history import find_answers, read_history

COLUMNS = (
    *("at", "dataset", "feed", "column", "rule", "severity"),
    *("observed", "expected", "low", "high", "summary"),
)
_CONNECT_SECONDS = 10.0
_MOST_DAYS = 3650
_PROMISES = {each.spec.table: each.spec.freshness for each in DATASETS}


async def backtest_anomalies(
    connection: Connection,
    *,
    dataset: str | None = None,
    days: int = 90,
    rule: str | None = None,
    until: dt.datetime | None = None,
) -> tuple[pd.DataFrame, int]:
    """Return what would have been found, in order, and how many loads were judged.

    The frame has a row an anomaly: `at` (UTC, when the load came) and the columns of an Anomaly.
    dataset, rule: only of these; by default of all. until: by default now.
    """
    until = until or dt.datetime.now(dt.UTC)
    since = until - dt.timedelta(days=days)
    feeds = await connection.fetch(
        """
        SELECT dataset, feed, count(*) AS loads, bool_or(day IS NOT NULL) AS is_stream
        FROM metadata.load_profiles
        WHERE ($1::text IS NULL OR dataset = $1) AND profiled_at >= $2 AND profiled_at < $3
        GROUP BY dataset, feed ORDER BY dataset, feed
        """,
        dataset,
        since,
        until,
    )
    histories: dict[Feed, list[Load]] = {}
    for row in feeds:
        feed = Feed(row["dataset"], row["feed"])
        histories[feed] = await read_history(
            connection,
            feed.dataset,
            feed.name,
            before=until,
            loads=row["loads"] + LOADS_READ,
            with_columns=row["loads"] + COLUMNS_READ,
        )
    heard = {
        name: await find_answers(connection, name, since=since, before=until)
        for name in {each.dataset for each in histories}
    }
    # A day of a stream is judged when it is over: no promise is about that.
    promises = {
        Feed(row["dataset"], row["feed"]): None if row["is_stream"] else promise
        for row in feeds
        if (promise := _PROMISES.get(row["dataset"])) is not None
    }
    found = _replay(histories, heard, promises, since)
    frame = pd.DataFrame(found, columns=list(COLUMNS)).sort_values(["at", "dataset", "feed"])
    if rule is not None:
        frame = frame[frame["rule"] == rule]
    return frame.reset_index(drop=True), sum(row["loads"] for row in feeds)


def _replay(
    histories: Mapping[Feed, Sequence[Load]],
    heard: Mapping[str, Sequence[dt.datetime]],
    promises: Mapping[Feed, dt.timedelta | None],
    since: dt.datetime,
) -> list[dict[str, object]]:
    """Judge each load by those before it; `heard`: when an API answered that nothing changed."""
    news = {name: list(times) for name, times in heard.items()}
    for feed, history in histories.items():
        news[feed.dataset] += [each.at for each in history if each.read > each.quarantined]
    times = {name: sorted(each) for name, each in news.items()}
    found = []
    for feed, history in histories.items():
        for place, load in enumerate(history):
            if load.at < since:
                continue
            before = bisect_left(times[feed.dataset], load.at)
            last = times[feed.dataset][before - 1] if before else None
            promised = promises.get(feed)
            anomalies = judge(feed, history[:place], load, promised=promised, news=last)
            found += [{"at": load.at, **asdict(each)} for each in anomalies]
    return found


def describe(frame: pd.DataFrame, loads: int, rules: Sequence[str]) -> str:
    """Return by rule when it would have fired, a line each, and how often."""
    lines = []
    for rule in rules:
        fired = frame[frame["rule"] == rule]
        lines.append(f"{rule}: {len(fired):,} times in {loads:,} loads")
        lines += [
            f"  would have fired on {row.at:%Y-%m-%d %H:%M} ({row.severity}): {row.summary}"
            for row in fired.itertuples()
        ]
    return "\n".join(lines) + "\n"


async def report_backtest(
    url: str, *, dataset: str | None = None, days: int = 90, rule: str | None = None
) -> str:
    """Return the back-test of the last days as text.

    Raises TerminalError where nothing was loaded in them, TransientError where PostgreSQL is away.
    """
    try:
        connection = await connect(url, wait_seconds=_CONNECT_SECONDS)
        try:
            frame, loads = await backtest_anomalies(
                connection, dataset=dataset, days=days, rule=rule
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
    if not loads:
        which = f"of '{dataset}' " if dataset else ""
        raise TerminalError(
            f"No load {which}was recorded in the last {days} days: look at an earlier time "
            "with --days, or load something first."
        )
    return describe(frame, loads, [rule] if rule else list(RULES))


async def _run(given: argparse.Namespace) -> str:
    url = await find_database_url(read_settings())
    return await report_backtest(url, dataset=given.dataset, days=given.days, rule=given.rule)


def main(arguments: Sequence[str] | None = None) -> None:
    """Report from the command line; exits with a sentence when it cannot."""
    parser = argparse.ArgumentParser(
        prog="python -m tasks.backtest_anomalies", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--dataset", help="only this one, by its table, as sales_data")
    parser.add_argument("--days", type=int, default=90, help="default: %(default)s")
    parser.add_argument("--rule", choices=list(RULES), help="only this one")
    given = parser.parse_args(arguments)
    if not 1 <= given.days <= _MOST_DAYS:
        parser.error(f"--days must be between 1 and {_MOST_DAYS}")
    try:
        sys.stdout.write(asyncio.run(_run(given)))
    except SluicewayError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
