import asyncio
import contextlib
import datetime as dt
import gzip
import itertools
import json
import logging
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from infra.endpoints import Endpoint
from infra.http import LONGEST_RETRY_AFTER_SECONDS, Clock, open_session
from schemas.errors import RefusedError, TerminalError, TransientError
from tasks.extract_api import Fetched, fetch_endpoint
from tasks.json_records import flatten_records

MARKER = "s3cr3t-marker-value"
NOON = dt.datetime(2024, 5, 1, 12, 0, tzinfo=dt.UTC)
JSON = {"Content-Type": "application/json"}
Fetch = Callable[[Endpoint], Awaitable[Fetched]]


class FakeTime:
    """A clock that only its own sleeps move."""

    def __init__(self) -> None:
        self.elapsed = 0.0
        self.sleeps: list[float] = []
        self.clock = Clock(lambda: self.elapsed, lambda: NOON, self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.elapsed += seconds


class Api:
    """A real server whose answers a test writes; it keeps every request it got."""

    def __init__(self, server: TestServer, time: FakeTime) -> None:
        self.server = server
        self.time = time
        self.requests: list[web.Request] = []
        self.times: list[float] = []
        self.answer: Callable[..., Any] = lambda *_: web.Response(status=404)

    async def serve(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        self.times.append(self.time.elapsed)
        given = self.answer(request, len(self.requests))
        return await given if asyncio.iscoroutine(given) else given

    @property
    def queries(self) -> list[str]:
        return [request.query_string for request in self.requests]

    def endpoint(self, path: str = "/users", **settings: Any) -> Endpoint:
        return Endpoint(url=str(self.server.make_url(path)), **settings)


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@contextlib.asynccontextmanager
async def start_api(time: FakeTime) -> AsyncIterator[Api]:
    application = web.Application()
    server = TestServer(application)
    api = Api(server, time)
    application.router.add_route("*", "/{path:.*}", api.serve)
    await server.start_server()
    try:
        yield api
    finally:
        await server.close()


@pytest.fixture
async def api(time: FakeTime) -> AsyncIterator[Api]:
    async with start_api(time) as started:
        yield started


@pytest.fixture
async def other(time: FakeTime) -> AsyncIterator[Api]:
    async with start_api(time) as started:
        yield started


@pytest.fixture
async def fetch(time: FakeTime) -> AsyncIterator[Fetch]:
    async with open_session() as session:

        async def run(endpoint: Endpoint) -> Fetched:
            return await fetch_endpoint(session, endpoint, clock=time.clock)

        yield run


@contextlib.asynccontextmanager
async def raw_server(*answers: bytes) -> AsyncIterator[tuple[str, list[asyncio.StreamWriter]]]:
    """Answer the nth connection with the nth bytes (the last for ever), and cut it."""
    connections = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        connections.append(writer)
        writer.write(answers[min(len(connections), len(answers)) - 1])
        await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/users", connections


def reply(payload: Any, **settings: Any) -> web.Response:
    return web.Response(text=json.dumps(payload), headers=JSON, **settings)


def body(raw: bytes, content_type: str = "application/json", **headers: str) -> web.Response:
    return web.Response(body=raw, headers={"Content-Type": content_type, **headers})


def numbered(first: int, last: int) -> list[dict[str, int]]:
    return [{"id": number} for number in range(first, last + 1)]


def ids(fetched: Fetched) -> list[int]:
    return [int(record["id"]) for record in fetched.records]


async def test_a_list_is_taken_in_order_in_one_request(api: Api, fetch: Fetch) -> None:
    api.answer = lambda _request, _count: reply(numbered(1, 3))
    fetched = await fetch(api.endpoint())
    assert ids(fetched) == [1, 2, 3]
    assert (fetched.pages, fetched.fetched_at, fetched.notes) == (1, NOON, ())


async def test_without_a_clock_of_its_own_a_fetch_tells_the_time_in_utc(api: Api) -> None:
    api.answer = lambda _request, count: web.Response(status=500) if count == 1 else reply([])
    before = dt.datetime.now(dt.UTC)
    async with open_session() as session:
        fetched = await fetch_endpoint(session, api.endpoint(requests_per_second=1000))
    assert before <= fetched.fetched_at <= dt.datetime.now(dt.UTC)
    assert fetched.fetched_at.utcoffset() == dt.timedelta(0)
    assert len(fetched.notes) == 1


async def test_records_are_found_inside_an_object(api: Api, fetch: Fetch) -> None:
    api.answer = lambda _request, _count: reply({"data": {"items": numbered(1, 2)}})
    assert ids(await fetch(api.endpoint(records_field="data.items"))) == [1, 2]


@pytest.mark.parametrize(
    ("payload", "records_field", "wanted"),
    [
        ({"items": [], "error": "x"}, "", "is no list of records (it has lists in: items)"),
        ({"items": []}, "data", "has no list of records in 'data' (it has lists in: items)"),
        ({"data": {"id": 1}}, "data", "has no list of records in 'data'"),
        ("down for maintenance", "", "is no list of records"),
        (None, "data", "has no list of records in 'data'"),
        ({"data": "x"}, "data", "has no list of records in 'data'"),
    ],
)
async def test_an_answer_without_records_is_refused(
    api: Api, fetch: Fetch, payload: Any, records_field: str, wanted: Any
) -> None:
    api.answer = lambda _request, _count: reply(payload)
    with pytest.raises(RefusedError) as caught:
        await fetch(api.endpoint(records_field=records_field))
    assert wanted in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "records_field"),
    [
        (lambda: reply([]), ""),
        (lambda: reply(None), ""),
        (lambda: reply({"data": None}), "data"),
        (lambda: web.Response(status=204), ""),
    ],
)
async def test_nothing_to_hand_out_is_no_error(
    api: Api, fetch: Fetch, answer: Callable[..., Any], records_field: str
) -> None:
    api.answer = lambda _request, _count: answer()
    fetched = await fetch(api.endpoint(records_field=records_field))
    assert (fetched.records, fetched.pages) == ((), 1)


async def test_server_errors_are_repeated_until_the_answer_comes(
    api: Api, fetch: Fetch, time: FakeTime, caplog: pytest.LogCaptureFixture
) -> None:
    api.answer = lambda _request, count: (
        reply(numbered(1, 1)) if count == 3 else web.Response(status=500 + count)
    )
    with caplog.at_level(logging.WARNING):
        fetched = await fetch(api.endpoint(attempts=3, requests_per_second=1e9))
    assert ids(fetched) == [1]
    assert len(api.requests) == 3
    waits = [seconds for seconds in time.sleeps if seconds > 1e-6]
    assert len(waits) <= 2
    assert sum(time.sleeps) <= 0.5 + 1.0
    assert [note.rpartition("/users ")[2] for note in fetched.notes] == [
        "answered 501 (attempt 1 of 3)",
        "answered 502 (attempt 2 of 3)",
    ]
    assert len(caplog.records) == 2


async def test_server_errors_for_ever_name_address_status_and_attempts(
    api: Api, fetch: Fetch
) -> None:
    api.answer = lambda _request, _count: web.Response(status=503)
    endpoint = api.endpoint(attempts=4)
    with pytest.raises(TransientError) as caught:
        await fetch(endpoint)
    assert str(caught.value) == (
        f"{endpoint.url} answered 503 (attempt 4 of 4); look whether the API is up, "
        "then run this again."
    )
    assert len(api.requests) == 4


@pytest.mark.parametrize("asked", ["7", format_datetime(NOON + dt.timedelta(seconds=7))])
async def test_retry_after_is_obeyed_before_the_next_request(
    api: Api, fetch: Fetch, time: FakeTime, asked: str
) -> None:
    api.answer = lambda _request, count: (
        web.Response(status=429, headers={"Retry-After": asked})
        if count < 3
        else reply(numbered(1, 1))
    )
    assert ids(await fetch(api.endpoint())) == [1]
    assert time.sleeps == [7.0, 7.0]
    assert api.times == [0.0, 7.0, 14.0]


async def test_a_longer_wait_than_allowed_is_handed_to_the_caller(
    api: Api, fetch: Fetch, time: FakeTime
) -> None:
    asked = LONGEST_RETRY_AFTER_SECONDS + 1
    api.answer = lambda _request, _count: web.Response(
        status=429, headers={"Retry-After": f"{asked:g}"}
    )
    with pytest.raises(TransientError, match=r"answered 429 .* asks to wait 121 seconds") as caught:
        await fetch(api.endpoint())
    assert caught.value.retry_after_seconds == asked
    assert (len(api.requests), time.sleeps) == (1, [])


async def test_a_server_that_does_not_answer_is_a_timeout(api: Api, fetch: Fetch) -> None:
    released = asyncio.Event()

    async def hang() -> web.Response:
        await released.wait()
        return reply([])

    api.answer = lambda _request, _count: hang()
    with pytest.raises(TransientError, match=r"did not answer in 0.05 seconds \(attempt 2 of 2\)"):
        await fetch(api.endpoint(timeout_seconds=0.05, attempts=2))
    released.set()
    assert len(api.requests) == 2


async def test_a_server_that_is_down_can_be_tried_again(fetch: Fetch, unused_tcp_port: int) -> None:
    endpoint = Endpoint(url=f"http://127.0.0.1:{unused_tcp_port}/users", attempts=2)
    with pytest.raises(TransientError, match=r"could not be reached \(ConnectionRefusedError\)"):
        await fetch(endpoint)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 202, 304])
async def test_a_refusal_is_final_at_once(api: Api, fetch: Fetch, status: int) -> None:
    api.answer = lambda _request, _count: web.Response(status=status)
    with pytest.raises(TerminalError, match=f"answered {status}; check the endpoint's "):
        await fetch(api.endpoint(paging="page"))
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    ("raw", "content_type", "wanted"),
    [
        (b"<!doctype html><h1>Sign in</h1>", "text/html", ["text/html", "<!doctype html><h1>"]),
        (b'[{"id": 1}, {"id', "application/json", ["no JSON at line 1, column 14", '[{"id": 1}']),
        (b"", "application/json", ["is no JSON at line 1", "''"]),
        (b'["\xff"]', "application/json", ["is no utf-8 text", "application/json"]),
        (b"[" * 100_000, "application/json", ["nested more than 64 levels deep"]),
        (b"[" * 80 + b"]" * 80, "application/json", ["nested more than 64 levels deep"]),
    ],
)
async def test_what_is_no_json_is_refused_and_shown(
    api: Api, fetch: Fetch, raw: bytes, content_type: str, wanted: Any
) -> None:
    api.answer = lambda _request, _count: body(raw, content_type)
    with pytest.raises(RefusedError) as caught:
        await fetch(api.endpoint())
    assert all(each in str(caught.value) for each in [*wanted, str(api.endpoint().url)])
    assert len(str(caught.value)) < 400
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    ("raw", "content_type"),
    [
        ('[{"name": "Zoë ☕"}]'.encode("utf-8-sig"), "application/json"),
        ('[{"name": "Zoë ☕"}]'.encode("utf-8-sig"), "application/json; charset=utf-8"),
        ('[{"name": "Zoë ☕"}]'.encode("utf-16"), "application/json"),
        ('[{"name": "Zoë ☕"}]'.encode(), "application/json; charset=no-such"),
        ('[{"name": "Zoë ☕"}]'.encode(), "application/json; charset=base64"),
        ('[{"name": "Zoë ☕"}]'.encode(), "application/json; charset=undefined"),
        ('[{"name": "Zoë \\u2615"}]'.encode("latin-1"), "text/plain; charset=iso-8859-1"),
    ],
)
async def test_every_encoding_a_server_may_use_is_read(
    api: Api, fetch: Fetch, raw: bytes, content_type: str
) -> None:
    api.answer = lambda _request, _count: body(raw, content_type)
    assert (await fetch(api.endpoint())).records == ({"name": "Zoë ☕"},)


async def test_a_compressed_answer_is_read(api: Api, fetch: Fetch) -> None:
    raw = gzip.compress(json.dumps(numbered(1, 500)).encode())
    api.answer = lambda _request, _count: body(raw, **{"Content-Encoding": "gzip"})
    assert ids(await fetch(api.endpoint())) == list(range(1, 501))


@pytest.mark.parametrize(
    "cut",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n[{"id": 1}]',
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n[{"id": 1}]\r\n',
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\n\x1f\x8b\x08",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
        b"SSH-2.0-OpenSSH\r\n\r\n",
    ],
)
async def test_a_connection_cut_in_the_middle_is_repeated_and_no_part_of_it_is_used(
    fetch: Fetch, cut: bytes
) -> None:
    whole = b'HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\n[{"id": 1}, {"id": 2}]'
    async with raw_server(cut, cut, whole) as (url, connections):
        assert ids(await fetch(Endpoint(url=url, attempts=3))) == [1, 2]
        assert len(connections) == 3
    async with raw_server(cut) as (url, connections):
        with pytest.raises(TransientError, match=r"attempt 2 of 2"):
            await fetch(Endpoint(url=url, attempts=2))
        assert len(connections) == 2


async def test_a_cut_that_looks_like_the_end_can_be_tried_again(fetch: Fetch) -> None:
    async with raw_server(b'HTTP/1.0 200 OK\r\n\r\n[{"id": 1}, {"i') as (url, _):
        with pytest.raises(TransientError, match="is no JSON at line 1"):
            await fetch(Endpoint(url=url))
    async with raw_server(b'HTTP/1.0 200 OK\r\n\r\n[{"id": 1}]') as (url, _):
        assert ids(await fetch(Endpoint(url=url))) == [1]


async def test_an_answer_beyond_the_limit_is_refused_even_where_it_was_small_on_the_way(
    api: Api, fetch: Fetch
) -> None:
    raw = gzip.compress(b"[" + b" " * 50_000_000 + b"]")
    assert len(raw) < 100_000
    api.answer = lambda _request, _count: body(raw, **{"Content-Encoding": "gzip"})
    with pytest.raises(RefusedError, match="more than 100000 bytes"):
        await fetch(api.endpoint(max_bytes=100_000))


async def test_the_limit_holds_for_all_pages_together(api: Api, fetch: Fetch) -> None:
    api.answer = lambda _request, count: reply([{"id": count, "text": "x" * 400}])
    with pytest.raises(RefusedError, match="more than 2000 bytes"):
        await fetch(api.endpoint(paging="page", max_bytes=2000))
    assert len(api.requests) == 5


async def test_pages_are_read_until_one_is_empty_because_a_short_one_may_be_the_servers_limit(
    api: Api, fetch: Fetch
) -> None:
    pages = {"1": numbered(1, 2), "2": numbered(3, 3), "3": numbered(4, 5)}
    api.answer = lambda request, _count: reply(pages.get(request.query["page"], []))
    fetched = await fetch(api.endpoint("/users?size=2", paging="page"))
    assert ids(fetched) == [1, 2, 3, 4, 5]
    assert fetched.pages == 4
    assert api.queries == [f"size=2&page={number}" for number in (1, 2, 3, 4)]


async def test_a_404_beyond_the_last_page_is_the_end_and_is_noted(api: Api, fetch: Fetch) -> None:
    api.answer = lambda request, _count: (
        web.Response(status=404)
        if request.query["p"] == "2"
        else reply([{"id": request.query["p"]}])
    )
    fetched = await fetch(api.endpoint(paging="page", page_parameter="p", first_page=0))
    assert ids(fetched) == [0, 1]
    assert "answered with 404, which was taken for the end" in fetched.notes[0]


async def test_offsets_grow_by_what_came_even_where_the_server_gives_less(
    api: Api, fetch: Fetch
) -> None:
    everything = numbered(1, 5)

    def answer(request: web.Request, _count: int) -> web.Response:
        offset = int(request.query["offset"])
        return reply(everything[offset : offset + min(2, int(request.query["limit"]))])

    api.answer = answer
    fetched = await fetch(api.endpoint(paging="offset", page_size=100))
    assert ids(fetched) == [1, 2, 3, 4, 5]
    assert api.queries == [f"offset={start}&limit=100" for start in (0, 2, 4, 5)]


@pytest.mark.parametrize("end", [{}, {"next": None}, {"next": ""}, {"next": 0}, {"next": False}])
async def test_cursors_are_followed_to_the_end_over_pages_that_are_empty(
    api: Api, fetch: Fetch, end: dict[str, Any]
) -> None:
    pages = {
        None: {"meta": {"next": "a&b=+é"}, "items": numbered(1, 2)},
        "a&b=+é": {"meta": {"next": 12345678901234567890}, "items": []},
        "12345678901234567890": {"meta": {"next": "z"}, "items": []},
        "z": {"meta": end, "items": numbered(3, 3)},
    }
    api.answer = lambda request, _count: reply(pages[request.query.get("after")])
    fetched = await fetch(
        api.endpoint(
            paging="cursor",
            cursor_parameter="after",
            cursor_field="meta.next",
            records_field="items",
        )
    )
    assert ids(fetched) == [1, 2, 3]
    assert (fetched.pages, fetched.notes) == (4, ())


async def test_a_cursor_field_that_is_nowhere_is_noted(api: Api, fetch: Fetch) -> None:
    api.answer = lambda _request, _count: reply({"items": numbered(1, 1), "nextCursor": "b"})
    fetched = await fetch(api.endpoint(paging="cursor", records_field="items"))
    assert fetched.notes[0].endswith("has no 'next_cursor': taken for the only one")


async def test_a_cursor_that_is_an_object_is_refused(api: Api, fetch: Fetch) -> None:
    api.answer = lambda _request, _count: reply({"items": [], "next_cursor": {"id": 1}})
    with pytest.raises(RefusedError, match="neither text nor number"):
        await fetch(api.endpoint(paging="cursor", records_field="items"))


async def test_link_headers_are_followed(api: Api, fetch: Fetch) -> None:
    def answer(request: web.Request, _count: int) -> web.Response:
        page = int(request.query.get("page", "1"))
        links = ['</users?page=1>; rel="first"; title="a, b; <c>"']
        if page < 3:
            links.append(f"<?page={page + 1}&sig=a%2Fb%3D>; REL=next")
        response = reply(numbered(page, page))
        response.headers["Link"] = ", ".join(links)
        return response

    api.answer = answer
    fetched = await fetch(api.endpoint(paging="link"))
    assert ids(fetched) == [1, 2, 3]
    assert [request.query.get("sig") for request in api.requests] == [None, "a/b=", "a/b="]


async def test_a_next_page_that_no_paging_reads_is_noted(api: Api, fetch: Fetch) -> None:
    api.answer = lambda _request, _count: body(b"[]", Link="<?page=2>; rel=next")
    fetched = await fetch(api.endpoint())
    assert fetched.notes[0].endswith("names a next page, which paging 'none' does not read")


@pytest.mark.parametrize("target", ["http://[bad", "ftp://example.com/x"])
async def test_a_link_that_is_no_address_is_refused(api: Api, fetch: Fetch, target: str) -> None:
    api.answer = lambda _request, _count: body(b"[]", Link=f"<{target}>; rel=next")
    with pytest.raises(RefusedError, match="which is no http address"):
        await fetch(api.endpoint(paging="link"))


@pytest.mark.parametrize(
    ("settings", "answer", "wanted"),
    [
        ({"paging": "page"}, lambda _query: reply(numbered(1, 3)), "Page 2 of .* repeats page 1"),
        ({"paging": "offset"}, lambda _query: reply(numbered(1, 3)), "Page 2 of .* repeats page 1"),
        (
            {"paging": "page"},
            lambda query: reply(numbered(min(int(query["page"]), 3), 3)),
            "Page 4 of .* repeats page 3",
        ),
        (
            {"paging": "page", "records_field": "items"},
            lambda query: reply({"page": query["page"], "items": [{"id": 1, "name": "x"}]}),
            "Page 2 of .* repeats page 1",
        ),
        (
            {"paging": "cursor", "records_field": "items"},
            lambda query: reply({"items": [{"id": query.get("cursor")}], "next_cursor": "a"}),
            "Page 2 of .* names page 2 as the next one",
        ),
        (
            {"paging": "cursor", "records_field": "items"},
            lambda _query: reply({"items": [], "next_cursor": "a"}),
            "Page 2 of .* names page 2 as the next one",
        ),
        (
            {"paging": "link"},
            lambda _query: body(b"[1]", Link="</users#again>; rel=next"),
            "Page 1 of .* names page 1 as the next one",
        ),
        (
            {"paging": "link"},
            lambda query: body(
                json.dumps([dict(query)]).encode(),
                Link="</users?b>; rel=next" if "c" in query else "</users?c>; rel=next"
                if "b" in query else "</users?b>; rel=next",
            ),
            "Page 3 of .* names page 2 as the next one",
        ),
    ],
)  # fmt: skip
async def test_pages_that_repeat_are_refused_and_end(
    api: Api, fetch: Fetch, settings: dict[str, Any], answer: Callable[..., Any], wanted: Any
) -> None:
    api.answer = lambda request, _count: answer(request.query)
    with pytest.raises(RefusedError, match=wanted):
        await fetch(api.endpoint(**settings))
    assert len(api.requests) <= 4


async def test_more_pages_than_allowed_are_refused(api: Api, fetch: Fetch) -> None:
    api.answer = lambda request, _count: reply([{"id": request.query["page"]}])
    with pytest.raises(RefusedError, match="more than 3 pages, so none was taken"):
        await fetch(api.endpoint(paging="page", max_pages=3))
    assert len(api.requests) == 3


async def test_as_many_pages_as_allowed_are_read(api: Api, fetch: Fetch) -> None:
    pages = {"1": [1], "2": [2], "3": []}
    api.answer = lambda request, _count: reply(pages[request.query["page"]])
    fetched = await fetch(api.endpoint(paging="page", max_pages=3))
    assert (fetched.records, fetched.pages) == (("1", "2"), 3)


async def test_token_and_headers_reach_every_page(api: Api, fetch: Fetch) -> None:
    api.answer = lambda request, _count: reply([{"id": 1}] if request.query["page"] == "1" else [])
    await fetch(api.endpoint(paging="page", token=MARKER, headers={"X-Key": "k"}))
    assert [
        (request.headers["Authorization"], request.headers["X-Key"]) for request in api.requests
    ] == [(f"Bearer {MARKER}", "k")] * 2


async def test_a_link_to_another_host_is_not_asked(api: Api, other: Api, fetch: Fetch) -> None:
    target = other.server.make_url("/users?page=2")
    api.answer = lambda _request, _count: body(b"[]", Link=f"<{target}>; rel=next")
    with pytest.raises(RefusedError, match="names a next page on another host") as caught:
        await fetch(api.endpoint(paging="link", token=MARKER))
    assert MARKER not in str(caught.value)
    assert other.requests == []


async def test_a_password_that_a_link_names_is_not_sent(api: Api, fetch: Fetch) -> None:
    target = api.server.make_url("/users").with_user("me").with_password("pw")
    api.answer = lambda _request, count: (
        body(b"[1]", Link=f"<{target}?2>; rel=next") if count == 1 else body(b"[2]")
    )
    assert len((await fetch(api.endpoint(paging="link"))).records) == 2
    assert "Authorization" not in api.requests[1].headers


async def test_a_redirect_to_another_host_carries_no_secret_and_back_neither(
    api: Api, other: Api, fetch: Fetch
) -> None:
    def answer(request: web.Request, _count: int) -> web.Response:
        if request.path == "/end":
            return reply(numbered(1, 1))
        return web.Response(status=307, headers={"Location": str(other.server.make_url("/x"))})

    api.answer = answer
    other.answer = lambda _request, _count: web.Response(
        status=302, headers={"Location": str(api.server.make_url("/end"))}
    )
    endpoint = api.endpoint(f"/users?key={MARKER}", token=MARKER, headers={"X-Key": MARKER})
    fetched = await fetch(endpoint)
    assert ids(fetched) == [1]
    assert api.requests[0].headers["X-Key"] == MARKER
    for request in (other.requests[0], api.requests[1]):
        assert MARKER not in f"{request.raw_headers}{request.url}"
    assert "sent no secrets" in fetched.notes[0]
    assert MARKER not in str(fetched.notes)


async def test_a_redirect_on_the_same_host_keeps_the_secrets(api: Api, fetch: Fetch) -> None:
    api.answer = lambda request, _count: (
        reply(numbered(1, 1))
        if request.path == "/v2"
        else web.Response(status=301, headers={"Location": "/v2"})
    )
    assert ids(await fetch(api.endpoint(token=MARKER))) == [1]
    assert api.requests[1].headers["Authorization"] == f"Bearer {MARKER}"


async def test_a_refusal_after_a_redirect_says_where_the_secrets_stayed(
    api: Api, other: Api, fetch: Fetch
) -> None:
    api.answer = lambda _request, _count: web.Response(
        status=302, headers={"Location": str(other.server.make_url("/users"))}
    )
    other.answer = lambda _request, _count: web.Response(status=401)
    with pytest.raises(TerminalError, match=r"answered 401; .* sent no secrets; check"):
        await fetch(api.endpoint(token=MARKER))


async def test_redirects_in_a_circle_end(api: Api, fetch: Fetch) -> None:
    api.answer = lambda _request, _count: web.Response(status=302, headers={"Location": "/users"})
    with pytest.raises(TerminalError, match="redirects more than 5 times"):
        await fetch(api.endpoint())
    assert len(api.requests) == 6


async def test_a_cookie_of_one_answer_is_not_sent_with_the_next(api: Api, fetch: Fetch) -> None:
    api.answer = lambda request, _count: body(
        b"[1]" if request.query["page"] == "1" else b"[]", **{"Set-Cookie": "session=1; Path=/"}
    )
    # aiohttp's own jar takes no cookies from an address without a name.
    by_name = str(api.server.make_url("/users").with_host("localhost"))
    await fetch(Endpoint(url=by_name, paging="page"))
    assert len(api.requests) == 2
    assert all("Cookie" not in request.headers for request in api.requests)


async def test_the_environments_proxy_and_netrc_are_ignored(
    api: Api, fetch: Fetch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login me password {MARKER}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    api.answer = lambda _request, _count: reply(numbered(1, 1))
    assert ids(await fetch(api.endpoint())) == [1]
    assert "Authorization" not in api.requests[0].headers


async def test_an_endpoints_proxy_is_asked_with_its_password_and_the_api_does_not_get_it(
    fetch: Fetch,
) -> None:
    whole = b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\nConnection: close\r\n\r\n[{"id": 1}]'
    heard = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(whole)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        endpoint = Endpoint(url="http://api.invalid/users", proxy=f"http://me:pw@127.0.0.1:{port}")
        assert ids(await fetch(endpoint)) == [1]
    assert heard[0].startswith(b"GET http://api.invalid/users HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic bWU6cHc=" in heard[0]


def echo_marker(request: web.Request, _count: int) -> web.Response:
    return body(f"<p>{request.path_qs} {request.headers}</p>".encode(), "text/html")


@pytest.mark.parametrize(
    "answer",
    [
        echo_marker,
        lambda _request, _count: web.Response(status=500),
        lambda _request, _count: web.Response(status=401, reason=MARKER),
        lambda _request, _count: web.Response(status=429, headers={"Retry-After": "999"}),
        lambda _request, _count: web.Response(status=302, headers={"Location": f"x:{MARKER}"}),
        lambda _request, _count: web.Response(
            status=302, headers={"Location": f"http://127.0.0.1:1/{MARKER}?k={MARKER}"}
        ),
        lambda _request, _count: body(b"[1]", Link=f"<http://{MARKER}@127.0.0.1:1/>; rel=next"),
        lambda _request, _count: body(b"[1]", f"text/{MARKER}", Link="</users>; rel=next"),
        lambda _request, _count: body(b"{", f"text/{MARKER}"),
        lambda _request, _count: reply({MARKER: [1]}),
        lambda request, _count: request.transport.close(),
    ],
)
async def test_no_message_log_or_traceback_holds_a_secret(
    api: Api, fetch: Fetch, caplog: pytest.LogCaptureFixture, answer: Callable[..., Any]
) -> None:
    api.answer = answer
    endpoint = api.endpoint(
        f"/users?api_key={MARKER}",
        token=MARKER,
        headers={"X-Key": f"{MARKER}2"},
        paging="link",
        attempts=2,
    )
    with (
        caplog.at_level(logging.DEBUG),
        pytest.raises((TerminalError, TransientError)) as caught,
    ):
        await fetch(endpoint)
    error = caught.value
    texts = ["".join(traceback.format_exception(error)), repr(error), repr(endpoint)]
    ours = [each for each in caplog.records if not each.name.startswith("aiohttp.")]
    texts.extend(each.getMessage() for each in ours)
    assert len(api.requests) >= 1
    assert all(MARKER not in text for text in texts), texts


async def test_requests_keep_their_distance_over_pages_retries_redirects_and_fetches(
    api: Api, fetch: Fetch
) -> None:
    def answer(request: web.Request, count: int) -> web.Response:
        if request.path == "/users":
            return web.Response(status=302, headers={"Location": f"/v2?{request.query_string}"})
        if count == 4:
            return web.Response(status=500)
        return reply([{"id": request.query["page"]}] if request.query["page"] < "4" else [])

    api.answer = answer
    endpoint = api.endpoint(paging="page", requests_per_second=0.1)
    one, two = await fetch(endpoint), await fetch(endpoint)
    assert ids(one) == ids(two) == [1, 2, 3]
    assert len(api.times) >= 17
    gaps = [later - earlier for earlier, later in itertools.pairwise(api.times)]
    assert min(gaps) >= 10 - 1e-9


async def test_the_sum_depends_on_the_records_alone(api: Api, fetch: Fetch) -> None:
    answers = {
        "/a": b'[{"a": 1.10, "b": [1, {"x": 1, "y": 2}]}, {"a": 2}]',
        "/b": b'{"at": "noon", "items": [{"b":[1,{"y":2,"x":1}],"a":1.10},\n{"a":2}]}',
        "/digits": b'[{"a": 1.1, "b": [1, {"x": 1, "y": 2}]}, {"a": 2}]',
        "/text": b'[{"a": "1.10", "b": [1, {"x": 1, "y": 2}]}, {"a": 2}]',
        "/order": b'[{"a": 2}, {"a": 1.10, "b": [1, {"x": 1, "y": 2}]}]',
    }
    api.answer = lambda request, _count: body(answers[request.path])
    sums = {
        path: (
            await fetch(api.endpoint(path, records_field="items" if path == "/b" else ""))
        ).sha256
        for path in answers
    }
    assert sums["/a"] == sums["/b"]
    assert len(set(sums.values())) == 4


async def test_numbers_of_every_kind_are_text_in_the_records_too(api: Api, fetch: Fetch) -> None:
    api.answer = lambda _request, _count: body(b"[1.10, 12345678901234567890, NaN, -Infinity]")
    numbers = (await fetch(api.endpoint())).records
    assert numbers == ("1.10", "12345678901234567890", "NaN", "-Infinity")


async def flatten(
    api: Api, fetch: Fetch, raw: str
) -> tuple[dict[int, dict[str, Any]], list[tuple[int, str]]]:
    api.answer = lambda _request, _count: body(raw.encode())
    frame, broken = flatten_records((await fetch(api.endpoint())).records)
    return frame.to_dict("index"), broken


async def test_nested_objects_become_columns_and_every_cell_keeps_its_text(
    api: Api, fetch: Fetch
) -> None:
    raw = """[
        {"id": 12345678901234567890, "price": 1.10, "ok": true, "none": null, "no": false,
         "address": {"geo": {"lat": -37.3159, "lng": "81.1496"}}, "company": {"catchPhrase": "x"},
         "tags": [1.10, "1.10", null, {"a": 1e400}], "text": " a\\tb ", "empty": "", "e": 1E5},
        {"id": -0, "nan": NaN, "up": Infinity, "down": -Infinity}
    ]"""
    rows, broken = await flatten(api, fetch, raw)
    assert broken == []
    assert {name: cell for name, cell in rows[1].items() if cell is not None} == {
        "id": "12345678901234567890",
        "price": "1.10",
        "ok": "true",
        "no": "false",
        "address_geo_lat": "-37.3159",
        "address_geo_lng": "81.1496",
        "company_catchphrase": "x",
        "tags": '[1.10,"1.10",null,{"a":1e400}]',
        "text": " a\tb ",
        "empty": "",
        "e": "1E5",
    }
    assert rows[1]["none"] is None
    assert {name: cell for name, cell in rows[2].items() if cell is not None} == {
        "id": "-0",
        "nan": "NaN",
        "up": "Infinity",
        "down": "-Infinity",
    }
    assert all(type(cell) in {str, type(None)} for row in rows.values() for cell in row.values())


async def test_what_is_no_object_is_handed_back_with_its_place(api: Api, fetch: Fetch) -> None:
    raw = '[{"id": 1}, 1.10, null, "x", [1, {"a": 2}], true, {"id": 1, "id": 2}, {}, {"id": 9}]'
    rows, broken = await flatten(api, fetch, raw)
    assert rows == {1: {"id": "1"}, 8: {"id": None}, 9: {"id": "9"}}
    assert broken == [
        (2, "1.10"),
        (3, "null"),
        (4, '"x"'),
        (5, '[1,{"a":2}]'),
        (6, "true"),
        (7, '{"id":1,"id":2}'),
    ]


async def test_paths_that_come_to_one_name_keep_columns_of_their_own(
    api: Api, fetch: Fetch
) -> None:
    raw = '[{"a": {"b": 1}, "a_b": 2, "A-B": 3, "": 4, "größe (cm)": 5, "x": {"y": 1, "y": 2}}]'
    rows, _ = await flatten(api, fetch, raw)
    assert rows[1] == {
        "a_b": "2",
        "a_b_2": "3",
        "a_b_3": "1",
        "unnamed": "4",
        "größe_cm_": "5",
        "x": '{"y":1,"y":2}',
    }


async def test_a_null_where_others_have_an_object_makes_no_column(api: Api, fetch: Fetch) -> None:
    raw = '[{"a": null, "b": 1}, {"a": {"c": 1}, "b": {"c": 2}}, {"a": {}}]'
    rows, _ = await flatten(api, fetch, raw)
    assert rows == {
        1: {"b": "1", "a_c": None, "b_c": None},
        2: {"b": None, "a_c": "1", "b_c": "2"},
        3: {"b": None, "a_c": None, "b_c": None},
    }


async def test_half_a_surrogate_pair_stays_as_its_escape(api: Api, fetch: Fetch) -> None:
    rows, _ = await flatten(api, fetch, '[{"a": "x\\ud83d", "b": "\\ud83d\\ude00"}]')
    assert rows == {1: {"a": "x\\ud83d", "b": "😀"}}


@pytest.mark.parametrize("records", [(), ({},), (None,)])
def test_records_without_a_single_field_are_still_counted(records: tuple[Any, ...]) -> None:
    frame, broken = flatten_records(records)
    assert (len(frame), len(frame.columns)) == (records.count({}), 0)
    assert len(frame) + len(broken) == len(records)
