from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dash_app.access.requests import (
    RefusedRequestError,
    address_of,
    check_local,
    check_origin,
    client_of,
    is_secure,
    login_address,
    own_address,
    read_cookie,
    read_header,
    wants_page,
)

HERE = "http://127.0.0.1:8050/login"


def make(
    *headers: tuple[str, str], method: str = "GET", kind: str = "http", **more: Any
) -> dict[str, Any]:
    """Return a scope; a WebSocket's has no method."""
    scope: dict[str, Any] = {
        "type": kind,
        "path": "/",
        "scheme": "http",
        "client": ("127.0.0.1", 40000),
        "headers": [(name.lower().encode(), text.encode()) for name, text in headers],
    }
    if kind == "http":
        scope["method"] = method
    return scope | more


OWN = ["/", "/runs", "/run/17", "/runs?state=FAILED&page=2", "/data#x", "/a:b", "/runs?u=http://x"]
STRANGE = [
    "",
    "runs",
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "/ /evil.example",
    "\t//evil.example",
    "http://evil.example",
    "https:evil.example",
    "javascript:alert(1)",
    "data:text/html,x",
    "/runs//evil.example",
    "/runs\r\nSet-Cookie: a=b",
    "/\0",
    "/login",
    "/login?next=/login",
    "/logout",
    "/" + "a" * 2000,
    "@evil.example",
    ".evil.example",
]


@pytest.mark.parametrize("address", OWN)
def test_own_addresses_are_gone_to(address) -> None:
    assert own_address(address) == address


@pytest.mark.parametrize("address", STRANGE)
def test_any_other_address_is_the_first_page(address) -> None:
    assert own_address(address) == "/"


@given(st.text(alphabet="/\\:?#@.%\t\n\r\0 aé[]") | st.text())
def test_no_address_leads_away(address) -> None:
    led = urljoin(HERE, own_address(address))
    assert urlsplit(led)[:2] == urlsplit(HERE)[:2]
    assert not led.startswith("//", len("http://127.0.0.1:8050"))


def test_the_login_is_told_where_to_go_on() -> None:
    assert login_address("/") == "/login"
    assert login_address("//evil.example") == "/login"
    there = "/runs?state=FAILED&text=a%26b"
    assert parse_qs(urlsplit(login_address(there)).query) == {"next": [there]}


@pytest.mark.parametrize(
    ("path", "query", "address"),
    [
        ("/runs", b"", "/runs"),
        ("/runs", b"a=%20b", "/runs?a=%20b"),
        ("/a b/é", b"", "/a%20b/%C3%A9"),
        ("/a?b", b"", "/a%3Fb"),
        ("/a%2fb", b"", "/a%252fb"),
        ("/\n", b"", "/%0A"),
    ],
)
def test_an_address_is_written_as_it_was_asked_for(path, query, address) -> None:
    assert address_of(make(path=path, query_string=query)) == address


HOSTS = ["127.0.0.1:8050", "localhost", "[::1]:8050", "dashboard.example", "DASHBOARD.example:443"]


@pytest.mark.parametrize("host", HOSTS)
def test_any_host_may_be_asked_for(host) -> None:
    check_origin(make(("Host", host)))


@pytest.mark.parametrize(
    "host", ["", " ", "a b", "a/b", "a@b", "a:b", "a:1:2", "[::1", "a:123456", "a,b", "a?b", "a#b"]
)
def test_what_is_no_host_is_refused(host) -> None:
    with pytest.raises(RefusedRequestError) as told:
        check_origin(make(("Host", host)))
    assert told.value.status == 400


@pytest.mark.parametrize(
    "headers", [[], [("Host", "a"), ("Host", "a")], [("HOST", "a"), ("host", "b")]]
)
def test_a_request_names_one_host(headers) -> None:
    with pytest.raises(RefusedRequestError) as told:
        check_origin(make(*headers))
    assert told.value.status == 400


SAME = [
    ("http://127.0.0.1:8050", "127.0.0.1:8050"),
    ("https://dashboard.example", "dashboard.example"),
    ("https://dashboard.example", "dashboard.example:443"),
    ("http://Dashboard.Example:80", "dashboard.example"),
    ("http://[::1]:8050", "[::1]:8050"),
]
OTHER = [
    ("http://evil.example", "127.0.0.1:8050"),
    ("http://127.0.0.1:8051", "127.0.0.1:8050"),
    ("http://127.0.0.1", "127.0.0.1:8050"),
    ("http://127.0.0.1:8050.evil.example", "127.0.0.1:8050"),
    ("http://127.0.0.1:8050@evil.example", "127.0.0.1:8050"),
    ("https://dashboard.example", "dashboard.example:80"),
    ("http://localhost:8050", "127.0.0.1:8050"),
    ("null", "127.0.0.1:8050"),
    ("", "127.0.0.1:8050"),
    ("://", "127.0.0.1:8050"),
    ("http://", "127.0.0.1:8050"),
    ("127.0.0.1:8050", "127.0.0.1:8050"),
    ("http://127.0.0.1:8050/", "127.0.0.1:8050"),
]
SENDING = [
    make(method="POST"),
    make(method="PUT"),
    make(method="DELETE"),
    make(method="OPTIONS"),
    make(method="post"),
    make(kind="websocket"),
]


def sent(scope: dict[str, Any], *headers: tuple[str, str]) -> dict[str, Any]:
    return scope | {"headers": make(*headers)["headers"]}


@pytest.mark.parametrize("scope", SENDING)
@pytest.mark.parametrize(("origin", "host"), SAME)
def test_own_pages_may_send(scope, origin, host) -> None:
    check_origin(sent(scope, ("Host", host), ("Origin", origin)))


@pytest.mark.parametrize("scope", SENDING)
@pytest.mark.parametrize(("origin", "host"), OTHER)
def test_other_pages_may_not_send(scope, origin, host) -> None:
    with pytest.raises(RefusedRequestError) as told:
        check_origin(sent(scope, ("Host", host), ("Origin", origin)))
    assert told.value.status == 403


def test_links_from_other_pages_may_be_followed() -> None:
    check_origin(make(("Host", "here"), ("Origin", "http://evil.example")))


def test_a_program_sends_no_origin() -> None:
    check_origin(make(("Host", "here"), method="POST"))


def test_every_browser_sends_its_origin_with_a_websocket() -> None:
    with pytest.raises(RefusedRequestError) as told:
        check_origin(make(("Host", "here"), kind="websocket"))
    assert told.value.status == 403


def test_two_origins_are_none() -> None:
    twice = [("Host", "here"), ("Origin", "http://here"), ("Origin", "http://here")]
    with pytest.raises(RefusedRequestError) as told:
        check_origin(make(*twice, method="POST"))
    assert told.value.status == 400


LOCAL = ["127.0.0.1", "127.0.0.1:8050", "localhost:1", "LocalHost", "[::1]", "[::1]:8050"]
FOREIGN = [
    "evil.example",
    "evil.example:8050",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "0.0.0.0:8050",
    "127.0.0.2",
    "[::]",
    "2130706433",
    "0x7f.1",
    "192.168.1.4",
    "",
]


@pytest.mark.parametrize("host", LOCAL)
@pytest.mark.parametrize("client", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
def test_this_machine_is_answered_by_its_own_names(host, client) -> None:
    check_local(make(("Host", host), client=(client, 1)))


@pytest.mark.parametrize("host", FOREIGN)
def test_no_other_name_is_answered(host) -> None:
    with pytest.raises(RefusedRequestError) as told:
        check_local(make(("Host", host)))
    assert told.value.status == 403
    assert "SLUICEWAY_DASHBOARD_USERS" in str(told.value)


@pytest.mark.parametrize("client", [None, ("192.168.1.4", 1), ("::", 1), ("", 1), ("localhost", 1)])
def test_no_other_machine_is_answered(client) -> None:
    """A proxy on this machine names whom it asks for."""
    with pytest.raises(RefusedRequestError) as told:
        check_local(make(("Host", "127.0.0.1"), client=client))
    assert told.value.status == 403


@pytest.mark.parametrize(
    ("cookies", "found"),
    [
        (["a=1"], "1"),
        (["b=2; a=1; c=3"], "1"),
        (["b=2", "a=1"], "1"),
        (['a="1"'], '"1"'),
        (["a=1=2"], "1=2"),
        (["a"], ""),
        ([], None),
        (["b=1"], None),
        (["aa=1; A=1"], None),
        (["a=1; a=2"], None),  # which of them a browser's page meant cannot be told
        (["a=1", "a=1"], None),
    ],
)
def test_cookies_are_found_by_name(cookies, found) -> None:
    assert read_cookie(make(*(("Cookie", each) for each in cookies)), "a") == found


def test_headers_are_found_by_name() -> None:
    assert read_header(make(("ACCEPT", "x")), "Accept") == "x"
    assert read_header(make(), "Accept") is None


@pytest.mark.parametrize(
    ("scope", "wanted"),
    [
        (make(("Accept", "text/html,application/xhtml+xml")), True),
        (make(("Accept", "text/html"), method="HEAD"), False),
        (make(("Accept", "text/html"), method="POST"), False),
        (make(("Accept", "application/json")), False),
        (make(), False),
        (make(("Accept", "text/html"), kind="websocket"), False),
    ],
)
def test_a_person_wants_a_page(scope, wanted) -> None:
    assert wants_page(scope) is wanted


def test_what_came_encrypted_is_known_by_its_scheme() -> None:
    assert [is_secure(make(scheme=each)) for each in ("http", "https", "ws", "wss")] == [
        False,
        True,
        False,
        True,
    ]


def test_a_client_may_be_unknown() -> None:
    assert client_of(make(client=None)) == ""
    assert client_of(make(client=("10.0.0.1", 5))) == "10.0.0.1"
