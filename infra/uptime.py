"""Uptime by hour, day, month or quarter, from the rollups: for the report and the dashboard's CSV.

A component's uptime is its good minutes over the minutes in which it was expected to be good: all
since its first check, but for maintenance. A minute in which nobody checked is unknown, and not
good. Hours, days, months and quarters are those of UTC.
"""

import csv
import datetime as dt
import io
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

TARGET = 0.995
Unit = Literal["hour", "day", "month", "quarter"]
UNITS: tuple[Unit, ...] = ("hour", "day", "month", "quarter")
HEADER = (
    "component",
    "begin",
    "end",
    "good_minutes",
    "bad_minutes",
    "unknown_minutes",
    "maintenance_minutes",
    "expected_minutes",
    "uptime_percent",
    "target_percent",
    "budget_minutes",
    "budget_minutes_left",
)
_MINUTE = dt.timedelta(minutes=1)
_MONTHS = {"month": 1, "quarter": 3}


class Source(Protocol):
    """What can be asked: a connection, or the dashboard's reader."""

    async def fetch(self, query: str, /, *given: Any) -> Sequence[Any]:
        """Return all rows of the answer."""


@dataclass(frozen=True, slots=True)
class Uptime:
    """How a component did in a period, in minutes."""

    component: str
    begin: dt.datetime
    end: dt.datetime
    """Where the period ends, which may be to come."""
    good: int
    bad: int
    unknown: int
    """Not checked, or checked without an answer."""
    maintenance: int
    allowed: float
    """The budget: that may be other than good by the end of the period."""

    @property
    def expected(self) -> int:
        """Minutes so far in which it should have been good: all of its life but maintenance."""
        return self.good + self.bad + self.unknown

    @property
    def share(self) -> float | None:
        """Good minutes over expected ones; None where none was expected yet."""
        return self.good / self.expected if self.expected else None

    @property
    def left(self) -> float:
        """Minutes of the budget that are left; negative where it is overdrawn."""
        return self.allowed - self.bad - self.unknown

    @property
    def percent(self) -> str:
        """The share in percent, cut and not rounded: what misses the target never seems to."""
        if not self.expected:
            return ""
        return f"{self.good * 100_000 // self.expected / 1000:.3f}"

    @property
    def cells(self) -> tuple[str, ...]:
        """What a CSV file has of it, in the order of HEADER; empty where there is no share."""
        return (
            self.component,
            self.begin.isoformat(),
            self.end.isoformat(),
            *(str(each) for each in (self.good, self.bad, self.unknown, self.maintenance)),
            str(self.expected),
            self.percent,
            f"{100 * TARGET:g}",
            f"{self.allowed:.1f}",
            f"{self.left:.1f}",
        )


async def find_uptime(
    source: Source,
    unit: Unit,
    *,
    begin: dt.datetime,
    end: dt.datetime,
    now: dt.datetime,
    component: str | None = None,
) -> list[Uptime]:
    """Return each component's uptime in each period, by component and then by time.

    All periods that have a part between begin and end are in it, whole, from the one of the
    component's first check on; those that are to come after `now` are not. A component that was
    never checked has none.
    component: only this one.
    """
    first = begin_of(begin, unit)
    rows = await source.fetch(_QUERY, unit, first, end, now, component)
    lives = {row["component"]: row["first_at"] for row in rows}
    found = {(row["component"], row["at"]): row for row in rows if row["at"] is not None}
    return [
        _reckon(name, found.get((name, at)), at, _later(at, unit), born, now)
        for name, born in lives.items()
        for at in _starts(max(first, begin_of(born, unit)), min(end, now), unit)
    ]


def begin_of(moment: dt.datetime, unit: Unit) -> dt.datetime:
    """Return when the period began that the moment is in."""
    hour = moment.astimezone(dt.UTC).replace(minute=0, second=0, microsecond=0)
    if unit == "hour":
        return hour
    day = hour.replace(hour=0)
    if unit == "day":
        return day
    months = _MONTHS[unit]
    return day.replace(day=1, month=(day.month - 1) // months * months + 1)


def write_csv(uptimes: Iterable[Uptime]) -> str:
    """Return the uptimes as a CSV file with a header; times are in UTC."""
    written = io.StringIO(newline="")
    writer = csv.writer(written)
    writer.writerow(HEADER)
    writer.writerows(each.cells for each in uptimes)
    return written.getvalue()


def _later(begin: dt.datetime, unit: Unit) -> dt.datetime:
    if unit in _MONTHS:
        years, month = divmod(begin.month - 1 + _MONTHS[unit], 12)
        return begin.replace(year=begin.year + years, month=month + 1)
    return begin + (dt.timedelta(hours=1) if unit == "hour" else dt.timedelta(days=1))


def _starts(first: dt.datetime, end: dt.datetime, unit: Unit) -> Iterator[dt.datetime]:
    at = first
    while at < end:
        yield at
        at = _later(at, unit)


def _reckon(
    component: str,
    row: Any,
    begin: dt.datetime,
    end: dt.datetime,
    born: dt.datetime,
    now: dt.datetime,
) -> Uptime:
    names = ("good", "bad", "unknown", "maintenance")
    good, bad, unknown, maintenance = (row[name] for name in names) if row else (0, 0, 0, 0)
    recorded = good + bad + unknown + maintenance
    elapsed = math.floor((min(end, now) - max(begin, born)) / _MINUTE)
    # The minute under way may have been checked already.
    minutes = max(elapsed, recorded)
    length = max(minutes, (end - max(begin, born)) / _MINUTE)
    return Uptime(
        component=component,
        begin=begin,
        end=end,
        good=good,
        bad=bad,
        unknown=unknown + minutes - recorded,
        maintenance=maintenance,
        allowed=(1 - TARGET) * max(0.0, length - maintenance),
    )


_QUERY = """
WITH RECURSIVE named AS (
    -- A skip scan: from one component's name to the next, over the index.
    (SELECT component FROM metadata.rollup_uptime ORDER BY component LIMIT 1)
    UNION ALL
    SELECT (SELECT u.component FROM metadata.rollup_uptime AS u
            WHERE u.component > named.component ORDER BY 1 LIMIT 1)
    FROM named WHERE named.component IS NOT NULL
), lives AS MATERIALIZED (
    SELECT component, last_hour, CASE
        -- Where the oldest checks are pruned, only the hour of the first is known.
        WHEN first_check < first_hour + interval '1 hour'
            THEN date_trunc('minute', first_check, 'UTC')
        ELSE first_hour END AS first_at
    FROM (
        SELECT component,
            (SELECT min(hour) FROM metadata.rollup_uptime AS u
             WHERE u.component = named.component) AS first_hour,
            (SELECT max(hour) FROM metadata.rollup_uptime AS u
             WHERE u.component = named.component) AS last_hour,
            (SELECT min(checked_at) FROM metadata.health_checks AS h
             WHERE h.component = named.component) AS first_check
        FROM named WHERE component IS NOT NULL AND ($5::text IS NULL OR component = $5)
    ) AS ends
), hours AS (
    SELECT u.component, u.hour, u.good, u.bad, u.unknown, u.maintenance
    FROM lives AS l JOIN metadata.rollup_uptime AS u ON u.component = l.component
    WHERE u.hour >= $2 AND u.hour < $3
), tails AS (
    -- Maintenance that no check has followed yet is in no rollup.
    SELECT l.component, date_trunc('hour', minute, 'UTC') AS hour,
        count(DISTINCT minute)::int AS maintenance
    FROM lives AS l
    JOIN metadata.maintenance_windows AS w ON (w.component IS NULL OR w.component = l.component)
        AND w.ends_at > l.last_hour AND w.starts_at < least($3, $4)
    CROSS JOIN generate_series(
        greatest(date_trunc('minute', w.starts_at, 'UTC'), l.last_hour, l.first_at, $2),
        least(w.ends_at, $3, date_trunc('minute', $4::timestamptz, 'UTC'))
            - interval '1 microsecond',
        interval '1 minute'
    ) AS minute
    GROUP BY 1, 2
), minutes AS (
    SELECT component, date_trunc($1, hour, 'UTC') AS at, sum(coalesce(good, 0))::int AS good,
        sum(coalesce(bad, 0))::int AS bad, sum(coalesce(unknown, 0))::int AS unknown,
        sum(greatest(h.maintenance, t.maintenance))::int AS maintenance
    FROM hours AS h FULL JOIN tails AS t USING (component, hour)
    GROUP BY 1, 2
)
SELECT l.component, l.first_at, m.at, m.good, m.bad, m.unknown, m.maintenance
FROM lives AS l LEFT JOIN minutes AS m ON m.component = l.component
ORDER BY l.component, m.at
"""
