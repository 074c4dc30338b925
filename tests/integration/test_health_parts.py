"""Each check against the real part: PostgreSQL, a broker, HTTP and TLS services, broken on purpose.

The Prefect server's are in tests/flows/test_check_health.py.
"""

import asyncio
import datetime as dt
import itertools
import os
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import trustme
from aiohttp import web
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink

from infra.health import postgres as postgres_check
from infra.health.certificates import check_certificates
from infra.health.checker import Checker
from infra.health.dashboard import check_dashboard
from infra.health.finding import Check, Finding, Result, Status
from infra.health.kafka import check_kafka
from infra.health.postgres import check_postgres, find_data_folder
from infra.local.embedded_broker import EmbeddedBroker
from infra.local.ports import choose_port
from infra.local.postgres import Postgres
from infra.settings import Settings
from tasks.check_health import measure_lag

NOW = dt.datetime(2026, 11, 23, 14, 0, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
SERIAL = itertools.count(1)


async def run(check: Check, seconds: float = 10) -> Result:
    """Run it as the process does, with its timeout."""
    [result] = await Checker({"part": check}, timeout_seconds=seconds).run(NOW)
    return result


# --- PostgreSQL --------------------------------------------------------------------------------


async def test_postgresql_that_takes_a_write_is_good(database, embedded_server) -> None:
    found = await run(lambda: check_postgres(database.loader_url))
    assert found.status is Status.GOOD
    assert found.detail.startswith("Connected and written in ")
    assert find_data_folder(database.loader_url) == embedded_server.postgres.cluster.folder


async def test_postgresql_that_only_reads_is_bad(database) -> None:
    connection = await asyncpg.connect(database.owner_url)
    await connection.execute(
        f"ALTER DATABASE {database.name} SET default_transaction_read_only = on"
    )
    await connection.close()
    found = await run(lambda: check_postgres(database.loader_url))
    assert found.status is Status.BAD
    assert "read-only transaction" in found.detail


async def test_a_login_that_is_refused_is_bad_and_shows_no_password(database) -> None:
    url = database.loader_url.replace("only%20for%20tests", "wr0ng-password")
    assert url != database.loader_url
    found = await run(lambda: check_postgres(url))
    assert found.status is Status.BAD
    assert "refused the login" in found.detail
    assert "wr0ng-password" not in found.detail


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, embedded_server) -> Iterator[Postgres]:
    """A PostgreSQL with little room, that keeps what standbys need."""
    folder = tmp_path_factory.mktemp("small") / "data"
    settings = {**embedded_server.postgres.settings, "max_connections": "12"}
    settings |= {"wal_level": "replica", "max_slot_wal_keep_size": "1MB"}
    with Postgres(folder, settings=settings) as postgres:
        yield postgres


async def test_a_postgresql_that_is_nearly_full_is_bad(
    small: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = small.url("postgres")
    opened = [await asyncpg.connect(url) for _ in range(8)]
    full = await run(lambda: check_postgres(url))
    opened += [await asyncpg.connect(url) for _ in range(4)]
    monkeypatch.setattr(postgres_check, "CONNECT_SECONDS", 0.1)
    over = await run(lambda: check_postgres(url))
    for each in opened:
        await each.close()
    assert full.status is Status.BAD
    assert full.detail.startswith("9 of 9 connections are in use")
    assert over.status is Status.BAD
    assert "gave no connection within 0.1 s" in over.detail


async def test_a_standby_is_seen_from_both_sides(small: Postgres, tmp_path: Path) -> None:
    folder = tmp_path / "standby" / "data"
    subprocess.run(
        [
            *small.cluster.identity.prefix,
            small.binaries.program("pg_basebackup"),
            *("--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--wal-method=stream"),
            *("--pgdata", str(folder), "--dbname", small.url("postgres")),
        ],
        check=True,
        capture_output=True,
    )
    with Postgres(folder, settings=small.settings) as standby:
        # Its superuser is the one of the server that it is a copy of.
        copy = small.url("postgres").replace(f":{small.port}/", f":{standby.port}/")
        found = await run(lambda: check_postgres(copy))
        assert found.status is Status.BAD
        assert found.detail.startswith("It is a standby, or still recovers")
        seen = await run(lambda: check_postgres(small.url("postgres")))
        assert seen.status is Status.GOOD
        assert ", 1 standby, at most " in seen.detail
        late = await run(lambda: check_postgres(small.url("postgres"), standby_seconds=-1))
        assert late.status is Status.BAD
        assert late.detail.startswith("A standby is ")


async def test_a_slot_that_lost_its_log_is_bad(small: Postgres) -> None:
    url = small.url("postgres")
    connection = await asyncpg.connect(url)
    await connection.execute("SELECT pg_create_physical_replication_slot('abroad', true)")
    for _ in range(2):
        await connection.execute("CREATE TABLE a (); DROP TABLE a; SELECT pg_switch_wal()")
        await connection.execute("CHECKPOINT")
    found = await run(lambda: check_postgres(url))
    await connection.execute("SELECT pg_drop_replication_slot('abroad')")
    await connection.close()
    assert found.status is Status.BAD
    assert found.detail.startswith("The replication slot abroad lost what its standby needs")


# --- Kafka -------------------------------------------------------------------------------------


class Stream:
    """A topic of the test's own, and what a group has read of it."""

    def __init__(self, settings: Settings, database: Any, messages: Any) -> None:
        self.settings = settings
        self.database = database
        self.messages = messages

    async def check(self) -> Result:
        url = self.database.loader_url
        return await run(
            lambda: check_kafka(self.settings, url, lambda them: measure_lag(self.settings, them))
        )

    async def read_up_to(
        self, next_offset: int, *, lag_seconds: float | None = None, ago_seconds: float = 0
    ) -> None:
        """Write down how far the group is, and how far behind it was found to be."""
        connection = await asyncpg.connect(self.database.loader_url)
        await connection.execute(
            """
            INSERT INTO metadata.stream_offsets (consumer_group, topic, partition, next_offset)
            VALUES ($1, $2, 0, $3)
            """,
            self.settings.kafka_group,
            self.settings.kafka_topic,
            next_offset,
        )
        if lag_seconds is not None:
            await connection.execute(
                """
                INSERT INTO metadata.stream_lag
                VALUES ($1, $2, 0, now() - make_interval(secs => $3), 1234, $4)
                """,
                self.settings.kafka_group,
                self.settings.kafka_topic,
                ago_seconds,
                lag_seconds,
            )
        await connection.close()


@pytest.fixture
def stream(embedded_broker, database, messages) -> Stream:
    settings = Settings(
        database_url=database.loader_url,
        kafka_bootstrap_servers=embedded_broker.bootstrap_servers,
        kafka_topic=f"health-{next(SERIAL)}",
        kafka_group="health",
        health_lag_seconds=300,
    )
    return Stream(settings, database, messages(embedded_broker.bootstrap_servers))


async def test_a_stream_that_nobody_uses_is_good(stream: Stream) -> None:
    found = await stream.check()
    assert found.status is Status.GOOD
    assert found.detail.endswith("was not made yet.")
    topic = stream.settings.kafka_topic
    await stream.messages.create(topic, partitions=2)
    await stream.messages.send(topic, [b"x"])
    found = await stream.check()
    assert found.status is Status.GOOD
    assert found.detail == (
        f"All partitions of {topic} (2) have their leaders and replicas; the group health has "
        "read nothing yet."
    )


async def test_a_topic_that_is_gone_is_bad(stream: Stream) -> None:
    await stream.read_up_to(5)
    found = await stream.check()
    assert found.status is Status.BAD
    assert "is gone, of which the group had read" in found.detail


@pytest.mark.parametrize(("lag_seconds", "expected"), [(299.0, Status.GOOD), (301.0, Status.BAD)])
async def test_the_lag_that_consumers_measure_decides(
    stream: Stream, lag_seconds: float, expected: Status
) -> None:
    await stream.messages.create(stream.settings.kafka_topic)
    await stream.read_up_to(0, lag_seconds=lag_seconds, ago_seconds=10)
    found = await stream.check()
    assert found.status is expected
    assert f"{lag_seconds:.0f} s behind" in found.detail
    assert "unread messages: 1,234" in found.detail


async def test_where_no_consumer_measures_the_broker_is_asked(stream: Stream) -> None:
    topic = stream.settings.kafka_topic
    await stream.messages.create(topic)
    # What was measured an hour ago says nothing of now.
    await stream.read_up_to(0, lag_seconds=9999, ago_seconds=3600)
    found = await stream.check()
    assert found.status is Status.GOOD
    assert found.detail.endswith(
        "the group is 0 s behind; unread messages: 0; no consumer measures it."
    )
    await stream.messages.send(topic, [b"unread"])
    late = stream.settings.model_copy(update={"health_lag_seconds": 0.000_001})
    stream.settings = late
    found = await stream.check()
    assert found.status is Status.BAD
    assert found.detail.endswith("unread messages: 1; no consumer measures it.")


async def test_kafka_is_not_bad_because_postgresql_is_away(stream: Stream) -> None:
    await stream.messages.create(stream.settings.kafka_topic)
    nobody = f"postgresql://x@127.0.0.1:{choose_port()}/x"
    found = await run(
        lambda: check_kafka(
            stream.settings, nobody, lambda them: measure_lag(stream.settings, them)
        )
    )
    assert found.status is Status.GOOD
    assert found.detail.endswith("PostgreSQL does not say how far the group is.")


async def test_a_broker_that_is_away_or_frozen_is_bad(tmp_path: Path, database) -> None:
    with EmbeddedBroker(tmp_path / "broker") as broker:
        settings = Settings(kafka_bootstrap_servers=broker.bootstrap_servers)

        def check() -> Awaitable[Finding]:
            return check_kafka(
                settings, database.loader_url, lambda them: measure_lag(settings, them)
            )

        assert (await run(check)).status is Status.GOOD
        broker.child.send_signal(signal.SIGSTOP)
        frozen = await run(check, seconds=0.5)
        broker.child.send_signal(signal.SIGCONT)
        broker.stop()
        away = await run(check)
    assert frozen.status is Status.BAD
    assert frozen.detail == "It gave no answer within 0.5 s."
    assert away.status is Status.BAD
    assert away.detail.startswith(f"Kafka does not answer at {broker.bootstrap_servers}: ")


# --- the dashboard -----------------------------------------------------------------------------


@asynccontextmanager
async def serve_http(status: int) -> AsyncIterator[int]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status)

    app = web.Application()
    app.router.add_get("/healthz", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def test_a_dashboard_is_as_good_as_its_answer() -> None:
    async with serve_http(200) as port:
        # One that listens on every address is asked on this machine.
        for host in ("127.0.0.1", "0.0.0.0"):  # noqa: S104 - it is only asked
            found = await run(lambda at=host: check_dashboard(at, port))
            assert found.status is Status.GOOD
    async with serve_http(503) as port:
        found = await run(lambda: check_dashboard("127.0.0.1", port))
        assert found.status is Status.BAD
        assert "answers 503" in found.detail
    gone = await run(lambda: check_dashboard("127.0.0.1", port))
    assert gone.status is Status.BAD
    assert "does not answer at http://127.0.0.1:" in gone.detail


async def test_a_dashboard_that_hangs_is_bad() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        found = await run(lambda: check_dashboard("127.0.0.1", port), seconds=0.3)
    assert found.status is Status.BAD
    assert found.detail == "It gave no answer within 0.3 s."


# --- certificates of services ------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


Issue = Callable[[int], ssl.SSLContext]


@pytest.fixture
def issue(authority: trustme.CA) -> Issue:
    """Called with a number of days from now on: a service's TLS with a certificate until then."""

    def make(days: int) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(
            "localhost",
            common_name="a service",
            not_before=NOW - 99 * DAY,
            not_after=NOW + days * DAY,
        ).configure_cert(context)
        return context

    return make


async def judge(*ports: int, seconds: float = 5) -> Finding:
    places = [f"127.0.0.1:{port}" for port in ports]
    return await check_certificates(places, 14, seconds=seconds, now=NOW)


async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def test_a_tls_service_shows_when_its_certificate_ends(issue: Issue) -> None:
    servers = [
        await asyncio.start_server(close, "127.0.0.1", 0, ssl=issue(days)) for days in (90, 13, -1)
    ]
    far, soon, over = (each.sockets[0].getsockname()[1] for each in servers)
    good, ending = await judge(far), await judge(far, soon, over)
    for each in servers:
        each.close()
        await each.wait_closed()
    assert good.status is Status.GOOD
    assert good.detail == f"The first to expire is that of 127.0.0.1:{far}, on 2027-02-21."
    assert ending.status is Status.BAD
    assert f"127.0.0.1:{soon} expires on 2026-12-06" in ending.detail
    # Nobody else trusts it any more, but it has to be seen.
    assert f"127.0.0.1:{over} expired on 2026-11-22" in ending.detail
    assert f":{far}" not in ending.detail


async def test_a_mail_server_is_asked_for_tls(issue: Issue) -> None:
    controller = Controller(Sink(), hostname="127.0.0.1", port=choose_port(), tls_context=issue(3))
    controller.start()
    found = await judge(controller.port)
    controller.stop()
    assert found.status is Status.BAD
    assert "CN=a service" in found.detail


async def test_postgresql_is_asked_for_tls(
    authority: trustme.CA, debian_server, tmp_path: Path
) -> None:
    folder = tmp_path / "tls" / "data"
    issued = authority.issue_cert(
        "localhost", common_name="the database", not_before=NOW - 99 * DAY, not_after=NOW + 3 * DAY
    )
    settings = {**debian_server.postgres.settings, "ssl": "on"}
    server = Postgres(folder, bin_folder=debian_server.postgres.binaries.folder, settings=settings)
    server.prepare()
    owner = folder.stat()
    for name, pem in (
        ("server.key", issued.private_key_pem),
        ("server.crt", issued.cert_chain_pems[0]),
    ):
        path = folder / name
        path.write_bytes(pem.bytes())
        path.chmod(0o600)
        os.chown(path, owner.st_uid, owner.st_gid)
    with server:
        found = await judge(server.port)
    assert found.status is Status.BAD
    assert "CN=the database" in found.detail


async def test_a_service_that_is_away_or_hangs_is_unknown_and_hides_no_other(issue: Issue) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    soon = await asyncio.start_server(close, "127.0.0.1", 0, ssl=issue(3))
    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    ports = [each.sockets[0].getsockname()[1] for each in (soon, silent)]
    away = choose_port()
    without = await judge(away, ports[1], seconds=0.3)
    assert without.status is Status.UNKNOWN
    assert f"127.0.0.1:{away} (" in without.detail
    assert f"127.0.0.1:{ports[1]} (" in without.detail
    assert (await judge(away, *ports, seconds=2.4)).status is Status.BAD
    for each in (soon, silent):
        each.close()
