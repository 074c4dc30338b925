"""Log lines in metadata.pipeline_logs: there in the end, and never in the way of who logs them."""

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
import structlog
from pydantic import SecretStr

from infra import log_connection, log_table, log_writer
from infra.log_table import LogTable
from infra.log_writer import MAX_QUEUE
from infra.logs import (
    LOGGER,
    attach_log_table,
    configure_logging,
    detach_log_table,
    lines_of_run,
    tag_lines,
)
from infra.settings import Settings
from tasks.record import record_execution

ROOT = Path(__file__).parents[2]
Fetch = Callable[..., Awaitable[list[asyncpg.Record]]]


@pytest.fixture(autouse=True)
def nothing_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # A busy machine may take longer than lines are worth in earnest.
    monkeypatch.setattr(log_table, "EXIT_SECONDS", 30.0)
    logger = logging.getLogger(LOGGER)
    before = list(logger.handlers)
    yield
    detach_log_table()
    for handler in [each for each in logger.handlers if each not in before]:
        logger.removeHandler(handler)
        handler.close()
    assert not writers()


def writers() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "sluiceway log lines"]


@pytest.fixture
async def owner(database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.owner_url)
    yield connection
    await connection.close()


@pytest.fixture
def log(database, tmp_path) -> structlog.stdlib.BoundLogger:
    """A pipeline's logger, whose lines go to the file and the test's own database."""
    logger = configure_logging("p", folder=tmp_path / "logs")
    attach_log_table(database.loader_url)
    return logger


def table() -> LogTable:
    [found] = [each for each in logging.getLogger(LOGGER).handlers if isinstance(each, LogTable)]
    return found


async def written(owner: asyncpg.Connection, *, wait: bool = True) -> list[asyncpg.Record]:
    """Return the table's rows as soon as the writer has tried to write all lines."""
    if wait:
        await asyncio.to_thread(table().write_out, 30)
    return await owner.fetch("SELECT * FROM metadata.pipeline_logs ORDER BY id")


async def until(ask: Callable[[], Awaitable[Any]]) -> Any:
    for _ in range(600):
        if found := await ask():
            return found
        await asyncio.sleep(0.05)
    raise AssertionError("it did not come true within half a minute")


def file_lines(tmp_path: Path) -> list[dict[str, Any]]:
    [path] = (tmp_path / "logs").iterdir()
    return [json.loads(each) for each in path.read_text(encoding="utf-8").splitlines()]


async def own_connections(owner: asyncpg.Connection) -> list[int]:
    rows = await owner.fetch(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'sluiceway log lines'"
        " AND datname = current_database()"
    )
    return [row["pid"] for row in rows]


async def test_a_line_is_a_row_with_its_run_its_dataset_and_its_fields(log, owner) -> None:
    async with lines_of_run(execution_id=7, pipeline_name="of the run"):
        with tag_lines(dataset="customers"):
            log.info("loaded", rows=3, source="é.csv", nested={"a": [1.5, None, True]})
        log.warning("after it")
    log.error("outside")
    logging.getLogger("sluiceway.keeper").info("%s by the standard library", "told")
    log.debug("not heard")
    first, second, third, fourth = await written(owner)
    assert (first["level"], first["pipeline_name"], first["execution_id"], first["dataset"]) == (
        "INFO",
        "of the run",
        7,
        "customers",
    )
    assert first["event"] == "loaded"
    assert json.loads(first["fields"]) == {
        "logger": LOGGER,
        "rows": 3,
        "source": "é.csv",
        "nested": {"a": [1.5, None, True]},
    }
    assert (second["level"], second["execution_id"], second["dataset"]) == ("WARNING", 7, None)
    assert (third["level"], third["pipeline_name"], third["execution_id"]) == ("ERROR", "p", None)
    assert fourth["event"] == "told by the standard library"
    assert json.loads(fourth["fields"]) == {"logger": "sluiceway.keeper"}


async def test_the_end_of_a_run_waits_for_its_lines(log, owner) -> None:
    async with lines_of_run(execution_id=7):
        log.info("loaded")
    [row] = await written(owner, wait=False)
    assert row["execution_id"] == 7


async def test_lines_are_written_within_seconds_though_nobody_asks(log, owner) -> None:
    log.info("loaded")
    await until(lambda: written(owner, wait=False))


async def test_a_process_has_one_connection_and_an_idle_one_has_none(
    log, owner, database, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "IDLE_SECONDS", 0.2)
    attach_log_table(database.loader_url)
    configure_logging("another", folder=tmp_path).info("one")
    await written(owner)
    assert len(writers()) == 1
    assert len(await own_connections(owner)) <= 1

    async def is_closed() -> bool:
        return not await own_connections(owner)

    await until(is_closed)
    log.info("two")
    assert [row["event"] for row in await written(owner)] == ["one", "two"]
    assert {row["pipeline_name"] for row in await written(owner)} == {"another"}


async def test_a_killed_connection_loses_and_doubles_nothing(log, owner, tmp_path) -> None:
    log.info("before")
    await written(owner)
    [pid] = await own_connections(owner)
    await owner.execute("SELECT pg_terminate_backend($1, 5000)", pid)
    log.info("after")
    assert [row["event"] for row in await written(owner)] == ["before", "after"]
    assert [line["event"] for line in file_lines(tmp_path)] == ["before", "after"]


async def test_lines_of_an_outage_come_later_and_the_file_says_it_once(
    database, owner, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "RETRY_SECONDS", (0.05,))
    log = configure_logging("p", folder=tmp_path / "logs")
    async with _door(database.loader_url) as (url, open_door):
        attach_log_table(url)
        log.info("one")
        await asyncio.to_thread(table().write_out)
        log.info("two")
        await asyncio.to_thread(table().write_out)
        assert await written(owner) == []
        await open_door()

        async def are_there() -> bool:
            return len(await written(owner, wait=False)) == 2

        await until(are_there)
        # The door is this loop's.
        await asyncio.to_thread(detach_log_table)
    rows = await written(owner, wait=False)
    assert [row["event"] for row in rows] == ["one", "two"]
    told = [line for line in file_lines(tmp_path) if line["logger"] != LOGGER]
    [complaint] = told
    assert complaint["event"].startswith("PostgreSQL does not take log lines for metadata.")
    assert complaint["level"] == "warning"


@pytest.mark.parametrize("refusal", ["no such table", "no such database", "role is full"])
async def test_a_database_that_does_not_take_lines_costs_one_line(
    refusal: str, log, owner, database, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_connection, "FULL_SECONDS", 0.1)
    if refusal == "no such table":
        await owner.execute("DROP TABLE metadata.pipeline_logs")
    elif refusal == "role is full":
        await owner.execute("ALTER ROLE sluiceway_loader CONNECTION LIMIT 0")
    else:
        attach_log_table(database.loader_url + "_not")
    try:
        for each in ("one", "two"):
            log.info(each)
            await asyncio.to_thread(table().write_out, 30)
        detach_log_table()
    finally:
        await owner.execute("ALTER ROLE sluiceway_loader CONNECTION LIMIT 60")
    assert [line["event"][:30] for line in file_lines(tmp_path)] == [
        "one",
        "PostgreSQL does not take log l",
        "two",
    ]


async def test_a_locked_table_holds_nobody_up_and_gets_the_lines_when_it_is_free(
    log, owner, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_writer, "RETRY_SECONDS", (0.05,))
    monkeypatch.setattr(log_connection, "LOCK_TIMEOUT", "10ms")
    transaction = owner.transaction()
    await transaction.start()
    await owner.execute("LOCK TABLE metadata.pipeline_logs")
    log.info("while it is locked")
    await asyncio.to_thread(table().write_out, 30)
    assert "due to lock timeout" in file_lines(tmp_path)[1]["event"]
    await transaction.rollback()
    assert [row["event"] for row in await written(owner)] == ["while it is locked"]


async def test_a_burst_of_ten_thousand_lines_is_written_whole(log, owner) -> None:
    for number in range(MAX_QUEUE):
        logging.getLogger(LOGGER).handle(_record(f"line {number}"))
    rows = await written(owner)
    assert [row["event"] for row in rows] == [f"line {number}" for number in range(MAX_QUEUE)]


async def test_of_more_lines_than_can_wait_the_newest_are_kept_and_the_others_counted(
    log, owner, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    monkeypatch.setattr(log_writer, "RETRY_SECONDS", (600.0,))
    monkeypatch.setattr(log_writer, "MAX_QUEUE", 20)
    await owner.execute("ALTER TABLE metadata.pipeline_logs RENAME TO away")
    log.info("line 0")
    await asyncio.to_thread(table().write_out, 30)
    for event in [f"line {number}" for number in range(1, 31)]:
        log.info(event)
    await owner.execute("ALTER TABLE metadata.away RENAME TO pipeline_logs")
    events = [row["event"] for row in await written(owner)]
    # The first one was about to be written when PostgreSQL refused.
    assert events[:-1] == ["line 0", *(f"line {number}" for number in range(11, 31))]
    assert events[-1].startswith("10 log lines are missing from metadata.pipeline_logs")
    log.info("and on")
    assert [row["event"] for row in await written(owner)][21:] == [events[-1], "and on"]
    assert [line["event"] for line in file_lines(tmp_path)].count(events[-1]) == 1


HOSTILE: dict[str, Any] = {
    "nul": "a\0b",
    "half": "\ud800 \udce9",
    "long": "x" * 1_000_000,
    "not a number": float("nan"),
    "endless": float("inf"),
    "huge": 10**5000,
    "bytes": b"\0\xff",
    "": "no name",
    "na\0me\ud800": 1,
    "html": "<img src=x onerror=alert(1)>",
    "json": '{"a": "\\u0000"}',
}


async def test_hostile_text_is_stored_as_text_and_keeps_no_other_line_out(log, owner) -> None:
    cyclic: dict[Any, Any] = {1: "one"}
    cyclic["itself"] = cyclic
    deep: Any = "bottom"
    for _ in range(2_000):
        deep = [deep]

    class Unprintable:
        def __str__(self) -> str:
            raise ValueError("no")

    event = "x\0y \ud800" + "z" * 1_000_000
    log.info(event, **HOSTILE)
    log.info("objects", cyclic=cyclic, deep=deep, it=Unprintable(), dataset="d\0", execution_id="7")
    log.info("numbers", execution_id=2**70, dataset=3)
    many = {f"field {number}": "y" * 10_000 for number in range(100)}
    log.info("many", **many)
    log.info("plain")
    first, second, third, fourth, fifth = await written(owner)
    fields = json.loads(first["fields"])
    assert first["event"].startswith("x\\x00y \\ud800zzz")
    assert len(first["event"]) < 20_000
    assert fields["nul"] == "a\\x00b"
    assert fields["half"] == "\\ud800 \\udce9"
    assert len(fields["long"]) < 20_000
    assert (fields["not a number"], fields["endless"]) == ("nan", "inf")
    assert fields["html"] == HOSTILE["html"]
    assert fields["json"] == HOSTILE["json"]
    assert fields["na\\x00me\\ud800"] == 1
    assert json.loads(second["fields"])["it"] == "<a Unprintable that cannot be shown>"
    assert (second["execution_id"], second["dataset"]) == (None, "d\\x00")
    assert json.loads(second["fields"])["execution_id"] == "7"
    assert (third["execution_id"], third["dataset"]) == (None, "3")
    assert len(fourth["fields"]) < 100_000
    assert fifth["event"] == "plain"


async def test_what_postgresql_does_not_take_is_left_out_alone(
    log, owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    await owner.execute("ALTER TABLE metadata.pipeline_logs ADD CHECK (event <> 'refused')")
    for each in ("one", "refused", "two"):
        log.info(each)
    one, two, told = await written(owner)
    assert (one["event"], two["event"]) == ("one", "two")
    assert told["event"].startswith("1 log lines are missing")


def _fail(message: str) -> None:
    raise ValueError(message)


def _record(message: str) -> logging.LogRecord:
    return logging.LogRecord(LOGGER, logging.INFO, "f", 1, message, (), None)


@asynccontextmanager
async def _door(url: str) -> AsyncIterator[tuple[str, Callable[[], Awaitable[None]]]]:
    """Give PostgreSQL an address at which nobody answers until the door is opened."""
    parts = urlsplit(url)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    servers: list[asyncio.Server] = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(parts.hostname, parts.port)
        await asyncio.gather(carry(reader, inner_writer), carry(inner_reader, writer))

    async def open_door() -> None:
        servers.append(await asyncio.start_server(accept, sock=listener))

    location = f"{parts.netloc.rsplit(':', 1)[0]}:{listener.getsockname()[1]}"
    try:
        yield parts._replace(netloc=location).geturl(), open_door
    finally:
        for each in servers:
            each.close()
            await each.wait_closed()
        listener.close()


PATIENT = """
log_table.EXIT_SECONDS = 50
"""
PRELUDE = """
import asyncio, logging.config, os, sys
from pathlib import Path
from infra import log_table, log_writer
from infra.logs import LOGGER, attach_log_table, configure_logging, lines_of_run
from infra.log_table import LogTable

log = configure_logging("p", folder=Path(sys.argv[2]))
attach_log_table(sys.argv[1])
"""


def start(script: str, url: str, tmp_path: Path) -> subprocess.Popen[str]:
    """Run a script in a process of its own, in which every warning is an error."""
    return subprocess.Popen(
        [
            sys.executable,
            "-W",
            "error",
            "-X",
            "dev",
            "-c",
            PRELUDE + script,
            url,
            tmp_path / "logs",
        ],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def ended(process: subprocess.Popen[str], given: str = "") -> str:
    """Return what a process that ends well and without complaint says."""
    said, complaint = await asyncio.to_thread(process.communicate, given, 60)
    assert (complaint, process.returncode) == ("", 0)
    return said


async def test_the_interpreter_ends_when_the_lines_are_written(database, owner, tmp_path) -> None:
    script = """
# It closes every handler, lets them stay where they are, and forgets them.
logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})

async def run():
    log.info("within")

asyncio.run(run())
log.info("after the loop")
"""
    # A name has to be looked up, when there are no threads to be had for it any more.
    url = database.loader_url.replace("127.0.0.1", "localhost")
    await ended(start(PATIENT + script, url, tmp_path))
    assert [row["event"] for row in await written(owner, wait=False)] == [
        "within",
        "after the loop",
    ]


async def test_the_interpreter_ends_though_the_table_is_locked(database, owner, tmp_path) -> None:
    async with owner.transaction():
        await owner.execute("LOCK TABLE metadata.pipeline_logs")
        await ended(start('log.info("one")', database.loader_url, tmp_path))
    assert file_lines(tmp_path)[0]["event"] == "one"


async def test_the_interpreter_ends_though_postgresql_is_frozen(database, owner, tmp_path) -> None:
    script = """
log.info("one")
[table] = [each for each in logging.getLogger(LOGGER).handlers if isinstance(each, LogTable)]
table.write_out(30)
print("written", flush=True)
input()
log_writer.ATTEMPT_SECONDS = 600
log.info("two")
# The writer is at it when the interpreter ends.
table.write_out(0.2)
"""
    process = start(script, database.loader_url, tmp_path)
    assert process.stdout is not None
    assert await asyncio.to_thread(process.stdout.readline) == "written\n"
    [pid] = await own_connections(owner)
    os.kill(pid, signal.SIGSTOP)
    try:
        await ended(process, "\n")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert [line["event"] for line in file_lines(tmp_path)][:2] == ["one", "two"]


async def test_a_fork_neither_hangs_nor_doubles_lines_nor_breaks_the_parents_connection(
    database, owner, tmp_path
) -> None:
    script = """
[table] = [each for each in logging.getLogger(LOGGER).handlers if isinstance(each, LogTable)]
log.info("parent first")
table.write_out(30)
for number in range(4):
    log.info(f"parent {number}")
    child = os.fork()
    if not child:
        log.info(f"child {number}")
        if number % 2:
            sys.exit(0)
        table.write_out(30)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
log.info("parent last")
"""
    await ended(start(PATIENT + script, database.loader_url, tmp_path))
    events = [row["event"] for row in await written(owner, wait=False)]
    assert sorted(events) == sorted(
        ["parent first", "parent last"]
        + [f"{who} {number}" for who in ("parent", "child") for number in range(4)]
    )
    told = [line for line in file_lines(tmp_path) if line["logger"] != LOGGER]
    assert told == []


async def test_what_a_run_ended_with_is_recorded_without_personal_values(
    pool, owner, database
) -> None:
    async def run() -> None:
        async with record_execution(pool, "p") as execution:
            execution.warnings.append("mail to ann@example.com")
            await owner.execute(
                "CREATE TEMP TABLE t (email text UNIQUE);"
                "INSERT INTO t VALUES ('ann (the 2nd)'), ('ann (the 2nd)')"
            )

    with pytest.raises(asyncpg.UniqueViolationError):
        await run()
    row = await owner.fetchrow("SELECT * FROM metadata.pipeline_executions")
    assert row["warnings"] == ["mail to •••"]
    assert row["error_message"].endswith("DETAIL:  Key (email)=(•••) already exists.")
    assert "Key (email)=(•••) already exists." in row["error_traceback"]
    assert "2nd" not in row["error_message"]


MARKERS = {
    "database_url": "postgresql://loader:MARKER-loader@127.0.0.1:1/x",
    "owner_database_url": "postgresql://owner:MARKER%2Fowner@127.0.0.1:1/x",
    "reader_database_url": "postgresql://reader:MARKER-reader@127.0.0.1:1/x",
    "dashboard_secret": 'MARKER "quoted" secret\\',
}
PERSONAL_ROW = {
    "name": "MARKER Ann",
    "email": "MARKER.ann+b@example.com",
    "phone": "MARKER-123",
    "address_geo_lat": 12.000111,
}


async def test_no_secret_and_no_personal_value_is_found_in_file_or_table(
    log, owner, database, tmp_path
) -> None:
    settings = Settings(
        **{name: SecretStr(value) for name, value in MARKERS.items()},
        dashboard_users={"eve": {"password_hash": "scrypt$MARKER$hash", "role": "viewer"}},
        api_endpoints=[
            {"url": "http://127.0.0.1:9/users?key=MARKERinquery", "token": "MARKERtoken"},
            {
                "url": "http://127.0.0.1:9/more",
                "headers": {"X-Key": "MARKERheader", "Authorization": "Basic TUFSS0VSOg=="},
                "proxy": "http://proxy:MARKERproxy@127.0.0.1:9",
            },
        ],
    )
    configure_logging("p", folder=tmp_path / "logs", settings=settings)
    texts = [
        *MARKERS.values(),
        *(json.dumps(each) for each in MARKERS.values()),
        *(repr(each) for each in MARKERS.values()),
        "MARKER/owner",
        "scrypt$MARKER$hash",
        "GET http://127.0.0.1:9/users?key=MARKERinquery Authorization: Bearer MARKERtoken",
        "X-Key: MARKERheader; TUFSS0VSOg== through http://proxy:MARKERproxy@127.0.0.1:9",
        "mail of MARKER.ann@example.com",
        json.dumps(PERSONAL_ROW),
        str(PERSONAL_ROW),
        "password=MARKERpw token: MARKERtk api_key='MARKER k' Basic TUFSS0VSMTIzOg==",
        'invalid input syntax for type integer: "MARKER"',
    ]
    for each in texts:
        log.info(each, source=each, nested={"list": [each, (each,)], each: 1})
        logging.getLogger("sluiceway.plain").warning("it says %s", each)
        try:
            _fail(each)
        except ValueError as error:
            log.exception("failed", error=error)
            logging.getLogger("sluiceway.plain").exception("failed too")
    log.info("a row", **PERSONAL_ROW, row=PERSONAL_ROW, authorization="MARKER", my_api_key="MARKER")
    connection = await asyncpg.connect(database.loader_url)
    await connection.execute(
        "CREATE TEMP TABLE t (email text PRIMARY KEY, name text NOT NULL, n int CHECK (n < 5));"
        "INSERT INTO t VALUES ('MARKER.key', 'MARKER row', 1)"
    )
    for statement in (
        "INSERT INTO t VALUES ('MARKER.key', 'MARKER row', 1)",
        "INSERT INTO t VALUES ('MARKER.x', NULL, 1)",
        "INSERT INTO t VALUES ('MARKER.y', E'MARKER)\\nMARKER', 7)",
        "INSERT INTO t VALUES ('a', 'b', 'MARKER'::text::int)",
        "SELECT '{\"a\": MARKER}'::text::json",
        "SELECT ('MARKER' || '-')::date",
    ):
        try:
            await connection.execute(statement)
        except asyncpg.PostgresError as error:
            log.exception("PostgreSQL refused", why=str(error))
        else:
            raise AssertionError(statement)
    try:
        await connection.execute("INSERT INTO t VALUES ('x', 'y', $1)", "MARKER")
    except asyncpg.DataError as error:
        log.exception("asyncpg refused", why=str(error))
    await connection.close()
    rows = await written(owner)
    assert len(rows) == 4 * len(texts) + 8
    stored = "\n".join(str(dict(row)) for row in rows)
    in_file = "\n".join(str(line) for line in file_lines(tmp_path))
    for kept in (stored, in_file):
        assert [line for line in kept.splitlines() if "MARKER" in _without_code(line)] == []
        assert "12.000111" not in kept
        assert "TUFSS0VS" not in kept
        for said in ("Key (email)=(•••) already exists.", "Failing row contains (•••).", "a row"):
            assert said in kept


def _without_code(line: str) -> str:
    """Leave out what a traceback quotes of this file."""
    return "\n".join(each for each in line.split("\\n") if not each.startswith("    "))
