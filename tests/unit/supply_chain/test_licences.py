"""docs/licences.md is what is installed, and no licence slips in unseen."""

import re
import sys

import pytest

from tests.supply_chain import licences
from tests.supply_chain.licences import Reading, find_lines, is_allowed, render

made_here = pytest.mark.skipif(
    sys.version_info[:2] != (3, 11) or sys.platform != "linux",
    reason="docs/licences.md tells what is installed on Linux with Python 3.11",
)


@made_here
def test_the_page_is_fresh() -> None:
    assert licences.PAGE.read_text(encoding="utf-8") == render(find_lines()), "run `make licences`"


@made_here
def test_each_licence_is_known_and_allowed() -> None:
    assert [each for each in find_lines() if not is_allowed(each.licence)] == []


@made_here
def test_each_package_is_needed_by_a_part() -> None:
    assert [each.name for each in find_lines() if not each.part] == []


@made_here
def test_nothing_is_read_by_hand_that_is_locked_no_longer() -> None:
    assert set(licences.BY_HAND) <= {each.name for each in find_lines()}


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("AGPL-3.0-only", False),
        ("SSPL-1.0", False),
        ("GPL-2.0-or-later OR MIT", True),
        ("GPL-2.0-or-later AND MIT", False),
        ("MIT AND (GPL-2.0-only OR Apache-2.0)", True),
        ("(MIT OR Apache-2.0) AND GPL-2.0-only", False),
        ("MIT AND GPL-2.0-only OR ISC", True),
        ("ISC OR MIT AND GPL-2.0-only", True),
        ("GPL-2.0-only AND ISC OR GPL-3.0-only", False),
        ("GPL-3.0-only WITH Classpath-exception-2.0", False),
        ("", False),
    ],
)
def test_one_choice_that_is_allowed_as_a_whole_is_enough(expression: str, *, allowed: bool) -> None:
    assert is_allowed(expression) is allowed


@made_here
def test_a_reading_of_another_version_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(licences.BY_HAND, "jinja2", Reading("1.0", "MIT", "its file"))
    [line] = [each for each in find_lines() if each.name == "jinja2"]
    assert not is_allowed(line.licence)
    assert re.search("read it again", line.source)


def test_a_package_that_states_nothing_in_particular_is_unknown() -> None:
    assert licences.find_stated_licence("jinja2") == ""  # `BSD License`: of which kind?
    assert licences.find_stated_licence("polars-hash") == ""
    assert licences.find_stated_licence("no-such-package") == ""
    assert licences.find_stated_licence("polars") == "MIT"  # a text, and a classifier
