"""The figures that the stream benchmarks print last."""

import numpy as np
import pytest

from tests.bench.figures import Lap
from tests.bench.stream_figures import Latency, measure_latency, measure_soak, summarise_stream


def lap(lane: str, run: int, seconds: float) -> Lap:
    return Lap(lane, run, seconds, 1_000_000, 0)


def test_the_last_line_has_every_figure_under_its_name() -> None:
    laps = [lap("getmany", 1, 3.0), lap("copy", 1, 1.5), lap("insert", 1, 6.0)]
    laps += [lap("upsert", 1, 10.0), lap("faststream", 1, 24.0), lap("quix", 1, 45.0)]

    # A pace is the inverse of a time: twice the time of getmany is half its pace.
    assert summarise_stream(laps, Latency(400_000, 251.4, 612.5, 700.0)) == (
        "insert_vs_getmany=0.50 insert_vs_copy=0.25 upsert_vs_getmany=0.30 vs_faststream=4.00 "
        "vs_quix=7.50 p50_ms=251 p99_ms=612"
    )


def test_what_was_not_measured_makes_no_figure_up() -> None:
    assert summarise_stream([lap("insert", 1, 6.0), lap("copy", 2, 3.0)], None) == (
        "insert_vs_getmany=none insert_vs_copy=none upsert_vs_getmany=none vs_faststream=none "
        "vs_quix=none p50_ms=none p99_ms=none"
    )


def test_latency_counts_the_messages_after_the_warm_up_and_no_other() -> None:
    stamps = np.array([1_000.0, 1_999.0, 2_000.0, 2_001.0, 2_002.0])
    latencies = np.array([9_000.0, 9_000.0, 10.0, 20.0, 30.0])

    assert measure_latency(stamps, latencies, 2_000) == Latency(3, 20.0, 30.0, 30.0)


def test_one_slow_message_in_a_hundred_is_the_p99_no_sooner() -> None:
    stamps = np.zeros(200)
    latencies = np.full(200, 50.0)
    latencies[:2] = 900.0
    slower = np.where(np.arange(200) < 3, 900.0, 50.0)

    assert measure_latency(stamps, latencies, 0) == Latency(200, 50.0, 50.0, 900.0)
    assert measure_latency(stamps, slower, 0) == Latency(200, 50.0, 900.0, 900.0)


def test_without_messages_there_is_no_latency() -> None:
    assert measure_latency(np.array([5.0]), np.array([1.0]), 6) is None


def test_memory_that_settles_after_two_minutes_is_flat() -> None:
    soaked = measure_soak([150.0, 240.0, *[300.0] * 18])

    assert (soaked.first_mb, soaked.last_mb, soaked.slope_mb_per_hour) == (300.0, 300.0, 0.0)
    assert soaked.is_flat


def test_growth_within_a_tenth_is_called_flat_with_its_slope_and_more_is_not() -> None:
    soaked = measure_soak([300.0 + 2 * minute for minute in range(20)])

    # Readings 3 to 7 have their median at the fifth, the last five at the eighteenth.
    assert (soaked.first_mb, soaked.last_mb) == (308.0, 334.0)
    assert soaked.slope_mb_per_hour == pytest.approx(120.0)
    assert soaked.is_flat
    assert not measure_soak([300.0 + 3 * minute for minute in range(20)]).is_flat


def test_one_high_reading_at_the_end_is_no_growth() -> None:
    assert measure_soak([300.0] * 19 + [600.0]).is_flat


def test_too_few_readings_give_no_verdict() -> None:
    with pytest.raises(ValueError, match="at least seven"):
        measure_soak([300.0] * 6)
