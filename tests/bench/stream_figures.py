"""The figures of the stream benchmarks, worked out of times and readings; no I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import linear_regression, median

import numpy as np
import numpy.typing as npt

from tests.bench.figures import Lap, ratio

RATIOS = {
    "insert_vs_getmany": ("getmany", "insert"),
    "insert_vs_copy": ("copy", "insert"),
    "upsert_vs_getmany": ("getmany", "upsert"),
    "vs_faststream": ("faststream", "insert"),
    "vs_quix": ("quix", "insert"),
}
"""Each figure's lane to be held against, and ours: its time by ours is our pace by its pace."""

FIRST_READINGS = slice(2, 7)
LAST_READINGS = slice(-5, None)
GROWTH_ALLOWED = 0.10
MINUTES_PER_HOUR = 60


@dataclass(frozen=True, slots=True)
class Latency:
    """From when a message was due to be produced to when its COMMIT was answered."""

    messages: int
    p50_ms: float
    p99_ms: float
    most_ms: float


def measure_latency(
    stamps_ms: npt.NDArray[np.float64], latencies_ms: npt.NDArray[np.float64], from_ms: float
) -> Latency | None:
    """Return the latency of the messages stamped from then on; None where there are none."""
    counted = latencies_ms[stamps_ms >= from_ms]
    if not counted.size:
        return None
    p50, p99 = np.percentile(counted, [50, 99], method="inverted_cdf")
    return Latency(counted.size, float(p50), float(p99), float(counted.max()))


def summarise_stream(laps: Sequence[Lap], latency: Latency | None) -> str:
    """Return the benchmark's last line; a figure that was not measured is `none`."""
    figures = [
        *((name, ratio(laps, *lanes), 2) for name, lanes in RATIOS.items()),
        ("p50_ms", latency.p50_ms if latency else None, 0),
        ("p99_ms", latency.p99_ms if latency else None, 0),
    ]
    return " ".join(
        f"{name}={'none' if value is None else f'{value:.{places}f}'}"
        for name, value, places in figures
    )


@dataclass(frozen=True, slots=True)
class Soaked:
    """What the memory of a process did over the minutes."""

    first_mb: float
    last_mb: float
    slope_mb_per_hour: float

    @property
    def is_flat(self) -> bool:
        """Whether the end is within a tenth of the beginning."""
        return abs(self.last_mb - self.first_mb) <= GROWTH_ALLOWED * self.first_mb


def measure_soak(readings_mb: Sequence[float]) -> Soaked:
    """Compare the median of the last five readings with that of the third to seventh.

    There is one a minute. The first two are of a process that still makes its pools and caches:
    the slope leaves them out too. Raises ValueError where there are fewer than seven.
    """
    if len(readings_mb) < FIRST_READINGS.stop:
        raise ValueError(f"{len(readings_mb)} readings say nothing: at least seven are needed")
    settled = readings_mb[FIRST_READINGS.start :]
    slope = linear_regression(range(len(settled)), settled).slope
    return Soaked(
        first_mb=median(readings_mb[FIRST_READINGS]),
        last_mb=median(readings_mb[LAST_READINGS]),
        slope_mb_per_hour=slope * MINUTES_PER_HOUR,
    )
