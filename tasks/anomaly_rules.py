"""The rules that say whether a load is odd, by the feed's own earlier loads; no input or output.

What is compared with what, and by which measure, is in tasks/row_baseline.py, share_baseline.py and
rhythm.py; a rule's direction, least step and severity are in RULES.
"""

import datetime as dt
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np

from tasks.anomalies import Anomaly, Severity
from tasks.rhythm import Due, Floats, Places, Rhythm, find_due, find_places, learn_rhythm
from tasks.row_baseline import Band, expect_rows
from tasks.share_baseline import expect_share
from tasks.tell_figures import WEEKDAYS, tell_share, tell_time

LOADS_READ = 1_000
"""Earlier loads that are looked at, the newest: six weeks of hourly ones."""
COLUMNS_READ = 180
"""Those of which shares are looked at, by columns and in all: a week of hourly ones."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a rule asks before it speaks, beyond that a figure is not there by chance."""

    up: Severity = "warning"
    """How bad it is that there is more, or that it comes later."""
    down: Severity | None = None
    """How bad it is that there is less; None: not at all."""
    least_step: float = 0.0
    """Points of a share, as a share of 1: less is of no interest, however sure."""
    least_ratio: float = 1.0
    """To what was expected."""
    error_step: float = math.inf
    """Points more from which a share is an error; a contract may have such loads refused."""
    error_ratio: float = math.inf
    """Likewise as a ratio, of rows."""
    says: str = ""
    """What the share is one of: `4.1 % … where 2.0 % are usual`."""


def _share(least_step: float, error_step: float, says: str) -> Rule:
    """Return the rule of a share: only more of what is bad is odd."""
    return Rule(least_step=least_step, least_ratio=1.3, error_step=error_step, says=says)


RULES: Mapping[str, Rule] = {
    # More rows may be what was left undone.
    "volume": Rule(up="warning", down="error", error_ratio=10.0),
    "null_rate": _share(0.005, 0.25, "of {} cells are empty"),
    "mistyped_rate": _share(0.002, 0.05, "of {} cells have another type"),
    "duplicate_rate": _share(0.005, 0.25, "of {} rows are duplicates"),
    "quarantine_rate": _share(0.005, 0.10, "of {} rows break a rule"),
    # No reason to refuse the load that comes at last; silence beyond a promise is an error.
    "freshness": Rule(up="warning"),
}

_CHANCE = 0.002
"""Of an alarm about the shares of a load in which nothing is odd, all its columns together."""
_SOON = 0.5
"""Of the usual time: a load that comes so soon after another may be a part or a correction."""
_LEAST_SPAN_SECONDS = 12 * 86_400.0
"""Two weeks, from the first of 14 daily loads to the last, and a day of grace."""


@dataclass(frozen=True, slots=True)
class Cells:
    """A column's counts in one load."""

    rows: int
    missing: int
    mistyped: int


@dataclass(frozen=True, slots=True)
class Load:
    """What the rules see of a load."""

    at: dt.datetime
    read: int
    duplicates: int
    quarantined: int
    columns: Mapping[str, Cells] = field(default_factory=dict)
    """Empty where the load is too long ago for its columns to be looked at."""


@dataclass(frozen=True, slots=True)
class Feed:
    """Whose loads are compared with each other."""

    dataset: str
    name: str

    def find(
        self, rule: str, severity: Severity, observed: float, band: Band, summary: str, **more: str
    ) -> Anomaly:
        """Return the anomaly; `summary` goes on after the dataset's (and the column's) name."""
        column = more.get("column")
        where = f"{self.dataset}.{column}" if column else self.dataset
        return Anomaly(
            dataset=self.dataset,
            feed=self.name,
            column=column,
            rule=rule,
            severity=severity,
            observed=observed,
            expected=band.expected,
            low=band.low,
            high=band.high,
            summary=f"{where}: {summary}",
        )


def judge(
    feed: Feed,
    history: Sequence[Load],
    load: Load,
    *,
    promised: dt.timedelta | None = None,
    news: dt.datetime | None = None,
) -> list[Anomaly]:
    """Return what is odd about a load of the feed, errors first; `history` in order, before it.

    promised: within what time the contract promises news of the dataset. news: when there was some
    before this load. Beyond that nothing is odd until there are two weeks of earlier loads and 14
    of them, or 8 of a feed that comes once a week or so.
    """
    late = []
    if promised is not None and news is not None:
        late = judge_promise(feed, promised, load.at - news, has_come=True)
    history = history[-LOADS_READ:]
    rhythm, times = _know(history)
    if rhythm is None:
        return late
    places = find_places(rhythm, times, load.at.timestamp())
    due = find_due(rhythm, times)
    waited = load.at.timestamp() - float(times[-1])
    found = [
        *(late or _judge_wait(feed, due, waited, "it came {} after the load before")),
        *_judge_rows(feed, history, load, places, rhythm, _pace(due, waited)),
        *_judge_shares(feed, history, load, places, rhythm),
    ]
    return sorted(found, key=lambda each: each.severity != "error")


def judge_wait(
    feed: Feed, history: Sequence[Load], now: dt.datetime, *, heard: dt.datetime | None = None
) -> list[Anomaly]:
    """Return that the feed is silent for longer than its own rhythm allows, if it is.

    heard: when its source last said that it had nothing new. The minimum of earlier loads is that
    of `judge`.
    """
    history = history[-LOADS_READ:]
    rhythm, times = _know(history)
    if rhythm is None:
        return []
    last = max(float(times[-1]), heard.timestamp() if heard else 0.0)
    waited = now.timestamp() - last
    return _judge_wait(feed, find_due(rhythm, times), waited, "nothing came for {}")


def judge_promise(
    feed: Feed, promised: dt.timedelta, waited: dt.timedelta, *, has_come: bool
) -> list[Anomaly]:
    """Return that the contract's promise is broken, if it is: an error while nothing came."""
    if waited <= promised:
        return []
    seconds = promised.total_seconds()
    what = (
        f"{tell_time(waited.total_seconds())} without news, though the contract promises some "
        f"within {tell_time(seconds)}"
    )
    said = f"it came after {what}" if has_come else what
    band = Band(seconds, None, seconds, by_weekday=False)
    severity: Severity = "warning" if has_come else "error"
    return [feed.find("freshness", severity, waited.total_seconds(), band, said)]


def _know(history: Sequence[Load]) -> tuple[Rhythm | None, Floats]:
    """Return the rhythm of a feed, None where too little came yet, and when its loads came."""
    times = np.array([each.at.timestamp() for each in history])
    if len(times) < 2:  # noqa: PLR2004 - one load has no rhythm
        return None, times
    rhythm = learn_rhythm(times)
    # Of hourly loads 14 have seen no weekend. All that are read may be of a few days, but not of
    # the one day on which the past was loaded.
    least = _LEAST_SPAN_SECONDS if len(times) < LOADS_READ else 86_400.0
    is_long = times[-1] - times[0] > least
    return (rhythm if is_long and len(times) >= rhythm.minimum else None), times


def _pace(due: Due, waited: float) -> float | None:
    """Return the wait over the usual one for a load that is late, or comes soon after another."""
    if _SOON * due.usual <= waited <= due.latest:
        return None
    return waited / max(due.usual, 1.0)


def _judge_wait(feed: Feed, due: Due, waited: float, said: str) -> list[Anomaly]:
    if waited <= due.latest:
        return []
    after = f"after a {WEEKDAYS[due.weekday]}'s load" if due.weekday is not None else "usually"
    summary = (
        f"{said.format(tell_time(waited))}, where {after} the next comes within "
        f"{tell_time(due.usual)}"
    )
    band = Band(due.usual, None, due.latest, due.weekday is not None)
    return [feed.find("freshness", RULES["freshness"].up, waited, band, summary)]


def _judge_rows(
    feed: Feed,
    history: Sequence[Load],
    load: Load,
    places: Places,
    rhythm: Rhythm,
    pace: float | None,
) -> Iterator[Anomaly]:
    reads = np.array([each.read for each in history], np.int64)
    band = expect_rows(reads, places, rhythm, pace)
    if band.low is None or band.high is None or band.low <= load.read <= band.high:
        return
    rule = RULES["volume"]
    usual = f"the {band.expected:,.0f} that {_say_when(band, places, rhythm)} usually bring"
    severity: Severity | None
    if load.read < band.low:
        severity = rule.down
        far = f"{100 * (1 - load.read / band.expected):.0f} % below"
    else:
        ratio = (load.read + 1) / (band.expected + 1)
        severity = "error" if ratio >= rule.error_ratio else rule.up
        far = f"{ratio:,.1f} times" if band.expected >= 1 else "more than"
    if severity is not None:
        yield feed.find("volume", severity, load.read, band, f"{load.read:,} rows, {far} {usual}")


def _say_when(band: Band, places: Places, rhythm: Rhythm) -> str:
    if not band.by_weekday:
        return "its loads"
    weekday = WEEKDAYS[places.weekday]
    return f"{weekday}s" if rhythm.parts == 1 else f"{weekday}s at this time"


def _judge_shares(
    feed: Feed, history: Sequence[Load], load: Load, places: Places, rhythm: Rhythm
) -> Iterator[Anomaly]:
    tests = 2 + 2 * len(load.columns)
    limit = NormalDist().inv_cdf(1 - _CHANCE / tests)
    for rule, column in [
        *(("duplicate_rate", None), ("quarantine_rate", None)),
        *((rule, column) for column in load.columns for rule in ("null_rate", "mistyped_rate")),
    ]:
        count, total = _count(load, rule, column)
        asked = RULES[rule]
        # Most shares are zero or so: they need no history to be looked at.
        if total <= 0 or count / total < asked.least_step:
            continue
        seen = history[-COLUMNS_READ:]
        pairs = np.array([_count(each, rule, column) for each in seen], np.int64)
        where = places.newest(len(seen))
        band = expect_share(pairs[:, 0], pairs[:, 1], where, rhythm, total=total, limit=limit)
        share = count / total
        if band is None or band.high is None or share <= band.high:
            continue
        step = share - band.expected
        if step < asked.least_step or share < asked.least_ratio * band.expected:
            continue
        severity: Severity = "error" if step >= asked.error_step else asked.up
        says = asked.says.format(f"{total:,}")
        when = f"on {WEEKDAYS[places.weekday]}s" if band.by_weekday else "usually"
        summary = f"{tell_share(share)} {says}, where {when} {tell_share(band.expected)} are"
        more = {"column": column} if column else {}
        yield feed.find(rule, severity, share, band, summary, **more)


def _count(load: Load, rule: str, column: str | None) -> tuple[int, int]:
    """Return how many of how many rows or cells the rule is about."""
    if rule == "duplicate_rate":
        return load.duplicates, load.read
    if rule == "quarantine_rate":
        return load.quarantined, load.read
    cells = load.columns.get(column or "")
    if cells is None:
        return 0, 0
    return (cells.missing if rule == "null_rate" else cells.mistyped), cells.rows
