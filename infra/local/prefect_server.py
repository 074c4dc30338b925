"""A Prefect server on our PostgreSQL: its command, its environment, its health."""

import asyncio
import sys
from time import monotonic

import aiohttp

from infra.local.folder import StateFolder
from infra.local.ports import LOOPBACK
from infra.local.process import Child
from schemas.errors import TerminalError

HEALTH_DEADLINE_SECONDS = 120.0
POLL_SECONDS = 0.2


def api_url(port: int) -> str:
    """Return the address that clients, workers and flow runs use."""
    return f"http://{LOOPBACK}:{port}/api"


def ui_url(port: int) -> str:
    """Return the address that people use."""
    return api_url(port).removesuffix("/api")


def client_environment(folder: StateFolder, port: int) -> dict[str, str]:
    """Return what any of Prefect's own programs needs to use this server and no other."""
    return {
        "PREFECT_API_URL": api_url(port),
        "PREFECT_HOME": str(folder.prefect),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_CLI_COLORS": "false",
        "PREFECT_CLI_PROMPT": "false",
        # A person is waiting; the default of ten seconds is made for a fleet.
        "PREFECT_WORKER_QUERY_SECONDS": "2",
    }


def server_environment(folder: StateFolder, port: int, database_url: str) -> dict[str, str]:
    """Return what the server needs beside that; the database must be Prefect's alone."""
    return client_environment(folder, port) | {
        "PREFECT_API_DATABASE_CONNECTION_URL": database_url.replace(
            "postgresql://", "postgresql+asyncpg://", 1
        ),
        # Leases in memory would be lost with a restart, and the runs that hold them crash.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
            "prefect.server.concurrency.lease_storage.filesystem"
        ),
        # Without one, blocks are encrypted with a key kept in the same database.
        "PREFECT_SERVER_ENCRYPTION_KEY": folder.fernet_key("prefect-encryption-key"),
    }


def server_command(port: int) -> list[str]:
    """Return the command that serves the API, the UI and Prefect's own services."""
    return [
        *(sys.executable, "-m", "prefect", "--no-prompt", "server", "start"),
        *("--host", LOOPBACK, "--port", str(port)),
    ]


async def wait_until_healthy(port: int, server: Child) -> None:
    """Return once the server answers; raises TerminalError where it ends or takes too long."""
    await wait_for_answer(f"{api_url(port)}/health", server, HEALTH_DEADLINE_SECONDS)


async def wait_for_answer(
    url: str,
    process: Child,
    deadline_seconds: float,
) -> None:
    """Return once the address answers 200; raises TerminalError where the process ends first."""
    end_time = monotonic() + deadline_seconds
    timeout = aiohttp.ClientTimeout(total=5)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        while True:
            try:
                async with session.get(url) as response:
                    if response.ok:
                        return
            except (aiohttp.ClientError, TimeoutError):
                pass  # not listening yet; the deadline below decides
            if not process.is_running:
                raise process.explain_end()
            if monotonic() > end_time:
                raise TerminalError(
                    f"{process.name} did not answer at {url} within {deadline_seconds:.0f} s; "
                    f"see {process.launch.log}."
                )
            await asyncio.sleep(POLL_SECONDS)
