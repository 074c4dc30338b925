"""The messages that the stream benchmarks send."""

import json

from tests.bench.stream_messages import (
    FLAWED_EVERY,
    choose_changed,
    choose_mixed,
    choose_new,
    list_messages,
)


def test_a_message_is_an_envelope_of_about_200_bytes_under_its_dataset_s_key() -> None:
    [(key, value, time_ms)] = list_messages(choose_new, 999_999, 1_000_000)
    envelope = json.loads(value)

    assert (key, time_ms) == (b"sales_data:1000000", None)
    assert 200 <= len(value) <= 250
    assert envelope["source"] == "sales_data"
    assert envelope["timestamp"] == "2026-01-05T00:00:00.999999Z"
    assert envelope["payload"]["order_id"] == 1_000_000


def test_changed_messages_say_something_newer_and_else_of_every_key_once() -> None:
    new = {key: json.loads(value) for key, value, _ in list_messages(choose_new, 0, 500)}
    changed = {
        key: json.loads(value)
        for key, value, _ in list_messages(choose_changed(500), 0, 500, later=10**9)
    }

    assert changed.keys() == new.keys()
    assert list(changed) != list(new)
    assert all(changed[key]["payload"] != new[key]["payload"] for key in new)
    assert all(changed[key]["timestamp"] > new[key]["timestamp"] for key in new)


def test_mixed_messages_are_half_new_keys_and_half_changes_of_keys_that_came_before() -> None:
    seen: set[bytes] = set()
    for number, (key, _, _) in enumerate(list_messages(choose_mixed, 0, 2_000)):
        assert (key in seen) == bool(number % 2)
        seen.add(key)


def test_one_in_a_thousand_mixed_messages_breaks_its_contract() -> None:
    values = [value for _, value, _ in list_messages(choose_mixed, 0, 4_000, flawed=True)]

    flawed = [each for each in values if json.loads(each)["payload"]["quantity"] == 0]
    assert len(flawed) == len(values) // FLAWED_EVERY


def test_the_same_messages_come_whatever_they_are_listed_with() -> None:
    all_at_once = list(list_messages(choose_mixed, 0, 300))

    assert [*list_messages(choose_mixed, 0, 120), *list_messages(choose_mixed, 120, 300)] == (
        all_at_once
    )
