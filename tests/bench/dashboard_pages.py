"""Opens every page of a dashboard and asks all of its callbacks."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from dash_app.application import PAGES
from tests.bench.dashboard_browser import (
    Answer,
    Browser,
    Callback,
    Page,
    Property,
    find_parts,
    match,
)
from tests.bench.dashboard_inputs import MAY_BE_EMPTY, OPENINGS, World, vary
from tests.bench.dashboard_judge import Measured
from tests.bench.server import BenchError

_FRAME = "every page"
_MOST_TURNS = 5
"""How often what was drawn may show components that further callbacks need."""


@dataclass(slots=True)
class Opened:
    """A page with the callbacks that it needs."""

    page: Page
    """With the components of all its openings."""
    searches: tuple[str, ...]
    callbacks: list[Callback] = field(default_factory=list)
    drawn: dict[str, frozenset[str]] = field(default_factory=dict)
    """Components that came with an answer, by `id.property`; the next answer replaces them."""

    def draw(self, answer: Answer) -> None:
        """Put what came onto the page."""
        for name, value in answer.values.items():
            parts = dict(find_parts(value))
            for gone in self.drawn.get(name, frozenset()) - parts.keys():
                self.page.parts.pop(gone, None)
            self.page.parts.update(parts)
            self.drawn[name] = frozenset(parts)


@dataclass(slots=True)
class Tour:
    """All pages, and how their callbacks fared."""

    browser: Browser
    world: World
    router: Callback
    opened: list[Opened] = field(default_factory=list)
    measured: dict[tuple[str, str], Measured] = field(default_factory=dict)

    def ask(self, opened: Opened, callback: Callback) -> Answer:
        """Ask once with chosen inputs, and judge the answer."""
        values = {
            each: vary(self.world, opened.page, each, is_state=each in callback.state)
            for each in (*callback.state, *callback.inputs)
        }
        answer = self._judge(opened.page.path, callback, values)
        opened.draw(answer)
        return answer

    def open(self, opened: Opened) -> Answer:
        """Open the page by one of its addresses."""
        values = _address(self.router, _path(self.world, opened.page.path), self._choose(opened))
        return self._judge(opened.page.path, self.router, values)

    def _choose(self, opened: Opened) -> str:
        return self.world.chance.choice(opened.searches)

    def _judge(self, path: str, callback: Callback, values: Mapping[Property, Any]) -> Answer:
        answer = self.browser.ask(callback, values)
        key = (path, callback.name)
        if key not in self.measured:
            self.measured[key] = Measured(
                callback.name, path, can_be_empty=callback.name in MAY_BE_EMPTY
            )
        asked = {str(name): value for name, value in values.items()}
        self.measured[key].add(answer, repr(asked)[:1000])
        return answer


def measure_pages(
    browser: Browser, world: World, *, times: int, paths: Collection[str] = ()
) -> list[Measured]:
    """Return every callback of every page, asked so many times, the slowest last.

    paths: only these pages.
    """
    tour = explore(browser, world, paths)
    tour.measured.clear()
    for _ in range(times):
        for opened in tour.opened:
            if opened.page.path != _FRAME:
                tour.open(opened)
            for callback in opened.callbacks:
                tour.ask(opened, callback)
    measured = list(tour.measured.values())
    for each in measured:
        each.refuse_emptiness()
    return sorted(measured, key=lambda each: each.p95_ms)


def explore(browser: Browser, world: World, paths: Collection[str] = ()) -> Tour:
    """Return pages with their callbacks, each asked once; raises BenchError for a lost one."""
    callbacks = browser.list_callbacks()
    router = next(each for each in callbacks if each.is_router)
    left = [each for each in callbacks if not each.is_router]
    tour = Tour(browser, world, router)
    frame = Opened(Page(_FRAME, "", browser.read_frame()), ("",))
    left = _take(tour, frame, left)
    for name in PAGES:
        path: str = import_module(f"dash_app.pages.{name}").PATH
        if paths and path not in paths:
            continue
        searches = ("", *OPENINGS[path](world)) if path in OPENINGS else ("",)
        opened = Opened(Page(path, "", dict(frame.page.parts)), searches)
        for search in searches:
            values = _address(router, _path(world, path), search)
            answer = browser.ask(router, values)
            drawn = answer.values.get("_pages_content.children")
            parts = dict(find_parts(drawn))
            if not parts:
                raise BenchError(f"{path}{search} has no components: {str(drawn)[:500]}")
            opened.page.parts.update(parts)
        left = _take(tour, opened, left)
    if left and not paths:
        names = "; ".join(each.name for each in left)
        raise BenchError(
            f"No page that was opened shows what these callbacks draw: {names}. Name an address "
            "that does in OPENINGS of tests/bench/dashboard_inputs.py."
        )
    return tour


def _take(tour: Tour, opened: Opened, left: Sequence[Callback]) -> list[Callback]:
    """Give the page the callbacks that draw on it, and what these draw; returns the others."""
    rest = list(left)
    for _ in range(_MOST_TURNS):
        own = [each for each in rest if _belongs(each, opened.page)]
        if not own:
            break
        rest = [each for each in rest if each not in own]
        opened.callbacks += own
        for callback in own:
            tour.ask(opened, callback)
    tour.opened.append(opened)
    return rest


def _belongs(callback: Callback, page: Page) -> bool:
    if callback.trigger.is_pattern and not match(callback.trigger, page):
        return False
    return any(each.id in page.parts for each in callback.outputs or callback.inputs)


def _path(world: World, path: str) -> str:
    return path.replace("<execution_id>", str(world.any_run()))


def _address(router: Callback, path: str, search: str) -> dict[Property, Any]:
    given = {"pathname": path, "search": search}
    return {each: given.get(each.name) for each in (*router.inputs, *router.state)}
