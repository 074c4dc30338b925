"""The figures that the batch benchmark prints last."""

from tests.bench.figures import Lap, summarise


def lap(lane: str, run: int, seconds: float, peak_megabytes: int = 0) -> Lap:
    return Lap(lane, run, seconds, 1_000, 50_000_000, peak_megabytes * 1_000_000)


def test_a_ratio_is_the_median_of_ratios_within_runs_not_the_ratio_of_medians() -> None:
    # A machine that is slow in one run slows both lanes of it.
    laps = [lap("copy", 1, 1.0), lap("copy", 2, 10.0), lap("copy", 3, 2.0)]
    laps += [lap("staging", 1, 3.0), lap("staging", 2, 15.0), lap("staging", 3, 4.0)]

    assert summarise(laps).split()[0] == "staging_ratio=2.00"


def test_the_last_line_has_every_figure_under_its_name() -> None:
    laps = [lap("copy", 1, 5.0), lap("copy_increment", 1, 0.5)]
    laps += [lap("staging", 1, 8.0, 500), lap("full", 1, 20.0, 700), lap("rerun", 1, 12.0, 600)]
    laps += [lap("increment", 1, 3.5, 300)]

    # 50 MB in 20 s are 2.5 MB/s, and a day has 86,400 of them.
    assert summarise(laps) == (
        "staging_ratio=1.60 full_ratio=4.00 incremental_ratio=7.00 rerun_ratio=2.40 "
        "peak_rss_mb=700 gb_per_day=216"
    )


def test_lanes_that_were_not_run_make_no_figure_up() -> None:
    assert summarise([lap("staging", 1, 8.0, 500), lap("full", 1, 20.0, 700)]) == (
        "staging_ratio=none full_ratio=none incremental_ratio=none rerun_ratio=none "
        "peak_rss_mb=700 gb_per_day=216"
    )


def test_a_lane_is_held_to_the_copy_of_its_own_run_only() -> None:
    laps = [lap("copy", 1, 1.0), lap("full", 1, 3.0), lap("full", 2, 90.0)]

    assert "full_ratio=3.00" in summarise(laps)
