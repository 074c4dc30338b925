"""What the dashboard answers to addresses that are none, to rubbish, and to HEAD."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from dash_app.application import build
from dash_app.plain_http import UPDATE
from tests.integration.dash_app.test_access import CALLBACK, OPEN, Running, serve

PAGE = {"Accept": "text/html"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with serve(build(OPEN)) as found:
        yield found


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/runs", 200),
        ("/runs/", 200),
        ("/runs/12", 200),
        ("/quality?dataset=x", 200),
        ("/nowhere", 404),
        ("/not-found", 404),
        ("/runs/12/more", 404),
        ("/healthz/more", 404),
        ("/assets/none.js", 404),
        ("/_dash-component-suites/none/none.js", 404),
        ("/_dash-component-suites/dash/none.js", 404),
        ("/docs", 404),
    ],
)
def test_a_page_that_is_none_is_not_found(running, path, status) -> None:
    assert running.ask("GET", path, headers=PAGE).status_code == status


def test_a_page_that_is_none_comes_in_the_frame_of_all_pages(running) -> None:
    answer = running.ask("GET", "/nowhere", headers=PAGE)
    assert 'id="react-entry-point"' in answer.text


@pytest.mark.parametrize(
    ("path", "status"), [("/", 200), ("/runs", 200), ("/nowhere", 404), ("/assets/icon.svg", 200)]
)
def test_head_answers_as_get_would_without_the_body(running, path, status) -> None:
    head, get = (running.ask(method, path, headers=PAGE) for method in ("HEAD", "GET"))
    assert head.status_code == get.status_code == status
    assert head.headers["content-type"] == get.headers["content-type"]
    assert not head.content
    assert get.content or status != 200


def change(**given: Any) -> bytes:
    return json.dumps({**CALLBACK, **given}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"x",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"7",
        b"[" * 100_000,
        change(output=7),
        change(output="nobody.children"),
        change(output="view.data"),
        change(inputs=5),
        change(inputs=[]),
        change(inputs=[7]),
        change(inputs=[{"id": "address", "property": "search"}]),
        change(inputs=[{"id": 7, "property": "pathname"}]),
        change(inputs=[[[7]]]),
        change(state=[{"id": "address", "property": "pathname"}]),
        change(outputs=[7]),
        change(outputs=7),
        change(changedPropIds=7),
        change(changedPropIds=[[]]),
    ],
)
def test_rubbish_is_refused_with_a_sentence(running, body) -> None:
    with capture_logs() as logged:
        answer = running.ask("POST", UPDATE, content=body, headers=JSON)
    assert answer.status_code == 400, answer.text
    assert answer.json() == {"error": "That is no question that a page of the dashboard asks."}
    assert logged == []


def test_a_question_is_answered(running) -> None:
    assert running.ask("POST", UPDATE, content=change(), headers=JSON).status_code == 200


def test_a_question_that_is_not_said_to_be_json_is_refused(running) -> None:
    assert running.ask("POST", UPDATE, content=change()).status_code == 400


def test_a_body_in_pieces_is_put_together(running) -> None:
    body = change()
    answer = running.ask("POST", UPDATE, content=iter([body[:10], body[10:]]), headers=JSON)
    assert answer.status_code == 200
