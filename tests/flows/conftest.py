"""One Prefect server for every test of a flow: its start takes longer than any of them."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.testing.utilities import prefect_test_harness


@pytest.fixture(scope="session", autouse=True)
def prefect_server() -> Iterator[None]:
    """A Prefect server on a database of its own."""
    # Prefect 3.8.8 asks it, twice a flow run, by a client that it leaves open: that socket is
    # reported when it is garbage, in whatever test is running by then.
    with pytest.MonkeyPatch.context() as patch, prefect_test_harness(server_startup_timeout=120):
        patch.setattr("prefect.results._read_server_default_result_storage_block_id", _read_block)
        yield


def _read_block() -> UUID | None:
    """Do what Prefect's own function does, and close the client."""
    with get_client(sync_client=True) as client:
        return client.read_server_default_result_storage().default_result_storage_block_id


@pytest.fixture
def prefect_lines() -> Iterator[list[str]]:
    """What Prefect's loggers hand on about runs, as they would print it."""
    lines: list[str] = []
    formatter = logging.Formatter("%(levelname)s %(message)s")

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(formatter.format(record))

    keeper = Keeper()
    loggers = [logging.getLogger(f"prefect.{kind}_runs") for kind in ("flow", "task")]
    for logger in loggers:
        logger.addHandler(keeper)
    yield lines
    for logger in loggers:
        logger.removeHandler(keeper)


@pytest.fixture
def cut_once() -> Callable[[str, bytes], AbstractAsyncContextManager[tuple[str, list[bool]]]]:
    """A proxy before PostgreSQL that cuts one connection, once."""
    return _cut_once


@asynccontextmanager
async def _cut_once(url: str, marker: bytes) -> AsyncIterator[tuple[str, list[bool]]]:
    """Stand between a client and PostgreSQL, and cut the first connection that says `marker`."""
    parts = urlsplit(url)
    cuts: list[bool] = []
    open_links: set[asyncio.Task[None]] = set()

    async def link(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(parts.hostname, parts.port)

        async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65_536):
                if marker in data and sink is inner_writer and not cuts:
                    cuts.append(True)
                    break
                sink.write(data)
                await sink.drain()

        carriers = [
            asyncio.create_task(carry(reader, inner_writer)),
            asyncio.create_task(carry(inner_reader, writer)),
        ]
        try:
            await asyncio.wait(carriers, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in carriers:
                each.cancel()
            await asyncio.gather(*carriers, return_exceptions=True)
            for each in (writer, inner_writer):
                each.transport.abort()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(link(reader, writer))
        open_links.add(task)
        task.add_done_callback(open_links.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    location = parts.netloc.rsplit(":", 1)[0] + f":{port}"
    async with server:
        yield urlunsplit(parts._replace(netloc=location)), cuts
        for each in list(open_links):
            each.cancel()
        await asyncio.gather(*open_links, return_exceptions=True)
