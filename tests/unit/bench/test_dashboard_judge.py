import datetime as dt
import inspect
import json
from types import SimpleNamespace
from typing import Any

import pytest
from dash.development.base_component import Component

from dash_app import panels, reader
from dash_app.figures import BLUE, Series, bars, say
from dash_app.parts import complain, empty, table
from tests.bench.dashboard_browser import Answer, find_parts
from tests.bench.dashboard_judge import FAILED_SENTENCES, Measured, rank
from tests.bench.server import BenchError

VIEW: Any = SimpleNamespace(dark=False, now=dt.datetime.now(dt.UTC))


def answer(value: object, *, status: int = 200) -> Answer:
    def shrink(each: Component) -> Any:
        return each.to_plotly_json()

    body = json.dumps({"response": {"panel": {"children": value}}}, default=shrink)
    return Answer(0.01, status, body.encode())


@pytest.fixture
def measured() -> Measured:
    return Measured("panel.children", "/")


@pytest.mark.parametrize(
    "failure",
    [
        answer(complain("The database is away.")),
        answer([complain("The rows could not be fetched.")]),
        *(answer(say(VIEW, f"{sentence} and so on, for a while")) for sentence in FAILED_SENTENCES),
        answer("fast", status=500),
    ],
)
def test_a_failure_is_no_result(measured, failure) -> None:
    with pytest.raises(BenchError, match=r"panel\.children on /"):
        measured.add(failure, "a question")


def test_the_sentences_of_failed_charts_are_known() -> None:
    said = inspect.getsource(panels) + inspect.getsource(reader)
    assert all(sentence in said for sentence in FAILED_SENTENCES)


NOTHING = (
    answer(empty("Nothing ran.", "Start a run.")),
    answer(say(VIEW, "No run has ended in this time.")),
    answer({"rowData": [], "rowCount": 0}),
    answer(None),
    Answer(0.01, 204, b""),
)


def test_what_never_shows_anything_is_no_result(measured) -> None:
    for each in NOTHING:
        measured.add(each, "a question")
    with pytest.raises(BenchError, match="showed nothing in 5 answers"):
        measured.refuse_emptiness()


@pytest.mark.parametrize(
    "something",
    [
        answer("good"),
        answer(table(["a"], [["b"]], caption="c")),
        answer(bars(VIEW, [Series("a", ["x"], [1], BLUE)], unit="runs")),
        answer({"rowData": [{"id": "1"}], "rowCount": 1}),
        answer(False),  # noqa: FBT003 - a value as good as another
    ],
)
def test_one_answer_with_something_in_it_is_enough(measured, something) -> None:
    for each in (*NOTHING, something):
        measured.add(each, "a question")
    measured.refuse_emptiness()
    assert measured.empty == len(NOTHING)


def test_a_rank_is_a_measured_value() -> None:
    assert rank(range(1, 51), 0.95) == 48
    assert rank(range(1, 101), 0.95) == 95
    assert rank([7.0], 0.95) == 7


def test_components_are_found_wherever_they_stand() -> None:
    drawn = json.loads(answer([table(["a"], [[complain("b")]], caption="c")]).body)
    assert list(find_parts(drawn)) == []
    inner = {"type": "Icon", "props": {"id": "icon"}}
    button = {"type": "Button", "props": {"id": {"of": 1}, "leftSection": inner, "children": None}}
    assert [name for name, _ in find_parts([{"props": {"children": [button]}, "type": "Div"}])] == [
        '{"of": 1}',
        "icon",
    ]
