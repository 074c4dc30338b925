"""When somebody is told: once that a part is down, and once that it is back."""

import datetime as dt

import pytest

from infra.health.kafka import find_problem
from infra.health.record import Minute, find_events

START = dt.datetime(2026, 11, 23, 14, 0, tzinfo=dt.UTC)


def minutes(said: str) -> list[Minute]:
    """Return a minute for each letter, G or B."""
    ats = [START + dt.timedelta(minutes=number) for number in range(len(said))]
    return [Minute(at, letter == "B", at, "") for at, letter in zip(ats, said, strict=True)]


@pytest.mark.parametrize(
    ("said", "is_down", "expected"),
    [
        ("", False, ""),
        ("GGGG", False, "...."),
        ("BBGBBG", False, "......"),
        ("BBB", False, "..D"),
        ("GBBBBBBG", False, "...D...U"),
        ("BBBGBBBG", False, "..DU..DU"),
        ("BBBGBBG", False, "..DU..."),
        ("BBBB", True, "...."),
        ("BG", True, ".U"),
        ("GBB", True, "U.."),
        ("GBBB", True, "U..D"),
    ],
)
def test_a_part_is_down_after_three_bad_minutes_and_back_with_the_first_good_one(
    said: str, expected: str, *, is_down: bool
) -> None:
    events = find_events("kafka", minutes(said), alert_after=3, is_down=is_down, since=START)
    told = {each.minute.at: "D" if each.is_down else "U" for each in events}
    assert "".join(told.get(each.at, ".") for each in minutes(said)) == expected


def test_an_event_says_since_when() -> None:
    down, up = find_events("kafka", minutes("GBBBBG"), alert_after=3, is_down=False)
    assert (down.since, down.checks) == (START + dt.timedelta(minutes=1), 3)
    assert up.since == START + dt.timedelta(minutes=1)
    before = START - dt.timedelta(hours=5)
    [back] = find_events("kafka", minutes("BBG"), alert_after=3, is_down=True, since=before)
    assert back.since == before


def test_one_bad_check_is_enough_where_the_setting_says_so() -> None:
    assert len(find_events("disk", minutes("BBGB"), alert_after=1, is_down=False)) == 3


def partition(number: int, leader: int, isr: list[int]) -> dict[str, object]:
    return {"partition": number, "leader": leader, "replicas": [1, 2, 3], "isr": isr}


def test_partitions_without_leader_or_replica_are_named() -> None:
    whole = partition(0, 1, [3, 2, 1])
    assert find_problem([whole]) == ""
    thin, led_by_none = partition(1, 2, [1, 2]), partition(2, -1, [])
    assert find_problem([whole, thin]) == "replicas are missing of partition 1"
    assert find_problem([whole, thin, led_by_none]) == "no leader for partition 2"
