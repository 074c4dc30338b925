"""Finds feeds that stopped coming: no load sees that there is none."""

import datetime as dt
from collections.abc import Sequence

from infra.postgres.connection import Connection
from schemas.spec import Spec
from tasks.anomalies import Anomaly, write_anomalies
from tasks.anomaly_rules import Feed, judge_promise, judge_wait
from tasks.load_history import find_heard, read_history, was_told

_LOCK = 0x51C5_0001
"""One at a time: two processes that look at once would both tell of the same silence."""


async def tell_silence(
    connection: Connection, specs: Sequence[Spec], now: dt.datetime
) -> list[Anomaly]:
    """Write down, and tell, which feeds are silent for too long; returns those not told before.

    To be called every hour or so. Each silence is told once, and once more if, told as a warning,
    it grows into an error. All of it is one transaction.
    """
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        found = await judge_silence(connection, specs, now)
        await write_anomalies(
            connection, found, execution_id=None, batch_id=None, was_refused=False, at=now
        )
    return found


async def judge_silence(
    connection: Connection, specs: Sequence[Spec], now: dt.datetime
) -> list[Anomaly]:
    """Return which feeds of these datasets are silent for too long, and were not told of before.

    A feed is, by its own rhythm, a warning; a dataset of which no feed brought a row for longer
    than its contract promises is an error. Of one that never loaded anything nothing is said.
    """
    return [each for spec in specs for each in await _judge_dataset(connection, spec, now)]


async def _judge_dataset(connection: Connection, spec: Spec, now: dt.datetime) -> list[Anomaly]:
    heard = await find_heard(connection, spec.table, before=now)
    silent: dict[str, tuple[dt.datetime, Anomaly]] = {}
    for name, last in heard.feeds.items():
        feed = Feed(spec.table, name)
        history = await read_history(connection, spec.table, name, before=now, with_columns=0)
        for each in judge_wait(feed, history, now, heard=heard.alive.get(name)):
            silent[name] = last, each
    if spec.freshness is not None and heard.news is not None and heard.newest_feed is not None:
        feed = Feed(spec.table, heard.newest_feed)
        for each in judge_promise(feed, spec.freshness, now - heard.news, has_come=False):
            silent[feed.name] = heard.news, each
    return [
        each
        for name, (since, each) in silent.items()
        if await was_told(connection, spec.table, name, since=since) not in {"error", each.severity}
    ]
