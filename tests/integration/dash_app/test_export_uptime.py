"""Uptime as a file: who gets it, and that its figures are those of the page."""

import csv
import datetime as dt
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import httpx
import pytest
from fastapi import FastAPI

from dash_app import export_uptime as module
from dash_app.access.users import Role, User, enter, leave
from dash_app.export_uptime import PATH, register_uptime_export
from dash_app.pages.system_uptime import make_periods, reckon
from dash_app.queries import system as ask_system
from infra.uptime import HEADER

Ask = Callable[..., Awaitable[httpx.Response]]
HOUR = dt.timedelta(hours=1)


@pytest.fixture
async def ask(reader) -> AsyncIterator[Ask]:
    """Get an address as a viewer."""
    server = FastAPI()
    register_uptime_export(server, reader)
    transport = httpx.ASGITransport(server)
    enter(User("eve", Role.VIEWER))
    async with httpx.AsyncClient(transport=transport, base_url="http://dashboard") as client:
        yield client.get
    leave()


@pytest.fixture
async def checked(loader) -> dt.datetime:
    """The first check of two components, three hours ago; a tenth of kafka's are bad."""
    first = dt.datetime.now(dt.UTC).replace(second=0, microsecond=0) - 190 * HOUR / 60
    await loader.execute(
        """
        INSERT INTO metadata.health_checks (checked_at, component, status)
        SELECT $1::timestamptz + n * INTERVAL '1 minute', component,
            CASE WHEN component = 'kafka' AND n % 10 = 0 THEN 'BAD' ELSE 'GOOD' END
        FROM generate_series(0, 180) AS n, unnest(ARRAY['kafka', '=1+1']) AS component
        """,
        first,
    )
    return first


def table_of(answer: httpx.Response) -> list[dict[str, str]]:
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


async def test_every_user_gets_the_months_of_each_component(ask, checked) -> None:
    answer = await ask(PATH)
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["cache-control"] == "no-store"
    assert 'filename="uptime-by-month-20' in answer.headers["content-disposition"]
    rows = table_of(answer)
    assert tuple(rows[0]) == HEADER
    assert {row["component"] for row in rows} == {"'=1+1", "kafka"}
    kafka = [row for row in rows if row["component"] == "kafka"]
    assert sum(int(row["bad_minutes"]) for row in kafka) == 19
    assert sum(int(row["good_minutes"]) for row in kafka) == 162


async def test_the_file_says_what_the_page_says(ask, checked, view) -> None:
    [month] = [each for each in make_periods(view.now) if each.name == "This month"]
    lives = await ask_system.find_lives(view.reader)
    found = await ask_system.sum_minutes(view.reader, lives, [month.begin], view.now)
    [minutes] = [each for each in found if each.component == "kafka"]
    shown = reckon(minutes, month, view.now)
    row = [row for row in table_of(await ask(PATH)) if row["component"] == "kafka"][-1]
    assert (int(row["good_minutes"]), int(row["bad_minutes"])) == (shown.good, shown.bad)
    assert shown.share is not None
    # A minute may have passed since.
    assert float(row["uptime_percent"]) == pytest.approx(100 * shown.share, abs=1)


@pytest.mark.parametrize("piece", [HOUR, 2 * HOUR, 90 * 24 * HOUR])
async def test_hours_come_each_once_whatever_is_asked_for_at_a_time(
    ask, checked, monkeypatch, piece
) -> None:
    monkeypatch.setattr(module, "PIECE", piece)
    rows = table_of(await ask(f"{PATH}?by=hour"))
    begins = [row["begin"] for row in rows if row["component"] == "kafka"]
    assert begins == sorted(set(begins))
    assert len(begins) in {4, 5}  # three hours and ten minutes
    assert begins[0] == checked.replace(minute=0).isoformat()
    assert sum(int(row["bad_minutes"]) for row in rows) == 19


@pytest.mark.parametrize("by", ["quarter", "day"])
async def test_other_periods_can_be_asked_for(ask, checked, by) -> None:
    rows = table_of(await ask(f"{PATH}?by={by}"))
    assert sum(int(row["good_minutes"]) for row in rows) == 162 + 181


async def test_a_period_that_is_none_is_said_to_be_so(ask) -> None:
    answer = await ask(f"{PATH}?by=%27;DROP")
    assert answer.status_code == 400
    assert "hour, day, month, quarter" in answer.text


async def test_what_cannot_be_asked_for_is_not_ignored(ask) -> None:
    answer = await ask(f"{PATH}?by=day&from=2026-01-01")
    assert answer.status_code == 400
    assert answer.text.startswith("'from' is nothing to ask for here")


async def test_without_checks_there_is_a_header_alone(ask) -> None:
    assert (await ask(PATH)).text == ",".join(HEADER) + "\r\n"


async def test_without_a_database_there_is_a_sentence_and_no_file(view, gone) -> None:
    server = FastAPI()
    register_uptime_export(server, replace(view, reader=gone).reader)
    transport = httpx.ASGITransport(server)
    async with httpx.AsyncClient(transport=transport, base_url="http://dashboard") as client:
        answer = await client.get(PATH)
    assert answer.status_code == 503
    assert answer.text.startswith("The database is away")
