"""The figures of the batch benchmark, worked out of the lanes' times; no I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

SECONDS_PER_DAY = 86_400

RATIOS = {
    "staging_ratio": ("staging", "copy"),
    "full_ratio": ("full", "copy"),
    "incremental_ratio": ("increment", "copy_increment"),
    "rerun_ratio": ("rerun", "copy"),
}
"""Each ratio's lane, and the lane it is held against."""


@dataclass(frozen=True, slots=True)
class Lap:
    """One lane of one run."""

    lane: str
    run: int
    seconds: float
    rows: int
    input_bytes: int
    peak_bytes: int = 0
    """Of our process; 0 for a lane that is not ours."""
    start_seconds: float = 0.0
    """What our process took beside the load: interpreter, imports, first connection."""


def ratio(laps: Sequence[Lap], lane: str, against: str) -> float | None:
    """Return the median over the runs of one lane's time by the other's; None without a pair."""
    times = {(lap.lane, lap.run): lap.seconds for lap in laps}
    pairs = [
        times[lane, run] / times[against, run]
        for each, run in times
        if each == lane and (against, run) in times
    ]
    return median(pairs) if pairs else None


def peak_megabytes(laps: Sequence[Lap]) -> float | None:
    """Return the most memory that any of our lanes took, in millions of bytes."""
    peaks = [lap.peak_bytes for lap in laps if lap.peak_bytes]
    return max(peaks) / 1e6 if peaks else None


def gigabytes_per_day(laps: Sequence[Lap]) -> float | None:
    """Return the whole path's input in a day of this pace, the median of the runs."""
    paces = [lap.input_bytes / lap.seconds for lap in laps if lap.lane == "full"]
    return median(paces) * SECONDS_PER_DAY / 1e9 if paces else None


def summarise(laps: Sequence[Lap]) -> str:
    """Return the benchmark's last line; a figure whose lanes were not run is `none`."""
    figures: Mapping[str, tuple[float | None, int]] = {
        **{name: (ratio(laps, *lanes), 2) for name, lanes in RATIOS.items()},
        "peak_rss_mb": (peak_megabytes(laps), 0),
        "gb_per_day": (gigabytes_per_day(laps), 0),
    }
    return " ".join(
        f"{name}={'none' if value is None else f'{value:.{places}f}'}"
        for name, (value, places) in figures.items()
    )
