"""What people choose on the dashboard's pages: a value for every input that a callback has.

Most are read off the components themselves, as somebody who clicks about would. What the
components cannot tell stands in WORDS; a property that is in neither ends the benchmark.
"""

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.bench.dashboard_browser import Page, Part, Property, match
from tests.bench.dashboard_history import Size
from tests.bench.server import BenchError

Json = Any
_LAST_BLOCK = 199
"""Of the blocks of fifty rows that a table goes through: it shows the first ten thousand."""
_BLOCK_ROWS = 50
_ZONES = ("UTC", "Asia/Kolkata", "America/New_York")
TABLES = (
    "warehouse.fact_sales_data",
    "warehouse.dim_customers",
    "warehouse.dim_products",
    "staging.sales_data",
    "staging.suppliers",
    "sales_data",
)


@dataclass(frozen=True, slots=True)
class World:
    """What there is to be asked for."""

    size: Size
    runs: tuple[int, ...]
    """Runs of every kind, and the consumer's that has been up for weeks."""
    until: dt.datetime
    chance: Random

    def any_run(self) -> int:
        """Return a run: one that is known to be of interest, or any other."""
        return self.chance.choice(
            (self.chance.choice(self.runs), self.chance.randint(1, self.size.runs))
        )

    def days(self, most: int) -> str:
        """Return a day up to so many days ago."""
        return (self.until - dt.timedelta(days=self.chance.randint(0, most))).date().isoformat()


Choose = Callable[[World], Json]


def _one_of(*values: Json) -> Choose:
    return lambda world: world.chance.choice(values)


def _seldom(nothing: Json, choose: Choose) -> Choose:
    """Leave a filter empty most of the time: two or three that are set find little together."""
    return lambda world: choose(world) if world.chance.random() < 0.3 else nothing


def _some_day(world: World) -> str:
    return world.chance.choice((world.days(7), world.days(364)))


COMPONENTS = ("dashboard", "disk", "kafka", "postgresql", "prefect")
_DATASETS = ("customers", "products", "sales_data", "api_users")
_PIPELINES = (
    *("check_health", "mark_dead_runs", "kafka_data_ingestion", "daily_etl_pipeline"),
    *("stream_processing_pipeline", "replay_dead_letters", "rotate_keys", "forget_person"),
    "a pipeline that never ran",
)

WORDS: Mapping[str, Choose] = {
    "view.data": lambda world: {
        "zone": world.chance.choice(_ZONES),
        "dark": world.chance.random() < 0.5,
        "look": world.chance.randint(1, 10_000),
    },
    "address.pathname": lambda _: "/",
    "data-table.data": _one_of(*TABLES),
    "runs-pipeline.value": _seldom(None, _one_of(*_PIPELINES)),
    "runs-error.value": _seldom("", _one_of("csv", "KAFKA", "503 after", "no run ever said this")),
    "runs-since.value": _seldom(None, _some_day),
    "runs-until.value": _seldom(None, _some_day),
    "quality-dataset.value": _one_of(None, *_DATASETS, "nobody's"),
    "quarantine-rule.value": _seldom(None, _one_of("missing", "type", "nobody's")),
    "quarantine-execution.value": _seldom("", lambda world: str(world.any_run())),
    "quarantine-text.value": _seldom("", _one_of("is missing", "'N/A 7'", "nobody wrote this")),
    "quarantine-row-id.data": lambda world: str(world.chance.randint(1, world.size.runs // 5)),
    "letters-reason.value": _seldom("", _one_of("json", "contract", "no such reason")),
    "run-id.data": lambda world: str(world.any_run()),
    "uptime-component.value": _one_of(None, *COMPONENTS),
    "maintenance-form.id": _one_of("maintenance-form"),
    "maintenance-changes.data": lambda world: world.until.isoformat(),
    "maintenance-component.value": _one_of(None, *COMPONENTS),
    "maintenance-from.value": lambda world: world.chance.choice(("", f"{world.days(3)} 00:10")),
    # So far ahead that every window can be ended afterwards.
    "maintenance-until.value": _one_of("5 d", "7 d"),
    "maintenance-reason.value": _one_of("Kafka is being updated."),
    "logs-pipeline.value": _seldom(None, _one_of(*_PIPELINES)),
    "logs-execution.value": _seldom("", lambda world: str(world.any_run())),
    "logs-text.value": _seldom("", _one_of("loaded", "EXPORT_", "onerror", "nobody said this")),
    "logs-until.value": _seldom("", lambda world: f"{world.days(90)} 14:00"),
    "logs-chosen.data": lambda world: str(world.chance.randint(1, world.size.lines)),
    "logs-table.selectedRows": lambda world: [{"id": str(world.chance.randint(1, 10_000))}],
    "stream-of.value": _one_of(None, "data-stream/stream_processor_group"),
}
"""By `id.property`."""

ENDINGS: Mapping[str, Choose] = {
    # What dash_app/grids.py keeps beside each of its tables.
    "-memory.data": lambda world: world.chance.choice(
        (None, {"as_of": (world.until - dt.timedelta(seconds=60)).isoformat()})
    ),
    ".paginationInfo": _one_of(None, {"rowCount": 10_000}),
    # A chart's zoom.
    ".relayoutData": _one_of(None, {"yaxis.range[0]": 0, "yaxis.range[1]": 5}),
}
"""By how `id.property` ends, where the whole of it is not in WORDS."""

MAY_BE_EMPTY = frozenset({"database-state.children", "who.children"})
"""Callbacks that say nothing while all is well."""

OPENINGS: Mapping[str, Callable[[World], tuple[str, ...]]] = {
    "/": lambda _: ("", "?range=7d", "?range=30d", "?range=1y"),
    "/data": lambda _: tuple(f"?table={each}" for each in TABLES),
    "/runs": lambda _: ("?pipeline=check_health", "?status=FAILED,RUNNING", "?error=csv"),
    "/logs": lambda _: ("?level=ERROR", "?text=loaded&pipeline=check_health", "?line=12"),
    "/stream": lambda _: ("?range=24h&letters=30d&state=all", "?reason=json"),
    "/system": lambda _: ("?component=kafka&uptime=30d",),
    "/quality": lambda _: ("?dataset=sales_data", "?row=7", "?rule=type&execution=12"),
}
"""By a page's path: how it is opened, beside without anything."""


def vary(world: World, page: Page, wanted: Property, *, is_state: bool) -> Json:
    """Return a value that the property could have now; one of a state may be as it was laid out.

    Raises BenchError where nobody has said what it could be.
    """
    name = str(wanted)
    if wanted.is_pattern:
        return _press_one(world, page, wanted)
    endings = (choose for ending, choose in ENDINGS.items() if name.endswith(ending))
    if choose := WORDS.get(name) or next(endings, None):
        return choose(world)
    part = page.parts.get(wanted.id)
    if part is None:
        raise BenchError(
            f"{page.path} has no component {wanted.id}, so that {wanted} has no value: add one to "
            "WORDS in tests/bench/dashboard_inputs.py, or an address that shows it to OPENINGS."
        )
    read_off = _READ_OFF.get((part.kind, wanted.name))
    if read_off is None and is_state and wanted.name in part.properties:
        return part.properties[wanted.name]
    if read_off is None or (read_off in _NEED_OPTIONS and not _options(part)):
        raise BenchError(
            f"Nothing says what {wanted} ({part.kind} on {page.path}) can be: add it to WORDS in "
            "tests/bench/dashboard_inputs.py."
        )
    return read_off(world, part)


def _pick(world: World, part: Part) -> Json:
    return world.chance.choice(_options(part))


def _pick_some(world: World, part: Part) -> Json:
    options = _options(part)
    return world.chance.sample(options, world.chance.randint(0, min(3, len(options))))


def _press_one(world: World, page: Page, pattern: Property) -> list[Json]:
    """Return all components that the pattern stands for, one of them with a click."""
    found = match(pattern, page)
    if not found:
        raise BenchError(f"{page.path} has nothing left like {pattern}: fill in more for --times.")
    pressed = world.chance.choice(found)
    return [{"id": each, "value": 1 if each is pressed else None} for each in found]


def _press(world: World, _: Part) -> Json:
    return world.chance.randint(1, 99)


def _flip(world: World, _: Part) -> Json:
    return world.chance.random() < 0.5


def _choose_day(world: World, _: Part) -> Json:
    return world.days(60)


def _options(part: Part) -> list[str]:
    data = part.properties.get("data") or part.properties.get("options") or []
    return [each["value"] if isinstance(each, dict) else each for each in data]


def _scroll(world: World, part: Part) -> Json:
    """Return a request of a grid: somewhere in the rows, sorted by some column or by none."""
    chance = world.chance
    options = part.properties.get("dashGridOptions") or {}
    size = int(options.get("cacheBlockSize") or _BLOCK_ROWS)
    default = (part.properties.get("defaultColDef") or {}).get("sortable", True)
    sortable = [
        each.get("colId") or each["field"]
        for each in part.properties.get("columnDefs") or []
        if each.get("sortable", default) and (each.get("colId") or each.get("field"))
    ]
    sorting = []
    if sortable and chance.random() < 0.6:
        sorting = [{"colId": chance.choice(sortable), "sort": chance.choice(("asc", "desc"))}]
    # Most look at the top, some turn pages, and a few go to the last one.
    block = chance.choice((0, 0, 0, 0, 1, 1, 2, 9, chance.randint(3, _LAST_BLOCK), _LAST_BLOCK))
    return {
        "startRow": block * size,
        "endRow": (block + 1) * size,
        "sortModel": sorting,
        "filterModel": {},
        "context": {"held": block > 0},
    }


_NEED_OPTIONS = (_pick, _pick_some)
_READ_OFF: Mapping[tuple[str, str], Callable[[World, Part], Json]] = {
    **{(kind, "value"): _pick for kind in ("SegmentedControl", "Select", "RadioGroup", "Dropdown")},
    **{(kind, "value"): _pick_some for kind in ("MultiSelect", "CheckboxGroup", "ChipGroup")},
    **{(kind, "checked"): _flip for kind in ("Switch", "Checkbox", "Chip")},
    **{(kind, "value"): _choose_day for kind in ("DatePickerInput", "DateInput", "DateTimePicker")},
    **{(kind, "n_clicks"): _press for kind in ("Button", "Link", "A")},
    ("AgGrid", "getRowsRequest"): _scroll,
}
"""By a component's kind and property."""
