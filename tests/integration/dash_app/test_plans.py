"""The dashboard's questions find their rows by an index, in a year's history of a million runs.

Each question is asked as its page asks it, and PostgreSQL then says how it went about it: by no
scan of a whole large table, by the named index where that matters most, and reading no more rows
of large tables than a page may look through.
"""

import asyncio
import inspect
import json
import pkgutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from dash_app import queries
from dash_app.reader import Reader
from infra.settings import Settings
from tests.bench.dashboard_history import LARGE, fill
from tests.integration.dash_app.plan_cases import CASES, ELSEWHERE, SIZE, UNTIL

MOST_ROWS = 100_000
"""Of large tables that one statement may read: some windows of the 20,000 newest rows. (Of old
lines of a level, PostgreSQL may take all that a bitmap finds, which are some windows too.)"""
RUNS_TO_SETTLE = 6
"""After so many runs PostgreSQL may keep a plan that no longer looks at the values."""


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
            is_own = member.__module__ == module.__name__ and not name.startswith("_")
            if is_own and "reader" in member.__annotations__:
                is_here = f"{found.name}.{name}" in source or name in ELSEWHERE
                assert is_here, f"{found.name}.{name} has no case in plan_cases.py"


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
