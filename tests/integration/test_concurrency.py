"""What docs/concurrency.md says of many loads at once, each sentence held by a test."""

import asyncio
import contextlib
import datetime as dt
import multiprocessing
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import asyncpg
import psutil
import pytest
import yaml

from deployments.bootstrap import bootstrap
from deployments.pools import POOLS
from deployments.roles import CONNECTION_LIMIT
from infra.postgres.connection import Pool
from infra.sample.generator import make_sample, write_sample
from infra.settings import Settings
from schemas.dataset import Dataset, Role, Spec, column
from schemas.datasets import DATASETS, Customers, Products
from schemas.errors import TransientError
from tasks.discover_files import discover_files
from tasks.load import Order, Outcome, Report
from tasks.load_file import load_found
from tasks.merge import BULK_ROWS
from tasks.steps import RETRIES

ROUNDS = 30
LOADER = "sluiceway_loader"


class Orders(Dataset, table="orders", role=Role.FACT, key=("order_id",)):
    """One row per order; it names the customer first."""

    order_id: int = column(ge=1)
    customer_id: int = column(references=Customers)
    product_id: int = column(references=Products)
    ordered_on: dt.date = column()
    paid_on: dt.date = column()


class Returns(Dataset, table="returns", role=Role.FACT, key=("return_id",)):
    """One row per return; it names the product first, and its dates the other way round."""

    return_id: int = column(ge=1)
    product_id: int = column(references=Products)
    customer_id: int = column(references=Customers)
    asked_on: dt.date = column()
    back_on: dt.date = column()


CROSSED = (Customers, Products, Orders, Returns)


async def _start_run(pool: Pool) -> int:
    async with pool.acquire() as connection:
        return await connection.fetchval(
            "INSERT INTO metadata.pipeline_executions (pipeline_name) VALUES ('test') RETURNING id"
        )


async def _load(pool: Pool, path: Path, specs: list[Spec], run: int) -> Report:
    found, notes = discover_files(path.parent, specs)
    [one] = [each for each in found if each.path == path.absolute()] or [None]
    assert one is not None, notes
    return await load_found(pool, one, Order(run, str(one.path), one.table, one.spec))


def _write(path: Path, header: str, lines: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def _members(number: int) -> range:
    return range(1 + 10 * number, 11 + 10 * number)


def _strangers(number: int) -> range:
    return range(100_001 + 300 * number, 100_301 + 300 * number)


def _write_round(folder: Path, number: int) -> list[Path]:
    """Write files that name the same new members, and the same new dates, in opposite orders."""
    members = _members(number)
    # Those that no dimension's file brings: both facts have to infer them, in both dimensions.
    named = [*members, *_strangers(number)]
    # Beyond the calendar, so that dim_date grows from several loads at once.
    early, late = f"{1900 + number}-01-01", f"{2200 + number}-01-01"
    customers = [f"{each},Name {each},2024-01-01" for each in members]
    products = [f"{each},Thing {each},toys,1.00" for each in members]
    orders = [f"{each},{each},{each},{early},{late}" for each in named]
    returns = [f"{each},{each},{each},{late},{early}" for each in reversed(named)]
    headers = {
        "customers": ("customer_id,name,signup_date", customers),
        "products": ("product_id,name,category,price", products),
        "orders": ("order_id,customer_id,product_id,ordered_on,paid_on", orders),
        "returns": ("return_id,product_id,customer_id,asked_on,back_on", returns),
    }
    return [
        _write(folder / f"{name}_{number}{half}.csv", header, lines)
        for name, (header, rows) in headers.items()
        # Two files a dataset: they wait for each other as well as for those of the others.
        for half, lines in ((1, rows[: len(rows) * 7 // 10]), (2, rows[len(rows) // 2 :]))
    ]


async def test_loads_that_name_each_others_rows_in_opposite_orders_never_deadlock(
    tmp_path: Path, database
) -> None:
    await bootstrap(database.owner_url, datasets=CROSSED)
    specs = [each.spec for each in CROSSED]
    everyone = [each for number in range(ROUNDS) for each in _members(number)]
    everyone += [each for number in range(ROUNDS) for each in _strangers(number)]
    async with Pool(database.loader_url) as pool:
        run = await _start_run(pool)
        for number in range(ROUNDS):
            paths = _write_round(tmp_path / str(number), number)
            # A deadlock would be an error here: nothing is tried again.
            reports = await asyncio.gather(*(_load(pool, each, specs, run) for each in paths))
            assert all(report.outcome is Outcome.LOADED for report in reports)
        async with pool.acquire() as connection:
            for table, key in (
                ("dim_customers", "customer_id"),
                ("dim_products", "product_id"),
                ("fact_orders", "order_id"),
                ("fact_returns", "return_id"),
            ):
                keys = await connection.fetch(f"SELECT {key} FROM warehouse.{table} ORDER BY 1")  # noqa: S608 - constants
                assert [row[0] for row in keys] == everyone, table
            # Each row joins its own members, and those whose own row came are completed.
            members = await connection.fetchrow(
                """
                SELECT
                    count(*) FILTER (WHERE c._is_inferred AND p._is_inferred) AS inferred,
                    count(*) FILTER (WHERE NOT c._is_inferred AND NOT p._is_inferred) AS known,
                    count(*) FILTER (WHERE customer_id <> order_id OR product_id <> order_id)
                        AS wrong
                FROM warehouse.fact_orders
                JOIN warehouse.dim_customers AS c USING (customer_key)
                JOIN warehouse.dim_products AS p USING (product_key)
                """
            )
            assert tuple(members) == (300 * ROUNDS, 10 * ROUNDS, 0)
            ledger = await connection.fetchrow(
                """
                SELECT sum(read) AS read, sum(inserted) AS inserted, sum(inferred) AS inferred,
                    sum(inserted + updated + unchanged + superseded) AS kept
                FROM metadata.dataset_counts
                """
            )
    # Two halves of a file have a fifth of its rows in common.
    read = ROUNDS * 2 * (12 + 372)
    assert (ledger["read"], ledger["kept"]) == (read, read)
    # A member is inserted by its own file or inferred by a fact, once in all.
    own = ROUNDS * 10 * 2 - (ledger["inferred"] - ROUNDS * 300 * 2)
    assert ledger["inserted"] == ROUNDS * 310 * 2 + own


async def test_loads_that_add_the_same_dates_in_opposite_orders_never_deadlock(
    tmp_path: Path, database
) -> None:
    await bootstrap(database.owner_url, datasets=CROSSED)
    specs = [each.spec for each in CROSSED]
    async with Pool(database.loader_url) as pool:
        run = await _start_run(pool)
        for year in range(1500, 1500 + 5 * 20, 20):
            folder = tmp_path / str(year)
            # Days of twenty years, all beyond the calendar, and as many of later ones.
            early = [dt.date(year, 1, 1) + dt.timedelta(days=each) for each in range(7_000)]
            late = [dt.date(year + 1000, 1, 1) + dt.timedelta(days=each) for each in range(7_000)]
            rows = list(enumerate(zip(early, late, strict=True), start=1))
            orders = [f"{key},1,1,{one},{other}" for key, (one, other) in rows]
            returns = [f"{key},1,1,{other},{one}" for key, (one, other) in rows]
            paths = [
                _write(
                    folder / "orders.csv",
                    "order_id,customer_id,product_id,ordered_on,paid_on",
                    orders,
                ),
                _write(
                    folder / "returns.csv",
                    "return_id,product_id,customer_id,asked_on,back_on",
                    returns,
                ),
            ]
            await asyncio.gather(*(_load(pool, each, specs, run) for each in paths))
        async with pool.acquire() as connection:
            missing = await connection.fetchval(
                """
                SELECT count(*) FROM warehouse.fact_orders
                WHERE ordered_on NOT IN (SELECT date_key FROM warehouse.dim_date)
                    OR paid_on NOT IN (SELECT date_key FROM warehouse.dim_date)
                """
            )
    assert missing == 0


async def test_loads_of_one_dataset_come_one_after_the_other(tmp_path: Path, pool: Pool) -> None:
    specs = [each.spec for each in DATASETS]
    header = "customer_id,name,signup_date"
    paths = [
        _write(
            tmp_path / f"customers_{number}.csv",
            header,
            [f"{key},Name {number},2024-01-01" for key in range(1, 201)],
        )
        for number in range(6)
    ]
    run = await _start_run(pool)
    async with _Watch(pool) as watch:
        reports = await asyncio.gather(*(_load(pool, each, specs, run) for each in paths))
    assert sum(report.ledger.inserted for report in reports) == 200
    assert watch.most_holding == 1


@dataclass
class _Watch:
    """Counts, again and again, who holds the dataset `customers`."""

    pool: Pool
    most_holding: int = 0
    _task: asyncio.Task[None] | None = field(default=None, repr=False)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._count())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        assert self.most_holding

    async def _count(self) -> None:
        async with self.pool.acquire() as connection:
            while True:
                holding = await connection.fetchval(
                    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
                    " AND objid = (hashtext('customers')::bigint & 4294967295)::oid"
                )
                self.most_holding = max(self.most_holding, holding)


def _make_dataset(number: int) -> type[Dataset]:
    namespace = {
        "__doc__": f"Rows of the dataset {number}.",
        "__module__": __name__,
        "__annotations__": {"id": int, "amount": int, "customer_id": int},
        "id": column(ge=1),
        "amount": column(ge=0),
        "customer_id": column(references=Customers),
    }
    return type(Dataset)(
        f"Twelfth{number}", (Dataset,), namespace, table=f"facts_{number}", role=Role.FACT,
        key=("id",),
    )  # fmt: skip


TWELVE = tuple(_make_dataset(number) for number in range(1, 13))
ROWS = 3_000


def _write_twelve(folder: Path) -> list[Path]:
    return [
        _write(
            folder / f"{each.spec.table}.csv",
            "id,amount,customer_id",
            # The same unknown customers everywhere: all twelve want to infer them.
            [f"{key},{key % 97},{1 + key % 50}" for key in range(1, ROWS + 1)],
        )
        for each in TWELVE
    ]


async def _load_all(url: str, paths: list[Path], *, size: int = 20) -> list[Report]:
    specs = [each.spec for each in TWELVE]
    async with Pool(url, size=size) as pool:
        run = await _start_run(pool)
        return await asyncio.gather(*(_load(pool, each, specs, run) for each in paths))


def _load_in_process(url: str, paths: list[Path]) -> None:
    reports = asyncio.run(_load_all(url, paths))
    assert len(reports) == len(paths)


@contextlib.asynccontextmanager
async def _count_connections(owner_url: str) -> AsyncIterator[Counter]:
    """Yield the most connections that were seen: of the role, and of each process by its id."""
    seen: Counter[str | int] = Counter()
    connection = await asyncpg.connect(owner_url)
    port = urlsplit(owner_url).port

    async def count() -> None:
        while True:
            held = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE usename = $1", LOADER
            )
            seen["in all"] = max(seen["in all"], held)
            for each in multiprocessing.active_children():
                with contextlib.suppress(psutil.Error):
                    found = psutil.Process(each.pid).net_connections("tcp")
                    own = sum(bool(one.raddr) and one.raddr.port == port for one in found)
                    seen[each.pid] = max(seen[each.pid], own)

    task = asyncio.create_task(count())
    try:
        yield seen
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        connection.terminate()


async def _count_rows(owner_url: str) -> list[int]:
    connection = await asyncpg.connect(owner_url)
    try:
        return [
            await connection.fetchval(f"SELECT count(*) FROM warehouse.fact_{each.spec.table}")  # noqa: S608 - constants
            for each in TWELVE
        ]
    finally:
        await connection.close()


async def test_twelve_datasets_load_at_once_from_one_process_within_its_twenty_connections(
    tmp_path: Path, database
) -> None:
    await bootstrap(database.owner_url, datasets=(Customers, *TWELVE))
    paths = _write_twelve(tmp_path)
    async with _count_connections(database.owner_url) as seen:
        reports = await _load_all(database.loader_url, paths)
    assert [report.ledger.inserted for report in reports] == [ROWS] * 12
    # Each of the unknown customers was inferred by one of the twelve, and by one only.
    assert sum(report.ledger.inferred for report in reports) == 50
    assert 2 <= seen["in all"] <= 20


async def test_three_processes_load_twelve_datasets_each_within_sixty_connections(
    tmp_path: Path, database
) -> None:
    await bootstrap(database.owner_url, datasets=(Customers, *TWELVE))
    folders = [tmp_path / str(number) for number in range(3)]
    files = [_write_twelve(folder) for folder in folders]
    context = multiprocessing.get_context("spawn")
    async with _count_connections(database.owner_url) as seen:
        processes = [
            context.Process(target=_load_in_process, args=(database.loader_url, paths))
            for paths in files
        ]
        for each in processes:
            each.start()
        for each in processes:
            await asyncio.to_thread(each.join)
    assert [each.exitcode for each in processes] == [0, 0, 0]
    # The same rows from three places: loaded once, confirmed twice.
    assert await _count_rows(database.owner_url) == [ROWS] * 12
    assert 2 <= seen["in all"] <= CONNECTION_LIMIT
    by_process = [seen[each.pid] for each in processes]
    assert 1 <= max(by_process) <= 20, by_process


@pytest.mark.parametrize("size", [3, 20])
async def test_a_pool_holds_no_more_connections_than_its_size(size: int, database) -> None:
    holding, most = 0, 0

    async def hold() -> None:
        nonlocal holding, most
        async with pool.acquire() as connection:
            holding += 1
            most = max(most, holding)
            await connection.execute("SELECT pg_sleep(0.1)")
            holding -= 1

    async with (
        Pool(database.loader_url, size=size) as pool,
        _count_connections(database.owner_url) as seen,
    ):
        await asyncio.gather(*(hold() for _ in range(3 * size)))
    assert most == size
    assert seen["in all"] <= size


async def test_the_limits_are_those_that_the_documentation_names(database) -> None:
    connection = await asyncpg.connect(database.owner_url)
    try:
        limit = await connection.fetchval(
            "SELECT rolconnlimit FROM pg_roles WHERE rolname = $1", LOADER
        )
    finally:
        await connection.close()
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    deployments = yaml.safe_load(Path("prefect.yaml").read_text())["deployments"]
    [daily] = [each for each in deployments if each["name"] == "daily"]
    runs = {pool.name: pool.concurrent_runs for pool in POOLS}
    assert (limit, CONNECTION_LIMIT, defaults["pool_size"]) == (60, 60, 20)
    assert (defaults["concurrent_files"], defaults["connect_timeout_seconds"]) == (4, 60)
    assert (runs["batch"], daily["concurrency_limit"]["limit"], RETRIES) == (20, 3, 3)


@pytest.fixture
async def five_connections(database) -> AsyncIterator[None]:
    """The role's limit, lowered; it belongs to the whole server, so it is raised again."""
    owner = await asyncpg.connect(database.owner_url)
    await owner.execute(f"ALTER ROLE {LOADER} CONNECTION LIMIT 5")
    yield
    await owner.execute(f"ALTER ROLE {LOADER} CONNECTION LIMIT {CONNECTION_LIMIT}")
    await owner.close()


async def _take(url: str, count: int) -> list[asyncpg.Connection]:
    return [await asyncpg.connect(url) for _ in range(count)]


async def test_a_process_that_the_role_refuses_backs_off_and_succeeds_later(
    database, five_connections
) -> None:
    others = await _take(database.loader_url, 5)
    async with Pool(database.loader_url, wait_seconds=30) as pool:

        async def ask() -> int:
            async with pool.acquire() as connection:
                return await connection.fetchval("SELECT 1")

        asked = asyncio.create_task(ask())
        refused = await _wait_for_refusals(database.server, 3)
        assert not asked.done()
        await others.pop().close()
        assert await asked == 1
    assert refused >= 3
    for each in others:
        await each.close()


async def _wait_for_refusals(server, wanted: int) -> int:
    """Return how often PostgreSQL has refused the role by now, once that is often enough."""
    before = server.log.read_text(errors="replace").count("too many connections for role")
    async with asyncio.timeout(30):
        while True:
            now = server.log.read_text(errors="replace").count("too many connections for role")
            if now - before >= wanted:
                return now - before
            await asyncio.sleep(0.05)


async def test_loads_of_several_processes_share_five_connections(
    tmp_path: Path, database, five_connections
) -> None:
    await bootstrap(database.owner_url, datasets=(Customers, *TWELVE))
    owner = await asyncpg.connect(database.owner_url)
    await owner.execute(f"ALTER ROLE {LOADER} CONNECTION LIMIT 5")  # bootstrap has raised it
    await owner.close()
    paths = _write_twelve(tmp_path)
    async with _count_connections(database.owner_url) as seen:
        # Two pools stand for two processes: together they want twelve, and five are there.
        parts = await asyncio.gather(
            _load_all(database.loader_url, paths[:6]), _load_all(database.loader_url, paths[6:])
        )
    assert [report.ledger.inserted for part in parts for report in part] == [ROWS] * 12
    assert seen["in all"] <= 5


async def test_a_process_that_waits_in_vain_says_so_in_one_sentence(
    database, five_connections
) -> None:
    others = await _take(database.loader_url, 5)
    async with Pool(database.loader_url, wait_seconds=0.2) as pool:
        with pytest.raises(TransientError) as caught:
            async with pool.acquire():
                pytest.fail("a sixth connection of five")
    sentence = str(caught.value)
    assert "gave no connection within 0.2 s" in sentence
    assert 'too many connections for role "sluiceway_loader"' in sentence
    assert sentence.endswith("wait for other runs to end or raise the role's limit.")
    assert "\n" not in sentence
    for each in others:
        await each.close()


async def test_the_first_load_of_a_fact_holds_it_alone_and_a_later_one_lets_others_read(
    tmp_path: Path, database
) -> None:
    await bootstrap(database.owner_url, datasets=(Customers, *TWELVE))
    spec = TWELVE[0].spec
    rows = [f"{key},1,1" for key in range(1, BULK_ROWS + 2)]
    header = "id,amount,customer_id"
    first = _write(tmp_path / "facts_1_1.csv", header, rows)
    second = _write(tmp_path / "facts_1_2.csv", header, [f"{key},2,1" for key in range(1, 5_000)])
    modes = []
    async with Pool(database.loader_url) as pool:
        run = await _start_run(pool)
        for path in (first, second):
            async with _note_locks(database.owner_url, "warehouse.fact_facts_1") as seen:
                await _load(pool, path, [spec], run)
            modes.append(seen)
    assert "AccessExclusiveLock" in modes[0]
    assert "RowExclusiveLock" in modes[1]
    assert "AccessExclusiveLock" not in modes[1]


@contextlib.asynccontextmanager
async def _note_locks(owner_url: str, table: str) -> AsyncIterator[set[str]]:
    connection = await asyncpg.connect(owner_url)
    seen: set[str] = set()

    async def note() -> None:
        while True:
            rows = await connection.fetch(
                "SELECT mode FROM pg_locks WHERE relation = $1::regclass::oid AND granted"
                " AND pid <> pg_backend_pid()",
                table,
            )
            seen.update(row["mode"] for row in rows)

    task = asyncio.create_task(note())
    try:
        yield seen
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        connection.terminate()


async def test_postgresql_15_takes_the_sample_as_18_does(tmp_path: Path, debian_server) -> None:
    sample = make_sample()
    write_sample(tmp_path, sample)
    specs = [each.spec for each in DATASETS]
    database = await debian_server.create()
    try:
        async with Pool(database.loader_url) as pool:
            run = await _start_run(pool)
            for file in sample.files:
                ledger = (await _load(pool, tmp_path / file.name, specs, run)).ledger
                again = await _load(pool, tmp_path / file.name, specs, run)
                terms = ("read", "inserted", "updated", "superseded", "duplicates", "quarantined")
                assert {term: getattr(ledger, term) for term in terms} == {
                    term: getattr(file.ledger, term) for term in terms
                }
                assert again.outcome is Outcome.UNCHANGED
            async with pool.acquire() as connection:
                rows = await connection.fetchval("SELECT count(*) FROM warehouse.fact_sales_data")
                version = await connection.fetchval("SHOW server_version_num")
        assert rows == sample.sales.ledger.inserted
        assert version.startswith("15")
    finally:
        await debian_server.drop(database)
