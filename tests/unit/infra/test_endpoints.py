import asyncio
import datetime as dt
import itertools
import logging
from typing import Any

import pytest
import yarl
from pydantic import ValidationError

from infra.endpoints import Endpoint, show_url
from infra.http import (
    FIRST_WAIT_SECONDS,
    LONGEST_WAIT_SECONDS,
    Clock,
    Failure,
    Pace,
    find_wait,
    read_retry_after,
)

MARKER = "s3cr3t-marker-value"
NOON = dt.datetime(2024, 5, 1, 12, 0, tzinfo=dt.UTC)
URL = "https://api.example.com/v1/users"


def test_a_bare_address_is_an_endpoint() -> None:
    assert Endpoint.model_validate(URL) == Endpoint(url=URL)


@pytest.mark.parametrize(
    ("url", "dataset"),
    [
        (URL, "api_users"),
        (URL + "/", "api_users"),
        ("https://api.example.com", "api_data"),
        ("https://api.example.com/Order-Lines.json?key=1", "api_order_lines_json"),
        ("https://api.example.com/%C3%BC", "api_c3_bc"),
        ("https://api.example.com/" + "x" * 200, "api_" + "x" * 36),
    ],
)
def test_the_dataset_is_named_by_the_path_and_is_a_usable_table_name(
    url: str, dataset: str
) -> None:
    assert Endpoint(url=url).dataset == dataset


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"url": "ftp://example.com/x"}, "URL scheme"),
        ({"url": "users"}, "valid URL"),
        ({"url": f"https://me:{MARKER}@example.com/"}, "user or a password"),
        ({"url": URL, "tokn": "x"}, "Extra inputs"),
        ({"url": URL, "paging": "pages"}, "'none', 'page', 'offset', 'cursor' or 'link'"),
        ({"url": URL, "paging": "cursor"}, "cursor paging needs records_field"),
        ({"url": URL, "page_size": 0}, "greater than or equal to 1"),
        ({"url": URL, "page_parameter": ""}, "at least 1 character"),
        ({"url": URL, "attempts": 0}, "greater than or equal to 1"),
        ({"url": URL, "timeout_seconds": 0}, "greater than 0"),
        ({"url": URL, "timeout_seconds": "inf"}, "finite number"),
        ({"url": URL, "requests_per_second": "nan"}, "finite number"),
        ({"url": URL, "max_bytes": 0}, "greater than or equal to 1"),
        ({"url": URL, "dataset": "Users; drop"}, "pattern"),
        ({"url": URL, "token": "  \n"}, "the token is empty"),
        ({"url": URL, "token": f"{MARKER}\r\nX: y"}, "characters that no header can carry"),
        ({"url": URL, "headers": {"X-Key": f"{MARKER}\nY: z"}}, "value of header X-Key"),
        ({"url": URL, "headers": {"X Key": MARKER}}, "no name of a header"),
        ({"url": URL, "token": MARKER, "headers": {"authorization": "x"}}, "both set Auth"),
        ({"url": URL, "proxy": f"socks5://me:{MARKER}@host"}, "no http:// or https://"),
    ],
)
def test_a_wrong_setting_is_refused_and_the_message_keeps_the_secret(
    given: Any, wanted: Any
) -> None:
    with pytest.raises(ValidationError) as caught:
        Endpoint.model_validate(given)
    assert wanted in str(caught.value)
    assert MARKER not in str(caught.value)
    assert len(caught.value.errors()) == 1


def test_no_text_form_of_an_endpoint_shows_a_secret() -> None:
    endpoint = Endpoint(
        url=f"{URL}?api_key={MARKER}1",
        token=f" {MARKER}2\n",
        headers={"X-Key": f"{MARKER}3"},
        proxy=f"http://me:{MARKER}4@proxy.example.com:8080",
    )
    record = logging.LogRecord("x", logging.INFO, "x", 1, "%s %r", (endpoint, endpoint), None)
    for text in (repr(endpoint), str(endpoint), endpoint.shown_url, record.getMessage()):
        assert URL in text
        assert MARKER not in text
    assert endpoint.secret_headers() == {
        "Authorization": f"Bearer {MARKER}2",
        "X-Key": f"{MARKER}3",
    }


def test_a_secret_is_hidden_in_every_form_that_a_server_may_echo() -> None:
    endpoint = Endpoint(url=f"{URL}?key=a%2Fb%26c", headers={"Authorization": "Basic bWU6cHc="})
    text = "a/b&c a%2Fb%26c a/b&amp;c Basic bWU6cHc= bWU6cHc= bWU6cHc%3D rest"
    assert endpoint.hide_secrets(text) == "*** *** *** *** *** *** rest"


@pytest.mark.parametrize(
    ("url", "is_home"),
    [
        ("https://API.example.com:443/other?x", True),
        ("http://api.example.com/v1/users", False),
        ("https://api.example.com:8443/v1/users", False),
        ("https://api.example.com.evil.test/v1/users", False),
    ],
)
def test_home_is_scheme_host_and_port_however_they_are_written(url: str, is_home: bool) -> None:  # noqa: FBT001 - a case
    assert Endpoint(url=URL).is_home(yarl.URL(url)) is is_home


def test_a_path_that_holds_the_token_is_not_shown() -> None:
    assert Endpoint(url=f"{URL}/{MARKER}/x", token=MARKER).shown_url == f"{URL}/***/x"


@pytest.mark.parametrize(
    "url", ["https://u:p@h/x?k=v#f", "https://h/x#f?k=v", "https://h/x?k=v@w/z", "https://h/x"]
)
def test_an_address_is_shown_without_user_query_and_fragment(url: str) -> None:
    assert show_url(url) == "https://h/x"


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("7", 7.0),
        (" 1.5 ", 1.5),
        ("0", 0.0),
        ("Wed, 01 May 2024 12:00:30 GMT", 30.0),
        ("Wed, 01 May 2024 12:00:30 -0000", 30.0),
        ("Wed, 01 May 2024 11:00:00 GMT", 0.0),
        ("-5", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("9" * 400, None),
        ("٣", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(given: Any, seconds: float | None) -> None:
    assert read_retry_after(given, NOON) == seconds


def test_waits_grow_exponentially_under_full_jitter_and_are_capped() -> None:
    for attempt in range(1, 21):
        ceiling = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** (attempt - 1))
        waits = [find_wait(Failure("x"), attempt) for _ in range(200)]
        assert 0 <= min(waits) < ceiling / 2 < max(waits) <= ceiling
    assert find_wait(Failure("x", retry_after_seconds=7.0), 1) == 7.0


async def test_starts_keep_the_gap_together_and_over_sleeps_that_end_early() -> None:
    elapsed = [0.0]

    async def sleep_too_little(seconds: float) -> None:
        elapsed[0] += max(seconds / 2, 0.001)

    clock = Clock(monotonic=lambda: elapsed[0], sleep=sleep_too_little)
    pace = Pace()
    starts = []

    async def start() -> None:
        await pace.wait(1.0, clock)
        starts.append(elapsed[0])

    await asyncio.gather(*(start() for _ in range(4)))
    assert len(starts) == 4
    assert all(later - earlier >= 1.0 for earlier, later in itertools.pairwise(starts))
