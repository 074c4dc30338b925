import pytest

from dash_app.access import throttle
from dash_app.access.throttle import MOST_TRIES, WINDOW_SECONDS, Throttle, key_of

KEY = ("ada", "10.0.0.1")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_sixth_try_within_the_window_waits(clock) -> None:
    tries = Throttle(clock)
    for _ in range(MOST_TRIES):
        assert tries.wait_seconds(KEY) == 0
        clock.now += 10
    assert tries.wait_seconds(KEY) == WINDOW_SECONDS - 50
    clock.now += 100
    assert tries.wait_seconds(KEY) == WINDOW_SECONDS - 150  # what had to wait is no try


def test_after_the_wait_it_is_a_try_again(clock) -> None:
    tries = Throttle(clock)
    for _ in range(MOST_TRIES):
        tries.wait_seconds(KEY)
    clock.now += tries.wait_seconds(KEY)
    assert tries.wait_seconds(KEY) == 0


def test_a_wait_is_never_nothing(clock) -> None:
    tries = Throttle(clock)
    for _ in range(MOST_TRIES):
        tries.wait_seconds(KEY)
    clock.now += WINDOW_SECONDS - 0.001
    assert tries.wait_seconds(KEY) == 1


def test_names_and_clients_are_counted_apart(clock) -> None:
    tries = Throttle(clock)
    for _ in range(MOST_TRIES):
        tries.wait_seconds(KEY)
    assert tries.wait_seconds(("otto", "10.0.0.1")) == 0
    assert tries.wait_seconds(("ada", "10.0.0.2")) == 0
    assert tries.wait_seconds(KEY) > 0


def test_a_right_password_forgives(clock) -> None:
    tries = Throttle(clock)
    for _ in range(MOST_TRIES):
        tries.wait_seconds(KEY)
    tries.forgive(KEY)
    assert tries.wait_seconds(KEY) == 0


def test_memory_is_bounded_and_whoever_still_tries_stays_in_it(clock, monkeypatch) -> None:
    monkeypatch.setattr(throttle, "MOST_KEYS", 10)
    tries = Throttle(clock)
    for _ in range(MOST_TRIES):
        tries.wait_seconds(KEY)
        tries.wait_seconds(("eve", "10.0.0.1"))
    for other in range(100):
        tries.wait_seconds((f"name {other}", "10.0.0.1"))
        assert tries.wait_seconds(KEY) > 0
    assert tries.wait_seconds(("eve", "10.0.0.1")) == 0  # forgotten


@pytest.mark.parametrize(
    ("client", "counted"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("", ""),
        ("not an address", "not an address"),
    ],
)
def test_an_ipv6_client_is_its_whole_network(client, counted) -> None:
    assert key_of("ada", client) == ("ada", counted)


def test_a_long_name_takes_no_more_memory() -> None:
    assert len(key_of("a" * 4000, "10.0.0.1")[0]) == 100
