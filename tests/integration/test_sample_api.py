import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from infra.sample.api import serve_users
from infra.sample.users import make_users

COMMAND = (sys.executable, "-m", "infra.sample.api")
REPOSITORY = Path(__file__).parents[2]


@asynccontextmanager
async def started(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        cwd=REPOSITORY,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def get(address: str, **parameters: str) -> tuple[int, object]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(address, params=parameters) as response,
    ):
        return response.status, await response.json()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_service_says_where_it_is_answers_and_stops_when_told(
    tmp_path: Path, number: signal.Signals
) -> None:
    port_file = tmp_path / "port"
    async with started("--port", "0", "--port-file", str(port_file)) as process:
        address = (await process.stdout.readline()).decode().strip()
        assert address == f"http://127.0.0.1:{port_file.read_text().strip()}"
        assert await get(f"{address}/healthz") == (200, {"status": "ok"})
        assert await get(f"{address}/users") == (200, make_users())
        process.send_signal(number)
        out, err = await process.communicate()
        assert (process.returncode, out, err) == (0, b"", b"")
        assert not port_file.exists()
        with pytest.raises(aiohttp.ClientConnectionError):
            await get(f"{address}/healthz")


async def test_the_service_stops_while_a_client_keeps_its_connection(tmp_path: Path) -> None:
    async with started("--port-file", str(tmp_path / "port")) as process:
        address = (await process.stdout.readline()).decode().strip()
        async with aiohttp.ClientSession() as session, session.get(f"{address}/users") as response:
            assert response.status == 200
            process.terminate()
            assert await asyncio.wait_for(process.wait(), timeout=20) == 0


async def test_a_port_that_is_taken_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with started("--port", str(port)) as process:
            _, err = await process.communicate()
    assert process.returncode == 1
    assert err.count(b"\n") == 1
    assert str(port).encode() in err


async def test_pages_hold_every_user_once_and_end_with_an_empty_one() -> None:
    async with serve_users() as address:
        found = []
        page = 1
        while users := (await get(f"{address}/paged/users", page=str(page), limit="3"))[1]:
            found.extend(users)
            page += 1
    assert found == make_users()
    assert page == 5


@pytest.mark.parametrize(
    "parameters", [{"page": "0"}, {"limit": "-1"}, {"page": "one"}, {"limit": "9" * 5000}]
)
async def test_a_page_that_is_no_number_is_refused_with_its_name(
    parameters: dict[str, str],
) -> None:
    async with serve_users() as address:
        status, answer = await get(f"{address}/paged/users", **parameters)
    assert status == 400
    assert next(iter(parameters)) in answer["error"]
    assert len(answer["error"]) < 200
