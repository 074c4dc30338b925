"""SQL in every input of every callback, in every address and in every export.

Whether it was run is seen in PostgreSQL: a payload calls a function that counts its calls, and what
is torn out of its quotes is an error in the server's log. Careless SQL around the same payloads
shows that they bite.
"""

import asyncio
import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote, urlencode

import asyncpg

from dash_app.application import PAGES
from infra.postgres.connection import connect
from tests.bench.dashboard_browser import Callback, Property
from tests.bench.dashboard_history import Size
from tests.bench.dashboard_inputs import ENDINGS, WORDS, World
from tests.browser.visits import UNDRAWN
from tests.security.claim import Claim, FoiledError
from tests.security.dashboard_stage import LoggedIn, Site, Stage

PAYLOADS: Mapping[str, str] = {
    "quotes": "'\"`$$\\';--/*",
    "in-a-string": "' || security_canary() || '",
    "stacked": "x'; SELECT security_canary(); --",
    "union": "x' UNION SELECT security_canary()::text --",
    "in-a-number": "0 OR security_canary() > 0",
    "in-an-identifier": 'x" FROM security_canary(); --',
    "in-order-by": "security_canary()",
    "drop-table": "x'; DROP TABLE metadata.pipeline_logs; --",
    "delay": "x' || pg_sleep(60) || '",
}
_CARELESS = (
    "SELECT count(*) FROM metadata.pipeline_logs WHERE event = '{}'",
    "SELECT count(*) FROM metadata.pipeline_logs WHERE id = {}",
    'SELECT count(*) AS "{}" FROM metadata.pipeline_logs',
    "SELECT id FROM metadata.pipeline_logs ORDER BY {}",
)
_CANARY = """
    CREATE SEQUENCE IF NOT EXISTS public.security_calls;
    CREATE OR REPLACE FUNCTION public.security_canary() RETURNS integer
        -- Not true, and so it is called when a query is planned, whatever rows there are.
        LANGUAGE sql IMMUTABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
        AS 'SELECT nextval(''public.security_calls'')::integer';
    GRANT EXECUTE ON FUNCTION public.security_canary() TO PUBLIC;
"""
_TABLES = "SELECT md5(string_agg(oid::text || relname, ',' ORDER BY oid)) FROM pg_class"
_PARAMETERS = (
    *("range", "status", "pipeline", "table", "level", "text", "dataset", "rule", "page", "error"),
    *("since", "until", "execution", "row", "line", "reason", "component", "uptime", "letters"),
    *("state", "of", "stream", "by", "sort", "id", "run"),
)
_UNEXPECTED = (UNDRAWN, "the dashboard's log says why")
_SIZE = Size(
    runs=10,
    health_minutes=10,
    lines=10,
    batches=10,
    letters=10,
    lag_hours=1,
    table_rows=10,
    profiles=10,
    mails=10,
    alerts=10,
)
_WHOLE_GRID = {"startRow": 0, "endRow": 50, "sortModel": [], "filterModel": {}}

Shape = Callable[[str], Any]
_SHAPES: tuple[tuple[str, Shape], ...] = (
    ("view.data", lambda text: {"zone": text, "dark": text}),
    (
        ".getRowsRequest",
        lambda text: {
            **_WHOLE_GRID,
            "sortModel": [{"colId": text, "sort": "asc"}],
            "filterModel": {text: {"filter": text}},
        },
    ),
    ("-memory.data", lambda text: {"as_of": text}),
    (".paginationInfo", lambda text: {"rowCount": text}),
    (".selectedRows", lambda text: [{"id": text}]),
    (".relayoutData", lambda text: {text: text}),
    (".n_clicks", lambda _: 1),
)
"""How a browser would wrap a text, by the end of `id.property`."""


class _NoChance(Random):
    """Always the one in the middle, and no filter that may be left out: all rows are looked at."""

    def random(self) -> float:
        return 0.5


@dataclass(frozen=True, slots=True)
class Probe:
    """A payload, and where it is put."""

    payload: str
    site: Site | None
    """None: into careless SQL."""
    reader_url: str
    owner: asyncpg.Connection
    server_log: Path


async def inject(probe: Probe) -> str:
    """Return what shows that the payload was run."""
    await probe.owner.execute(_CANARY)
    calls = "SELECT last_value + is_called::int FROM public.security_calls"
    before = await probe.owner.fetchval(calls), await probe.owner.fetchval(_TABLES)
    position = probe.server_log.stat().st_size
    asked, broken = 0, None
    try:
        if probe.site is None:
            asked = await _ask_carelessly(probe)
        else:
            asked = await asyncio.to_thread(_ask_everywhere, probe.site, probe.payload)
    except RuntimeError as error:
        # What PostgreSQL says of it tells more.
        broken = error
    with probe.server_log.open("rb") as log:
        log.seek(position)
        lines = log.read().decode(errors="replace").splitlines()
    errors = [each for each in lines if "sluiceway_reader@" in each and "ERROR:" in each]
    after = await probe.owner.fetchval(calls), await probe.owner.fetchval(_TABLES)
    if after != before or errors:
        said = f", the first: {errors[0].partition('ERROR:')[2].strip()}" if errors else ""
        return f"run {after[0] - before[0]} times; {len(errors)} errors of PostgreSQL{said}"
    if broken is not None:
        raise broken
    raise FoiledError(
        f"asked {asked} times with it; it was never run, no table has changed, and PostgreSQL has "
        "logged no error"
    )


async def _ask_carelessly(probe: Probe) -> int:
    connection = await connect(probe.reader_url)
    try:
        await connection.execute(
            "SET statement_timeout = '300ms'; SET default_transaction_read_only = off"
        )
        for query in _CARELESS:
            with suppress(asyncpg.PostgresError):
                # What no query of the platform's is made like.
                await connection.execute(query.format(probe.payload))
    finally:
        await connection.close()
    return len(_CARELESS)


def _ask_everywhere(site: Site, payload: str) -> int:
    """Return how many questions were asked; raises RuntimeError where a page broke."""
    browser = LoggedIn(site)
    asked = 0
    try:
        for callback in browser.list_callbacks():
            for values, is_typed in _fill_in(callback, payload):
                answer = browser.ask(callback, values)
                if is_typed:
                    _judge(callback.name, answer.status, answer.body.decode(errors="replace"))
                asked += 1
    finally:
        browser.close()
    for path in _addresses(payload):
        page = site.ask("GET", path, Accept="text/html")
        _judge(path, page.status, page.text)
        asked += 1
    return asked


def _fill_in(callback: Callback, payload: str) -> Iterator[tuple[dict[Property, Any], bool]]:
    """Yield values for all inputs: the payload in one after the other, then in all of them.

    With each, whether a page can send it: what it cannot may be answered by an error.
    """
    every = (*callback.inputs, *callback.state)
    if callback.is_router:
        search = "?" + urlencode(dict.fromkeys(_PARAMETERS, payload))
        for path in (*(f"/{name}" for name in PAGES), "/", f"/runs/{payload}", f"/{payload}"):
            yield {each: search if each.name == "search" else path for each in every}, True
        return
    world = World(_SIZE, (1,), dt.datetime.now(dt.UTC), _NoChance())
    usual = {each: _usual(world, each) for each in every}
    for each in every:
        yield usual | {each: _wrap(each, payload)}, each.name == "value"
        if payload == PAYLOADS["quotes"] and not each.is_pattern:
            yield usual | {each: [payload]}, False
    yield {each: _wrap(each, payload) for each in every}, False


def _usual(world: World, wanted: Property) -> Any:
    name = str(wanted)
    if wanted.is_pattern:
        return _wrap(wanted, "1")
    if name.endswith(".getRowsRequest"):
        return _WHOLE_GRID
    if name.endswith(".n_clicks"):
        return 1
    endings = (choose for ending, choose in ENDINGS.items() if name.endswith(ending))
    choose = WORDS.get(name) or next(endings, None)
    return choose(world) if choose else None


def _wrap(wanted: Property, text: str) -> Any:
    if wanted.is_pattern:
        return [{"id": {"type": "maintenance-end", "window": text}, "value": 1}]
    name = str(wanted)
    return next((shape(text) for ending, shape in _SHAPES if name.endswith(ending)), text)


def _addresses(payload: str) -> Iterator[str]:
    asked = urlencode(dict.fromkeys(_PARAMETERS, payload))
    for name in ("", *PAGES, f"runs/{quote(payload, safe='')}"):
        yield f"/{name}?{asked}"
    yield f"/export/uptime.csv?by={quote(payload)}"
    for name in ("dataset", "rule", "execution", "text"):
        yield f"/export/quarantine.csv?{name}={quote(payload)}"


def _judge(place: str, status: int, said: str) -> None:
    if status >= 500 or any(each in said for each in _UNEXPECTED):
        raise RuntimeError(f"{place} broke, and answered {status}: {said[:100]}")


def _choose(payload: str, *, is_guarded: bool) -> Callable[[Stage], Probe]:
    return lambda stage: Probe(
        payload,
        stage.site(stage.guarded, "otto") if is_guarded else None,
        stage.session.url("sluiceway_reader"),
        stage.owner,
        stage.server_log,
    )


CLAIMS = tuple(
    Claim(
        f"sql-{name}",
        f"put {payload} into every input, address and export",
        inject,
        _choose(payload, is_guarded=True),
        _choose(payload, is_guarded=False),
        saying="it was never run",
    )
    for name, payload in PAYLOADS.items()
)
