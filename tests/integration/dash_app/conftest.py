"""Drawing panels over a real PostgreSQL, and reading what stands in them."""

import datetime as dt
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest
from dash.development.base_component import Component
from pydantic import SecretStr

from dash_app.access.users import Role, User
from dash_app.reader import Reader
from dash_app.view import View
from infra.settings import Settings


@pytest.fixture
def settings(database) -> Settings:
    return Settings(
        database_url=SecretStr(database.loader_url),
        reader_database_url=SecretStr(database.reader_url),
    )


@pytest.fixture
async def reader(settings) -> AsyncIterator[Reader]:
    """The dashboard's own pool, as its own role."""
    found = Reader(settings)
    async with found.opened():
        yield found


@pytest.fixture
def view(reader, settings) -> View:
    """A viewer in Kolkata, half an hour off everybody's hours; `replace(view, …)` for another."""
    return View(
        user=User("eve", Role.VIEWER),
        zone=ZoneInfo("Asia/Kolkata"),
        dark=False,
        now=dt.datetime.now(dt.UTC),
        reader=reader,
        settings=settings,
    )


@pytest.fixture
def operator(view) -> View:
    return replace(view, user=User("otto", Role.OPERATOR))


@pytest.fixture
async def loader(database) -> AsyncIterator[asyncpg.Connection]:
    """A connection as the flows' role, to write what pages then read."""
    connection = await asyncpg.connect(database.loader_url)
    yield connection
    await connection.close()


@pytest.fixture
async def gone(settings) -> AsyncIterator[Reader]:
    """A reader whose PostgreSQL is not there."""
    away = settings.model_copy(
        update={"reader_database_url": SecretStr("postgresql://sluiceway_reader:x@127.0.0.1:1/x")}
    )
    found = Reader(away)
    async with found.opened():
        yield found


def texts(drawn: Any) -> Iterator[str]:
    """Yield every piece of text in a component, titles of moments and addresses of links too."""
    if isinstance(drawn, str | int | float):
        yield str(drawn)
    elif isinstance(drawn, Component):
        for name in ("title", "href", "label", "placeholder"):
            if isinstance(found := getattr(drawn, name, None), str):
                yield found
        yield from texts(getattr(drawn, "children", None))
    elif isinstance(drawn, list | tuple):
        for each in drawn:
            yield from texts(each)
    elif isinstance(drawn, dict):
        for each in drawn.values():
            yield from texts(each)


@pytest.fixture
def read() -> Any:
    """A function: all the text of what was drawn, in one string with single spaces."""
    return lambda drawn: " ".join(" ".join(texts(drawn)).split())
