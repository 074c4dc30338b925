"""Metric families with bounded labels: what a table says never makes more series than allowed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

OTHER = "other"
"""The label of what is summed up."""
MOST_VALUES = 200
"""Of one label in one family."""
MOST_SERIES = 1000
"""Of one family; a histogram's buckets count as one."""
LONGEST_LABEL = 120

Labels = tuple[str, ...]
Combine = Callable[[float, float], float]


def add(one: float, another: float) -> float:
    """Return both together."""
    return one + another


@dataclass(slots=True)
class _Admission:
    """Decides which label values of a family stand for themselves: those that came first."""

    places: int
    values: list[set[str]] = field(init=False)
    admitted: set[Labels] = field(default_factory=set)
    refused: set[Labels] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.values = [set() for _ in range(self.places)]

    def admit(self, given: Sequence[str]) -> Labels:
        labels = tuple(map(_shorten, given))
        if labels in self.admitted:
            return labels
        shown = tuple(
            value if value in known or len(known) < MOST_VALUES else OTHER
            for value, known in zip(labels, self.values, strict=True)
        )
        if shown not in self.admitted and len(self.admitted) >= MOST_SERIES:
            shown = (OTHER,) * self.places
        if shown != labels:
            self.refused.add(labels)
        self.admitted.add(shown)
        for value, known in zip(shown, self.values, strict=True):
            known.add(value)
        return shown


@dataclass(slots=True)
class Sheet:
    """Families under way, and how many series had to be summed up as others."""

    metrics: list[Metric] = field(default_factory=list)
    dropped: int = 0

    def gauge(
        self,
        name: str,
        help_text: str,
        labels: Labels = (),
        rows: Iterable[tuple[Sequence[str], float]] = (),
        *,
        combine: Combine = max,
        unit: str = "",
    ) -> None:
        """Add a gauge; the first rows keep their labels where there are too many.

        combine: how rows of the same labels, and of those that are dropped, become one.
        """
        family = GaugeMetricFamily(name, help_text, labels=labels, unit=unit)
        for key, value in self._bound(labels, rows, combine).items():
            family.add_metric(key, value)
        self.metrics.append(family)

    def counter(
        self,
        name: str,
        help_text: str,
        labels: Labels,
        rows: Iterable[tuple[Sequence[str], float]],
    ) -> None:
        """Add a counter, without `_total` in its name; the first rows keep their labels."""
        family = CounterMetricFamily(name, help_text, labels=labels)
        for key, value in self._bound(labels, rows, add).items():
            family.add_metric(key, value)
        self.metrics.append(family)

    def histogram(
        self,
        name: str,
        help_text: str,
        labels: Labels,
        rows: Iterable[tuple[Sequence[str], Mapping[float, float], float]],
        bounds: Sequence[float],
    ) -> None:
        """Add a histogram in seconds of rows of (labels, how many by upper bound, sum).

        What lies above the last of the bounds is in `+Inf` alone.
        """
        admission = _Admission(len(labels))
        counts: dict[Labels, dict[float, float]] = {}
        sums: dict[Labels, float] = {}
        for given, by_bound, total in rows:
            key = admission.admit(given)
            mine = counts.setdefault(key, {})
            for bound, count in by_bound.items():
                mine[bound] = mine.get(bound, 0) + count
            sums[key] = sums.get(key, 0) + total
        self.dropped += len(admission.refused)
        family = HistogramMetricFamily(name, help_text, labels=labels, unit="seconds")
        for key, mine in counts.items():
            up_to = 0.0
            buckets: list[tuple[str, float]] = []
            for bound in bounds:
                up_to += mine.get(bound, 0)
                buckets.append((str(float(bound)), up_to))
            buckets.append(("+Inf", sum(mine.values())))
            family.add_metric(key, buckets, sums[key])
        self.metrics.append(family)

    def take(self, other: "Sheet") -> None:
        """Add all that the other sheet has."""
        self.metrics += other.metrics
        self.dropped += other.dropped

    def _bound(
        self, labels: Labels, rows: Iterable[tuple[Sequence[str], float]], combine: Combine
    ) -> dict[Labels, float]:
        admission = _Admission(len(labels))
        found: dict[Labels, float] = {}
        for given, value in rows:
            key = admission.admit(given)
            found[key] = combine(found[key], value) if key in found else value
        self.dropped += len(admission.refused)
        return found


def _shorten(value: str) -> str:
    return value if len(value) <= LONGEST_LABEL else value[: LONGEST_LABEL - 1] + "…"
