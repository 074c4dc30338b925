"""What share of a load's rows or cells may be bad, by the loads before it.

Robust as the rows' baseline is, and with the noise of a binomial count: three of sixty say less
than three thousand of sixty thousand.
"""

import math

import numpy as np

from tasks.rhythm import LOOKED_BACK, Ints, Places, Rhythm, leave_one_out, measure_spread
from tasks.row_baseline import Band

_RATE_WEEKS = 3
_RATE_LOADS = 21
_RATE_FLOOR = 0.08
"""The least deviation of a share, as a ratio of itself."""
_OWN_SLOT = 3.0
"""Deviations from the other days from which a weekday has a share of its own."""
_SEEN = 0.95
"""Of the earlier shares; only one above is odd while the weekday is not known."""
_MANY = 10
"""Cells of a load whose share is known by itself."""
_MOST = 1 - 1e-9
"""A share of one has no noise, and none above it."""
_KEPT = 0.85
"""Of the loads; the shares of those above are taken down to theirs."""


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
