"""The dashboard's questions find their rows by an index, in a year's history of a million runs.

Each question is asked as its page asks it, and PostgreSQL then says how it went about it: by no
scan of a whole large table, by the named index where that matters most, and reading no more rows
of large tables than a page may look through.
"""

import asyncio
import datetime as dt
import inspect
import json
import pkgutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import product
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from dash_app import queries
from dash_app.queries import data, logs, overview, quality, quarantine, run, runs, stream, system
from dash_app.queries.logs import Search
from dash_app.queries.quarantine import Choice
from dash_app.queries.runs import Wanted
from dash_app.queries.stream import Stream
from dash_app.reader import Reader
from infra.settings import Settings
from tests.bench.dashboard_history import LARGE, Size, fill

MOST_ROWS = 60_000
"""Of large tables that one statement may read: some windows of the 20,000 newest rows."""
RUNS_TO_SETTLE = 6
"""After so many runs PostgreSQL may keep a plan that no longer looks at the values."""
UNTIL = dt.datetime.now(dt.UTC)
SIZE = Size(
    runs=1_000_000,
    health_minutes=210_000,
    lines=1_000_000,
    batches=120_000,
    letters=50_000,
    lag_hours=48,
    table_rows=6000,
)
STREAM = Stream("stream_processor_group", "data-stream")
FAILED = frozenset({"FAILED"})

BY_START = "pipeline_executions_start_time_idx"
BY_PIPELINE = "pipeline_executions_pipeline_name_start_time_idx"
BY_FAILED = "pipeline_executions_start_time_idx1"
BY_DATASET = "quarantine_dataset_id_idx"

Ask = Callable[[Reader], Awaitable[Any]]
Case = tuple[Ask, str]
"""A question, and the index that it must go by where that matters most."""


def ago(**length: float) -> dt.datetime:
    return UNTIL - dt.timedelta(**length)


def day(days: int) -> dt.date:
    return ago(days=days).date()


def overview_cases() -> Iterator[Case]:
    yield lambda r: overview.summarise_recent(r, ago(days=1)), BY_START
    yield lambda r: overview.summarise_days(r, day(365)), ""
    yield overview.find_running, "pipeline_executions_pipeline_name_idx"
    yield lambda r: overview.count_since(r, ago(days=1)), BY_START
    yield lambda r: overview.count_by_hour(r, ago(days=1)), BY_START
    yield lambda r: overview.count_by_day(r, day(365)), ""
    yield lambda r: overview.count_rows_by_day(r, day(365)), ""
    yield lambda r: overview.find_timeline(r, ago(hours=6)), BY_START
    yield overview.find_last_loads, "dataset_counts_dataset_recorded_at_idx"
    yield overview.find_failed_pipelines, BY_PIPELINE
    yield lambda r: overview.find_lag(r, ago(minutes=10)), "stream_lag_pkey"
    yield lambda r: overview.count_open_letters(r, ago(days=1)), "dead_letters_buried_at_idx"
    yield (
        lambda r: overview.find_bad_components(r, ago(minutes=10)),
        "health_checks_component_checked_at_idx",
    )


def runs_cases() -> Iterator[Case]:
    yield runs.find_pipelines, BY_PIPELINE
    yield lambda r: runs.find_last_runs(r, ["check_health", "forget_person"]), BY_PIPELINE
    wanted = {
        "all": (Wanted(UNTIL), BY_START),
        "failed": (Wanted(UNTIL, states=FAILED), BY_FAILED),
        "two states": (Wanted(UNTIL, states=frozenset({"FAILED", "RUNNING"})), BY_FAILED),
        "pipeline": (Wanted(UNTIL, pipeline="prune_history"), BY_PIPELINE),
        "pipeline's failed": (Wanted(UNTIL, pipeline="check_health", states=FAILED), ""),
        "none of a pipeline": (Wanted(UNTIL, pipeline="forget_person", states=FAILED), ""),
        "no such pipeline": (Wanted(UNTIL, pipeline="nobody's"), BY_PIPELINE),
        "error": (Wanted(UNTIL, error="KAFKA"), BY_FAILED),
        "no such error": (Wanted(UNTIL, error="no run ever said this"), BY_FAILED),
        "long ago": (Wanted(UNTIL, since=ago(days=300), before=ago(days=290)), BY_START),
        "pipeline long ago": (
            Wanted(UNTIL, pipeline="check_health", before=ago(days=300)),
            BY_PIPELINE,
        ),
    }
    for (given, index), start in product(wanted.values(), (0, 9950)):
        for sort, is_descending in (("start", True), ("start", False), ("duration", True)):
            yield (
                lambda r, g=given, s=sort, d=is_descending, b=start: runs.find_runs(
                    r, g, sort=s, is_descending=d, start=b, end=b + 50
                ),
                index if sort == "start" and is_descending else "",
            )
    for given, index in wanted.values():
        yield lambda r, g=given: runs.count_runs(r, g), index


def run_cases() -> Iterator[Case]:
    for number in (SIZE.always_on, SIZE.runs, 10 * SIZE.runs):
        for ask, index in (
            (run.find_run, "pipeline_executions_pkey"),
            (run.find_error, "pipeline_executions_pkey"),
            (run.is_run, "pipeline_executions_pkey"),
            (run.find_ledger, "dataset_counts_execution_id_"),
            (run.sum_batches, "stream_batches_"),
            (run.find_files, "source_files_execution_id_"),
            (run.find_quality, "quality_results_execution_id_"),
            (run.count_quarantined, "quarantine_execution_id_"),
            (run.find_logs, "pipeline_logs_execution_id_"),
        ):
            yield lambda r, a=ask, n=number: a(r, n), index


def logs_cases() -> Iterator[Case]:
    searches = {
        Search(): "pipeline_logs_logged_at_idx",
        Search(level="INFO"): "pipeline_logs_logged_at_idx",
        Search(level="WARNING"): "pipeline_logs_level_logged_at_idx",
        Search(level="CRITICAL"): "pipeline_logs_level_logged_at_idx",
        Search(pipeline="daily_etl_pipeline"): "pipeline_logs_pipeline_name_logged_at_idx",
        Search(pipeline="nobody's"): "pipeline_logs_pipeline_name_logged_at_idx",
        Search(level="ERROR", pipeline="rotate_keys"): "",
        Search(execution_id=SIZE.always_on): "pipeline_logs_execution_id_logged_at_idx",
        Search(text="loaded"): "",
        Search(text="no line ever said this"): "",
        Search(level="ERROR", text="no line ever said this"): "",
    }
    for (search, index), until in product(searches.items(), (UNTIL, ago(days=60))):
        for first in (0, 9950):
            yield (
                lambda r, s=search, u=until, f=first: logs.find_lines(
                    r, s, until=u, first=f, count=50
                ),
                index,
            )
        yield lambda r, s=search, u=until: logs.find_reach(r, s, u), index
    yield lambda r: logs.find_line(r, 77), "pipeline_logs_pkey"
    yield logs.find_pipelines, "pipeline_logs_pipeline_name_logged_at_idx"


def quarantine_cases() -> Iterator[Case]:
    choices = {
        Choice(): "quarantine_pkey",
        Choice(dataset="sales_data"): BY_DATASET,
        Choice(dataset="nobody's"): "quarantine_dataset_",
        Choice(rule="missing"): "quarantine_dataset_rule_id_idx",
        Choice(dataset="customers", rule="type"): "quarantine_dataset_rule_id_idx",
        Choice(dataset="customers", rule="none"): "quarantine_dataset_rule_id_idx",
        Choice(execution=SIZE.always_on): "quarantine_execution_id_",
        Choice(dataset="customers", execution=12): "",
        Choice(text="nobody wrote this"): "quarantine_pkey",
    }
    for choice, index in choices.items():
        for start in (0, 9950):
            yield (
                lambda r, c=choice, s=start: quarantine.find_page(
                    r, c, until=UNTIL, start=s, end=s + 50
                ),
                index,
            )
        yield lambda r, c=choice: quarantine.count(r, c, until=UNTIL), index
        yield lambda r, c=choice: quarantine.find_before(r, c, before=90_000, limit=2000), ""
    yield lambda r: quarantine.find_one(r, 7), "quarantine_pkey"
    yield quarantine.find_choices, "quarantine_dataset_rule_id_idx"


def quality_cases() -> Iterator[Case]:
    yield quality.find_datasets, "source_files_dataset_id_idx"
    for dataset in ("sales_data", None):
        for ask in (
            quality.count_checked,
            quality.count_failed,
            quality.count_missing,
            quality.count_rows,
        ):
            yield lambda r, a=ask, d=dataset: a(r, d, day(365)), ""
    for datasets in (["sales_data", "customers"], ["api_users"], ["nobody's"]):
        yield lambda r, d=datasets: quality.find_drift(r, d, ago(days=90)), "source_files_"


def stream_cases() -> Iterator[Case]:
    minute = dt.timedelta(minutes=8)
    yield lambda r: stream.choose_stream(r, None), ""
    yield stream.find_streams, ""
    yield lambda r: stream.find_partitions(r, STREAM), "stream_lag_pkey"
    yield (
        lambda r: stream.find_lag(r, STREAM, [0, 1, 2], since=ago(days=1), bucket=minute),
        "stream_lag_pkey",
    )
    yield (
        lambda r: stream.find_batches(r, STREAM, since=ago(days=1), bucket=minute),
        "stream_batches_",
    )
    yield lambda r: stream.find_last_batch(r, STREAM), "stream_batches_"
    yield lambda r: stream.count_letters(r, STREAM, ago(days=30)), "dead_letters_buried_at_idx"
    yield lambda r: stream.chart_letters(r, STREAM, ago(days=30), "day"), ""
    for reason, is_waiting, first in product(("", "json", "none"), (True, False), (0, 9950)):
        yield (
            lambda r, e=reason, w=is_waiting, f=first: stream.find_letters(
                r, STREAM, until=UNTIL, reason=e, is_waiting=w, first=f, count=50
            ),
            "dead_letters_buried_at_idx",
        )
    yield stream.count_unsent, ""


def system_cases() -> Iterator[Case]:
    yield system.find_checks, "health_checks_component_checked_at_idx"
    yield system.find_lives, "health_checks_component_checked_at_idx"
    lives = [system.Life("kafka", ago(days=140)), system.Life("disk", ago(days=140))]
    yield lambda r: system.sum_minutes(r, lives, [ago(days=1), ago(days=90)], UNTIL), ""
    for component in ("", "kafka"):
        yield lambda r, c=component: system.chart_minutes(r, c, ago(days=30), "day"), ""
    yield lambda r: system.find_windows(r, ago(days=30)), ""
    yield lambda r: system.find_window(r, 1), ""


def data_cases() -> Iterator[Case]:
    for dataset in ("sales_data", "customers", "nobody's"):
        yield lambda r, d=dataset: data.find_changes(r, [d]), "dataset_counts_dataset_"
        yield lambda r, d=dataset: data.count_by_day(r, d, day(90)), ""
        yield lambda r, d=dataset: data.count_by_source(r, d, day(90)), ""


CASES = (
    *(overview_cases, runs_cases, run_cases, logs_cases, quarantine_cases),
    *(quality_cases, stream_cases, system_cases, data_cases),
)
ELSEWHERE = {
    # The catalogue, and the staging and warehouse tables: not what grows with the history.
    *("find_tables", "find_table", "count_rows", "find_columns", "preview"),
    *("count_connections", "describe_server"),
    "set_window",  # changes something
}


@dataclass(frozen=True)
class Asked:
    """A statement as it went to PostgreSQL."""

    query: str
    given: tuple[Any, ...]
    settings: str
    """What was set for its transaction."""


class Recorder(Reader):
    """The dashboard's reader, which keeps what it asks PostgreSQL."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.asked: list[Asked] = []

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        async with super().connection() as connection:
            yield Watched(connection, self.asked)


class Watched:
    """A connection that keeps what it is asked, and hands it on."""

    def __init__(self, connection: Any, asked: list[Asked]) -> None:
        self._connection = connection
        self._asked = asked
        self._settings = ""

    def transaction(self, **options: Any) -> Any:
        return self._connection.transaction(**options)

    async def execute(self, statement: str) -> Any:
        assert statement.startswith("SET LOCAL"), statement
        self._settings = statement
        return await self._connection.execute(statement)

    def fetch(self, query: str, *given: Any) -> Any:
        return self._keep(query, given).fetch(query, *given)

    def fetchrow(self, query: str, *given: Any) -> Any:
        return self._keep(query, given).fetchrow(query, *given)

    def fetchval(self, query: str, *given: Any) -> Any:
        return self._keep(query, given).fetchval(query, *given)

    def _keep(self, query: str, given: tuple[Any, ...]) -> Any:
        self._asked.append(Asked(query, given, self._settings))
        return self._connection


@pytest.fixture(scope="module")
def history(embedded_server) -> Iterator[Any]:
    """A database with a year of history; filling it takes about a minute."""
    made = asyncio.run(embedded_server.create())
    asyncio.run(fill(made.owner_url, SIZE, until=UNTIL))
    yield made
    asyncio.run(embedded_server.drop(made))


@pytest.fixture
async def recorder(history) -> AsyncIterator[Recorder]:
    settings = Settings(
        database_url=SecretStr(history.loader_url),
        reader_database_url=SecretStr(history.reader_url),
    )
    found = Recorder(settings)
    async with found.opened():
        yield found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("cases", CASES, ids=lambda each: each.__name__)
async def test_questions_go_by_an_index(recorder: Recorder, history: Any, cases: Any) -> None:
    connection = await asyncpg.connect(history.reader_url, server_settings={"jit": "off"})
    faults = []
    for ask, index in cases():
        recorder.asked.clear()
        await ask(recorder)
        assert recorder.asked
        faults += [fault async for fault in find_faults(connection, recorder.asked, index)]
    await connection.close()
    assert not faults, "\n\n".join(faults)


def test_no_question_is_forgotten() -> None:
    source = "".join(inspect.getsource(each) for each in CASES)
    for found in pkgutil.iter_modules(queries.__path__):
        module = import_module(f"dash_app.queries.{found.name}")
        for name, member in inspect.getmembers(module, inspect.iscoroutinefunction):
            if member.__module__ == module.__name__ and "reader" in member.__annotations__:
                is_here = f"{found.name}.{name}" in source or name in ELSEWHERE
                assert is_here, f"{found.name}.{name} has no case above"


async def find_faults(
    connection: asyncpg.Connection, asked: Sequence[Asked], index: str
) -> AsyncIterator[str]:
    """Yield what is wrong with how PostgreSQL goes about a question."""
    used = set[str]()
    for each in asked:
        for plan in await explain(connection, each):
            nodes = list(walk(plan))
            used |= {node["Index Name"] for node in nodes if "Index Name" in node}
            for fault in judge(nodes):
                yield f"{fault}: {each}"
    if index and not any(name.startswith(index) for name in used):
        yield f"not by {index}, but by {used or 'none'}: {asked}"


def judge(nodes: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield what is wrong with a plan that was run."""
    scans = [each for each in nodes if each.get("Relation Name") in LARGE]
    for each in scans:
        if each["Node Type"] == "Seq Scan":
            yield f"a Seq Scan on {each['Relation Name']}"
    passed = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    rows = sum(sum(each.get(name, 0) for name in passed) * each["Actual Loops"] for each in scans)
    if rows > MOST_ROWS:
        yield f"{rows:,.0f} rows read"


async def explain(connection: asyncpg.Connection, asked: Asked) -> list[dict[str, Any]]:
    """Return the plan for these values, and the plan of a statement that was kept for long."""
    async with connection.transaction():
        if asked.settings:
            await connection.execute(asked.settings)
        first = await connection.fetchval(
            f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {asked.query}", *asked.given
        )
        kept = await connection.prepare(asked.query)
        for _ in range(RUNS_TO_SETTLE):
            await kept.fetch(*asked.given)
        values = [
            await connection.fetchval(f"SELECT quote_nullable($1::{kind.name}::text)", value)
            + f"::{kind.name}"
            for kind, value in zip(kept.get_parameters(), asked.given, strict=True)
        ]
        listed = f"({', '.join(values)})" if values else ""
        later = await connection.fetchval(
            f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) EXECUTE {kept.get_name()}{listed}"
        )
    return [json.loads(each)[0]["Plan"] for each in (first, later)]


def walk(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for each in plan.get("Plans", ()):
        yield from walk(each)
