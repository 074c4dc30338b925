"""How many rows a load should have, by those before it: as a ratio to the feed's level.

Medians and usual deviations, so that faults of the past neither move what is expected nor widen
what passes; and a floor, the noise that counts have by chance, so that a feed of constant or tiny
loads is not odd for one row more.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tasks.rhythm import (
    EXAMPLES,
    LOOKED_BACK,
    Floats,
    Ints,
    Places,
    Rhythm,
    leave_one_out,
    measure_spread,
)

_VOLUME_LIMIT = 4.0
"""Deviations from what is expected."""
_VOLUME_FLOOR = 0.05
"""The least deviation, as a ratio: less than a fifth more or less is never odd."""
_MEDIAN_VARIANCE = 1.57
"""Of the median of many, over that of their mean."""
_MONTHS = 2
_FIRST_LEVEL = 5
"""Loads before one, at least, from which its level is taken."""
_DRIFT = 14
"""Loads by whose errors the trend is followed."""


@dataclass(frozen=True, slots=True)
class Band:
    """What was expected, and between what a figure passes."""

    expected: float
    low: float | None
    high: float | None
    by_weekday: bool
    """Whether that weekday was known, or only all loads together."""


def expect_rows(reads: Ints, places: Places, rhythm: Rhythm, pace: float | None) -> Band:
    """Return how many rows a load should have.

    reads: rows of the earlier loads, in order.
    pace: the time since the load before over the usual one; None: it came when it should. One that
    came late, or soon after another, may be of any weekday, and bring more or less accordingly.

    A load is compared by its ratio to its level, the median of the week of loads before it, each
    without its own weekday's pattern: what that ratio usually is on a weekday is the pattern. The
    median of the last errors of that is the trend's. So a lasting change of level is normal again
    after half a week's loads.
    """
    logs = np.log1p(reads.astype(np.float64))
    week = rhythm.week
    ratios, _, first = _compare(logs, week)
    pattern = _learn_pattern(ratios, places.slots[first:])
    plain, level, first = _compare(logs - pattern(places.slots), week)
    ratios = plain + pattern(places.slots)[first:]
    alike = places.same_slot(first) if pace is None else np.empty(0, np.int64)
    errors: list[float] = []
    if len(alike):
        errors = leave_one_out(ratios, places.slots[first:], newest=rhythm.memory)
    if len(errors) < _DRIFT:
        return _widest_band(ratios[-4 * week :], level, pace or 1.0)
    examples = ratios[alike[-LOOKED_BACK:] - first]
    left = _follow(errors)
    season = _season(examples, ratios[-4 * week :], measure_spread(left))
    expected = level + season + float(np.median(errors[-_DRIFT:]))
    # The noise of few rows, should the pattern of tiny loads be there by chance alone.
    rows = math.expm1(max(min(expected, level), 0.0))
    margin = _VOLUME_LIMIT * _spread_of(left, logs, rows)
    low, high = _find_precedent(plain - np.median(plain), places, first, margin)
    return _rows_band(expected - margin + low, expected, expected + margin + high, by_weekday=True)


def _find_precedent(
    plain: Floats, places: Places, first: int, margin: float
) -> tuple[float, float]:
    """Return by how much more a load of this day of the month may fall short, and exceed.

    What was odd in the same way on that day of both months before, as the last of a month is for
    many, is no news: the smaller of the two is let pass.
    """
    steps = [plain[each[each >= first] - first] for each in places.same_of_month(_MONTHS)]
    if not all(len(each) for each in steps):
        return 0.0, 0.0
    low = max(float(each.min()) for each in steps)
    high = min(float(each.max()) for each in steps)
    return low if low < -margin / 2 else 0.0, high if high > margin / 2 else 0.0


def _compare(logs: Floats, week: int) -> tuple[Floats, float, int]:
    """Return each load's ratio to its level, the level of the next, and the first that has one."""
    first = min(_FIRST_LEVEL, len(logs) - 1)
    levels = [float(np.median(logs[:end])) for end in range(first, min(week, len(logs)))]
    if len(logs) > week:
        weeks = np.lib.stride_tricks.sliding_window_view(logs[:-1], week)
        levels += np.median(weeks, axis=1).tolist()
    ratios: Floats = logs[first:] - np.array(levels)
    return ratios, float(np.median(logs[-week:])), first


def _learn_pattern(ratios: Floats, slots: Ints) -> Callable[[Ints], Floats]:
    """Return what gives each slot its usual ratio; one that is not known yet has that of all."""
    usual = float(np.median(ratios))
    known = {}
    for slot in np.unique(slots):
        examples = ratios[slots == slot][-LOOKED_BACK:]
        known[int(slot)] = float(np.median(examples)) if len(examples) >= EXAMPLES else usual
    return lambda asked: np.array([known.get(int(slot), usual) for slot in asked])


def _season(examples: Floats, recent: Floats, spread: float) -> float:
    """Return the weekday's usual ratio, nearer to that of all days the less it stands out."""
    usual, own = float(np.median(recent)), float(np.median(examples))
    doubt = _MEDIAN_VARIANCE * spread**2 / len(examples)
    return usual + (own - usual) * (own - usual) ** 2 / ((own - usual) ** 2 + doubt + 1e-12)


def _follow(errors: list[float]) -> Floats:
    """Return what is left of the errors once each is put right by the ones before it."""
    given = np.array(errors)
    if len(given) <= _DRIFT:
        return given
    drifts = np.median(np.lib.stride_tricks.sliding_window_view(given[:-1], _DRIFT), axis=1)
    left: Floats = given[_DRIFT:] - drifts
    return left


def _spread_of(errors: Floats, logs: Floats, expected: float) -> float:
    measured = measure_spread(errors)
    by_chance = float(np.median(1.0 / np.exp(logs[-len(errors) :])))
    own = max(measured**2 - by_chance, _VOLUME_FLOOR**2)
    return math.sqrt(own + 1.0 / (expected + 1.0))


def _widest_band(ratios: Floats, level: float, pace: float) -> Band:
    """Return the band of everything that was seen lately and half as much again on either side.

    After a long wait there may be more rows. What comes soon after another load may be a part of
    it, or put it right: then there is no least number.
    """
    lowest, highest = float(ratios.min()), float(ratios.max())
    margins = []
    for end in (lowest, highest):
        rows = math.expm1(max(level + end, 0.0))
        by_chance = _VOLUME_LIMIT * math.sqrt(_VOLUME_FLOOR**2 + 1.0 / (rows + 1.0))
        margins.append(max(by_chance, (highest - lowest) / 2))
    low = level + lowest - margins[0] if pace >= 1.0 else 0.0
    high = level + highest + margins[1] + math.log(max(pace, 1.0))
    return _rows_band(low, level + float(np.median(ratios)), high, by_weekday=False)


def _rows_band(low: float, expected: float, high: float, *, by_weekday: bool) -> Band:
    """Return the band of rows, given the logarithms of rows and one more."""
    rows = [max(math.expm1(each), 0.0) for each in (expected, low, high)]
    return Band(rows[0], rows[1], rows[2], by_weekday)
