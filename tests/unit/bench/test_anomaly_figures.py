"""What the benchmark of the anomaly rules counts as found, and as false."""

import datetime as dt
from dataclasses import replace

from tasks.anomalies import Anomaly
from tasks.anomaly_rules import Load
from tests.bench.anomalies import Verdict, summarise
from tests.bench.seeded_histories import KINDS, Planted

ODD = Anomaly("d", "f", None, "volume", "error", 1, 2, 1, 3, "d: odd")
LOAD = Load(dt.datetime(2026, 1, 5, tzinfo=dt.UTC), 1, 0, 0)


def test_only_the_right_rule_and_column_find_a_fault() -> None:
    verdict = Verdict(0)
    verdict.count(Planted(LOAD, "doubled nulls", "email"), [ODD])
    nulls = replace(ODD, rule="null_rate")
    verdict.count(Planted(LOAD, "doubled nulls", "email"), [replace(nulls, column="name")])
    assert (verdict.found, verdict.true.total(), verdict.false.total()) == (set(), 0, 2)
    verdict.count(Planted(LOAD, "doubled nulls", "email"), [replace(nulls, column="email")])
    assert (verdict.found, verdict.true["null_rate"]) == ({"doubled nulls"}, 1)
    verdict.count(Planted(LOAD), [ODD])
    assert verdict.false == {"volume": 2, "null_rate": 1}


def test_rows_that_mistyped_cells_had_rejected_are_no_false_alarm() -> None:
    verdict = Verdict(0)
    rejected = replace(ODD, rule="quarantine_rate")
    verdict.count(Planted(LOAD, "type drift", "email"), [rejected])
    assert (verdict.found, verdict.true.total(), verdict.false.total()) == (set(), 1, 0)
    verdict.count(Planted(LOAD, "half volume"), [rejected])
    assert verdict.false.total() == 1


def test_the_last_line_has_the_figures_and_decides() -> None:
    good = [Verdict(seed, found=set(KINDS)) for seed in range(20)]
    text, is_good = summarise(good)
    assert text.splitlines()[-1].startswith("found=100 of=100 recall=1.000 precision=-")
    assert is_good
    for verdict in good[:5]:
        verdict.found.discard("stale")
    assert summarise(good)[1]
    good[5].found.discard("half volume")
    assert not summarise(good)[1]


def test_more_than_one_false_alarm_at_the_median_is_too_much() -> None:
    noisy = [Verdict(seed, found=set(KINDS)) for seed in range(3)]
    for verdict in noisy[:2]:
        verdict.false["volume"] = 1
    assert summarise(noisy)[1]
    for verdict in noisy[:2]:
        verdict.false["volume"] = 2
    text, is_good = summarise(noisy)
    assert not is_good
    assert text.splitlines()[-1].endswith("false_median=2 false_worst=2 false_mean=1.33")
