"""COMMIT gets through and its answer does not: the next try must know, and load nothing twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from infra.postgres.connection import Pool
from infra.sample.bulk import write_sales
from infra.sample.generator import make_sample
from schemas.datasets import DATASETS, Customers, Sales
from schemas.errors import TransientError
from tasks.discover_files import Found, discover_files
from tasks.load import Order, Outcome, load_source
from tasks.load_file import load_found, open_source
from tests.chaos.loader import Loader

COMMIT = b"COMMIT;\0"
SLOW_COMMIT = """
    CREATE FUNCTION public.dawdle() RETURNS trigger LANGUAGE plpgsql
        AS 'BEGIN PERFORM pg_sleep(1); RETURN NULL; END';
    CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT ON metadata.dataset_counts
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.dawdle();
"""
"""The work of a deferred trigger is done by COMMIT, before it counts as done."""


class Proxy:
    """Stands between a client and PostgreSQL; cuts one connection at its COMMIT."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self.armed = False
        self.waits_for_answer = True
        """Cut when the server has answered; else as soon as the COMMIT is on its way."""
        self.holds = False
        """Swallow the answer, but leave the connection open."""
        self.swallowed = asyncio.Event()
        self.choked = asyncio.Event()
        self.cut = asyncio.Event()
        self.cuts = 0
        self.chokes_after_bytes: int | None = None
        """Take no more than this from the client; then, when it can send no more, cut it off."""
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        server, requests = await asyncio.open_connection("127.0.0.1", self._server_port)
        self._writers += [answers, requests]
        committing = asyncio.Event()

        async def forward() -> None:
            taken = 0
            while data := await client.read(1 << 16):
                taken += len(data)
                if self.chokes_after_bytes is not None and taken > self.chokes_after_bytes:
                    self.chokes_after_bytes = None
                    self.choked.set()
                    await self.cut.wait()
                    answers.transport.abort()
                    requests.transport.abort()
                    return
                cut = self.armed and COMMIT in data
                if cut:
                    committing.set()
                    self.armed = False
                requests.write(data)
                await requests.drain()
                if cut and not self.waits_for_answer:
                    self.cuts += 1
                    answers.transport.abort()
            requests.close()

        async def backward() -> None:
            while data := await server.read(1 << 16):
                if committing.is_set():
                    assert b"COMMIT\0" in data, data
                    self.cuts += 1
                    self.swallowed.set()
                    if not self.holds:
                        answers.transport.abort()
                    return
                answers.write(data)
                await answers.drain()
            answers.close()

        with suppress(ConnectionError):
            await asyncio.gather(forward(), backward())

    def close(self) -> None:
        for each in self._writers:
            each.transport.abort()


@pytest.fixture
async def proxy(database) -> AsyncIterator[Proxy]:
    made = Proxy(database.server.port)
    async with await asyncio.start_server(made.serve, "127.0.0.1", 0) as listener:
        made.port = listener.sockets[0].getsockname()[1]
        yield made
        made.close()


@pytest.fixture
def proxied_url(database, proxy: Proxy) -> str:
    port = urlsplit(database.loader_url).port
    return database.loader_url.replace(f":{port}/", f":{proxy.port}/")


@pytest.fixture
def customers(tmp_path: Path) -> Found:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "customers.csv").write_bytes(make_sample().customers.content)
    [found], _ = discover_files(folder, [each.spec for each in DATASETS])
    return found


async def _state(database) -> dict[str, object]:
    """Return what the loads have left."""
    connection = await asyncpg.connect(database.owner_url)
    try:
        counts = {
            table: await connection.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - a constant
            for table in ("warehouse.dim_customers", "staging.customers", "metadata.quarantine")
        }
        ledgers = await connection.fetch("SELECT * FROM metadata.dataset_counts ORDER BY id")
        statuses = await connection.fetch("SELECT status FROM metadata.source_files ORDER BY id")
        return counts | {
            "ledgers": [dict(row) for row in ledgers],
            "statuses": [row["status"] for row in statuses],
        }
    finally:
        await connection.close()


def _planted() -> dict[str, int]:
    file = make_sample().customers
    return {
        "warehouse.dim_customers": file.ledger.inserted,
        "staging.customers": file.ledger.read - file.ledger.quarantined,
        "metadata.quarantine": file.ledger.quarantined,
    }


@pytest.mark.parametrize("waits_for_answer", [True, False], ids=["done", "under way"])
async def test_the_same_order_given_again_after_a_lost_answer_reports_the_load_and_repeats_nothing(
    waits_for_answer, database, proxy: Proxy, proxied_url: str, customers: Found, execution_id
) -> None:
    if not waits_for_answer:  # the second try then meets a COMMIT that is still at work
        owner = await asyncpg.connect(database.owner_url)
        await owner.execute(SLOW_COMMIT)
        await owner.close()
    order = Order(execution_id, str(customers.path), "customers", Customers.spec)
    proxy.waits_for_answer = waits_for_answer
    async with Pool(proxied_url) as pool:
        await _expect_cut(proxy, load_found(pool, customers, order))
        again = await load_found(pool, customers, order)
    state = await _state(database)
    assert (again.outcome, again.ledger.read) == (Outcome.LOADED, make_sample().customers.records)
    [written] = state["ledgers"]
    assert {name: written[name] for name in again.ledger.__slots__} == {
        name: getattr(again.ledger, name) for name in again.ledger.__slots__
    }
    assert state["statuses"] == ["LOADED"]
    assert {table: state[table] for table in _planted()} == _planted()


async def test_a_source_given_again_while_its_commit_is_under_way_waits_and_repeats_nothing(
    database, proxy: Proxy, proxied_url: str, customers: Found, execution_id
) -> None:
    owner = await asyncpg.connect(database.owner_url)
    await owner.execute(SLOW_COMMIT)
    await owner.close()
    order = Order(execution_id, str(customers.path), "customers", Customers.spec)
    proxy.waits_for_answer = False
    async with Pool(proxied_url) as pool:
        await _expect_cut(proxy, load_source(pool, open_source(customers), order))
        again = await load_source(pool, open_source(customers), order)
    state = await _state(database)
    assert again.ledger.inserted == make_sample().customers.ledger.inserted
    assert len(state["ledgers"]) == 1
    assert {table: state[table] for table in _planted()} == _planted()


async def test_another_run_after_a_lost_answer_finds_the_file_unchanged(
    database, proxy: Proxy, proxied_url: str, customers: Found, execution_id
) -> None:
    async with Pool(proxied_url) as pool:
        first = Order(execution_id, str(customers.path), "customers", Customers.spec)
        await _expect_cut(proxy, load_found(pool, customers, first))
        another = Order(execution_id, str(customers.path), "customers", Customers.spec)
        report = await load_found(pool, customers, another)
    assert report.outcome is Outcome.UNCHANGED
    state = await _state(database)
    assert state["statuses"] == ["LOADED", "UNCHANGED"]
    assert {table: state[table] for table in _planted()} == _planted()


async def test_a_loader_killed_before_the_answer_came_is_followed_by_a_run_that_skips_the_file(
    database, proxy: Proxy, proxied_url: str, customers: Found
) -> None:
    proxy.armed = proxy.holds = True
    killed, follower = Loader(), Loader()
    try:
        killed.order(proxied_url, customers.path.parent)
        async with asyncio.timeout(60):
            await proxy.swallowed.wait()
        killed.kill()
        assert await asyncio.to_thread(killed.finish) == ("killed", None)
        proxy.close()  # as the system does for the dead
        follower.order(database.loader_url, customers.path.parent)
        word, said = await asyncio.to_thread(follower.finish)
    finally:
        killed.dismiss()
        follower.dismiss()
    assert word == "loaded", said
    assert [each["outcome"] for each in said] == ["UNCHANGED"]
    state = await _state(database)
    assert state["statuses"] == ["LOADED", "UNCHANGED"]
    assert {table: state[table] for table in _planted()} == _planted()
    owner = await asyncpg.connect(database.owner_url)
    try:
        runs = await owner.fetch("SELECT status FROM metadata.pipeline_executions ORDER BY id")
    finally:
        await owner.close()
    assert [row["status"] for row in runs] == ["FAILED", "SUCCESS"]


async def test_a_connection_cut_while_copy_waits_for_room_ends_the_load_and_the_next_try_succeeds(
    tmp_path: Path, database, proxy: Proxy, proxied_url: str, execution_id
) -> None:
    # More than the sockets' buffers between here and there take.
    path = tmp_path / "sales_data.csv"
    planted = write_sales(path, 200_000, customers=500, products=50).ledger
    [found], _ = discover_files(tmp_path, [each.spec for each in DATASETS])
    order = Order(execution_id, str(path), "sales_data", Sales.spec)
    proxy.chokes_after_bytes = 1_000_000
    async with Pool(proxied_url) as pool:
        read = []
        load = asyncio.create_task(load_found(pool, found, order, on_progress=read.append))
        await proxy.choked.wait()
        seen = -1
        while seen < len(read):  # until nothing moves any more
            seen = len(read)
            await asyncio.sleep(1)
        assert not load.done()
        proxy.cut.set()
        async with asyncio.timeout(30) as limit:
            with pytest.raises(TransientError, match="can be tried again"):
                await load
        assert not limit.expired()  # else it had to be cancelled
        again = await load_found(pool, found, order)
    assert (again.ledger.read, again.ledger.inserted) == (planted.read, planted.inserted)


async def _expect_cut(proxy: Proxy, load) -> None:
    proxy.armed = True
    with pytest.raises(TransientError, match="nothing of it is visible unless all of it is"):
        await load
    assert proxy.cuts == 1
