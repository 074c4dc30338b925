"""What a load's figures are compared with: rows in ratios, shares as counts out of counts.

Both are robust: medians and median deviations, so that faults of the past neither move what is
expected nor widen what passes; and both have a floor, the noise that counts have by chance, so
that a feed of constant or tiny loads is not odd for one row more.
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
_RATE_WEEKS = 3
_RATE_LOADS = 21
_RATE_FLOOR = 0.08
"""The least deviation of a share, as a ratio of itself."""
_OWN_SLOT = 3.0
"""Deviations from the other days from which a weekday has a share of its own."""
_SEEN = 0.95
_MANY = 10
"""Cells of a load whose share is known by itself."""
_MOST = 1 - 1e-9
_KEPT = 0.7
"""Of the loads; the shares of those above are taken down to theirs."""


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


def expect_share(
    counts: Ints, totals: Ints, places: Places, rhythm: Rhythm, *, total: int, limit: float
) -> Band | None:
    """Return what share of `total` may be missing (or mistyped, …); None where nothing is known.

    counts, totals: of the earlier loads, in order. limit: in deviations. A share is compared with
    that of the last three weeks, or of the same weekday where that has clearly one of its own.
    """
    window = slice(-max(_RATE_LOADS, _RATE_WEEKS * rhythm.week), None)
    usable = np.flatnonzero(totals > 0)
    recent = usable[window]
    if len(recent) < rhythm.minimum or total <= 0:
        return None
    middle, usual = _share(counts[recent], totals[recent])
    known = len(recent)
    extra = _extra_variance(counts, totals, places, recent, usual)
    alike = places.same_slot()
    alike = alike[totals[alike] > 0][-LOOKED_BACK:]
    by_weekday = False
    if len(alike):
        own = min(middle * _stands_out(counts, totals, usable, alike, rhythm.week), _MOST)
        cells = int(totals[alike].sum())
        variance = extra * middle**2 / len(alike) + middle * (1 - middle) / cells
        if abs(own - middle) > _OWN_SLOT * math.sqrt(variance):
            usual, known, by_weekday = own, len(alike), True
    high = _highest(usual, total, extra, 1 + 1 / known, limit)
    if not len(alike):
        # As long as the weekday is not known, what other days had is not odd.
        shares = counts[recent] / totals[recent]
        high = max(high, float(np.quantile(shares, _SEEN, method="higher")))
    return Band(usual, None, high, by_weekday)


def _stands_out(counts: Ints, totals: Ints, usable: Ints, alike: Ints, week: int) -> float:
    """Return the ratio of these loads' shares to those of the weeks that they end, usually."""
    shares = (counts + 0.5) / (totals + 1.0)
    ratios = []
    for each in alike:
        end = int(np.searchsorted(usable, each)) + 1
        ratios.append(shares[each] / np.median(shares[usable[max(end - week, 0) : end]]))
    return float(np.median(ratios))


def _share(counts: Ints, totals: Ints) -> tuple[float, float]:
    """Return the usual share as the median, and as a mean without what is largest, if that is more.

    The median is 0 where most loads have none and some have one.
    """
    shares = counts / totals
    middle = float(np.median(shares))
    capped = np.minimum(shares, np.quantile(shares, _KEPT, method="lower"))
    pooled = (float((capped * totals).sum()) + 0.5) / (float(totals.sum()) + 1.0)
    usual = min(max(middle, pooled), _MOST)
    return min(middle, _MOST) if np.median(counts) >= _MANY else usual, usual


def _extra_variance(
    counts: Ints, totals: Ints, places: Places, recent: Ints, usual: float
) -> float:
    """Return the variance of shares, as ratios, beyond that of drawing rows by chance.

    Of the shares around the usual one, or around those of their weekdays: the smaller.
    """
    shares = counts / np.maximum(totals, 1) / usual
    spreads = [measure_spread(shares[recent] - 1)]
    weeks = np.flatnonzero(totals > 0)[-LOOKED_BACK * len(recent) // _RATE_WEEKS :]
    by_slot = leave_one_out(shares[weeks], places.slots[weeks], newest=len(weeks))
    if len(by_slot) >= len(recent):
        spreads.append(measure_spread(np.array(by_slot)))
    by_chance = (1 - usual) / usual * float(np.median(1.0 / totals[recent]))
    return max(min(spreads) ** 2 - by_chance, _RATE_FLOOR**2)


def _highest(usual: float, total: int, extra: float, doubt: float, limit: float) -> float:
    """Return the largest share that is within so many deviations, from 0 to 1.

    By chance and from load to load are two distances, measured as ratios: shares that vary by a
    third go up by a half as easily as down by a third.
    """
    inside, outside = usual, 1.0
    for _ in range(40):
        middle = (inside + outside) / 2
        if _deviations(middle, usual, total) <= limit * math.sqrt(doubt):
            inside = middle
        else:
            outside = middle
    by_chance = math.log(inside / usual)
    from_load_to_load = limit * math.sqrt(extra * doubt)
    distance = math.hypot(by_chance, from_load_to_load)
    return usual * math.exp(distance) if distance < -math.log(usual) else 1.0


def _deviations(share: float, usual: float, total: int) -> float:
    """Return how far a share is above the usual one, in deviations of a binomial count.

    The signed root of the deviance, which holds far out in the tails and for counts near zero where
    the plain quotient does not; half a count is taken off for continuity.
    """
    count = share * total - 0.5
    if count <= usual * total:
        return 0.0
    rest = total - count
    deviance = count * math.log(count / (usual * total))
    deviance += rest * math.log(rest / (total - usual * total))
    return math.sqrt(max(2 * deviance, 0.0))
