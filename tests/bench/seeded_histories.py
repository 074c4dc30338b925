"""Ninety days of a feed's loads by a seed, with a trend, a week's pattern, noise and five faults.

The rules know nothing of what is drawn here, and are not spared: levels go from some hundred rows
to millions, trends turn, weekends have a fifth of a weekday's rows or more of them, noise has heavy
tails, shares drift and differ by column and weekday, and loads come at any hour, some late.
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tasks.anomaly_rules import Cells, Load

DAYS = 90
FIRST_FAULT_DAY = 28
"""Four weeks: what a weekday's pattern needs before it is known."""
KINDS = ("half volume", "doubled nulls", "stale", "type drift", "duplicates")
RIGHT_RULE = {
    "half volume": "volume",
    "doubled nulls": "null_rate",
    "stale": "freshness",
    "type drift": "mistyped_rate",
    "duplicates": "duplicate_rate",
}
CONSEQUENCES = {"type drift": frozenset({"quarantine_rate"})}
"""What else is true of such a load: where the column may not be empty, its rows are rejected."""


@dataclass(frozen=True, slots=True)
class Planted:
    """One load, and the fault that was planted in it."""

    load: Load
    fault: str | None = None
    column: str | None = None
    """Whose cells the fault is in."""


@dataclass(frozen=True, slots=True)
class Habits:
    """What is usual for one column of one feed."""

    name: str
    null_rate: float
    weekend_ratio: float
    daily_drift: float
    spread: float
    mistyped_rate: float

    def expect_nulls(self, day: int, weekday: int) -> float:
        rate = self.null_rate * (1 + self.daily_drift) ** day
        return min(rate * (self.weekend_ratio if weekday >= 5 else 1.0), 0.95)


def make_history(seed: int, *, start: dt.datetime | None = None) -> list[Planted]:
    """Return the loads of a seed in the order in which they come; each kind of fault once."""
    rng = np.random.default_rng(seed)
    start = start or dt.datetime(2026, 3, 2, tzinfo=dt.UTC) + dt.timedelta(days=seed % 7)
    columns = [_draw_habits(rng, number) for number in range(rng.integers(4, 9))]
    target = next(each for each in columns if 0.02 <= each.null_rate <= 0.10)
    drifting = columns[rng.integers(len(columns))]
    rejects_mistyped = bool(rng.random() < 0.5)
    duplicate_rate, quarantine_rate = rng.uniform(0, 0.01), rng.uniform(0, 0.02)
    faults = _draw_faults(rng)
    planted: list[Planted] = []
    times = _draw_times(rng, start)
    for day, (at, rows) in enumerate(zip(times, _draw_rows(rng, start), strict=True)):
        fault = faults.get(day)
        read = rows // 2 if fault == "half volume" else rows
        more_duplicates = round(0.05 * read) if fault == "duplicates" else 0
        read += more_duplicates
        weekday = (start + dt.timedelta(days=day)).weekday()
        cells = {}
        for each in columns:
            nulls = each.expect_nulls(day, weekday) * rng.lognormal(0, each.spread)
            if fault == "doubled nulls" and each is target:
                nulls *= 2
            mistyped = each.mistyped_rate * rng.lognormal(0, 0.3)
            if fault == "type drift" and each is drifting:
                mistyped = 0.2
            missing = int(rng.binomial(read, min(nulls, 1.0)))
            cells[each.name] = Cells(read, missing, int(rng.binomial(read - missing, mistyped)))
        quarantined = int(rng.binomial(read, quarantine_rate * rng.lognormal(0, 0.2)))
        if fault == "type drift" and rejects_mistyped:
            quarantined = min(quarantined + cells[drifting.name].mistyped, read)
        duplicates = int(rng.binomial(read, duplicate_rate * rng.lognormal(0, 0.2)))
        load = Load(at, read, duplicates + more_duplicates, quarantined, cells)
        column = {"doubled nulls": target.name, "type drift": drifting.name}.get(fault or "")
        planted.append(Planted(load, fault, column))
    return list(_delay(rng, planted))


def _draw_habits(rng: Any, number: int) -> Habits:
    # The first has what the issue asks for; the others have no nulls, or any share of them.
    rate = 10 ** rng.uniform(np.log10(0.005), np.log10(0.3)) if rng.random() < 0.67 else 0.0
    if number == 0:
        rate = rng.uniform(0.02, 0.10)
    return Habits(
        name=f"column_{number}",
        null_rate=rate,
        weekend_ratio=rng.uniform(0.6, 1.6) if rng.random() < 0.5 else 1.0,
        daily_drift=rng.uniform(-0.003, 0.003),
        spread=rng.uniform(0, 0.12),
        mistyped_rate=rng.uniform(0, 0.005) if rng.random() < 0.4 else 0.0,
    )


def _draw_faults(rng: Any) -> dict[int, str]:
    """Return the days of the faults; none in the three days in which the late load may come."""
    while True:
        days = rng.choice(np.arange(FIRST_FAULT_DAY, DAYS), len(KINDS), replace=False).tolist()
        late = days[KINDS.index("stale")]
        if late < DAYS - 1 and not any(late < each <= late + 3 for each in days):
            return dict(zip(days, KINDS, strict=True))


def _draw_rows(rng: Any, start: dt.datetime) -> list[int]:
    """Return the rows of each day."""
    saturday = rng.uniform(0.2, 1.2)
    week = [*rng.uniform(0.85, 1.15, 5), saturday, saturday * rng.uniform(0.8, 1.2)]
    slopes: list[float] = []
    while len(slopes) < DAYS:
        slopes += [rng.uniform(-0.01, 0.02)] * int(rng.integers(15, 41))
    level = 10 ** rng.uniform(2.5, 6.5) * np.cumprod(1 + np.array(slopes[:DAYS]))
    spread = rng.uniform(0.02, 0.12)
    # Student's t: of one spread, but with more that is far out than a normal has.
    noise = np.exp(spread * rng.standard_t(5, DAYS) / np.sqrt(5 / 3))
    pattern = np.array([week[(start + dt.timedelta(days=day)).weekday()] for day in range(DAYS)])
    return [int(each) for each in rng.poisson(level * noise * pattern)]


def _draw_times(rng: Any, start: dt.datetime) -> list[dt.datetime]:
    hour, jitter = rng.uniform(0, 24), rng.uniform(1, 45)
    minutes = rng.normal(0, jitter, DAYS)
    # Some are late by an hour or two, as when a machine was busy.
    minutes += np.where(rng.random(DAYS) < 0.05, rng.exponential(60, DAYS), 0)
    return [
        start + dt.timedelta(days=day, hours=hour, minutes=float(minutes[day]))
        for day in range(DAYS)
    ]


def _delay(rng: Any, planted: list[Planted]) -> Iterator[Planted]:
    """Yield the loads, the stale one a day or more late, and what was due meanwhile after it."""
    ready: dt.datetime | None = None
    for each in planted:
        at = each.load.at
        if each.fault == "stale":
            ready = at = at + dt.timedelta(hours=rng.uniform(24, 60))
        elif ready is not None and at <= ready:
            ready = at = ready + dt.timedelta(minutes=rng.uniform(3, 15))
        yield replace(each, load=replace(each.load, at=at))
