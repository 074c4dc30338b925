"""What a browser knows of a dashboard and sends to it, without the browser."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import httpx

from tests.bench.server import BenchError

Json = Any
ROUTER = "_pages_content.children"
"""The first output of the callback by which Dash opens a page."""


@dataclass(frozen=True, slots=True)
class Property:
    """A property of a component, as callbacks name it."""

    id: str
    name: str

    @property
    def is_pattern(self) -> bool:
        """Whether the id stands for all components whose ids look like it."""
        return self.id.startswith("{")

    def __str__(self) -> str:
        return f"{self.id}.{self.name}"


@dataclass(frozen=True, slots=True)
class Callback:
    """A callback that the server answers."""

    output: str
    """As Dash writes it; it names the callback."""
    outputs: tuple[Property, ...]
    inputs: tuple[Property, ...]
    state: tuple[Property, ...]

    @property
    def name(self) -> str:
        """What a person calls it."""
        return ", ".join(str(each) for each in self.outputs) or f"after {self.inputs[0]}"

    @property
    def trigger(self) -> Property:
        """What somebody did: the first input changed."""
        return self.inputs[0]

    @property
    def is_router(self) -> bool:
        """Whether it opens pages."""
        return str(self.outputs[0]) == ROUTER if self.outputs else False


@dataclass(frozen=True, slots=True)
class Part:
    """A component on a page."""

    kind: str
    properties: Mapping[str, Json]


@dataclass(slots=True)
class Page:
    """A page that is open."""

    path: str
    search: str
    parts: dict[str, Part] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    seconds: float
    status: int
    body: bytes

    @property
    def values(self) -> dict[str, Json]:
        """Values by `id.property`; none where the callback left everything as it is."""
        if not self.body or self.status == httpx.codes.NO_CONTENT:
            return {}
        response = json.loads(self.body).get("response") or {}
        return {
            f"{component}.{name}": value
            for component, given in response.items()
            for name, value in given.items()
        }


class Browser:
    """Asks one dashboard, over one connection that is kept."""

    def __init__(self, address: str) -> None:
        """address: http://host:port."""
        self._client = httpx.Client(base_url=address, timeout=30, trust_env=False)

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def list_callbacks(self) -> list[Callback]:
        """Return what the server answers; what runs in the browser alone is left out."""
        # Dash registers its router with the first page that is asked for.
        self._client.get("/").raise_for_status()
        found = self._client.get("/_dash-dependencies").raise_for_status().json()
        return [_read_callback(each) for each in found if not each.get("clientside_function")]

    def read_frame(self) -> dict[str, Part]:
        """Return the components that stand on every page."""
        return dict(find_parts(self._client.get("/_dash-layout").raise_for_status().json()))

    def ask(self, callback: Callback, values: Mapping[Property, Json]) -> Answer:
        """Send what a browser would, and return the answer with its time to the last byte."""
        given, kept = (
            [_give(each, values[each]) for each in part]
            for part in (callback.inputs, callback.state)
        )
        outputs = [{"id": each.id, "property": each.name} for each in callback.outputs]
        changed = [_name_changed(callback.trigger, values[callback.trigger])]
        body = {
            "output": callback.output,
            "outputs": outputs if callback.output.startswith("..") else next(iter(outputs), None),
            "inputs": given,
            "changedPropIds": changed,
            "parsedChangedPropsIds": changed,
            **({"state": kept} if kept else {}),
        }
        content = json.dumps(body).encode()
        start = perf_counter()
        answer = self._client.post(
            "/_dash-update-component", content=content, headers={"Content-Type": "application/json"}
        )
        return Answer(perf_counter() - start, answer.status_code, answer.content)


def match(pattern: Property, page: Page) -> list[Json]:
    """Return the ids on the page that an id with `ALL` in it stands for."""
    wanted = json.loads(pattern.id)
    found = [json.loads(each) for each in page.parts if each.startswith("{")]
    return [
        each
        for each in found
        if each.keys() == wanted.keys()
        and all(value in (each[name], ["ALL"]) for name, value in wanted.items())
    ]


def _give(wanted: Property, value: Json) -> Json:
    if wanted.is_pattern:
        return [{**each, "property": wanted.name} for each in value]
    return {"id": wanted.id, "property": wanted.name, "value": value}


def _name_changed(trigger: Property, value: Json) -> str:
    if not trigger.is_pattern:
        return str(trigger)
    pressed = next(each["id"] for each in value if each["value"])
    return f"{json.dumps(pressed, sort_keys=True, separators=(',', ':'))}.{trigger.name}"


def find_parts(layout: Json) -> Iterator[tuple[str, Part]]:
    """Yield every component in a layout that has an id."""
    if isinstance(layout, list):
        for each in layout:
            yield from find_parts(each)
    elif isinstance(layout, dict):
        properties = layout.get("props")
        if isinstance(properties, dict) and "type" in layout:
            if (name := properties.get("id")) is not None:
                yield _name_id(name), Part(str(layout["type"]), properties)
            # A component may stand in any property, as an icon does.
            yield from find_parts(list(properties.values()))
        else:
            yield from find_parts(list(layout.values()))


def _name_id(given: Json) -> str:
    return given if isinstance(given, str) else json.dumps(given, sort_keys=True)


def _read_callback(told: Mapping[str, Json]) -> Callback:
    output = str(told["output"])
    parts = output[2:-2].split("...") if output.startswith("..") else [output]
    callback = Callback(
        output=output,
        outputs=() if told.get("no_output") else tuple(_read_outputs(parts)),
        inputs=tuple(Property(each["id"], each["property"]) for each in told["inputs"]),
        state=tuple(Property(each["id"], each["property"]) for each in told["state"]),
    )
    unknown = [each for each in callback.outputs if each.is_pattern]
    unknown += [each for each in (*callback.inputs, *callback.state) if "MATCH" in each.id]
    if unknown:
        raise BenchError(
            f"{callback.name}: tests/bench/dashboard_browser.py does not know how a browser fills "
            "in ids that match one another; teach it."
        )
    return callback


def _read_outputs(parts: Iterable[str]) -> Iterator[Property]:
    for each in parts:
        name, _, prop = each.rpartition(".")
        yield Property(name.replace("\\.", "."), prop.split("@", maxsplit=1)[0])
