"""Compares a load with the earlier loads of its feed, and with what its contract promises."""

import datetime as dt

from infra.postgres.connection import Connection
from schemas.spec import Spec
from tasks.anomalies import Anomaly
from tasks.anomaly_rules import Feed, judge
from tasks.load_history import find_heard, read_history, see, was_told
from tasks.profile import LoadProfile


async def judge_load(
    connection: Connection,
    profile: LoadProfile,
    spec: Spec,
    *,
    at: dt.datetime | None = None,
) -> list[Anomaly]:
    """Return what is odd about the load, errors first; its own profile is not yet written.

    at: when it came, by default now. That it came late is left out where somebody was told while
    nothing came.
    """
    at = at or dt.datetime.now(dt.UTC)
    feed = Feed(profile.dataset, profile.feed)
    history = await read_history(connection, feed.dataset, feed.name, before=at)
    news = None
    if spec.freshness is not None:
        heard = await find_heard(connection, feed.dataset, before=at)
        # A day of a stream is judged when it is over; its rows came all day long.
        news = None if feed.name in heard.of_stream else heard.news
    found = judge(feed, history, see(profile, at), promised=spec.freshness, news=news)
    is_late = any(each.rule == "freshness" for each in found)
    since = history[-1].at if history else news
    if (
        is_late
        and since is not None
        and await was_told(connection, feed.dataset, feed.name, since=since)
    ):
        return [each for each in found if each.rule != "freshness"]
    return found
