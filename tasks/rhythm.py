"""When a feed's loads come: how often, at which places of the week, and when the next is late.

Times are seconds since 1970. A feed that comes about once a day, or less often, has a place for
each weekday; one that comes more often has one for each weekday and part of the day, an hour at
the smallest. Days are cut where the feed's loads are rarest, so that one which comes around
midnight, or an hour earlier since the clocks were changed, keeps its weekday.
"""

from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DAY = 86_400.0
_PARTS = 24
"""Of a day, at most."""
_LEARNT_FROM = 60
"""Loads, the newest."""
_EPOCH_WEEKDAY = 3
"""1970 began on a Thursday."""
_LATE = 5.0
"""Spreads beyond what is usual."""
_LEAST_SPREAD_SECONDS = 900.0
_LEAST_SPREAD = 0.05
"""Of the time between two loads: a daily one may be six hours late, an hourly one 75 minutes."""
_UPPER_DECILE = 1.2816
"""Where a normal distribution has its upper tenth, in standard deviations."""
_END_OF_MONTH = 10
EXAMPLES = 3
"""Days from which a place of the week is known."""
LOOKED_BACK = 8
"""Examples of a place that are looked at, the newest: about two months of a weekday."""
_USUAL_PART = 0.75
_TO_DEVIATION = 1.1503
"""Three quarters of what is normal lie within so many standard deviations."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How often a feed comes, and where it cuts days and their parts."""

    gap_seconds: float
    """Half of the loads come sooner after the one before."""
    parts: int
    """Loads of a day that are told apart."""
    shift_seconds: float

    @property
    def week(self) -> int:
        """How many loads a week has, roughly, and at least five."""
        loads = round(7 * DAY / max(self.gap_seconds, 1.0))
        return int(min(max(loads, 5), 7 * _PARTS))

    @property
    def memory(self) -> int:
        """How many loads spreads are measured over: eight weeks, 250 at most."""
        return min(LOOKED_BACK * self.week, 250)

    @property
    def minimum(self) -> int:
        """How many earlier loads a verdict needs: two weeks of daily ones, two months of weekly."""
        return 8 if self.gap_seconds > 4 * DAY else 14

    def place(self, times: Floats) -> tuple[Ints, Ints, Ints]:
        """Return of each time its day, its weekday (0: Monday) and its part of the day."""
        shifted = times + self.shift_seconds
        days = np.floor(shifted / DAY).astype(np.int64)
        parts = np.floor(shifted % DAY / (DAY / self.parts)).astype(np.int64)
        return days, (days + _EPOCH_WEEKDAY) % 7, parts


def learn_rhythm(times: Floats) -> Rhythm:
    """Return the rhythm of loads, given their times in order: two at least."""
    recent = times[-_LEARNT_FROM:]
    gap = float(np.median(np.diff(recent)))
    parts = int(min(max(round(DAY / max(gap, 1.0)), 1), _PARTS))
    length = DAY / parts
    # The middle of where the loads lie in their part, on the circle that a part is.
    middle = np.angle(np.exp(2j * np.pi * (recent % length) / length).mean()) / (2 * np.pi)
    return Rhythm(gap, parts, (0.5 - float(middle)) * length)


@dataclass(frozen=True, slots=True)
class Places:
    """The places of a feed's loads, in order, and the one that a load is to be judged at."""

    days: Ints
    """Since 1970."""
    slots: Ints
    """Weekday and part in one number."""
    day: int
    weekday: int
    slot: int

    def newest(self, count: int) -> "Places":
        """Return the places of so many loads, the newest."""
        return replace(self, days=self.days[-count:], slots=self.slots[-count:])

    def same_of_month(self, months: int) -> list[Ints]:
        """Return the loads of the same day of each of the last months, the newest month first.

        The same is, of the last ten days of a month, the one as far from its end.
        """
        today = np.datetime64(self.day, "D")
        month = today.astype("datetime64[M]")
        from_start = today - month.astype("datetime64[D]")
        from_end = (month + 1).astype("datetime64[D]") - today
        found = []
        for back in range(1, months + 1):
            if from_end <= np.timedelta64(_END_OF_MONTH, "D"):
                day = (month - back + 1).astype("datetime64[D]") - from_end
            else:
                day = (month - back).astype("datetime64[D]") + from_start
            found.append(np.flatnonzero(self.days == day.astype(np.int64)))
        return found

    def same_slot(self, first: int = 0) -> Ints:
        """Return which loads, from the `first` on, stand there; none where there are too few."""
        found = np.flatnonzero(self.slots == self.slot)
        found = found[found >= first]
        enough = len(np.unique(self.days[found])) >= EXAMPLES
        return found if enough else found[:0]


def find_places(rhythm: Rhythm, times: Floats, at: float) -> Places:
    """Return the places of earlier loads, and of the one at that time."""
    days, weekdays, parts = rhythm.place(np.append(times, at))
    slots = weekdays * _PARTS + parts
    return Places(days[:-1], slots[:-1], int(days[-1]), int(weekdays[-1]), int(slots[-1]))


@dataclass(frozen=True, slots=True)
class Due:
    """When the next load was to be expected, in seconds after the last one."""

    usual: float
    latest: float
    """From here on it is late."""
    weekday: int | None
    """The last one's, where what usually follows that was known."""


def find_due(rhythm: Rhythm, times: Floats) -> Due:
    """Return when the load after these is due; it depends on the place of the last of them.

    What usually follows a Friday's load may be three days. Where the place of the last is not known
    yet, the longest wait of the last four weeks is the measure.
    """
    gaps = np.diff(times)
    before = find_places(rhythm, times[:-1], float(times[-1]))
    # Not those of the same day that fall short, where several loads share a part of the day.
    alike = before.same_slot()[-LOOKED_BACK:]
    if not len(alike):
        recent = gaps[-4 * rhythm.week :]
        usual, longest = float(np.median(recent)), float(recent.max())
        return Due(usual, longest + _LATE * _least_spread(longest), None)
    usual = float(np.median(gaps[alike]))
    errors = np.array(leave_one_out(gaps, before.slots, newest=rhythm.memory))
    spread = _least_spread(usual)
    if len(errors):
        # Of a feed that comes when it likes, waits are skewed: long ones are far longer.
        upper = float(np.quantile(errors, 0.9)) / _UPPER_DECILE
        spread = max(spread, measure_spread(errors), upper)
    return Due(usual, usual + _LATE * spread, before.weekday)


def leave_one_out(values: Floats, slots: Ints, *, newest: int) -> list[float]:
    """Return how far each of the newest values lies from the median of the others of its slot.

    Of the others the newest few count; a value whose slot has fewer than two others is left out.
    """
    by_slot: dict[int, list[float]] = {}
    places = []
    for slot, value in zip(slots.tolist(), values.tolist(), strict=True):
        alike = by_slot.setdefault(slot, [])
        places.append((alike, len(alike)))
        alike.append(value)
    errors = []
    for alike, place in places[-newest:]:
        # One more than are kept, since this one may be among them.
        start = max(len(alike) - LOOKED_BACK - 1, 0)
        others = alike[start:place] + alike[max(place + 1, start) :]
        if len(others) >= EXAMPLES - 1:
            errors.append(alike[place] - median(others[-LOOKED_BACK:]))
    return errors


def measure_spread(errors: Floats) -> float:
    """Return the errors' standard deviation, as their usual part has it.

    A quarter of them may be anything. The median of absolute errors would bear half, but says less
    of the others: it is off by a sixth with fifty of them, where this is off by an eighth.
    """
    return float(np.quantile(np.abs(errors), _USUAL_PART)) / _TO_DEVIATION


def _least_spread(gap: float) -> float:
    return max(_LEAST_SPREAD_SECONDS, _LEAST_SPREAD * gap)
