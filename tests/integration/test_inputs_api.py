"""What an API answers, on its way into the warehouse."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from infra.endpoints import Endpoint
from infra.http import open_session
from infra.postgres.connection import Pool
from infra.sample.users import make_users
from schemas.datasets import ApiUsers
from schemas.errors import RefusedError, SluicewayError, TerminalError, TransientError
from tasks.extract_api import fetch_endpoint
from tasks.load import Order, Outcome, Report
from tasks.load_endpoint import load_fetched
from tests.cells import in_clear


class Api:
    """A real server whose answers a test writes."""

    def __init__(self) -> None:
        self.calls = 0
        self.answer: Callable[[web.Request], Any] = lambda _: web.json_response([])
        self.server: TestServer

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.calls += 1
        given = self.answer(request)
        return await given if asyncio.iscoroutine(given) else given

    def endpoint(self, **settings: Any) -> Endpoint:
        url = str(self.server.make_url("/users"))
        return Endpoint(url=url, **{"requests_per_second": 1000, **settings})


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    made = Api()
    application = web.Application()
    application.router.add_get("/users", made.serve)
    made.server = TestServer(application)
    await made.server.start_server()
    yield made
    await made.server.close()


@pytest.fixture
def take(pool: Pool, execution_id: int) -> Callable[..., Any]:
    """Fetch an endpoint and load what it answers, as the daily flow does."""

    async def fetch_and_load(endpoint: Endpoint, *, force: bool = False) -> Report:
        async with open_session() as session:
            fetched = await fetch_endpoint(session, endpoint)
        order = Order(execution_id, endpoint.shown_url, "api_users", ApiUsers.spec)
        return await load_fetched(pool, fetched, order, force=force)

    return fetch_and_load


async def test_nested_users_are_flattened_into_the_dimension_and_the_same_answer_is_left_alone(
    api: Api, pool: Pool, take
) -> None:
    users = make_users()
    api.answer = lambda _: web.json_response(users)
    first = await take(api.endpoint())
    second = await take(api.endpoint())
    forced = await take(api.endpoint(), force=True)
    assert (first.outcome, second.outcome) == (Outcome.LOADED, Outcome.UNCHANGED)
    assert first.ledger.read == len(users)
    assert (forced.ledger.unchanged, forced.ledger.updated) == (first.ledger.inserted, 0)
    async with pool.acquire() as connection:
        rows = in_clear(await connection.fetch("SELECT * FROM warehouse.dim_api_users ORDER BY id"))
    stored = {row["id"]: row for row in rows}
    for user in users:
        if user["id"] in stored:
            assert stored[user["id"]]["address_geo_lat"] == float(user["address"]["geo"]["lat"])
            assert stored[user["id"]]["company_name"] == user["company"]["name"]
    assert len(stored) + first.ledger.quarantined + first.ledger.duplicates == len(users)


async def test_an_empty_list_is_loaded_as_no_rows(api: Api, pool: Pool, take) -> None:
    report = await take(api.endpoint())
    assert (report.outcome, report.ledger.read) == (Outcome.LOADED, 0)


async def test_empty_objects_and_other_values_are_rejected_not_lost(
    api: Api, pool: Pool, take
) -> None:
    api.answer = lambda _: web.json_response([{}, 7, None, "x", [], {}])
    report = await take(api.endpoint())
    assert (report.ledger.read, report.ledger.quarantined) == (6, 6)
    async with pool.acquire() as connection:
        rows = await connection.fetch("SELECT line, rule FROM metadata.quarantine ORDER BY line")
    assert [tuple(row) for row in rows] == [
        (1, "missing"),
        (2, "not_an_object"),
        (3, "not_an_object"),
        (4, "not_an_object"),
        (5, "not_an_object"),
        (6, "missing"),
    ]


async def test_users_that_break_the_contract_are_quarantined_with_their_place(
    api: Api, pool: Pool, take
) -> None:
    good, bad = make_users()[0], dict(make_users()[0])
    bad |= {"id": 2**64, "email": "nobody", "new": {"key\u0000": "a\u0000b"}}
    api.answer = lambda _: web.json_response([good, bad])
    report = await take(api.endpoint())
    assert (report.ledger.inserted, report.ledger.quarantined) == (1, 1)
    async with pool.acquire() as connection:
        rows = await connection.fetch("SELECT line, raw_sealed AS raw FROM metadata.quarantine")
    [kept] = in_clear(rows)
    assert kept["line"] == 2
    assert str(2**64) in kept["raw"]


async def test_server_errors_and_too_many_requests_are_repeated_and_noted(
    api: Api, pool: Pool, take
) -> None:
    answers = {
        1: web.Response(status=503),
        2: web.Response(status=429, headers={"Retry-After": "0"}),
    }
    api.answer = lambda _: answers.get(api.calls, web.json_response(make_users()[:1]))
    report = await take(api.endpoint())
    assert report.ledger.inserted == 1
    assert api.calls == 3
    assert [note for note in report.notes if "429" in note or "503" in note]


async def _hang(_: web.Request) -> web.Response:
    await asyncio.sleep(30)
    return web.Response()


async def _cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(json.dumps(make_users()).encode()[:50])
    assert request.transport is not None
    request.transport.abort()
    return response


FAILURES: dict[
    str, tuple[Callable[[web.Request], Any], dict[str, Any], type[SluicewayError], str]
] = {
    "always_500": (lambda _: web.Response(status=500), {"attempts": 2}, TransientError, "500"),
    "asked_to_wait_an_hour": (
        lambda _: web.Response(status=429, headers={"Retry-After": "3600"}),
        {},
        TransientError,
        "3600 seconds",
    ),
    "timeout": (_hang, {"attempts": 1, "timeout_seconds": 0.05}, TransientError, "did not answer"),
    "connection_cut": (_cut, {"attempts": 1}, TransientError, "cut the connection"),
    "invalid_json": (
        lambda _: web.Response(text='[{"id": 1,', content_type="application/json"),
        {},
        RefusedError,
        "is no JSON",
    ),
    "html": (
        lambda _: web.Response(text="<html>Sign in</html>", content_type="text/html"),
        {},
        RefusedError,
        "text/html",
    ),
    "no_list": (
        lambda _: web.json_response({"error": "x"}),
        {},
        RefusedError,
        "no list of records",
    ),
    "a_page_that_repeats": (
        lambda _: web.json_response(make_users()[:2]),
        {"paging": "page"},
        RefusedError,
        "repeats page 1",
    ),
    "not_found": (lambda _: web.Response(status=404), {}, TerminalError, "404"),
}


@pytest.mark.parametrize(("answer", "settings", "kind", "says"), FAILURES.values(), ids=FAILURES)
async def test_an_answer_that_is_none_raises_a_sentence_and_loads_nothing(
    api: Api, pool: Pool, take, answer, settings, kind, says
) -> None:
    api.answer = answer
    with pytest.raises(kind) as error:
        await take(api.endpoint(**settings))
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    async with pool.acquire() as connection:
        assert await connection.fetchval("SELECT count(*) FROM warehouse.dim_api_users") == 0
        assert await connection.fetchval("SELECT count(*) FROM metadata.source_files") == 0
