from typing import Any

import pytest
from starlette.datastructures import Headers

from dash_app.access.headers import (
    SECURITY_HEADERS,
    content_policy,
    script_hash,
    with_headers,
)


async def send_through(message: dict[str, Any]) -> dict[str, Any]:
    sent = []

    async def send(given: Any) -> None:
        sent.append(given)

    await with_headers(send, lambda: ["'sha256-x'"])(message)
    return dict(sent[0])


@pytest.mark.parametrize("kind", ["http.response.start", "websocket.http.response.start"])
@pytest.mark.parametrize("headers", [[], (), [(b"x-content-type-options", b"anything")]])
async def test_every_response_has_the_headers(kind, headers) -> None:
    message = await send_through({"type": kind, "status": 200, "headers": headers})
    found = Headers(raw=message["headers"])
    assert {name: found[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert found.getlist("x-content-type-options") == ["nosniff"]
    assert found["content-security-policy"] == content_policy(["'sha256-x'"])


async def test_a_response_without_a_list_of_headers_has_them_too() -> None:
    message = await send_through({"type": "http.response.start", "status": 200})
    assert Headers(raw=message["headers"])["x-frame-options"] == "DENY"


async def test_a_pages_own_policy_stays() -> None:
    own = [(b"content-security-policy", b"default-src 'self'")]
    message = await send_through({"type": "http.response.start", "status": 200, "headers": own})
    assert Headers(raw=message["headers"]).getlist("content-security-policy") == [
        "default-src 'self'"
    ]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (None, "private, no-cache"),
        ("public, max-age=31536000", "private, max-age=31536000"),
        ("max-age=60", "private, max-age=60"),
        ("private, max-age=60", "private, max-age=60"),
        ("no-store", "no-store"),
    ],
)
async def test_only_the_users_own_browser_keeps_what_they_saw(given, sent) -> None:
    headers = [(b"cache-control", given.encode())] if given else []
    message = await send_through({"type": "http.response.start", "status": 200, "headers": headers})
    assert Headers(raw=message["headers"])["cache-control"] == sent


async def test_bodies_pass_as_they_are() -> None:
    body = {"type": "http.response.body", "body": b"x"}
    assert await send_through(body) == body


def test_an_inline_script_is_named_by_its_hash() -> None:
    # The example of the Content Security Policy Level 2 recommendation.
    known = "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"
    assert script_hash("alert('Hello, world.');") == known
    assert f"script-src 'self' {known};" in content_policy([known])


def test_the_policy_names_no_other_host_and_lets_no_script_in() -> None:
    policy = dict(each.split(" ", 1) for each in content_policy([]).split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert not any("*" in each or "http" in each for each in policy.values())
    assert "unsafe" not in policy["script-src"]
    assert "blob:" not in policy["script-src"]
    assert "unsafe-eval" not in content_policy([])
