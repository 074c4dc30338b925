"""The search for secrets finds what is there: else its silence would mean nothing."""

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote

import pytest

from tests.secret_markers import Marker, find_leaks

MARKERS = [Marker("first"), Marker("second")]


@pytest.mark.parametrize(
    "spell",
    [
        str,
        str.upper,
        repr,
        html.escape,
        json.dumps,
        lambda text: json.dumps({"a": json.dumps(text)}),
        lambda text: quote(text, safe=""),
        lambda text: text.encode().hex(),
        lambda text: base64.b64encode(text.encode()).decode(),
        lambda text: base64.b64encode(f"u:{text}".encode()).decode(),
        lambda text: base64.b64encode(f"us:{text}".encode()).decode(),
    ],
)
def test_a_marker_is_found_in_every_spelling(spell: Callable[[str], str]) -> None:
    shown = f"before {spell(MARKERS[1].password)} after"
    [leak] = find_leaks({"a log": shown, "another": "nothing"}, MARKERS)
    assert leak.startswith("second in a log (")


def test_a_key_is_found_as_it_is_written_and_as_its_bytes() -> None:
    key = MARKERS[0].key
    assert len(base64.b64decode(key)) == 32
    for shown in (key, base64.b64decode(key), base64.b64decode(key).hex()):
        assert len(find_leaks({"a dump": shown}, MARKERS)) == 1


def test_nothing_is_found_where_nothing_is() -> None:
    assert find_leaks({"a log": Marker("third").password}, MARKERS) == []
