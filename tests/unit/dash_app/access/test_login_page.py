import re
from html.parser import HTMLParser

import pytest

from dash_app.access.headers import script_hash
from dash_app.access.login_page import LOGIN_POLICY, login_page

HOSTILE = "\"><script>alert(1)</script>'{then}{}"


class Elements(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


PAGES = {
    "first": login_page(then="/"),
    "again": login_page(then="/runs", name="ada", problem="It is wrong."),
    "hostile": login_page(then=HOSTILE, name=HOSTILE, problem=HOSTILE),
}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_the_page_runs_nothing_and_loads_nothing(page) -> None:
    elements = Elements(page)
    tags = {name for name, _ in elements.found}
    assert not tags & {"script", "img", "iframe", "object", "embed", "base"}
    assert [each["href"] for each in elements.named("link")] == ["data:,"]
    assert not [
        name
        for _, attributes in elements.found
        for name in attributes
        if name.startswith("on") or name in {"src", "style"}
    ]


def test_hostile_text_is_text() -> None:
    fields = {each["name"]: each for each in Elements(PAGES["hostile"]).named("input")}
    assert fields["name"]["value"] == fields["next"]["value"] == HOSTILE
    assert len(Elements(PAGES["hostile"]).found) == len(Elements(PAGES["again"]).found)


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_its_policy_allows_its_own_style_alone(page) -> None:
    [style] = re.findall("<style>(.*?)</style>", page, re.DOTALL)
    assert f"style-src {script_hash(style)};" in LOGIN_POLICY
    assert "unsafe" not in LOGIN_POLICY
    assert "default-src 'none'" in LOGIN_POLICY
    assert "script-src" not in LOGIN_POLICY


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_every_field_has_its_label(page) -> None:
    elements = Elements(page)
    labelled = {each["for"] for each in elements.named("label")}
    shown = {each["id"] for each in elements.named("input") if each.get("type") != "hidden"}
    assert labelled == shown == {"name", "password"}


def test_a_problem_is_announced_and_described() -> None:
    elements = Elements(PAGES["again"])
    [problem] = [each for each in elements.named("p") if each.get("role") == "alert"]
    [password] = [each for each in elements.named("input") if each["name"] == "password"]
    assert password["aria-describedby"] == problem["id"]
    assert "autofocus" in password
    assert "value" not in password
    assert "Not logged in" in PAGES["again"]
    assert "It is wrong." in PAGES["again"]


def test_without_a_problem_none_is_described() -> None:
    assert "alert" not in PAGES["first"]
    assert "aria-describedby" not in PAGES["first"]
