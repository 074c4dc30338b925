"""Real PostgreSQL servers, from the wheel and, where it is installed, from Debian."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from infra.local.identity import become_nobody
from infra.local.ports import is_free
from infra.local.postgres import Postgres
from schemas.errors import TerminalError

DEBIAN = Path("/usr/lib/postgresql/15/bin")
REQUIRED = os.environ.get("SLUICEWAY_REQUIRE_SYSTEM") == "1"
FAST = {"fsync": "off", "shared_buffers": "16MB"}


@pytest.fixture(
    params=[
        pytest.param(None, id="wheel"),
        pytest.param(
            DEBIAN,
            id="debian",
            marks=pytest.mark.skipif(
                not DEBIAN.is_dir() and not REQUIRED,
                reason="PostgreSQL 15 is not installed: run `make system-packages`",
            ),
        ),
    ]
)
def postgres(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Postgres]:
    with Postgres(tmp_path / "pg" / "data", bin_folder=request.param, settings=FAST) as server:
        yield server


async def test_it_listens_on_loopback_and_asks_for_the_password(postgres: Postgres) -> None:
    assert postgres.execute("SHOW listen_addresses") == "127.0.0.1"
    assert postgres.execute("SHOW unix_socket_directories") == ""
    assert postgres.execute("SHOW data_checksums") == "on"
    assert postgres.execute("SHOW full_page_writes") == "on"
    assert postgres.execute("SELECT lower('ÄÖ')") == "äö"
    password_file = postgres.cluster.password_file
    assert stat.S_IMODE(password_file.stat().st_mode) == 0o600
    connection = await asyncpg.connect(postgres.url("postgres"))
    await connection.close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(postgres.url("postgres", password="guessed"))


async def test_roles_and_databases_are_made_once_and_kept(postgres: Postgres) -> None:
    for _ in range(2):
        postgres.ensure_role("keeper", "it's@secret/", options="CREATEROLE")
        postgres.ensure_database("store", owner="keeper")
    url = postgres.url("store", user="keeper", password="it's@secret/")
    connection = await asyncpg.connect(url)
    try:
        assert await connection.fetchval("SELECT current_user") == "keeper"
    finally:
        await connection.close()


def test_what_was_committed_survives_a_kill_and_what_was_not_is_gone(postgres: Postgres) -> None:
    port = postgres.port
    postgres.execute("CREATE TABLE t AS SELECT 1 AS a; CHECKPOINT; INSERT INTO t VALUES (2)")
    postgres.kill()
    assert postgres.cluster.find_processes() == []
    assert (postgres.cluster.folder / "postmaster.pid").exists()
    assert is_free(port)
    postgres.restart()
    assert postgres.port == port
    assert postgres.execute("SELECT count(*) FROM t") == "2"


async def test_stopping_ends_sessions_that_are_open(postgres: Postgres) -> None:
    connection = await asyncpg.connect(postgres.url("postgres"))
    postgres.stop()
    assert postgres.cluster.find_processes() == []
    assert not postgres.is_running
    with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError)):
        await connection.execute("SELECT 1")
    connection.terminate()
    postgres.start()
    assert postgres.is_ready


def test_a_postmaster_that_dies_alone_leaves_nothing_in_the_way(postgres: Postgres) -> None:
    child = postgres.child
    psutil.Process(child.pid).kill()
    postgres.restart()
    assert postgres.execute("SELECT 1") == "1"


def test_a_second_server_on_the_folder_is_refused_with_a_sentence(postgres: Postgres) -> None:
    second = Postgres(postgres.cluster.folder, bin_folder=postgres.binaries.folder)
    with pytest.raises(TerminalError, match=rf"process {postgres.child.pid}\) already runs"):
        second.start()
    assert postgres.execute("SELECT 1") == "1"


def test_a_pid_file_whose_number_is_somebody_elses_is_no_obstacle(postgres: Postgres) -> None:
    postgres.kill()
    pid_file = postgres.cluster.folder / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getppid()), *lines[1:], ""]))
    postgres.start()
    assert postgres.execute("SELECT 1") == "1"


def test_a_port_that_was_taken_meanwhile_is_given_up_for_another(
    postgres: Postgres, tmp_path: Path
) -> None:
    taken = postgres.port
    with Postgres(tmp_path / "other" / "data", settings=FAST, port=taken) as second:
        assert second.port != taken
        assert second.execute("SELECT 1") == "1"


def test_a_wrong_setting_ends_the_start_with_what_the_server_said(tmp_path: Path) -> None:
    server = Postgres(tmp_path / "data", settings={**FAST, "shared_buffers": "plenty"})
    with pytest.raises(TerminalError, match="shared_buffers"):
        server.start()
    assert server.cluster.find_processes() == []


def test_a_refused_statement_is_a_sentence(postgres: Postgres) -> None:
    with pytest.raises(TerminalError, match='relation "nowhere" does not exist'):
        postgres.execute("SELECT * FROM nowhere")


def test_an_unfinished_data_folder_is_made_anew(tmp_path: Path) -> None:
    draft = tmp_path / "data.unfinished"
    draft.mkdir()
    (draft / "PG_VERSION").write_text("18\n")
    with Postgres(tmp_path / "data", settings=FAST) as server:
        assert server.execute("SELECT 1") == "1"
    assert not draft.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
def test_root_without_user_namespaces_becomes_nobody_and_says_what_it_opened(
    tmp_path: Path,
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    nobody = become_nobody()
    server = Postgres(closed / "pg" / "data", settings=FAST, identity=nobody)
    with server:
        assert psutil.Process(server.child.pid).uids().real == nobody.user_id
        assert server.execute("SELECT 1") == "1"
        assert any(f"Opened {closed} " in note for note in server.notes)
