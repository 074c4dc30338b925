"""What the anomaly rules find in a load, and what they leave alone."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.anomalies import Anomaly
from tasks.anomaly_rules import (
    LOADS_READ,
    Cells,
    Feed,
    Load,
    judge,
    judge_promise,
    judge_wait,
)
from tasks.tell_figures import tell_share, tell_time
from tests.bench.seeded_histories import CONSEQUENCES, RIGHT_RULE, make_history

FEED = Feed("sales_data", "sales_*.csv")
DAY = dt.timedelta(days=1)
HOUR = dt.timedelta(hours=1)
MONDAY = dt.datetime(2026, 1, 5, 2, tzinfo=dt.UTC)


def loads(
    rows: Sequence[float], *, start: dt.datetime = MONDAY, every: dt.timedelta = DAY
) -> list[Load]:
    """Loads with a column of which 5 % are missing."""
    return [
        Load(
            start + place * every,
            int(count),
            0,
            0,
            {"email": Cells(int(count), int(count) // 20, 0)},
        )
        for place, count in enumerate(rows)
    ]


def noisy(count: int, *, rows: float = 50_000, spread: float = 0.05) -> list[float]:
    factors: list[float] = np.exp(np.random.default_rng(1).normal(0, spread, count)).tolist()
    return [rows * factor for factor in factors]


def replay(history: Sequence[Load], *, since: int = 0) -> list[tuple[int, str, str]]:
    """Judge each load by those before it; the place, rule and severity of what was found."""
    return [
        (place, each.rule, each.severity)
        for place in range(since, len(history))
        for each in judge(FEED, history[:place], history[place])
    ]


def judge_next(history: Sequence[Load], **changed: object) -> list[Anomaly]:
    """Judge a load that comes a day after the last and is like it, but for what is changed."""
    following = replace(history[-1], at=history[-1].at + DAY)
    return judge(FEED, history, replace(following, **changed))  # type: ignore[arg-type] # by name


def test_most_planted_faults_are_found_and_few_others() -> None:
    found, false = 0, []
    for seed in range(6):
        history = make_history(seed)
        loads_of = [each.load for each in history]
        wrong = 0
        for place, planted in enumerate(history):
            anomalies = judge(FEED, loads_of[:place], planted.load)
            right = RIGHT_RULE.get(planted.fault or "")
            hits = [
                each for each in anomalies if (each.rule, each.column) == (right, planted.column)
            ]
            found += bool(hits)
            ignored = CONSEQUENCES.get(planted.fault or "", frozenset())
            wrong += sum(each not in hits and each.rule not in ignored for each in anomalies)
        false.append(wrong)
    assert found >= 0.95 * 30
    assert median(false) <= 1


def test_a_history_holds_the_faults_it_says() -> None:
    for seed in range(3):
        history = make_history(seed)
        assert len(history) == 90
        by_fault = {each.fault: each for each in history}
        assert set(by_fault) == {*RIGHT_RULE, None}
        assert [each.load.at for each in history] == sorted(each.load.at for each in history)
        drifted = by_fault["type drift"]
        cells = drifted.load.columns[drifted.column or ""]
        assert 0.1 < cells.mistyped / cells.rows < 0.25
        late = history.index(by_fault["stale"])
        waited = history[late].load.at - history[late - 1].load.at
        assert waited > 2 * DAY - 6 * HOUR


def test_half_of_a_weekdays_rows_is_an_error_that_says_so() -> None:
    week = [50_000, 50_000, 50_000, 50_000, 50_000, 10_000, 10_000]
    history = loads(week * 6)
    [found] = judge_next(history, read=24_900, columns={})
    assert found.summary == (
        "sales_data: 24,900 rows, 50 % below the 50,000 that Mondays usually bring"
    )
    assert (found.rule, found.severity, found.column) == ("volume", "error", None)
    assert (found.observed, round(found.expected or 0)) == (24_900, 50_000)
    assert found.low is not None
    assert found.high is not None
    assert 35_000 < found.low < 45_000
    assert 55_000 < found.high < 75_000
    # What is right for a Saturday is half of nothing.
    assert not judge_next(history[:-2], read=10_000, columns={})


@pytest.mark.parametrize(
    ("rows", "severity"), [(60_000, None), (150_000, "warning"), (600_000, "error")]
)
def test_more_rows_warn_and_ten_times_as_many_are_an_error(rows: int, severity: str | None) -> None:
    found = judge_next(loads([50_000] * 42), read=rows, columns={})
    assert [each.severity for each in found] == ([severity] if severity else [])


@pytest.mark.parametrize("share", [0.02, 0.05, 0.10])
def test_doubled_nulls_warn_and_noise_does_not(share: float) -> None:
    drawn = np.random.default_rng(2).binomial(20_000, share, 61).tolist()
    history = [
        replace(each, columns={"email": Cells(20_000, missing, 0)})
        for each, missing in zip(loads([20_000] * 61), drawn, strict=True)
    ]
    assert replay(history) == []
    doubled = {"email": Cells(20_000, int(40_000 * share), 0)}
    [found] = judge_next(history, columns=doubled)
    assert (found.rule, found.column, found.severity) == ("null_rate", "email", "warning")
    assert found.observed == 2 * share
    assert found.summary.startswith("sales_data.email: ")
    gone = {"email": Cells(20_000, 20_000, 0)}
    assert [each.severity for each in judge_next(history, columns=gone)] == ["error"]
    assert judge_next(history, columns={"email": Cells(20_000, 0, 0)}) == []


def test_a_weekday_may_have_a_share_of_its_own() -> None:
    history = [
        replace(each, columns={"email": Cells(20_000, 3_000 if place % 7 > 4 else 1_000, 0)})
        for place, each in enumerate(loads([20_000] * 61))
    ]
    assert replay(history) == []
    # The 62nd load is a Saturday's: 15 % are usual, and a Monday's would be odd.
    assert judge_next(history, columns={"email": Cells(20_000, 3_000, 0)}) == []
    [found] = judge_next(history, columns={"email": Cells(20_000, 6_000, 0)})
    assert found.summary == (
        "sales_data.email: 30.0 % of 20,000 cells are empty, where on Saturdays 15.0 % are"
    )
    assert judge_next(history[:-5], columns={"email": Cells(20_000, 3_000, 0)}) != []


def test_one_day_of_the_week_may_differ_before_it_is_known() -> None:
    history = [
        replace(each, columns={"email": Cells(20_000, 3_000 if place % 7 == 6 else 1_000, 0)})
        for place, each in enumerate(loads([20_000] * 40))
    ]
    assert replay(history) == []


@pytest.mark.parametrize(
    ("changed", "rule", "severity"),
    [
        ({"columns": {"email": Cells(50_000, 2_500, 10_000)}}, "mistyped_rate", "error"),
        ({"columns": {"email": Cells(50_000, 2_500, 500)}}, "mistyped_rate", "warning"),
        ({"duplicates": 2_500}, "duplicate_rate", "warning"),
        ({"quarantined": 2_500}, "quarantine_rate", "warning"),
        ({"quarantined": 25_000}, "quarantine_rate", "error"),
    ],
)
def test_each_share_has_its_rule(changed: dict[str, object], rule: str, severity: str) -> None:
    found = judge_next(loads([50_000] * 42), **changed)
    assert [(each.rule, each.severity) for each in found] == [(rule, severity)]


def test_a_few_bad_rows_where_there_were_none_are_not_odd() -> None:
    history = loads([50_000] * 42)
    assert judge_next(history, duplicates=50, quarantined=50) == []
    assert judge_next(loads([300] * 42), duplicates=1, quarantined=1) == []


def test_errors_come_first() -> None:
    found = judge_next(loads([50_000] * 42), read=20_000, duplicates=2_000)
    assert [each.severity for each in found] == ["error", "warning"]


def test_nothing_is_odd_before_two_weeks_of_loads() -> None:
    history = loads(noisy(14))
    assert judge_next(history[:13], read=1) == []
    assert [each.rule for each in judge_next(history, read=1, columns={})] == ["volume"]
    # Of hourly loads, 14 are not a day.
    assert judge(FEED, loads([500] * 100, every=HOUR), load_at(100 * HOUR, 1)) == []
    assert judge(FEED, [], load_at(DAY, 1)) == []


def load_at(after: dt.timedelta, rows: int) -> Load:
    return Load(MONDAY + after, rows, 0, 0)


def test_an_outlier_spoils_neither_what_is_expected_nor_what_passes() -> None:
    rows = noisy(60)
    before = judge_next(loads(rows), read=28_000, columns={})
    for place in (20, 38, 45, 52):
        rows[place] *= 0.02
    after = judge_next(loads(rows), read=28_000, columns={})
    assert [each.rule for each in before] == [each.rule for each in after] == ["volume"]
    assert after[0].expected == pytest.approx(before[0].expected, rel=0.1)


def test_a_level_that_changes_for_good_is_normal_within_a_week() -> None:
    rows = noisy(120)
    for factor, rule_severity in ((2, "warning"), (0.5, "error")):
        changed = [*rows[:80], *(each * factor for each in rows[80:])]
        found = replay(loads(changed), since=60)
        assert [place for place, _, _ in found] == [80, 81, 82, 83]
        assert {each[1:] for each in found} == {("volume", rule_severity)}


def test_a_share_that_changes_for_good_is_normal_within_two_weeks() -> None:
    history = [
        replace(each, columns={"email": Cells(50_000, 2_500 if place < 80 else 10_000, 0)})
        for place, each in enumerate(loads([50_000] * 120))
    ]
    places = [place for place, _, _ in replay(history, since=60)]
    assert places == list(range(80, 80 + len(places)))
    assert 5 < len(places) < 14


def test_growth_is_not_odd() -> None:
    rows = [each * 1.02**place for place, each in enumerate(noisy(120))]
    assert replay(loads(rows)) == []
    rows = [
        each * (1.02**place if place < 60 else 1.02**60) for place, each in enumerate(noisy(120))
    ]
    assert replay(loads(rows)) == []


def test_a_trend_that_turned_is_followed() -> None:
    rows = [20_000 * 1.02 ** min(place, 60) * 0.99 ** max(place - 60, 0) for place in range(76)]
    [found] = judge_next(loads(rows), read=5_000, columns={})
    assert found.expected == pytest.approx(rows[-1] * 0.99, rel=0.03)


@pytest.mark.parametrize(
    ("usual", "rows", "is_odd"),
    [
        (1_000, 850, False),  # constant: the spread is zero, and no tenth more or less is odd
        (1_000, 700, True),
        (10, 7, False),
        (10, 0, True),
        (3, 0, False),  # three rows say nothing
        (3, 12, False),
        (3, 100, True),
        (0, 30, False),
        (0, 100, True),
        (0, 0, False),
    ],
)
def test_constant_and_tiny_feeds(usual: int, rows: int, *, is_odd: bool) -> None:
    assert bool(judge_next(loads([usual] * 60), read=rows, columns={})) is is_odd


def test_weekends_without_rows_are_a_pattern() -> None:
    rows = [0 if place % 7 > 4 else each for place, each in enumerate(noisy(90))]
    assert replay(loads(rows)) == []
    tuesday = loads(rows)[:85]
    [found] = judge_next(tuesday, read=0, columns={})
    assert found.severity == "error"


def test_the_last_of_each_month_is_known_after_two() -> None:
    history = loads(noisy(150))
    spiked = [
        replace(each, read=each.read * 3) if (each.at + DAY).day == 1 else each for each in history
    ]
    found = [spiked[place].at.date().isoformat() for place, _, _ in replay(spiked)]
    assert found == ["2026-01-31", "2026-02-28"]


def test_a_holiday_is_told_once_and_spoils_nothing() -> None:
    rows = noisy(120)
    rows[100] *= 0.1
    assert replay(loads(rows), since=90) == [(100, "volume", "error")]


def test_a_missing_day_is_late_by_its_own_weekday() -> None:
    week = [each for each in loads(noisy(80)) if each.at.weekday() < 5]
    assert replay(week) == []
    # A Friday's load is followed by a Monday's; a Monday's by a Tuesday's.
    friday = max(place for place, each in enumerate(week) if each.at.weekday() == 4)
    history = week[: friday + 1]
    assert judge_wait(FEED, history, history[-1].at + 3 * DAY) == []
    [found] = judge_wait(FEED, history[:-1], history[-2].at + 2 * DAY)
    assert found.summary == (
        "sales_data: nothing came for 48 hours, where after a Thursday's load the next comes "
        "within 24 hours"
    )
    assert (found.rule, found.severity) == ("freshness", "warning")
    # Its source has said meanwhile that nothing changed.
    heard = history[-2].at + 2 * DAY - HOUR
    assert judge_wait(FEED, history[:-1], history[-2].at + 2 * DAY, heard=heard) == []


def test_after_a_gap_of_four_weeks_only_the_wait_is_odd() -> None:
    history = loads(noisy(90))
    gap = [
        each if place < 70 else replace(each, at=each.at + 28 * DAY)
        for place, each in enumerate(history)
    ]
    gap[70] = replace(gap[70], read=gap[70].read * 20)
    assert replay(gap) == [(70, "freshness", "warning")]


def test_a_part_that_comes_soon_after_another_may_be_small() -> None:
    history = loads(noisy(60))
    correction = replace(history[-1], at=history[-1].at + 2 * HOUR, read=300, columns={})
    assert judge(FEED, history, correction) == []
    assert judge_next([*history, correction], read=50_000, columns={}) == []


def test_clocks_that_change_and_days_that_end_at_midnight_are_no_matter() -> None:
    rows = [each * (0.3 if place % 7 > 4 else 1) for place, each in enumerate(noisy(100))]
    around = np.random.default_rng(3).normal(0, 20, 100).tolist()
    history = [
        replace(each, at=each.at + 22 * HOUR + dt.timedelta(minutes=minutes) + HOUR * (place > 60))
        for place, (each, minutes) in enumerate(zip(loads(rows), around, strict=True))
    ]
    assert replay(history) == []


def test_two_loads_a_day_are_compared_each_with_its_own() -> None:
    rows = [each * (1 if place % 2 else 6) for place, each in enumerate(noisy(100, rows=8_000))]
    history = loads(rows, every=12 * HOUR)
    assert replay(history) == []
    half = replace(history[-2], read=history[-2].read // 2)
    [found] = judge(FEED, history[:-2], half)
    assert found.summary.endswith("that Mondays at this time usually bring")


def test_hourly_loads_are_compared_with_that_hour_of_the_weekday() -> None:
    draw = np.random.default_rng(4)
    history = loads(
        [
            draw.poisson(2_000 * (1.2 + np.sin(place / 24 * 2 * np.pi)))
            * (0.3 if (MONDAY + place * HOUR).weekday() > 4 else 1)
            for place in range(24 * 40)
        ],
        every=HOUR,
    )
    assert replay(history, since=len(history) - 12) == []
    half = replace(history[-1], read=history[-1].read // 2)
    assert [each.rule for each in judge(FEED, history[:-1], half)] == ["volume"]


def test_a_weekly_feed_needs_two_months() -> None:
    history = loads(noisy(20), every=7 * DAY)
    assert replay(history) == []
    late = replace(history[8], at=history[8].at + 3 * DAY)
    assert judge(FEED, history[1:8], late) == []
    assert [each.rule for each in judge(FEED, history[:8], late)] == ["freshness"]
    half = replace(history[8], read=20_000, columns={})
    assert [each.rule for each in judge(FEED, history[:8], half)] == ["volume"]


def test_a_promise_is_kept_or_not_without_any_history() -> None:
    promised = 26 * HOUR
    assert judge_promise(FEED, promised, promised, has_come=False) == []
    [silent] = judge_promise(FEED, promised, 30 * HOUR, has_come=False)
    assert silent.severity == "error"
    assert silent.summary == (
        "sales_data: 30 hours without news, though the contract promises some within 26 hours"
    )
    late = load_at(30 * HOUR, 50)
    [come] = judge(FEED, [], late, promised=promised, news=MONDAY)
    assert (come.rule, come.severity, come.high) == ("freshness", "warning", 26 * 3600)
    assert come.summary.startswith("sales_data: it came after 30 hours without news")
    assert judge(FEED, [], late, promised=promised, news=None) == []


def test_only_the_newest_loads_count() -> None:
    old = loads([5] * 50, start=MONDAY - 2_000 * DAY)
    new = loads([50_000] * LOADS_READ, start=MONDAY - LOADS_READ * DAY)
    following = load_at(dt.timedelta(), 20_000)
    assert judge(FEED, [*old, *new], following) == judge(FEED, new, following) != []


def test_a_column_that_is_new_or_gone_is_not_judged() -> None:
    history = loads([50_000] * 42)
    new = {"email": Cells(50_000, 2_500, 0), "phone": Cells(50_000, 50_000, 0)}
    assert judge_next(history, columns=new) == []
    assert judge_next(history, columns={}) == []


moments = st.integers(0, 10**6).map(lambda minutes: MONDAY + dt.timedelta(minutes=minutes))
counts = st.integers(0, 10**9)


@st.composite
def any_load(draw: st.DrawFn) -> Load:
    read = draw(counts)
    cells = Cells(read, draw(st.integers(0, read)), draw(st.integers(0, read)))
    bad = draw(st.integers(0, read)), draw(st.integers(0, read))
    return Load(draw(moments), read, *bad, {"email": cells})


@settings(max_examples=30)
@given(st.lists(any_load(), min_size=9, max_size=30))
def test_whatever_came_a_verdict_has_finite_figures(given_loads: list[Load]) -> None:
    # Several may come at the same instant.
    *history, load = sorted(given_loads * 2, key=lambda each: each.at)
    for each in judge(FEED, history, load):
        figures = [each.observed, each.expected, each.low, each.high]
        assert all(np.isfinite(figure) for figure in figures if figure is not None)
        assert "nan" not in each.summary


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(50, "50 seconds"), (600, "10 minutes"), (86_400, "24 hours"), (12 * 86_400, "12 days")],
)
def test_times_are_told_as_people_say_them(seconds: float, told: str) -> None:
    assert tell_time(seconds) == told


@pytest.mark.parametrize(
    ("share", "told"),
    [(0, "0.0 %"), (0.041, "4.1 %"), (0.0057, "0.57 %"), (0.00003, "0.0030 %"), (1, "100.0 %")],
)
def test_shares_are_told_with_digits_that_say_something(share: float, told: str) -> None:
    assert tell_share(share) == told
