"""What Prefect's database tells whoever has a copy of it, and nothing else, about a block."""

import asyncio
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
from cryptography.fernet import Fernet, InvalidToken
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_SERVER_DATABASE_CONNECTION_URL,
    temporary_settings,
)

from deployments.blocks import save_database_block
from tests.secret_markers import Marker, find_leaks

BLOCK = "of-a-key-test"


def database_of_the_tests() -> Path:
    """Return the file of the server that tests of flows share: with no key from outside."""
    return Path(
        str(PREFECT_SERVER_DATABASE_CONNECTION_URL.value()).removeprefix("sqlite+aiosqlite:///")
    )


def copy(database: Path, to: Path) -> Path:
    """Copy a database that is in use."""
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)
    return to


@contextmanager
def served(database: Path, key: str) -> Iterator[str]:
    """A Prefect server on that database, its block key in its environment; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    command = [sys.executable, "-m", "prefect", "--no-prompt", "server", "start", "--no-services"]
    with subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port)],
        env=os.environ
        | {
            "PREFECT_HOME": str(database.parent),
            "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{database}",
            "PREFECT_SERVER_ENCRYPTION_KEY": key,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            yield f"http://127.0.0.1:{port}/api"
        finally:
            server.terminate()


async def wait_for(url: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        for _ in range(600):
            try:
                answer = await client.get(f"{url}/health")
            except httpx.HTTPError:
                await asyncio.sleep(0.2)
            else:
                assert answer.is_success
                return
    raise AssertionError("the server did not answer within two minutes")


def open_by_itself(database: Path) -> list[str]:
    """Return what the database's own keys open of its blocks."""
    with closing(sqlite3.connect(database)) as connection:
        values = connection.execute("SELECT value FROM configuration").fetchall()
        blocks = connection.execute("SELECT data FROM block_document").fetchall()
    settings = [json.loads(value) for [value] in values]
    keys = [each["fernet_key"] for each in settings if "fernet_key" in each]
    opened = []
    for [sealed] in blocks:
        for key in keys:
            try:
                # The column is JSON, and holds a text.
                opened.append(Fernet(key).decrypt(sealed.strip('"')).decode())
            except InvalidToken:
                continue
    return opened


async def test_a_copy_of_prefects_database_opens_no_block_where_the_key_is_elsewhere(
    tmp_path: Path,
) -> None:
    without, outside = Marker("without a key from outside"), Marker("with one")
    address = "postgresql://loader:{}@db.example/x"
    await save_database_block(BLOCK, address.format(without.word))
    plain = copy(database_of_the_tests(), tmp_path / "plain.db")
    # The counter-proof: nothing stands there in clear, and the copy opens itself.
    assert find_leaks({"the copy": plain.read_bytes()}, [without]) == []
    assert without.core in "".join(open_by_itself(plain))

    key = Fernet.generate_key()
    kept = tmp_path / "kept" / "prefect.db"
    kept.parent.mkdir()
    shutil.copy(plain, kept)
    with closing(sqlite3.connect(kept)) as connection:
        # As in a new installation: of the other one, only its tables are wanted.
        connection.execute("DELETE FROM block_document")
        connection.commit()
    with served(kept, key.decode()) as url:
        await wait_for(url)
        with temporary_settings({PREFECT_API_URL: url}):
            await save_database_block(BLOCK, address.format(outside.word))
            assert await save_database_block(BLOCK, address.format(outside.word)) == []
    stolen = copy(kept, tmp_path / "stolen.db")
    leaks = find_leaks({"the copy": stolen.read_bytes()}, [outside, Marker("key", key.decode())])
    assert leaks == []
    assert outside.core not in "".join(open_by_itself(stolen))
    with closing(sqlite3.connect(stolen)) as connection:
        [[sealed]] = connection.execute("SELECT data FROM block_document").fetchall()
    assert outside.core in Fernet(key).decrypt(sealed.strip('"')).decode()
